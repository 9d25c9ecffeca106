"""This machine's sensors on a Pi's folders, and on the machine the tests run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.base import Quality
from drivers.host import Host, HostOptions, card_wear_percent, find_cpu_temperature, find_interfaces
from edge.clock import FakeClock, SystemClock
from tests.drivers.folders import TREES, plant


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "pi", TREES["pi"])


def values(host: Host) -> dict[str, float | None]:
    return {sample.point: sample.value for sample in host.read()}


def test_a_pi_shows_everything(root: Path) -> None:
    host = Host(HostOptions(root=root, disk=root), FakeClock())
    found = values(host)
    disk_used = found.pop("disk_used")
    assert disk_used is not None and 0 <= disk_used <= 100
    assert found == pytest.approx(
        {
            "cpu_temperature": 48.312,
            "load": 0.42,
            "uptime": 3600.5,
            "memory_used": 75.0,
            "disk_written": 4000 * 512 / 1e6,
            "under_voltage": 1.0,
            "throttled": 1.0,
            "under_voltage_since_boot": 1.0,
            "card_wear": 30.0,
        }
    ), "get_throttled 0x50005 has bits 0, 2, 16 and 18"


def test_rates_come_with_the_second_read(root: Path) -> None:
    clock = FakeClock()
    host = Host(HostOptions(root=root), clock)
    assert not {"network_rx", "network_tx", "cpu_used"} & values(host).keys()
    net = root / "proc/net/dev"
    net.write_text(net.read_text().replace("eth0: 1000", "eth0: 6000").replace(" 500 ", " 1500 "))
    (root / "proc/stat").write_text("cpu  150 0 125 825 0 0 0 0 0 0\n")
    clock.pass_s(10)
    found = values(host)
    assert (found["network_rx"], found["network_tx"]) == (500.0, 100.0)
    assert found["cpu_used"] == 75.0
    net.write_text(net.read_text().replace("eth0: 6000", "eth0: 10"))
    clock.pass_s(10)
    assert "network_rx" not in values(host), "a counter that was reset gives no rate"


def test_the_loopback_counts_only_where_nothing_else_is(root: Path) -> None:
    assert find_interfaces(root) == ["eth0"]


def test_points_depend_on_what_the_machine_has(tmp_path: Path) -> None:
    bare = plant(tmp_path / "bare", {"proc/loadavg": "1 1 1 1/1 1\n"})
    assert set(Host(HostOptions(root=bare, disk=tmp_path / "none"), FakeClock()).points) == {"load"}
    assert find_cpu_temperature(bare) is None


def test_the_processor_is_found_by_its_chip_where_no_zone_is(tmp_path: Path) -> None:
    plant(tmp_path / "sys/class/hwmon/hwmon0", {"name": "nvme\n", "temp1_input": "30000\n"})
    plant(tmp_path / "sys/class/hwmon/hwmon1", {"name": "coretemp\n", "temp1_input": "50000\n"})
    assert find_cpu_temperature(tmp_path) == tmp_path / "sys/class/hwmon/hwmon1/temp1_input"


def test_what_vanishes_or_talks_is_bad_and_the_others_go_on(root: Path) -> None:
    host = Host(HostOptions(root=root), FakeClock())
    (root / "proc/loadavg").write_text("nonsense\n")
    (root / "proc/uptime").unlink()
    (root / "proc/meminfo").write_text("MemTotal: 1 kB\n")
    samples = {sample.point: sample for sample in host.read()}
    assert (samples["load"].quality, samples["load"].reason) == (Quality.BAD, "text")
    assert (samples["uptime"].quality, samples["uptime"].reason) == (Quality.BAD, "unavailable")
    assert samples["memory_used"].quality is Quality.BAD
    assert samples["cpu_temperature"].quality is Quality.GOOD


@pytest.mark.parametrize(
    ("text", "percent"), [("0x01 0x01\n", 10.0), ("0x00 0x00", 0.0), ("0x02 0x0b", 110.0)]
)
def test_card_wear(text: str, percent: float) -> None:
    assert card_wear_percent(text) == percent


def test_the_machine_itself() -> None:
    host = Host(HostOptions(), SystemClock())
    found = values(host)
    assert found.keys() <= host.points.keys()
    assert {"load", "uptime", "memory_used", "disk_used"} <= found.keys()
