"""Control's config: its tables, its defaults, and the rules that are made of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from drivers.base import HoldBy
from drivers.sim_outputs import SimOutput
from edge.clock import FakeClock
from edge.config import Config, UpstreamConfig
from edge.control.compile import compile_rules
from edge.control.config import (
    BlindConfig,
    EffectConfig,
    EnvelopeConfig,
    LimitConfig,
    ScheduleConfig,
    ThermostatConfig,
    make_output,
)
from edge.control.rules import Blind, Effect, Interlock, Kind, Limit, Unknown
from edge.mistakes import ConfigInvalid
from edge.settings import load

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
SITE = """
[site]
name = "reef-1"
timezone = "Europe/Vienna"

[control]
inrush_gap_s = 2.0
override_max_s = 3600

[[devices]]
name = "tank"
driver = "sim"
interval_s = 7.5

[[devices]]
name = "fast"
driver = "sim"
interval_s = 0.5

[[devices]]
name = "mains"
driver = "digital"
pin = 22
interval_s = 10

[[outputs]]
name = "heater"
driver = "relay"
pin = 17
kind = "heater"
safe = 0
power_w = 300
cutoff = "contactor"
shed_on = "mains.state"
inputs = ["tank.ph"]

[outputs.envelope]
on_min_s = 60
off_max_s = 0
[[outputs.envelope.limits]]
series = "fast.temperature"
above = 27.0
clear = 0.5
[[outputs.envelope.limits]]
series = "tank.temperature"
above = 28.0
fallback = ""
[[outputs.envelope.limits]]
series = "tank.power"
above = 900
[[outputs.envelope.interlocks]]
other = "contactor"
when = "off"
[outputs.envelope.blind]
duty_max = 0.5
[outputs.effect]
series = "tank.temperature"
on_change = -0.1

[[outputs]]
name = "contactor"
driver = "sim"
kind = "cutoff"
safe = 0
default = 1
max_age_s = 30
[[outputs.envelope.limits]]
series = "tank.temperature"
above = 29
fallback = "fast.temperature"

[[outputs]]
name = "light"
driver = "pca9685"
channel = 3
kind = "light"
safe = 0.25

[[thermostats]]
name = "water"
input = "tank.temperature"
second = "fast.temperature"
target = 25.5
heat = ["heater"]

[[schedules]]
name = "day"
outputs = ["light"]
level = 0.8
daily = ["08:00", "20:00"]
weekdays = ["sun", "mon"]
valid_from = 2026-07-01
unknown = "safe"

[[schedules]]
name = "party"
outputs = ["light"]
zone = "America/New_York"
once = [2026-07-01T10:00:00, 2026-07-01T18:00:00Z]

