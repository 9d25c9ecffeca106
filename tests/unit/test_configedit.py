"""A calibration in a config text: in every way to write a device, with all else untouched."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cli.configedit import CannotEdit, change_of, settings_of, with_calibration
from edge.poll.calibration import NONE, Calibration, of_offset, of_pairs

LINE = of_pairs([(7.12, 7.0), (9.87, 10.0)])
OFFSET = of_offset(0.25)
ONE = "points = [[7.12, 7.0], [9.87, 10.0]]"

CASES = """
=== no settings; the next device has a comment
[[devices]]
name = "a"  # mine
driver = "sim"

# --- by the window
[[devices]]
name = "b"
--- becomes
[[devices]]
name = "a"  # mine
driver = "sim"

[devices.points.ph]
ONE

# --- by the window
[[devices]]
name = "b"
=== another point has a table
[[devices]]
name = "a"
[devices.points.t]  # first
low = 1
# end
--- becomes
[[devices]]
name = "a"
[devices.points.t]  # first
low = 1

[devices.points.ph]
ONE
# end
=== its table
[[devices]]
name = "a"
[devices.points.ph]  # by Anna
low = 1
--- becomes
[[devices]]
name = "a"
[devices.points.ph]  # by Anna
ONE
low = 1
=== an old line over several lines
[[devices]]
name = "a"
[devices.points.ph]
points = [
  [7.0, 7.0],  # old
  [10.0, 10.0],
]  # pairs
low = 1
--- becomes
[[devices]]
name = "a"
[devices.points.ph]
ONE  # pairs
low = 1
=== an offset
[[devices]]
name = "a"
[devices.points.ph]
offset = -0.5  # it was off
--- becomes
[[devices]]
name = "a"
[devices.points.ph]
offset = 0.0  # it was off
ONE
=== dotted keys
[[devices]]
name = "a"
points.ph.low = 1  # c
driver = "sim"
--- becomes
[[devices]]
name = "a"
points.ph.low = 1  # c
points.ph.ONE
driver = "sim"
=== dotted keys under a table
[[devices]]
name = "a"
[devices.points]
  ph.low = 1
--- becomes
[[devices]]
name = "a"
[devices.points]
  ph.low = 1
  ph.ONE
=== an inline point
[[devices]]
name = "a"
points = { ph = { low = 1 }, t = { low = 2 } }  # c
--- becomes
[[devices]]
name = "a"
points = { ph = { low = 1, ONE }, t = { low = 2 } }  # c
=== another inline point
[[devices]]
name = "a"
points = {t={low=2}}
--- becomes
[[devices]]
name = "a"
points = {t={low=2}, ph = { ONE } }
=== an empty inline table
[[devices]]
name = "a"
points = {}
--- becomes
[[devices]]
name = "a"
points = { ph = { ONE } }
=== an inline list of devices
devices = [
  { name = "b" },  # one
  { name = "a", driver = "sim" },
]
--- becomes
devices = [
  { name = "b" },  # one
  { name = "a", driver = "sim", points = { ph = { ONE } } },
]
=== quoted keys
[['devices']]
"name" = 'a'
[devices.'points'."ph"]
low = 1
--- becomes
[['devices']]
"name" = 'a'
[devices.'points'."ph"]
ONE
low = 1
=== a text that looks like tables
[[devices]]
name = "a"
note = '''
[devices.points.ph]
points = []
'''
--- becomes
[[devices]]
name = "a"
note = '''
[devices.points.ph]
points = []
'''

