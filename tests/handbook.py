"""The handbook as its tests see it: its blocks, the packages of its walk-throughs, what is made from the program.

python -m tests.handbook    writes commands.md, config-keys.md and interfaces.md (`make handbook`)
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import psycopg

from drivers.catalog import BUILT_IN, BUILT_IN_OUTPUTS
from edge.cli.drivers import default_words, type_words
from edge.cli.main import EPILOG, PROGRAM, VERBS, cli
from edge.clock import SystemClock
from edge.config import Config, UpstreamConfig
from edge.metrics import Metrics
from edge.web import api, files, handbook, meters
from edge.web.routes import Route
from edge.web.sse import Hub
from migrations.runner import migrate_upstream
from sync.messages import STREAMS, Topics
from tests.services import Postgres
from tests.webdata import FakeSite

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
CHAPTERS: Final = tuple(sorted(handbook.FOLDER.glob("*.md")))
FENCE: Final = re.compile(
    r"^(?:`(?P<file>[\w./-]+)`:\n\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
MADE: Final = "This chapter is made from the program by `make handbook`; do not edit it."
PREFIX: Final = "tidewatt/v1"
EXAMPLE: Final = re.compile(rf"(?:sudo |.+ && )?{PROGRAM} ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block.  file: what the line before it calls it, "" for none; line: of its first line."""

    page: Path
    line: int
    language: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        line = text[: found.start("text")].count("\n") + 1
        yield Block(
            page=page, line=line, language=found["language"], file=found["file"] or "", text=found["text"]
        )


def package(topic: str) -> dict[str, str]:
    """The files that a walk-through shows, by path."""
    return {block.file: block.text for block in blocks(handbook.FOLDER / f"{topic}.md") if block.file}


def lay_out(topic: str, folder: Path) -> Path:
    """Write a walk-through's package into a folder, as its reader would."""
    for path, text in package(topic).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


# ----------------------------------------------------------------------------------------------- commands


def commands_chapter() -> str:
    """The reference of the command line."""
    parts = ["# Commands", MADE, _epilog(EPILOG), "## All of them"]
    parts.append("\n".join(_table(("command", "what it is for"), [
        (f"[`{PROGRAM} {verb}`](#{PROGRAM}-{verb})", summary) for verb, (_, summary) in VERBS.items()
    ])))  # fmt: skip
    root = click.Context(cli, info_name=PROGRAM)
    for verb in VERBS:
        found = cli.get_command(root, verb)
        assert found is not None
        parts += _command(found, click.Context(found, info_name=verb, parent=root), 2)
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} {context.command_path}"
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    yield f"```text\n{usage}\n```"
    yield from _prose(command.help or "")
    rows = [record for one in command.get_params(context) if (record := _option(one, context))]
    if rows:
        yield "\n".join(_table(("option", "meaning"), rows))
    yield _epilog(command.epilog or "")
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _command(inner, click.Context(inner, info_name=name, parent=context), 3)