[[schedules]]
name = "pulse"
outputs = ["light"]
every_s = 600
anchor = 2026-01-01T00:00:30Z
duration_s = 5
"""


def loaded(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    config, _ = load(path, Config)
    return config


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def test_the_tables_become_rules(tmp_path: Path) -> None:
    rules = compile_rules(loaded(tmp_path, SITE))
    assert list(rules.outputs) == ["heater", "contactor", "light"]
    assert (rules.inrush_gap_s, rules.override_max_s, rules.zone) == (2.0, 3600, "Europe/Vienna")
    heater = rules.outputs["heater"]
    assert (heater.kind, heater.safe, heater.default, heater.dimmable) == (Kind.HEATER, 0.0, 0.0, False)
    assert (heater.power_w, heater.cutoff, heater.shed_on) == (300.0, "contactor", "mains.state")
    assert heater.inputs == ("tank.ph",)
    assert heater.envelope.on_min_s == 60
    assert heater.envelope.interlocks == (Interlock(other="contactor", when_on=False, level=0.0),)
    assert heater.envelope.blind == Blind(duty_max=0.5, after_s=1800.0, for_s=43_200.0)
    assert heater.effect == Effect(
        series="tank.temperature", on_change=-0.1, off_change=None, within_s=1800.0
    )
    assert rules.outputs["contactor"].default == 1.0
    light = rules.outputs["light"]
    assert (light.safe, light.default, light.dimmable) == (0.25, 0.25, True)
    (water,) = rules.thermostats
    assert (water.input, water.second, water.target, water.heat) == (
        "tank.temperature", "fast.temperature", 25.5, ("heater",),
    )  # fmt: skip


def test_a_limit_falls_back_on_the_other_probe_of_its_thermostat(tmp_path: Path) -> None:
    limits = compile_rules(loaded(tmp_path, SITE)).outputs["heater"].envelope.limits
    assert limits[0] == Limit(series="fast.temperature", above=27.0, clear=0.5, fallback="tank.temperature")
    assert limits[1].fallback == ""  # the config says: nobody
    assert limits[2].fallback == ""  # another quantity, of no thermostat


def test_a_reading_counts_for_three_intervals_of_its_device(tmp_path: Path) -> None:
    rules = compile_rules(loaded(tmp_path, SITE))
    assert rules.max_age_s == {
        "fast.temperature": 3.0,  # control looks once a second
        "mains.state": 30.0,
        "tank.ph": 22.5,
        "tank.power": 22.5,
        "tank.temperature": 22.5,
    }
    assert rules.outputs["heater"].max_age_s == {}
    assert rules.outputs["contactor"].max_age_s == {"fast.temperature": 30.0, "tank.temperature": 30.0}


def test_times_without_an_offset_are_of_the_schedules_zone(tmp_path: Path) -> None:
    day, party, pulse = compile_rules(loaded(tmp_path, SITE)).schedules
    assert (day.zone, day.daily, day.weekdays, day.unknown) == (
        "Europe/Vienna", ("08:00", "20:00"), (0, 6), Unknown.SAFE,
    )  # fmt: skip
    assert day.valid_from_ms == ms(datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Vienna")))
    assert party.once_ms == (
        ms(datetime(2026, 7, 1, 10, tzinfo=ZoneInfo("America/New_York"))),
        ms(datetime(2026, 7, 1, 18, tzinfo=UTC)),
    )
    assert pulse.anchor_ms == ms(datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC))


def test_the_same_config_gives_equal_rules(tmp_path: Path) -> None:
    config = loaded(tmp_path, SITE)
    assert compile_rules(config) == compile_rules(loaded(tmp_path, SITE))
    assert compile_rules(loaded(tmp_path, SITE.replace("25.5", "25.4"))) != compile_rules(config)


def test_the_example_is_a_heater_a_return_air_a_light_and_a_top_off(tmp_path: Path) -> None:
    rules = compile_rules(loaded(tmp_path, EXAMPLE.read_text("utf-8")))
    assert {output.kind for output in rules.outputs.values()} == {
        Kind.HEATER, Kind.CUTOFF, Kind.RETURN, Kind.AIR, Kind.LIGHT, Kind.TOPOFF,
    }  # fmt: skip
    heater = rules.outputs["heater"]
    assert heater.cutoff == "heater-cutoff"
    assert rules.thermostats[0].second == heater.envelope.limits[0].series
    assert heater.envelope.limits[0].fallback == rules.thermostats[0].input
    assert all(rules.outputs[name].safe == 1.0 for name in ("return", "air"))


def test_an_output_is_made_of_its_table(tmp_path: Path) -> None:
    config = loaded(tmp_path, SITE)
    made = make_output(config.outputs[1], FakeClock())
    assert isinstance(made, SimOutput)
    assert made.hold_by is HoldBy.RELEASE


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        (LimitConfig, {"series": "tank.temperature"}, "neither above nor below"),
        (LimitConfig, {"series": "tank.temperature", "above": 20, "below": 21}, "swap them"),
        (LimitConfig, {"series": "tank", "above": 20}, "series"),
        (LimitConfig, {"series": "tank.temperature", "above": float("nan")}, "finite"),
        (EnvelopeConfig, {"level_min": 0.5, "level_max": 0.2}, "swap them"),
        (EnvelopeConfig, {"on_max_s": 7200, "on_window_s": 3600}, "bounds nothing"),
        (EnvelopeConfig, {"off_max_s": 86_400}, "bounds nothing"),
        (BlindConfig, {"duty_max": 1.0}, "less than or equal to 0.9"),
        (EffectConfig, {"series": "tank.temperature"}, "nothing is watched"),
        (ThermostatConfig, {"name": "t", "input": "a.b", "target": 1}, "switches nothing"),
        (ThermostatConfig, {"name": "t", "input": "a.b", "target": 1, "heat": ["h"], "band": 4}, "within the band"),
        (ScheduleConfig, {"name": "s", "outputs": []}, "at least 1"),
        (ScheduleConfig, {"name": "s", "outputs": ["a"], "weekdays": ["monday"]}, "mon"),
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_is_refused(
    model: type[LimitConfig], values: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        model.model_validate(values)


def test_an_unknown_driver_or_option_is_told_with_what_was_meant(tmp_path: Path) -> None:
    text = SITE.replace('driver = "relay"', 'driver = "rellay"').replace("power_w", "powr_w")
    with pytest.raises(ConfigInvalid) as caught:
        loaded(tmp_path, text)
    assert "did you mean relay?" in str(caught.value)
    text = SITE.replace("power_w", "powr_w")
    with pytest.raises(ConfigInvalid, match="did you mean power_w"):
        loaded(tmp_path, text)


def test_the_upstream_process_reads_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(SITE, "utf-8")
    config, _ = load(path, UpstreamConfig)
    assert config.outputs is None
