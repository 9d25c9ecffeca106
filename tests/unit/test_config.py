"""The config tree of the daemon and of the upstream process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from edge.config import Config, UpstreamConfig, model_of
from edge.mistakes import ConfigInvalid
from edge.options import field_types, is_model, item_types
from edge.settings import load

MANY_MISTAKES = """\
[site]
name = "Reef 1"
timezone = "Europe/Wien"

[store]
flush_interval = 5
queue_rows_max = "many"

[uplink]
port = 70000
tls = yes
password = "correct-horse"

[wbe]
port = 8080

[[devices]]
name = "tank"
driver = "simm"

[[devices]]
name = "tank"
driver = "sim"
interval_s = 0
  [devices.points.temprature]
  offset = 0.2
"""


def check(path: Path, text: str) -> list[tuple[int, str, str]]:
    path.write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        load(path, Config)
    return [(mistake.line, mistake.key, mistake.text) for mistake in caught.value.mistakes]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    found = check(tmp_path / "c.toml", MANY_MISTAKES)
    assert [(line, key) for line, key, _ in found] == [
        (2, "site.name"),
        (3, "site.timezone"),
        (6, "store.flush_interval"),
        (7, "store.queue_rows_max"),
        (10, "uplink.port"),
        (11, "uplink.tls"),
        (14, "wbe"),
        (19, "devices.tank.driver"),
        (22, "devices.tank.name"),
        (24, "devices.tank.interval_s"),
        (25, "devices.tank.points.temprature"),
    ]
    texts = " ".join(text for _, _, text in found)
    for hint in ("flush_interval_s", "web?", "sim?", "first device", "IANA"):
        assert hint in texts
    assert "correct-horse" not in texts


def test_a_driver_without_its_closing_quote_is_one_mistake(tmp_path: Path) -> None:
    text = '[site]\nname = "a"\n[[devices]]\nname = "t"\ndriver = "sim\n'
    ((line, key, said),) = check(tmp_path / "c.toml", text)
    assert (line, key) == (5, "devices.driver")
    assert "closing quote" in said


def test_settings_of_a_point_that_is_not_there_are_told_at_their_line(tmp_path: Path) -> None:
    text = '[site]\nname = "a"\n[[devices]]\nname = "t"\ndriver = "sim"\n[devices.points.temp]\noffset = 1\n'
    ((line, key, said),) = check(tmp_path / "c.toml", text)
    assert (line, key) == (6, "devices.t.points.temp")
    assert "temperature" in said


def test_a_site_needs_its_name(tmp_path: Path) -> None:
    ((line, key, text),) = check(tmp_path / "c.toml", "[web]\nport = 1\n")
    assert (line, key) == (1, "site")
    assert text.startswith("is missing")


def test_an_empty_file_is_told_the_heading_it_needs(tmp_path: Path) -> None:
    ((line, key, said),) = check(tmp_path / "config.toml", "")
    assert (line, key) == (1, "site")
    assert said.startswith('is missing; add [site] with name = "…"')


def test_an_unknown_driver_does_not_hide_the_devices_other_mistakes(tmp_path: Path) -> None:
    text = '[site]\nname = "a"\n[[devices]]\nname = "tank"\ndriver = "sjm"\ninterval_s = "2s"\n'
    found = check(tmp_path / "config.toml", text)
    assert [(line, key) for line, key, _ in found] == [
        (5, "devices.tank.driver"),
        (6, "devices.tank.interval_s"),
    ]
    assert "did you mean sim?" in found[0][2]


SLIPS = """\
[site]
name = "a"
[[devices]]
name = "tank"
driver = "smi"
intervall_s = 5.0
bus = 3
[devices.points.temprature]
hihg = 30
[[devices]]
nmae = "sump"
driver = "sim"
[[devices]]
name = "volts"
driver = "ads1115"
chanels = {}
timeout = "x"
"""


def test_misspelt_options_hide_nothing_and_are_told_once(tmp_path: Path) -> None:
    found = check(tmp_path / "config.toml", SLIPS)
    assert [(line, key) for line, key, _ in found] == [
        (5, "devices.tank.driver"),
        (6, "devices.tank.intervall_s"),
        (7, "devices.tank.bus"),
        (8, "devices.tank.points.temprature"),
        (9, "devices.tank.points.temprature.hihg"),
        (11, "devices[1].nmae"),
        (16, "devices.volts.chanels"),
        (17, "devices.volts.timeout"),
    ]


@pytest.mark.parametrize(
    "slip", ["intervall_s = 2.0", "interval_s = 0", 'intervall_s = "x"', "interval_s = 2\nintervall_s = 3"]
)
def test_a_slip_makes_up_no_other_mistake(tmp_path: Path, slip: str) -> None:
    text = (
        f'[site]\nname = "a"\n[[devices]]\nname = "t"\ndriver = "sim"\n{slip}\n[devices.points.ph]\nlow = 7\n'
    )
    ((_, key, _),) = check(tmp_path / "config.toml", text)
    assert key in ("devices.t.intervall_s", "devices.t.interval_s")


def test_a_misspelt_section_is_not_missing_as_well(tmp_path: Path) -> None:
    ((line, key, said),) = check(tmp_path / "config.toml", '[sit]\nname = "a"\n')
    assert (line, key, said) == (1, "sit", "there is no such option; did you mean site?")


def test_a_list_of_tables_that_stands_once_is_told_its_whole_heading(tmp_path: Path) -> None:
    text = """\
