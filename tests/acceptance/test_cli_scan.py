"""`tidewatt scan`, as a person types it: what it prints is config that passes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import Driver, catalog
from drivers.discovery import kasas, lan, mdns
from drivers.discovery.found import Found, Search
from edge.cli.main import run
from tests.drivers.folders import OTHER_PROBE, PROBE, TREES
from tests.drivers.i2c_bus import I2cBus, i2c_bus
from tests.drivers.i2c_models import Ads1115Chip, EzoChip, Sht3xChip
from tests.drivers.ina_models import Ina219Chip, Ina226Chip, Ina228Chip
from tests.drivers.kasa_models import kasa
from tests.drivers.shelly_models import shelly
from tests.drivers.test_find_chips import Pca9685Chip, with_bus
from tests.drivers.test_find_kernel import put

PATIENCE_S = 30.0
SITE = '[site]\nname = "reef"\n'
PLUG = Found(
    where="192.168.1.7:80", what="Shelly\n[evil]", sure=True, evidence="x\n[[devices]]", table="outputs",
    options={"driver": "shelly", "kind": "other", "safe": 0.0, "host": "192.168.1.7", "hold_s": 60.0},
    keys=("switch 0 of the Shelly 192.168.1.7:80", "switch 0 of the Shelly plug.local:80"),
)  # fmt: skip
METER = Found(
    where="192.168.1.7:80", what="Shelly", sure=True, table="devices",
    options={"driver": "shelly", "host": "192.168.1.7", "reads": ["power", "input"]},
    keys=("meter 0 of the Shelly 192.168.1.7:80", "meter 0 of the Shelly plug.local:80"),
)  # fmt: skip


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> I2cBus:
    chips = i2c_bus(monkeypatch)
    for address, chip in (
        (0x40, Ina219Chip()), (0x41, Ina226Chip()), (0x42, Ina228Chip()), (0x43, Pca9685Chip()),
        (0x44, Sht3xChip()), (0x48, Ads1115Chip()), (0x63, EzoChip("pH", "7.0")),
    ):  # fmt: skip
        chips.put(address, chip)
    return chips


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = with_bus(tmp_path / "root", 1, "bcm2835 (i2c@7e804000)")
    put(root / "sys/bus/w1/devices", {
        "w1_bus_master1/x": "", f"{PROBE}/temperature": "25312\n", f"{OTHER_PROBE}/temperature": "26000\n",
    })  # fmt: skip
    put(root / "sys/bus/iio/devices/iio:device0", dict(TREES["bme280"]))
    put(root / "sys/class/hwmon/hwmon0", {"name": "cpu_thermal\n", "temp1_input": "48000\n"})
    return root


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(SITE)
    return path


def scanned(config: Path, root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[str, str]:
    assert run(["--config", str(config), "scan", "--root", str(root), *more]) == 0
    said = capsys.readouterr()
    return said.out, said.err


@pytest.mark.usefixtures("bus")
def test_what_it_prints_passes_the_configs_own_check_and_is_known_then(
    config: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lan, "search", lambda _clock: Search(found=[PLUG]))
    out, err = scanned(config, root, capsys, "--lan")
    assert "INA226" in err
    drivers = [
        line.partition('"')[2].rstrip('"')
        for line in out.splitlines()
        if line.lstrip("#").startswith("driver")
    ]
    assert sorted(drivers) == [
        "ads1115", "ds18b20", "ds18b20", "ezo", "hwmon", "iio", "ina219", "ina226", "ina228", "pca9685", "shelly",
        "sht3x",
    ]  # fmt: skip
    config.write_text(SITE + out)
    assert run(["config", "check", str(config)]) == 0, capsys.readouterr().out
    assert "10 devices" in capsys.readouterr().out
    lines = [
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in out.splitlines()
    ]
    config.write_text(SITE + "\n".join(lines))
    assert run(["config", "check", str(config)]) == 0, capsys.readouterr().out
    assert "10 devices, 2 outputs" in capsys.readouterr().out
    out, err = scanned(config, root, capsys, "--lan")
    assert out == ""
    assert "a device of the config" in err


@pytest.mark.usefixtures("bus")
def test_outputs_are_pasted_asleep(config: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = scanned(config, root, capsys)
    assert "\n#[[outputs]]\n" in out
    assert "\n[[outputs]]" not in out


def test_what_the_config_has_is_left_alone(
    bus: I2cBus, config: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(f'{SITE}[[devices]]\nname = "ph"\ndriver = "ezo"\nkind = "ph"\n')
    scanned(config, root, capsys)
    chip: Any = bus.chips[0x63]
    assert chip.heard == []
    out, _ = scanned(config, root, capsys, "--json")
    told = {one["where"]: one for one in json.loads(out)["found"]}
    assert told["i2c-1 0x63"]["in_config"] == "ph"
    assert told["i2c-1 0x63"]["config"] is None
    assert told["i2c-1 0x41"]["in_config"] is None
    assert 'driver = "ina226"' in told["i2c-1 0x41"]["config"]
    assert told["i2c-1 0x41"]["sure"] is True


@pytest.mark.parametrize("host", ["192.168.1.7", "plug.local"])
def test_a_shelly_that_is_only_read_can_still_be_switched(
    config: Path,
    tmp_path: Path,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(lan, "search", lambda _clock: Search(found=[PLUG, METER]))
    config.write_text(f'{SITE}[[devices]]\nname = "meter"\ndriver = "shelly"\nhost = "{host}"\n')
    out, _ = scanned(config, tmp_path, capsys, "--lan", "--json")
    assert [one["in_config"] for one in json.loads(out)["found"]] == [None, "meter"]


@pytest.mark.usefixtures("bus")
def test_new_names_do_not_clash_with_the_configs(
    config: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(f'{SITE}[[devices]]\nname = "sht3x"\ndriver = "sim"\n')
    out, _ = scanned(config, root, capsys)
    assert 'name = "sht3x-2"' in out
    config.write_text(config.read_text() + out)
    assert run(["config", "check", str(config)]) == 0, capsys.readouterr().out


def test_a_bare_pi_is_told_what_is_missing(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "pi", {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
                          "boot/firmware/config.txt": "# nothing\n"})  # fmt: skip
    _, err = scanned(config, tmp_path / "pi", capsys)
    assert "dtparam=i2c_arm=on" in err
    assert "dtoverlay=w1-gpio" in err
    assert "nothing was found that is connected" in err


def test_where_nothing_is_connected_this_machine_itself_is_what_to_begin_with(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").mkdir()
    out, err = scanned(config, tmp_path / "none", capsys)
    assert '[[devices]]\nname = "host"\ndriver = "host"\n' in out
    assert err.rstrip().endswith("tidewatt demo needs no config")
    assert "tidewatt help first-sensor" in err
    config.write_text(SITE + out)
    assert run(["config", "check", str(config)]) == 0, capsys.readouterr().out
    assert run(["--config", str(config), "test", "host"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    out, err = scanned(config, tmp_path / "none", capsys)
    assert out == ""
    assert re.search(r"^this machine +its processor.* host$", err.replace(" \n", "\n"), re.M), err


def test_without_a_config_or_with_a_bad_one_it_works_too(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").mkdir()
    said = scanned(tmp_path / "absent.toml", tmp_path / "none", capsys)[1]
    assert said.count("no such file") == said.count("absent.toml") == 1
    config.write_text("[site]\n")
    assert "everything counts as new" in scanned(config, tmp_path / "none", capsys)[1]


def test_drivers_of_other_packages_find_their_own(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = catalog()
    sim = known["sim"]

    def broken() -> list[dict[str, object]]:
        raise RuntimeError("no bus")

    others = {
        name: Driver(name=name, summary=f"a {name}", options=sim.options, make=sim.make, find=find)
        for name, find in (("barometer", lambda: [{"at": 'a"b'}]), ("broken", broken))
    }
    monkeypatch.setattr("edge.cli.scan.catalog", lambda: known | others)
    (tmp_path / "none").mkdir()
    out, err = scanned(config, tmp_path / "none", capsys)
    assert 'driver = "barometer"\nat = "a\\"b"\n' in out
    assert "failed (RuntimeError: no bus); update its package" in err


def test_what_the_local_network_offers_passes_the_configs_own_check_and_is_known_then(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two Shellys, a strip and a plug on the loopback, asked as on a real network, but for the multicast."""
    (tmp_path / "none").mkdir()
    with shelly(1) as first, shelly(2) as second, kasa("HS300(US)") as strip:
        services = [
            mdns.Service(name=f"shelly-{fake.port}", kind=mdns.SHELLY, address="127.0.0.1", port=fake.port)
            for fake in (first, second)
        ]
        monkeypatch.setattr(mdns, "listen", lambda *_, **__: services)
        ask = kasas.search
        monkeypatch.setattr(
            kasas, "search", lambda _listen_s: ask(PATIENCE_S, target="127.0.0.1", port=strip.port)
        )
        out, err = scanned(config, tmp_path / "none", capsys, "--lan")
        assert "Shelly SHPLG-S" in err and "Kasa HS300(US)" in err
        awake = "\n".join(line[1:] if re.match(r"#[a-z\[]", line) else line for line in out.splitlines())
        assert awake.count("[[outputs]]") == 2 + 6
        for table in (out, awake):
            config.write_text(SITE + table)
            assert run(["config", "check", str(config)]) == 0, capsys.readouterr().out
            assert "10 devices" in capsys.readouterr().out
        assert scanned(config, tmp_path / "none", capsys, "--lan")[0] == ""
