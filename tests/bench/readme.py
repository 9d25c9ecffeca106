"""What was measured, in the README: a short table between two marks, made of the figures kept in published.json.

A run replaces the figures of the parts that it measured whole; of the others the last ones stay, with the machine and
the day on which they were measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import Figure, Machine, number, told
from tests.bench.tbgateway import VERSION as GATEWAY_VERSION

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
PUBLISHED: Final = Path(__file__).with_name("published.json")
BEGIN: Final = "<!-- bench -->"
END: Final = "<!-- /bench -->"
GATEWAY: Final = "ThingsBoard gateway"
GATEWAY_PART: Final = f"{GATEWAY} {GATEWAY_VERSION}"

GATEWAY_NOTE: Final = (
    f"{GATEWAY_PART}, in the form that costs it least: one device with all points, SQLite storage, no limits of rate, a"
    " platform that only listens."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A figure: the part of `make bench`, the beginning of its heading, its name."""

    bench: str
    part: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.  beside: a peer's figure of the same kind; peer: what that is."""

    says: str
    key: Key
    beside: Key | None = None
    peer: str = ""


def _key(bench: str, part: str, what: str) -> Key:
    return Key(bench=bench, part=part, what=what)


def _gateway(part: str, what: str) -> Key:
    return _key("gateway", f"{GATEWAY_PART}, {part}", what)