def _option(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    record = parameter.get_help_record(context)
    if record is None or "--help" in record[0] or "--config" in record[0]:
        return None
    return f"`{record[0]}`", " ".join(record[1].split())


def _epilog(text: str) -> str:
    """A command's examples, as lines that a shell takes: what explains one becomes a comment."""
    lines = [line.strip() for line in text.replace("\b", "").splitlines()]
    shown = [re.sub(r" {3,}(.+)$", r"  # \1", line) for line in lines if EXAMPLE.match(line)]
    return "```sh\n" + "\n".join(shown) + "\n```"


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.replace("\b", "").split("\n\n"):
        if paragraph.strip():
            yield " ".join(paragraph.split())


# ------------------------------------------------------------------------------------------------- config


CONFIG_WORDS: Final = (
    "A table for each table of the file. `config.example.toml` shows the same in one file. `tidewatt config schema`"
    " prints it as a JSON Schema, for editors. Units end the names: `_s` seconds, `_ms` milliseconds, `_w` watts,"
    " `_days` days."
)


def config_chapter() -> str:
    """The reference of the config's options."""
    schema, upstream = Config.model_json_schema(), UpstreamConfig.model_json_schema()
    parts = [
        "# Config keys",
        MADE,
        CONFIG_WORDS,
    ]
    for name, option in schema["properties"].items():
        if name not in ("devices", "outputs"):
            parts += _section(name, option, schema, 2)
    parts += _section("sink", upstream["properties"]["sink"], upstream, 2)
    parts += _drivers("devices", schema)
    parts += _drivers("outputs", schema)
    return "\n\n".join(parts) + "\n"


def _section(path: str, option: Mapping[str, Any], schema: Mapping[str, Any], level: int) -> Iterator[str]:
    """A table of the file and those within it."""
    name, kind = _kind(path, option, schema)
    if kind is None:
        return
    yield f"{'#' * level} {name}"
    yield from _options(kind, schema)
    for key, inner in kind["properties"].items():
        yield from _section(f"{path}.{key}", inner, schema, 3)


def _options(
    kind: Mapping[str, Any], schema: Mapping[str, Any], without: Sequence[str] = ()
) -> Iterator[str]:
    needed = kind.get("required", ())
    rows = [
        (
            f"`{key}`",
            type_words(option, schema) or "table",
            "must be given" if key in needed else _default(option),
            str(option.get("description", "")),
        )
        for key, option in kind["properties"].items()
        if key not in without and _kind(key, option, schema)[1] is None
    ]
    if rows:
        yield "\n".join(_table(("option", "type", "default", "meaning"), rows))


def _default(option: Mapping[str, Any]) -> str:
    words = default_words(option)
    return f"`{words}`" if words else ""


def _kind(
    path: str, option: Mapping[str, Any], schema: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any] | None]:
    """How the heading of a table is written, and its schema; None for what is no table."""
    for one in (option, *option.get("anyOf", ())):
        inner = one.get("items") or next(iter(one.get("patternProperties", {}).values()), None) or one
        if isinstance(inner, Mapping) and "$ref" in inner:
            kind = schema["$defs"][inner["$ref"].rpartition("/")[2]]
            if "properties" in kind:
                name = path if inner is one else f"{path}.NAME" if "patternProperties" in one else f"[{path}]"
                return f"[{name}]", kind
    return path, None


