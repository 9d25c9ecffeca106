"""The demo's site: a reef tank that its outputs heat, light and fill, in a house with a solar roof."""

from __future__ import annotations

from typing import Final

SITE: Final = "reef-demo"
SPEED: Final = 300
"""How many times faster the tank's time runs: a day in five minutes."""
BEGIN_HOUR: Final = 23.0
"""The tank's hour at the start: the room is cold enough to heat, and warm enough to rest."""

CONFIG: Final = """\
# Made by `tidewatt demo`; look around with `tidewatt --config {path} status`.
[site]
name = {site}

[log]
format = "console"

[store]
path = {database}
flush_interval_s = 1.0

[uplink]
host = "127.0.0.1"
port = {broker_port}
ledger = {ledger}
batch_interval_s = 1.0

[meters]                        # the utility's files: one is dropped into inbox/
scan_interval_s = 1.0

[web]
host = "127.0.0.1"
port = {web_port}

[sink]
postgres = {postgres}
host = "127.0.0.1"
port = {broker_port}

[[devices]]                     # a reef tank: water temperature, pH, and what is drawn around it
name = "tank"
driver = "sim"
model = "tank"
plant = "reef"                  # the outputs below heat and fill it
speed = {speed}                     # its time runs so many times faster, so that one sees it work
utc_offset_h = {offset_h}            # and begins in the evening
target_c = 25.5
interval_s = 1.0
seed = 7

[[devices]]                     # a second probe in its water
name = "sump"
driver = "sim"
model = "probe"
plant = "reef"
interval_s = 1.0

[[devices]]                     # the room around it
name = "room"
driver = "sim"
model = "room"
plant = "reef"
interval_s = 1.0
seed = 11

[[devices]]                     # 1: the sump is full
name = "float"
driver = "sim"
model = "contact"
kind = "float"
plant = "reef"
interval_s = 1.0

[[devices]]                     # 1: the floor is wet
name = "leak"
driver = "sim"
model = "contact"
kind = "leak"
plant = "reef"
interval_s = 1.0

[[devices]]                     # what heater and top-off pump draw: while they are off, a welded contact
name = "heater-meter"
driver = "sim"
model = "meter"
part = "heater"
plant = "reef"
interval_s = 1.0

[[devices]]
name = "topoff-meter"
driver = "sim"
model = "meter"
part = "topoff"
plant = "reef"
interval_s = 1.0

[[devices]]                     # the solar roof
name = "roof"
driver = "sim"
model = "roof"
interval_s = 1.0
seed = 13

[[devices]]                     # the house: its load and its meter
name = "house"
driver = "sim"
model = "house"
interval_s = 1.0
seed = 17

[[devices]]                     # this machine itself
name = "host"
driver = "host"
interval_s = 2.0

[control.circuits.cabinet]
max_w = 2000.0

[[outputs]]                     # by its thermostat; never above 27 °C, never without flow
name = "heater"
driver = "sim"
plant = "reef"
kind = "heater"
safe = 0
power_w = 300
circuit = "cabinet"
cutoff = "heater-cutoff"

[[outputs.envelope.limits]]
series = "sump.temperature"
above = 27.0
clear = 0.5

[[outputs.envelope.interlocks]]
other = "return"
when = "off"

[outputs.envelope.blind]
duty_max = 0.5

[outputs.effect]
series = "heater-meter.power"
absolute = true
on_change = 100.0
off_change = 100.0
within_s = 20
settle_s = 5

[[outputs]]                     # a second relay, for a welded contact of the first
name = "heater-cutoff"
driver = "sim"
plant = "reef"
kind = "cutoff"
safe = 0
default = 1
bus = "cutoffs"

[[outputs]]
name = "return"
driver = "sim"
plant = "reef"
kind = "return"
safe = 1
power_w = 45
circuit = "cabinet"

[outputs.envelope]
off_max_s = 1800
off_window_s = 7200

[[outputs]]                     # by its schedule: a day of one minute
name = "light"
driver = "sim"
plant = "reef"
kind = "light"
dimmable = true
safe = 0
power_w = 120
circuit = "cabinet"

[[outputs]]                     # fresh water while the float is down, never on a wet floor
name = "topoff"
driver = "sim"
plant = "reef"
kind = "topoff"
safe = 0
power_w = 5
circuit = "cabinet"
cutoff = "topoff-cutoff"

[outputs.envelope]
on_max_s = 600
on_window_s = 3600

[[outputs.envelope.interlocks]]
other = "float.state"
when = "on"

[[outputs.envelope.interlocks]]
other = "leak.state"
when = "on"

[outputs.effect]
series = "topoff-meter.power"
absolute = true
on_change = 2.0
off_change = 2.0
within_s = 20
settle_s = 5

[[outputs]]
name = "topoff-cutoff"
driver = "sim"
plant = "reef"
kind = "cutoff"
safe = 0
default = 1
bus = "cutoffs"

[[thermostats]]
name = "tank"
input = "tank.temperature"
second = "sump.temperature"
target = 25.5
band = 0.3
heat = ["heater"]

[[schedules]]
name = "daylight"
outputs = ["light"]
level = 0.8
every_s = 60
duration_s = 25
ramp_s = 5
unknown = "level"               # where nobody sets the clock, as in a container, it is on
unknown_level = 0.8

[[schedules]]                   # at any time, whatever the clock says: the float decides
name = "refill"
outputs = ["topoff"]
unknown = "level"
unknown_level = 1
"""


def offset_h(began_ms: int) -> float:
    """The hours from UTC of a place where it is the tank's first hour then, within -12..12."""
    hour = began_ms / 3_600_000 % 24.0
    return round((BEGIN_HOUR - hour + 12.0) % 24.0 - 12.0, 3)
