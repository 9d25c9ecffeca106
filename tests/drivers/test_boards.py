"""Boards: which pins there are, and which are given away, from /proc, /boot and /sys of several Pis."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers import boards
from drivers.boards import Board, generation_of, read
from tests.drivers.folders import plant

PI_4 = "Raspberry Pi 4 Model B Rev 1.4\0"
PI_5 = "Raspberry Pi 5 Model B Rev 1.0\0"


def board(root: Path, config: str = "", model: str = PI_4, **files: str) -> Board:
    tree = {"proc/device-tree/model": model, "boot/firmware/config.txt": config, **files}
    return read(plant(root, tree))


@pytest.mark.parametrize(
    ("model", "generation"),
    [
        ("Raspberry Pi Zero W Rev 1.1", 0),
        ("Raspberry Pi Zero 2 W Rev 1.0", 3),
        ("Raspberry Pi Model B Rev 2", 1),
        ("Raspberry Pi Model B Plus Rev 1.2", 1),
        ("Raspberry Pi 2 Model B Rev 1.1", 2),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", 3),
        ("Raspberry Pi 4 Model B Rev 1.5", 4),
        ("Raspberry Pi 400 Rev 1.0", 4),
        ("Raspberry Pi Compute Module 4 Rev 1.0", 4),
        ("Raspberry Pi 5 Model B Rev 1.0", 5),
        ("Raspberry Pi 500 Rev 1.0", 5),
        ("Raspberry Pi Compute Module 5 Rev 1.0", 5),
        ("", None),
    ],
)
def test_the_generation_is_that_of_the_processor(model: str, generation: int | None) -> None:
    assert generation_of(model) == generation


def test_off_a_pi_only_the_header_is_known(tmp_path: Path) -> None:
    here = read(tmp_path)
    assert not here.is_pi
    assert here.keeps_levels is None
    assert here.refuse(17, "output") == ""
    assert "not on the header" in here.refuse(28, "output")


def test_a_free_pin_is_not_refused(tmp_path: Path) -> None:
    assert board(tmp_path).refuse(17, "output") == ""


@pytest.mark.parametrize(
    ("config", "pin", "said"),
    [
        ("dtoverlay=w1-gpio", 4, "GPIO 4 carries 1-Wire on this Pi (dtoverlay=w1-gpio); use another pin"),
        ("dtoverlay=w1-gpio,gpiopin=17", 17, "1-Wire"),
        ("dtoverlay=w1-gpio\ndtparam=gpiopin=17", 17, "dtoverlay=w1-gpio,gpiopin=17"),
        ("dtparam=i2c_arm=on", 2, "I2C"),
        ("dtparam=i2c_arm", 3, "I2C"),
        ("dtparam=i2c_arm=on,spi=on", 10, "SPI"),
        ("enable_uart=1", 14, "serial port"),
        ("dtoverlay=i2c3", 5, "I2C"),
        ("dtoverlay=i2c5,pins_10_11", 11, "I2C"),
        ("dtoverlay=spi1-1cs,cs0_pin=16", 16, "SPI"),
        ("dtoverlay=pwm-2chan,pin=12,pin2=13", 13, "PWM"),
        ("dtoverlay=hifiberry-dacplus", 18, "I2S"),
        ("dtoverlay=gpio-fan,gpiopin=14", 14, "fan"),
        ("[all]\n dtparam=spi=on # the display", 8, "SPI"),
        ("[pi4]\ndtparam=spi=on", 8, "SPI"),
    ],
)
def test_a_pin_that_is_given_away_is_refused_with_the_line_that_did_it(
    tmp_path: Path, config: str, pin: int, said: str
) -> None:
    assert said in board(tmp_path, config).refuse(pin, "output")
    assert said in board(tmp_path, config).refuse(pin, "input")


@pytest.mark.parametrize(
    ("config", "pin"),
    [
        ("dtoverlay=w1-gpio,gpiopin=17", 4),
        ("dtoverlay=w1-gpio\ndtparam=gpiopin=17", 4),
        ("#dtoverlay=w1-gpio", 4),
        ("[pi5]\ndtparam=spi=on", 8),
        ("[none]\ndtparam=spi=on", 8),
        ("[EDID=VSC-TD2220]\ndtparam=spi=on", 8),
        ("dtparam=i2c_arm=on\ndtparam=i2c_arm=off", 2),
        ("dtparam=i2c_arm=off", 2),
        ("dtoverlay=spi1-1cs,cs0_pin=16", 18),
        ("dtoverlay=vc4-kms-v3d", 12),
        ("dtoverlay=", 4),
        ("nonsense\n=\n[\n[]\ndtoverlay=gpio-key", 4),
    ],
)
def test_what_is_not_given_away_is_not_refused(tmp_path: Path, config: str, pin: int) -> None:
    assert board(tmp_path, config).refuse(pin, "output") == ""


def test_enable_uart_takes_no_header_pin_on_a_pi_5(tmp_path: Path) -> None:
    assert board(tmp_path, "enable_uart=1", PI_5).refuse(14, "output") == ""
    assert board(tmp_path, "dtparam=uart0=on", PI_5).refuse(14, "output") != ""


@pytest.mark.parametrize("pin", [0, 1])
def test_the_hat_s_eeprom_has_its_pins(tmp_path: Path, pin: int) -> None:
    assert "EEPROM" in board(tmp_path).refuse(pin, "output")


def test_the_first_boards_have_a_shorter_header(tmp_path: Path) -> None:
    first = board(tmp_path, model="Raspberry Pi Model B Rev 2\0")
    assert "use one of 2-4, 7-11, 14-15, 17-18, 22-25, 27" in first.refuse(26, "output")
    assert first.refuse(27, "output") == ""


def test_pwm_needs_a_pin_that_has_it_and_its_overlay(tmp_path: Path) -> None:
    assert "12, 13, 18, 19" in board(tmp_path).refuse(17, "pwm")
    assert "add dtoverlay=pwm,pin=13,func=4" in board(tmp_path).refuse(13, "pwm")
    assert board(tmp_path, "dtoverlay=pwm,pin=13,func=4").refuse(13, "pwm") == ""
    assert "I2S" in board(tmp_path, "dtparam=i2s=on").refuse(18, "pwm")


@pytest.mark.parametrize(("model", "channel"), [(PI_4, 0), (PI_5, 2)])
def test_a_pi_5_has_a_channel_for_each_pin(tmp_path: Path, model: str, channel: int) -> None:
    assert board(tmp_path, model=model).pwm_channels[18] == channel


@pytest.mark.parametrize(
    ("module", "text", "keeps"),
    [
        ("pinctrl_bcm2835", "Y\n", True),
        ("pinctrl_bcm2835", "N\n", False),
        ("pinctrl_rp1", "Y\n", True),
        ("pinctrl_rp1", "N\n", False),
    ],
)
def test_whether_a_dead_process_leaves_its_lines(tmp_path: Path, module: str, text: str, keeps: bool) -> None:
    here = board(tmp_path, **{f"sys/module/{module}/parameters/persist_gpio_outputs": text})
    assert here.keeps_levels is keeps
    assert ("dtparam=strict_gpiod" in here.refuse_hold()) is keeps


def test_a_kernel_without_the_parameter_is_not_refused(tmp_path: Path) -> None:
    here = board(tmp_path)
    assert here.keeps_levels is None
    assert here.refuse_hold() == ""


@pytest.mark.parametrize(
    ("config", "pin", "high"),
    [
        ("", 4, True),
        ("", 17, False),
        ("gpio=17=pu", 17, True),
        ("gpio=17=op,dh", 17, True),
        ("gpio=4=op,dl", 4, False),
        ("gpio=16-18,22=pu", 22, True),
        ("gpio=16-18,22=pu", 17, True),
        ("gpio=17=a5", 17, False),
    ],
)
def test_the_level_from_power_up_until_the_daemon(tmp_path: Path, config: str, pin: int, high: bool) -> None:
    assert board(tmp_path, config).boot_level(pin) is high


def test_a_relay_that_would_click_at_boot_is_told_how_not_to(tmp_path: Path) -> None:
    assert "add gpio=17=pu to config.txt, or use one of 2-8" in board(tmp_path).advise_safe_level(
        17, high=True
    )
    assert board(tmp_path, "gpio=17=pu").advise_safe_level(17, high=True) == ""
    assert "add gpio=5=pd" in board(tmp_path).advise_safe_level(5, high=False)
    assert "1.8 kΩ" in board(tmp_path, "gpio=2=pd").advise_safe_level(2, high=False)


def test_a_folder_without_gpio_chips_has_none(tmp_path: Path) -> None:
    (tmp_path / "gpiochip0").write_text("no device")
    assert boards.find_chip(tmp_path) is None


def test_the_older_place_of_config_txt(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/device-tree/model": PI_4, "boot/config.txt": "dtoverlay=w1-gpio"})
    assert "1-Wire" in read(tmp_path).refuse(4, "output")