[devices.points.ph]
ONE
"""


def _ways() -> dict[str, tuple[str, str]]:
    """Name -> (before, after): device `a`, point `ph`, the line."""
    found = {}
    for case in CASES.split("\n=== ")[1:]:
        name, _, texts = case.partition("\n")
        before, _, after = texts.rstrip("\n").replace("ONE", ONE).partition("\n--- becomes\n")
        found[name] = (before + "\n", after + "\n")
    return found


WAYS = _ways()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_way_to_write_a_device(way: str, line_end: str) -> None:
    before, after = (text.replace("\n", line_end) for text in WAYS[way])
    assert with_calibration(before, "a", "ph", LINE) == after


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("calibration", [LINE, OFFSET, NONE])
def test_it_is_what_the_daemon_reads(way: str, calibration: Calibration) -> None:
    text = with_calibration(WAYS[way][0], "a", "ph", calibration)
    (device,) = [table for table in tomllib.loads(text)["devices"] if table["name"] == "a"]
    settings = device["points"]["ph"]
    ((key, value),) = settings_of(calibration).items()
    assert settings[key] == value
    assert not settings.get("points" if key == "offset" else "offset")
    assert with_calibration(text, "a", "ph", calibration) == text


TWICE = '[[devices]]\nname="a"\n[[devices]]\nname="a"\n'


@pytest.mark.parametrize(
    "text", ['[site]\nname = "x"\n', '[[devices]]\nname = "b"\n', 'devices = "none"\n', TWICE]
)
def test_a_device_that_is_not_there_once(text: str) -> None:
    with pytest.raises(CannotEdit, match="no table of device a"):
        with_calibration(text, "a", "ph", LINE)


def test_a_file_without_a_line_end() -> None:
    assert with_calibration('[[devices]]\nname = "a"', "a", "ph", LINE) == (
        f'[[devices]]\nname = "a"\n\n[devices.points.ph]\n{ONE}\n'
    )


def test_what_cannot_be_proved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.cli.configedit._put", lambda text, *_: text + "\n[other]\nx = 1\n")
    with pytest.raises(CannotEdit, match="no safe place"):
        with_calibration('[[devices]]\nname = "a"\n', "a", "ph", LINE)


def test_the_lines_that_change() -> None:
    before, after = WAYS["an offset"]
    change = change_of(before, after)
    assert change.line == 4
    assert change.old == ("offset = -0.5  # it was off",)
    assert change.new == ("offset = 0.0  # it was off", ONE)


@pytest.mark.parametrize("heading", ["", "[devices.points.ph]\n"], ids=["dotted", "table"])
def test_it_stands_beside_the_offset_that_it_replaces(heading: str) -> None:
    stem = "" if heading else "points.ph."
    lines = "".join(f"{stem}{line}\n" for line in ("offset = 1.0", "low = 0.0", "decimals = 2"))
    before = f'[[devices]]\nname = "a"\ndriver = "sim"\n{heading}{lines}'
    change = change_of(before, with_calibration(before, "a", "ph", LINE))
    assert change.old == (f"{stem}offset = 1.0",)


# ------------------------------------------------------------------------------------- whatever it is

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
comments = st.sampled_from(["", "  # note", " # [devices.points.ph]", '  # "', "\t#'''"])
names = st.sampled_from(["ph", "t", "power"])


@st.composite
def devices(draw: st.DrawFn, name: str) -> str:
    """A device's table in one of the ways people write them."""
    lines = [f'name = "{name}"{draw(comments)}', f"driver = 'sim'{draw(comments)}"]
    points = draw(
        st.dictionaries(names, st.dictionaries(st.sampled_from(["offset", "low", "decimals"]), numbers))
    )
    way = draw(st.sampled_from(["tables", "inline", "dotted", "half"]))
    told = {
        point: ", ".join(f"{key} = {value!r}" for key, value in found.items())
        for point, found in points.items()
    }
    if way == "inline" and told:
        lines.append(
            "points = { " + ", ".join(f"{point} = {{ {found} }}" for point, found in told.items()) + " }"
        )
    elif way == "half":
        lines += [f"points.{point} = {{ {found} }}{draw(comments)}" for point, found in told.items()]
    for point, found in points.items():
        if way == "dotted":
            lines += [f"points.{point}.{key} = {value!r}{draw(comments)}" for key, value in found.items()]
        if way == "tables":
            lines += ["", f"[devices.points.{point}]{draw(comments)}"]
            lines += [f"{key} = {value!r}{draw(comments)}" for key, value in found.items()]
    return "\n".join(["[[devices]]", *draw(st.permutations(lines[:2])), *lines[2:]]) + "\n"


@given(
    st.data(), names, st.sampled_from([LINE, OFFSET, NONE]), st.sampled_from(["a", "b", "c"]), st.booleans()
)
def test_only_the_calibration_changes(
    data: st.DataObject, point: str, calibration: Calibration, device: str, crlf: bool
) -> None:
    parts = ["# first\n[site]\nname = 'x'\n"]
    for name in "abc":
        parts += [data.draw(st.sampled_from(["", "\n", f"\n# device {name}\n"])), data.draw(devices(name))]
    text = "".join(parts).replace("\n", "\r\n" if crlf else "\n")
    edited = with_calibration(text, device, point, calibration)
    assert comments_of(edited) == comments_of(text)
    assert ("\n" in edited.replace("\r\n", "")) is not crlf
    before, after = tomllib.loads(text), tomllib.loads(edited)
    assert without(after, device, point) == without(before, device, point)
    assert len(change_of(text, edited).old) <= 2


def comments_of(text: str) -> list[str]:
    """Everything from the first # of each line on (no value here has one)."""
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


def without(config: dict[str, Any], device: str, point: str) -> dict[str, Any]:
    for table in config["devices"]:
        if table["name"] == device:
            for key in ("offset", "points"):
                table.setdefault("points", {}).setdefault(point, {}).pop(key, None)
    return config