[site]
name = "a"
[[outputs]]
name = "lamp"
driver = "sim"
kind = "light"
safe = 0
[outputs.envelope.limits]
series = "tank.temperature"
above = 30
"""
    ((line, key, said),) = check(tmp_path / "config.toml", text)
    assert (line, key) == (8, "outputs.lamp.envelope.limits")
    assert "write [[outputs.envelope.limits]], with two brackets" in said
    assert "[[limits]]" not in said


def test_one_file_may_serve_both_processes(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[site]\nname = "reef"\n[uplink]\npassword = "secret-one"\nusername = "a"\n[sink]\nport = 2000\n'
    )
    edge, _ = load(path, Config)
    upstream, _ = load(path, UpstreamConfig)
    assert edge.sink is not None
    assert upstream.sink.port == edge.sink.port == 2000
    assert upstream.uplink is None
    assert "secret-one" not in repr(upstream)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ('[site]\nname = "a"', Config),
        ("[sink]\nport = 1", UpstreamConfig),
        ('[sink]\n[site]\nname = "a"', Config),
        ("# [sink]\n", Config),
        (" [ sink ]\n# [site]", UpstreamConfig),
    ],
)
def test_whose_file_it_is_shows_in_its_headings(tmp_path: Path, text: str, model: type[BaseModel]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert model_of(path) is model


def models() -> Iterator[type[BaseModel]]:
    """Every model that a person fills in: the sections, each driver's device, the settings of a point."""
    waiting: list[type[BaseModel]] = [Config]
    while waiting:
        model = waiting.pop()
        yield model
        for field in model.model_fields.values():
            kinds = field_types(field)
            waiting += [
                kind for kind in [*kinds, *item_types(kinds, 0), *item_types(kinds, "x")] if is_model(kind)
            ]


@pytest.mark.parametrize("model", dict.fromkeys(models()), ids=lambda model: model.__name__)
def test_every_model_is_closed_frozen_and_described(model: type[BaseModel]) -> None:
    assert model.model_config.get("extra") == "forbid"
    assert model.model_config.get("frozen") is True
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_the_schema_judges_as_the_loader_does() -> None:
    schema = Config.model_json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    good = {"site": {"name": "reef"}, "devices": [{"name": "tank", "driver": "sim", "seed": 3}]}
    assert list(validator.iter_errors(good)) == []
    for bad in (
        {"site": {"name": "Reef"}},
        {"site": {"name": "reef"}, "web": {"prt": 1}},
        {"site": {"name": "reef"}, "devices": [{"name": "tank", "driver": "simm"}]},
        {"site": {"name": "reef"}, "devices": [{"name": "tank", "driver": "sim", "chip": "x"}]},
    ):
        assert list(validator.iter_errors(bad)), bad
