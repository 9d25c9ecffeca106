"""`tidewatt config` and `tidewatt drivers`, as a person types them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from drivers.catalog import catalog, output_catalog
from edge.cli.main import run
from edge.options import field_types, is_hex

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
GOOD = """\
[site]
name = "reef"
[uplink]
username = "reef"
password = "correct-horse"
[[devices]]
name = "a"
driver = "sim"
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIDEWATT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.toml"
    path.write_text('[site]\nname = "reef"\n[web]\nport = 0\nprt = 1\n[uplink]\ntls = yes\n')
    return path


def test_a_good_file_is_summed_up(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: OK: site reef, 1 device, 5 options set\n"


def test_a_secret_that_everybody_may_read_is_warned_of(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.chmod(0o604)
    assert run(["config", "check", "--json", str(good)]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert (warning["line"], warning["key"]) == (5, "uplink.password")
    assert warning["text"] == f"every user of this machine can read it; sudo chmod o-r {good}"


def test_the_named_config_is_checked_where_no_file_is_given(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--config", str(good), "config", "check"]) == 0
    assert "OK" in capsys.readouterr().out


def test_a_bad_file_is_told_line_by_line(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(bad)]) == 1
    said = capsys.readouterr()
    assert said.err == "3 mistakes\n"
    assert [line.removeprefix(f"{bad}:")[:12] for line in said.out.splitlines()] == [
        "4: web.port:",
        "5: web.prt: ",
        "7: uplink.tl",
    ]


def test_warnings_are_told_and_refuse_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "warned.toml"
    path.write_text(
        '[site]\nname = "reef"\n[control.circuits.cabinet]\nmax_w = 100\n'
        '[[outputs]]\nname = "return"\ndriver = "sim"\nkind = "return"\nsafe = 1\ncircuit = "cabinet"\n'
        "power_w = 45\n[outputs.envelope]\noff_max_s = 0\n"
    )
    assert run(["config", "check", str(path)]) == 0
    warning, summary, circuit = capsys.readouterr().out.splitlines()
    assert warning.startswith(
        f"{path}:13: outputs.return.envelope.off_max_s: warning: nothing bounds how long"
    )
    assert summary.endswith(", 1 warning")
    assert circuit == (
        "circuit cabinet: 45 W come on at once at boot (return), 45 W with everything on, of 100 W"
    )
    assert run(["config", "check", "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert [(warning["line"], warning["key"]) for warning in told["warnings"]] == [
        (13, "outputs.return.envelope.off_max_s")
    ]
    assert told["circuits"][0]["released_w"] == 45


def test_mistakes_come_as_json_too(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", "--json", str(bad)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [(mistake["line"], mistake["key"]) for mistake in answer["mistakes"]] == [
        (4, "web.port"),
        (5, "web.prt"),
        (7, "uplink.tls"),
    ]


def test_a_sinks_file_is_checked_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sink.toml"
    path.write_text('[sink]\npostgres = "postgresql://u:correct-horse@db/x"\n')
    assert run(["config", "check", str(path)]) == 0
    assert "the upstream process, from localhost:1883 into Postgres" in capsys.readouterr().out
    path.write_text('[sink]\npostgres = "correct-horse"\n')
    assert run(["config", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert "2: sink.postgres: not a connection string; write postgresql://" in said
    assert "correct-horse" not in said


def test_what_is_in_force_is_shown_with_its_origin_and_no_secret(
    good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEWATT_WEB__PORT", "9000")
    assert run(["config", "show", str(good), "--json"]) == 0
    out = capsys.readouterr().out
    shown = json.loads(out)
    assert shown["web.port"] == {"value": 9000, "origin": "environment TIDEWATT_WEB__PORT"}
    assert shown["site.name"] == {"value": "reef", "origin": f"{good}:2"}
    assert shown["uplink.password"] == {"value": "********", "origin": f"{good}:5"}
    assert shown["uplink.port"] == {"value": 1883, "origin": "default"}
    assert shown["devices.a.driver"] == {"value": "sim", "origin": f"{good}:8"}
    assert "correct-horse" not in out
    assert run(["config", "show", str(good), "--changed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "site.name", "uplink.username", "uplink.password", "web.port", "devices.a.name", "devices.a.driver",
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["--sink"]])
def test_the_schema_is_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema", *arguments]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "sink" in schema["properties"]


def test_the_example_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(EXAMPLE)]) == 0
    assert "OK" in capsys.readouterr().out


def test_drivers_are_listed_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drivers"]) == 0
    text = capsys.readouterr().out
    for name, driver in catalog().items():
        assert name in text
        assert driver.summary in text
    assert run(["drivers", "sim"]) == 0
    text = capsys.readouterr().out
    for option in catalog()["sim"].options.model_fields:
        assert option in text
    assert run(["drivers", "--json"]) == 0
    assert {driver["name"] for driver in json.loads(capsys.readouterr().out)["drivers"]} == set(catalog())
    assert run(["drivers", "simm"]) == 2
    assert "did you mean sim?" in capsys.readouterr().err


def test_output_drivers_are_listed_with_who_makes_them_safe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drivers"]) == 0
    text = capsys.readouterr().out
    for name, driver in output_catalog().items():
        assert name in text
        assert driver.summary in text
        assert driver.held in text
        assert "does not say" not in driver.held
    assert run(["drivers", "shelly"]) == 0
    text = capsys.readouterr().out
    for option in output_catalog()["shelly"].options.model_fields:
        assert option in text
    assert "the Shelly's own timer" in text
    assert "[[outputs]]" in text
    assert "[[devices]]" in text
    assert run(["drivers", "pca9685"]) == 0
    text = capsys.readouterr().out
    assert "[[outputs]]" in text
    assert "[[devices]]" not in text
    assert run(["drivers", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["outputs"]
    assert {driver["name"]: driver["held"] for driver in told} == {
        name: driver.held for name, driver in output_catalog().items()
    }
    assert run(["drivers", "sim"]) == 0
    text = capsys.readouterr().out
    assert "[[devices]]" in text
    assert "[[outputs]]" in text
    assert run(["drivers", "relai"]) == 2
    assert "did you mean relay?" in capsys.readouterr().err


I2C = """\
[[devices]]
name = "air"
driver = "sht3x"
address = 0x45
[[outputs]]
name = "lamps"
driver = "pca9685"
kind = "light"
channel = 3
safe = 0.0
"""


def test_addresses_are_shown_as_people_write_them(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good.write_text(GOOD + I2C)
    assert run(["config", "show", str(good)]) == 0
    shown = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert shown["devices.air.address"] == "0x45"
    assert shown["outputs.lamps.address"] == "0x40"
    assert shown["outputs.lamps.channel"] == "3"
    assert run(["config", "show", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices.air.address"]["value"] == 0x45
    assert run(["drivers", "sht3x"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(row for row in rows if row[:1] == ["address"])[3] == "0x44"


def test_a_mistake_in_an_address_tells_its_range_in_hex(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.write_text(GOOD + I2C.replace("0x45", "0x46"))
    assert run(["config", "check", str(good)]) == 1
    assert "must be from 0x44 to 0x45, is 0x46; I2C address" in (said := capsys.readouterr().out)
    assert said.rstrip().endswith("default 0x44")


def test_every_whole_number_that_is_an_address_is_shown_in_hex() -> None:
    models = [one.options for one in catalog().values()] + [one.options for one in output_catalog().values()]
    found = [model.model_fields["address"] for model in models if "address" in model.model_fields]
    numbers = [option for option in found if int in field_types(option)]
    assert len(numbers) >= 6
    assert all(map(is_hex, numbers))
