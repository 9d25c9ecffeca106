"""Kernel PWM on a folder of files that refuses what the kernel refuses."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from drivers import boards, pwm
from drivers.base import DeviceMisconfigured, DeviceUnavailable, HoldBy, Terms
from drivers.pwm import DRIVER, KernelPwm, PwmOptions, find
from tests.drivers.fakes import FakePwmChip


def chip(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: Any) -> FakePwmChip:
    found = FakePwmChip(folder / "class" / "pwm", **options)
    monkeypatch.setattr(pwm, "put", found.put)
    return found


def output(found: FakePwmChip, pin: int = 13, safe: float = 0.0, **options: Any) -> KernelPwm:
    return KernelPwm(
        PwmOptions(pin=pin, root=found.root, **{"frequency_hz": 1000.0, **options}),
        Terms(name="it", safe=safe),
    )


@pytest.mark.parametrize(
    ("device", "channels", "pins"),
    [
        ("2020c000.pwm", 2, {12: 0, 13: 1, 18: 0, 19: 1}),
        ("3f20c000.pwm", 2, {12: 0, 13: 1, 18: 0, 19: 1}),
        ("fe20c000.pwm", 2, {12: 0, 13: 1, 18: 0, 19: 1}),
        ("1f00098000.pwm", 4, {12: 0, 13: 1, 18: 2, 19: 3}),
    ],
)
def test_the_chip_is_found_by_its_device_s_name(
    tmp_path: Path, device: str, channels: int, pins: dict[int, int]
) -> None:
    root = tmp_path / "class" / "pwm"
    FakePwmChip(root, device="1f0009c000.pwm", number=0)  # the fan's, on a Pi 5
    right = FakePwmChip(root, device=device, channels=channels, number=2)
    for pin, channel in pins.items():
        assert find(root, pin) == (right.chip, channel)


def test_no_chip_of_a_pi_says_which_overlay_to_add(tmp_path: Path) -> None:
    root = tmp_path / "class" / "pwm"
    FakePwmChip(root, device="pwm-fan")
    with pytest.raises(DeviceUnavailable, match="dtoverlay=pwm,pin=12,func=4"):
        find(root, 12)


def test_a_pin_without_pwm_is_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DeviceMisconfigured, match="12, 13, 18, 19"):
        output(chip(monkeypatch, tmp_path), pin=17).open()


def test_a_chip_with_fewer_channels_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DeviceMisconfigured, match="has 1 channels"):
        output(chip(monkeypatch, tmp_path, channels=1)).open()


def test_from_scratch_it_is_exported_then_set_then_enabled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = chip(monkeypatch, tmp_path)
    output(found).open()
    assert found.log == [("export", "1"), ("period", "1000000"), ("duty_cycle", "0"), ("enable", "1")]


def test_one_that_runs_at_its_frequency_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = chip(monkeypatch, tmp_path)
    first = output(found)
    first.open()
    first.write(0.4)
    found.log.clear()
    second = output(found)
    second.open()
    assert found.log == []
    assert second.read_back() == pytest.approx(0.4)
    second.write(0.4)
    assert found.log == []
    second.write(0.5)
    assert found.log == [("duty_cycle", "500000")]


@pytest.mark.parametrize("safe", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("period_ns", "duty_ns"), [(0, 0), (20_000_000, 20_000_000), (100_000, 100_000), (100_000, 0)]
)
@pytest.mark.parametrize("enabled", ["0", "1"])
@pytest.mark.parametrize("polarity", ["normal", "inversed"])
def test_from_any_state_it_gets_to_safe_by_steps_that_the_kernel_takes(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    safe: float,
    period_ns: int,
    duty_ns: int,
    enabled: str,
    polarity: str,
) -> None:
    found = chip(monkeypatch, tmp_path)
    found.put(found.chip / "export", "1")
    state = {
        "period": period_ns,
        "duty_cycle": duty_ns,
        "enable": enabled if period_ns else 0,
        "polarity": polarity,
    }
    for name, value in state.items():
        (found.folder(1) / name).write_text(f"{value}\n")
    it = output(found, safe=safe)
    it.open()
    assert found.output(1) == pytest.approx(safe)
    assert (found.folder(1) / "polarity").read_text().strip() == "normal"
    assert it.read_back() == pytest.approx(safe)


def test_released_it_is_off_and_stays_exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = chip(monkeypatch, tmp_path)
    it = output(found)
    it.open()
    it.write(1.0)
    it.release()
    assert (found.folder(1) / "enable").read_text().strip() == "0"
    assert found.folder(1).is_dir()


def test_released_it_runs_on_where_safe_is_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = chip(monkeypatch, tmp_path)
    it = output(found, safe=0.6)
    it.open()
    it.write(0.0)
    it.release()
    assert found.output(1) == pytest.approx(0.6)


def test_one_that_somebody_disabled_is_enabled_by_the_next_refresh(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = chip(monkeypatch, tmp_path)
    it = output(found)
    it.open()
    it.write(0.5)
    (found.folder(1) / "enable").write_text("0\n")
    assert it.read_back() == 0.0
    it.write(0.5)
    assert found.output(1) == 0.5


def test_a_period_that_the_chip_cannot_do_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = chip(monkeypatch, tmp_path)

    def put(path: Path, text: str) -> None:
        if path.name == "period":
            raise OSError(22, "Invalid argument")
        found.put(path, text)

    monkeypatch.setattr(pwm, "put", put)
    with pytest.raises(DeviceUnavailable, match="frequency_hz"):
        output(found).open()


@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.EROFS, "ReadWritePaths"), (errno.EACCES, "group gpio"), (errno.EBUSY, "another program")],
)
def test_an_export_that_is_refused_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, said: str
) -> None:
    found = chip(monkeypatch, tmp_path)

    def put(path: Path, text: str) -> None:
        raise OSError(code, "x")

    monkeypatch.setattr(pwm, "put", put)
    with pytest.raises(DeviceUnavailable, match=said):
        output(found).open()


def test_nobody_holds_it() -> None:
    assert DRIVER.hold_by(PwmOptions(pin=12)) is HoldBy.NOBODY


def test_pins_that_share_a_channel_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    for generation, clash in ((4, True), (5, False)):
        monkeypatch.setattr(boards, "here", lambda generation=generation: boards.Board(generation=generation))
        one, other = (DRIVER.claims(PwmOptions(pin=pin)) for pin in (12, 18))
        assert any(claim.clashes(against) for claim in one for against in other) is clash
