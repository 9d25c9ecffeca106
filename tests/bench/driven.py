"""Config of what the bench's site drives: a heated and cooled tank, and lights; and two buses that hang."""

from __future__ import annotations

from typing import Final

CONTROL: Final = """
[[devices]]
name = "tank"
driver = "sim"
interval_s = 1.0
[[devices]]
name = "sump"
driver = "sim"
seed = 2
interval_s = 1.0
[[outputs]]
name = "heater"
driver = "sim"
kind = "heater"
safe = 0
cutoff = "cutoff"
[[outputs.envelope.limits]]
series = "sump.temperature"
above = 27.0
clear = 0.5
[[outputs.envelope.interlocks]]
other = "return"
when = "off"
[outputs.envelope.blind]
duty_max = 0.5
[[outputs]]
name = "cutoff"
driver = "sim"
kind = "cutoff"
safe = 0
default = 1
bus = "cutoff"
[[outputs]]
name = "fan"
driver = "sim"
kind = "chiller"
safe = 0
[outputs.envelope]
off_min_s = 180
[[outputs]]
name = "return"
driver = "sim"
kind = "return"
safe = 1
[[outputs]]
name = "air"
driver = "sim"
kind = "air"
safe = 1
[[outputs]]
name = "pump"
driver = "sim"
kind = "pump"
safe = 0
[[thermostats]]
name = "tank"
input = "tank.temperature"
second = "sump.temperature"
target = 25.5
band = 0.3
heat = ["heater"]
[[thermostats]]
name = "sump"
input = "sump.temperature"
target = 26.5
band = 0.4
cool = ["fan"]
[[schedules]]
name = "pumping"
outputs = ["pump"]
every_s = 60
duration_s = 20
"""
LIGHT: Final = """
[[outputs]]
name = "light{number}"
driver = "sim"
dimmable = true
kind = "light"
safe = 0
bus = "lights"
"""
HUNG: Final = """
[[devices]]
name = "dead-bus"
driver = "sim"
interval_s = 1.0
fault = "hang"
[[outputs]]
name = "dead-output"
driver = "sim"
kind = "other"
safe = 0
bus = "dead"
fault = "hang"
"""
OTHERS: Final = CONTROL.count("[[outputs]]")


def config(*, lights: int) -> str:
    """The tank's outputs, thermostats and schedule, and so many lights, `light0` onwards."""
    return CONTROL + "".join(LIGHT.format(number=number) for number in range(lights))