ROWS: Final[Sequence[Row]] = (
    Row(
        says="memory (PSS), 100 points at 1 Hz, page open",
        key=_key("daemon", "100 points at 1 Hz", "memory (PSS), page open"),
        beside=_gateway("100 points", "memory (PSS)"), peer=f"{GATEWAY}, no page, no control",
    ),
    Row(
        says="more memory with a million readings waiting",
        key=_key("drain", "drain of", "memory for the backlog"),
        beside=_gateway("1,000,000 readings", "memory for the backlog"), peer=GATEWAY,
    ),
    Row(says="more memory after a week offline", key=_key("week", "a week offline", "more after the week")),
    Row(
        says="processor, 500 points at 1 Hz", key=_key("daemon", "500 points at 1 Hz", "processor"),
        beside=_gateway("500 points", "processor"), peer=f"{GATEWAY}, no page, no control",
    ),
    Row(
        says="processor, with 16 outputs ramping as well",
        key=_key("lateness", "500 points at 1 Hz with 16 ramps", "processor"),
    ),
    Row(
        says="written to disk, a reading, over an hour",
        key=_key("disk", "an hour of commits", "written to disk, a reading"),
        beside=_gateway("100 points", "written to disk, a reading"), peer=f"{GATEWAY}, synchronous=NORMAL",
    ),
    Row(
        says="on the wire, a reading, live",
        key=_key("daemon", "100 points at 1 Hz", "on the wire, a reading"),
        beside=_gateway("100 points", "on the wire, a reading"), peer=GATEWAY,
    ),
    Row(
        says="on the wire, a reading, of a backlog", key=_key("drain", "drain of", "on the wire, a reading"),
        beside=_gateway("1,000,000 readings", "on the wire, a reading"), peer=GATEWAY,
    ),
    Row(says="on the wire, a meter value", key=_key("meterfiles", "delivery of", "on the wire, a value")),
    Row(
        says="a backlog into Postgres, a second", key=_key("drain", "drain of", "SQLite to Postgres"),
        beside=_gateway("1,000,000 readings", "drained to the broker"), peer=f"{GATEWAY}, to the broker only",
    ),
    Row(says="… as a share of one bare COPY of the same rows", key=_key("drain", "drain of", "drain : bare COPY")),
    Row(
        says="from commit to Postgres while a backlog drains, p99",
        key=_key("latency", "latency at full speed",
                 "from commit to Postgres while it drains, p99"),
    ),
    Row(says="lateness of control, p99, at rest", key=_key("lateness", "lateness of control at rest", "p99")),
    Row(
        says="… while 50 MB meter files are imported",
        key=_key("lateness", "lateness of control beside", "p99"),
    ),
    Row(
        says="… while a backlog drains", key=_key("lateness", "lateness of control during a drain", "p99"),
    ),
    Row(
        says="start to the first output decision",
        key=_key("lateness", "start with", "to the first output decision"),
    ),
    Row(
        says="NEM12 file to committed rows, 30 min",
        key=_key("nem12", "meter files", "file to committed rows, 30 min"),
        beside=_key("nem12", "meter files", "nemreader 0.9.2 iterates, 30 min"), peer="nemreader, parsing only",
    ),
    Row(
        says="… times nemreader's rate",
        key=_key("nem12", "meter files", "committed : nemreader iterating, 30 min"),
    ),
    Row(
        says="memory for a 50 MB NEM12 file",
        key=_key("nem12", "meter files", "memory above the idle process, large file"),
        beside=_key("nem12", "meter files", "memory of nemreader, 5 min"), peer="nemreader, a sixth of it",
    ),
    Row(
        says="this machine: a fixed piece of Python",
        key=_key("machine", "this machine", "a fixed piece of Python"),
    ),
    Row(
        says="lost, doubled or changed in 500 random faults",
        key=_key("campaign", "500 random faults", "findings: lost, doubled, changed or out of order"),
    ),
    Row(
        says="most that one of 20 power cuts has cost",
        key=_key("powercut", "20 power cuts", "longest loss of readings"),
    ),
    Row(
        says="… unsound, doubled, half-done or unsafe after it",
        key=_key("powercut", "20 power cuts", "findings: unsound, doubled, half-done, unsafe"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of one part of the bench, and on what."""

    machine: Machine
    figures: Sequence[Figure]


def published(file: Path) -> dict[str, Measured]:
    """What was published last, by part; nothing where nothing was."""
    if not file.exists():
        return {}
    return {
        bench: Measured(
            machine=Machine(**part["machine"]), figures=[_figure(each) for each in part["figures"]]
        )
        for bench, part in json.loads(file.read_text()).items()
    }


def _figure(told: Mapping[str, Any]) -> Figure:
    fields = {name: value for name, value in told.items() if name != "met"}
    return Figure(**fields | {"runs": tuple(told["runs"])})


def beside(readme: Path) -> Path:
    """Where the figures of that README are kept."""
    return PUBLISHED if readme.resolve() == README else readme.with_suffix(".json")


def check(readme: Path) -> None:
    """Exit with what to do, where the table has no place."""
    if not readme.exists():
        raise SystemExit(f"{readme}: there is no such file; nothing was measured or written")
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(
            f"{readme}: a line {BEGIN} and after it a line {END} say where the table belongs, and are not there once"
            " each; nothing was measured or written"
        )


def publish(readme: Path, parts: Mapping[str, Sequence[Figure]], machine: Machine) -> str:
    """Replace what those parts had, in the README and beside it.  Returns in a sentence what was done."""
    if not parts:
        return f"{readme}: as it was, for no part was measured whole"
    file = beside(readme)
    all_parts = published(file) | {
        bench: Measured(machine=machine, figures=figures) for bench, figures in parts.items()
    }
    kept = {
        bench: {"machine": asdict(part.machine), "figures": [told(figure) for figure in part.figures]}
        for bench, part in sorted(all_parts.items())
    }
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    readme.write_text(placed(readme.read_text(), table(published(file))))
    return f"{readme}: {', '.join(parts)} replaced; every figure is in {file}"


def placed(text: str, inner: str) -> str:
    """The text with that between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{inner}\n{END}{after}"


def table(parts: Mapping[str, Measured]) -> str:
    """Markdown: a line for each row that has a figure, and under them what was measured on."""
    lines = ["| | tidewatt | target | beside it |", "|---|--:|---|---|"]
    used: set[str] = set()
    for row in ROWS:
        figure = find(parts, row.key)
        if figure is not None:
            used.add(row.key.bench)
            lines.append(f"| {row.says} | {_value(figure)} | {_target(figure)} | {_beside(parts, row)} |")
    runs = {len(figure.runs) for bench in used for figure in parts[bench].figures if len(figure.runs) > 1}
    told_runs = [f"Medians of {min(runs)} runs, least and most in brackets."] if runs else []
    notes = [GATEWAY_NOTE] if "gateway" in parts else []
    return "\n".join([*lines, "", " ".join([*told_runs, *_machines(parts, used), *notes])])


def find(parts: Mapping[str, Measured], key: Key) -> Figure | None:
    figures: Iterable[Figure] = parts[key.bench].figures if key.bench in parts else ()
    for figure in figures:
        if figure.part.startswith(key.part) and figure.what == key.what:
            return figure
    return None


def _value(figure: Figure) -> str:
    """With least and most in brackets, where they differ."""
    least, most = (_short(each(figure.runs)) if figure.runs else "" for each in (min, max))
    return _plain(figure) if least == most else f"{_plain(figure)} ({least} to {most})"


def _plain(figure: Figure) -> str:
    return f"{_short(figure.value)} {figure.unit}".rstrip()


def _short(value: float) -> str:
    """Three digits are enough for people, and two behind the point."""
    shown = f"{value:,.0f}" if abs(value) >= 100 else number(round(float(f"{value:.3g}"), 2))
    return "0" if shown == "-0" else shown


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign = "≤" if figure.better == "less" else "≥"
    return f"{sign} {figure.target:g}" + (" ✓" if figure.met else " **missed**")


def _beside(parts: Mapping[str, Measured], row: Row) -> str:
    figure = find(parts, row.beside) if row.beside else None
    return f"{row.peer}: {_plain(figure)}" if figure else ""


def _machines(parts: Mapping[str, Measured], used: set[str]) -> Iterator[str]:
    """Each machine and day, and where there are several which parts they are of."""
    found: dict[Machine, list[str]] = {}
    for bench in sorted(used | {"gateway"} & parts.keys()):
        found.setdefault(parts[bench].machine, []).append(bench)
    for machine, benches in found.items():
        of = f" (`{'`, `'.join(benches)}`)" if len(found) > 1 else ""
        yield f"Measured on {machine}{of}."