def _drivers(section: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """What every device or output has, and the options of each driver."""
    ours = {"devices": BUILT_IN, "outputs": BUILT_IN_OUTPUTS}[section]  # not what else this venv may have
    kinds = [
        schema["$defs"][address.rpartition("/")[2]]
        for name, address in schema["properties"][section]["items"]["discriminator"]["mapping"].items()
        if name in ours
    ]
    common = [key for key in kinds[0]["properties"] if all(key in kind["properties"] for kind in kinds)]
    yield f"## [[{section}]]"
    whole = {
        **kinds[0],
        "properties": {key: kinds[0]["properties"][key] for key in common if key != "driver"},
    }
    yield from _options(whole, schema)
    for key, option in whole["properties"].items():
        yield from _section(f"{section}.{key}", option, schema, 3)
    for kind in kinds:
        driver = kind["properties"]["driver"]
        yield f"## [[{section}]] driver {driver['const']}"
        yield str(driver["description"]).partition(": ")[2] + "."
        yield from _options(kind, schema, without=common)
        for key, option in kind["properties"].items():
            if key not in common:
                yield from _section(f"{section}.{key}", option, schema, 3)


# --------------------------------------------------------------------------------------------- interfaces

TOPICS: Final = {
    "status": ("retained", "JSON: the site's birth (`online`) and will (`offline`), its version, boot, log and clock"),
    "state": ("retained", "JSON: the newest value of a series, at most one in `[uplink] state_interval_s`"),
    "batch": ("edge to sink", "records of a stream by their positions; compressed, acknowledged by `held`"),
    "ask": ("edge to sink", "what does Postgres hold of these logs?"),
    "held": ("sink to edge", "what Postgres has committed, and the ledger id it stands in"),
    "event": ("edge to anyone", "reserved; nothing is sent there yet"),
}  # fmt: skip
VIEWS: Final = {
    "v1_reading": "every reading once; a summary where the readings themselves are not there",
    "v1_summary": "the summaries that an overflow made, with minimum, mean, maximum, count and last",
    "v1_event": "what happened at the sites: faults, recoveries, changes of outputs",
    "v1_completeness": "log by log and stream by stream: what the edge told of, what is stored, what is missing",
    "v1_gap": "what will never come, how much, from when to when, and why",
    "v1_edge": "the sites, since when they are known, and when each asked last what is held",
    "v1_site": "what each site says of itself, its time zone first",
    "v1_series": "every series and its unit",
    "v1_meta": "what describes the rest: calibrations and the like",
    "v1_dead_letter": "payloads that could not be read or stored",
    "v1_meter": "meters that files told of",
    "v1_channel_day": "a row for each day of a meter's channel, with the file's own digits; the newest version",
    "v1_interval": "a row for each interval of those days",
    "v1_register_read": "register reads of NEM13 files",
    "v1_file": "every meter file that came",
    "v1_file_problem": "what was wrong in them, line by line",
}
COLUMNS: Final = """
SELECT c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relkind = 'v' AND c.relname LIKE 'v1\\_%' AND a.attnum > 0 GROUP BY 1 ORDER BY 1
"""


HTTP_WORDS: Final = (
    "The page, on `[web] host` and `port`, and the socket `tidewatt-http.sock` beside the command line's serve this."
    " Times are ISO 8601 in UTC, ids of 64 bits are strings, an error is an object with `error`: what is wrong,"
    " and what to do. The whole is in `/api/v1/openapi.json`, for people in `/api/v1/docs`."
)


def interfaces_chapter(upstream: str) -> str:
    """The reference of what other programs may build on; upstream: a migrated Postgres."""
    parts = [
        "# Interfaces",
        MADE,
        "Other programs may build on these: they change by addition only. Clients ignore what they do not know.",
        "## MQTT topics",
        f"`{PREFIX}` is `[uplink] prefix`, `SITE` is `[site] name`. Streams are {_list(STREAMS)}.",
        "\n".join(_table(("topic", "kind", "what it carries"), _topics())),
        "A live value is small JSON, for any client:",
        '```json\n{"value":25.31,"unit":"°C","ts":"2026-01-31T08:00:00.000Z","quality":"good"}\n```',
        "## HTTP",
        HTTP_WORDS,
        "\n".join(_table(("route", "what it answers"), [
            (f"`{route.method} {route.path}`", route.summary) for route in routes()
        ])),
        "## SQL views",
        "In your Postgres. Their names begin with their version; tables behind them may change.",
    ]  # fmt: skip
    with psycopg.connect(upstream) as connection:
        for view, columns in connection.execute(COLUMNS).fetchall():
            parts += f"### {view}", f"{VIEWS[view][:1].upper()}{VIEWS[view][1:]}.", f"`{columns}`"
    return "\n\n".join(parts) + "\n"


def _topics() -> Iterator[tuple[str, str, str]]:
    made = Topics(PREFIX, "SITE")
    for name in (
        name for name in vars(Topics) if not name.startswith("_") and name not in ("prefix", "edge")
    ):
        topic = getattr(made, name)
        if callable(topic):
            topic = topic("STREAM" if name == "batch" else "SERIES")
        yield (f"`{topic}`", *TOPICS[name])


def routes() -> list[Route]:
    """Every route that the daemon serves beside page and handbook."""
    site = FakeSite(SystemClock())
    own = api.routes(api.Api(site, site.clock, Hub(site, site.clock), Metrics(site)))
    unused: Any = None
    return [*own, *files.routes(unused, ""), *meters.routes(unused)]


# ------------------------------------------------------------------------------------------------- common


def _list(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def made_chapters(upstream: str) -> dict[str, str]:
    """The chapters that are made from the program, by topic."""
    return {
        "commands": commands_chapter(),
        "config-keys": config_chapter(),
        "interfaces": interfaces_chapter(upstream),
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tidewatt-handbook-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder) / "postgres")
        server.start()
        try:
            upstream = server.fresh_database()
            migrate_upstream(upstream)
            for topic, text in made_chapters(upstream).items():
                (handbook.FOLDER / f"{topic}.md").write_text(text, "utf-8")
        finally:
            server.close()


if __name__ == "__main__":
    main()
