"""DS18B20 on folders as w1_therm makes them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from drivers.base import DeviceMisconfigured, DeviceUnavailable, Quality, Sample
from drivers.ds18b20 import Ds18b20, Ds18b20Options, discover
from tests.drivers.folders import OTHER_PROBE, PROBE, plant, w1


def probe(root: Path, resolution: int | None = None) -> Ds18b20:
    return Ds18b20(Ds18b20Options(address=PROBE, root=root, resolution=resolution))


def read_one(device: Ds18b20, root: Path, text: str) -> Sample:
    (root / PROBE / "temperature").write_text(text)
    (sample,) = device.read()
    return sample


def test_reads_thousandths_of_a_degree(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25062\n"})
    assert probe(tmp_path).read() == [Sample(point="temperature", value=25.062)]


def test_temperature_below_zero(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "-62\n"})
    assert probe(tmp_path).read()[0].value == -0.062


def test_a_missing_probe_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    device = probe(tmp_path)
    device.open()
    with pytest.raises(DeviceUnavailable, match="no probe 28-0123456789ab"):
        device.read()
    w1(tmp_path, {PROBE: "25000"})
    assert device.read()[0].value == 25.0
    shutil.rmtree(tmp_path / PROBE)
    with pytest.raises(DeviceUnavailable):
        device.read()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "no-value"), ("\n", "no-value"), ("CRC=NO", "text"), ("25,1", "text"), ("\xff", "text")],
)
def test_what_is_no_number_is_bad(tmp_path: Path, text: str, reason: str) -> None:
    w1(tmp_path, {PROBE: text})
    (sample,) = probe(tmp_path).read()
    assert (sample.value, sample.quality, sample.reason) == (None, Quality.BAD, reason)


@pytest.mark.parametrize("text", ["127937", "-127000", "85000"])
def test_sentinels_are_bad_and_keep_their_number(tmp_path: Path, text: str) -> None:
    w1(tmp_path, {PROBE: "25000"})
    device = probe(tmp_path)
    device.read()
    sample = read_one(device, tmp_path, text)
    assert (sample.value, sample.quality, sample.reason) == (int(text) / 1000, Quality.BAD, "sentinel")
    assert read_one(device, tmp_path, "25100").quality is Quality.GOOD


def test_85_degrees_is_believed_where_it_was_nearly_so_hot_before(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "85000"})
    device = probe(tmp_path)
    assert device.read()[0].reason == "sentinel", "the first reading after power-up"
    assert read_one(device, tmp_path, "84500").quality is Quality.GOOD
    assert read_one(device, tmp_path, "85000").quality is Quality.GOOD
    assert read_one(device, tmp_path, "60000").quality is Quality.GOOD
    assert read_one(device, tmp_path, "85000").reason == "sentinel"


def test_after_a_new_open_85_degrees_is_a_power_up_again(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "84900"})
    device = probe(tmp_path)
    device.read()
    device.open()
    assert read_one(device, tmp_path, "85000").reason == "sentinel"


def test_sets_the_resolution(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25000"})
    probe(tmp_path, 10).open()
    assert (tmp_path / PROBE / "resolution").read_text() == "10\n"


def test_without_a_resolution_it_is_left_alone(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25000"}, resolution="9")
    probe(tmp_path).open()
    assert (tmp_path / PROBE / "resolution").read_text() == "9\n"


def test_a_probe_that_has_no_resolution_is_misconfigured(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25000"})
    (tmp_path / PROBE / "resolution").unlink()
    with pytest.raises(DeviceMisconfigured, match="leave `resolution` out"):
        probe(tmp_path, 10).open()


@pytest.mark.parametrize(("code", "hint"), [(errno.EROFS, "restart the daemon"), (errno.EIO, "cable")])
def test_a_resolution_that_is_not_taken_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, hint: str
) -> None:
    w1(tmp_path, {PROBE: "25000"})

    def refuse(_path: Path, _text: str) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(DeviceUnavailable, match=hint):
        probe(tmp_path, 10).open()


def two(root: Path) -> Ds18b20:
    return Ds18b20(Ds18b20Options(probes={"tank": PROBE, "sump": OTHER_PROBE}, root=root))


def test_several_probes_are_points_and_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25000"})
    device = two(tmp_path)
    assert set(device.points) == {"tank", "sump"}
    tank, sump = device.read()
    assert (tank.point, tank.value) == ("tank", 25.0)
    assert (sump.point, sump.quality, sump.reason) == ("sump", Quality.BAD, "unavailable")
    shutil.rmtree(tmp_path / PROBE)
    with pytest.raises(DeviceUnavailable):
        device.read()


def test_one_of_several_probes_that_takes_no_resolution_does_not_stop_the_others(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25000", OTHER_PROBE: "26000"})
    (tmp_path / OTHER_PROBE / "resolution").unlink()
    (tmp_path / OTHER_PROBE / "resolution").mkdir()  # an error of input and output
    options = {"probes": {"tank": PROBE, "sump": OTHER_PROBE}, "root": tmp_path, "resolution": 10}
    device = Ds18b20(Ds18b20Options.model_validate(options))
    device.open()
    assert [sample.value for sample in device.read()] == [25.0, 26.0]
    assert (tmp_path / PROBE / "resolution").read_text() == "10\n"
    (tmp_path / PROBE / "resolution").unlink()
    (tmp_path / PROBE / "resolution").mkdir()
    with pytest.raises(DeviceUnavailable, match=PROBE):
        device.open()


def test_several_probes_are_converted_at_once(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25000", OTHER_PROBE: "24000"})
    plant(tmp_path / "w1_bus_master1", {"therm_bulk_read": "0\n", f"{PROBE}/x": "", f"{OTHER_PROBE}/x": ""})
    assert [sample.value for sample in two(tmp_path).read()] == [25.0, 24.0]
    assert (tmp_path / "w1_bus_master1/therm_bulk_read").read_text() == "trigger\n"


def test_one_probe_alone_starts_no_conversion_of_the_others(tmp_path: Path) -> None:
    w1(tmp_path, {PROBE: "25000"})
    plant(tmp_path / "w1_bus_master1", {"therm_bulk_read": "0\n", f"{PROBE}/x": ""})
    probe(tmp_path).read()
    assert (tmp_path / "w1_bus_master1/therm_bulk_read").read_text() == "0\n"


def test_discovers_thermometers_only(tmp_path: Path) -> None:
    w1(tmp_path, {OTHER_PROBE: "1", PROBE: "1", "01-000000000001": "1"})
    plant(tmp_path / "w1_bus_master1", {"therm_bulk_read": "0"})
    assert discover(tmp_path) == [PROBE, OTHER_PROBE]
    assert discover(tmp_path / "nothing") == []


@pytest.mark.parametrize("options", [{}, {"address": PROBE, "probes": {"a": PROBE}}, {"address": "28-12"}])
def test_options_that_name_no_probe_or_two_ways_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Ds18b20Options.model_validate(options)
