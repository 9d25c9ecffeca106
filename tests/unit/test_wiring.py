"""How outputs hang together: what `config check` warns of is what the self-test breaks."""

from __future__ import annotations

from pathlib import Path

from drivers.base import HoldBy
from edge.config import Config
from edge.control.compile import compile_rules
from edge.control.faults import OF_HARDWARE, Fault
from edge.control.selftest import faults_of
from edge.control.simulated_site import site_of
from edge.control.wiring import Wiring, fails_with_both, shared_parts, wiring_of
from edge.settings import load

CUTOFFS = Path(__file__).parents[1] / "cases" / "config-warned" / "cutoffs.toml"


def wirings() -> dict[str, Wiring]:
    config, _ = load(CUTOFFS, Config)
    return {output.name: wiring_of(output) for output in config.outputs}


def test_a_line_of_the_board_shares_nothing() -> None:
    relay = wirings()["on-relay"]
    assert (relay.bus, relay.parts, relay.held_by) == ("", frozenset(), HoldBy.RELEASE)


def test_a_chip_is_shared_by_its_channels_and_an_outlet_by_its_sockets() -> None:
    found = shared_parts(wirings())
    assert found == {
        "i2c-1 0x40": ("on-chip", "same-chip"),
        "shelly-192.168.1.40": ("on-shelly", "same-shelly"),
    }


def test_the_self_test_breaks_what_several_outputs_share() -> None:
    config, _ = load(CUTOFFS, Config)
    site = site_of(compile_rules(config), wirings())
    broken = {(fault, place): who for fault, place, who in faults_of(site) if fault in OF_HARDWARE}
    assert broken[(Fault.FROZEN, "shelly-192.168.1.40")] == ("on-shelly", "same-shelly")
    assert broken[(Fault.FROZEN, "i2c-1 0x40")] == ("on-chip", "same-chip")
    assert broken[(Fault.BUS_HUNG, "i2c-1")] == ("on-chip", "same-chip", "on-another-chip")
    assert broken[(Fault.BUS_HUNG, "usb-board")] == ("top-off", "same-board")
    assert not any(place in ("", "gpio") for _, place in broken)


def test_what_is_safe_past_its_bus_may_share_that() -> None:
    cutoff = Wiring(bus="i2c-1", held_by=HoldBy.NOBODY)
    assert fails_with_both(Wiring(bus="i2c-1"), cutoff) == "bus i2c-1"
    assert fails_with_both(Wiring(bus="i2c-1", held_by=HoldBy.DEVICE), cutoff) == "bus i2c-1"
    assert fails_with_both(Wiring(bus="i2c-1", held_by=HoldBy.DEVICE, hold_s=60.0), cutoff) == ""
    assert fails_with_both(Wiring(bus="i2c-1", held_by=HoldBy.OE), cutoff) == ""
    assert fails_with_both(Wiring(), Wiring()) == ""
