"""Folders as the kernel shows them, made small: 1-Wire, IIO, hwmon, /proc and /sys of a Pi."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROBE = "28-0123456789ab"
OTHER_PROBE = "28-ba9876543210"
TREES: Mapping[str, Mapping[str, str]] = {
    "bme280": {
        "name": "bme280\n",
        "in_temp_input": "21340\n",
        "in_humidityrelative_input": "47123.046875\n",
        "in_pressure_input": "101.325\n",
        "sampling_frequency_available": "1 2\n",
    },
    "ads1015": {
        "name": "ads1015\n",
        "in_voltage0_raw": "1000\n",
        "in_voltage0_scale": "3.0\n",
        "in_voltage1_raw": "-8\n",
        "in_voltage_scale": "0.5\n",
        "in_voltage0-voltage1_raw": "1008\n",
        "in_temp_raw": "100\n",
        "in_temp_offset": "-50\n",
        "in_temp_scale": "125\n",
        "in_unheard_of_raw": "1\n",
    },
    "ina219": {
        "name": "ina219\n",
        "in1_input": "12096\n",
        "curr1_input": "1500\n",
        "power1_input": "18140000\n",
        "temp1_input": "41250\n",
        "temp1_crit": "90000\n",
        "humidity1_input": "45500\n",
        "fan1_input": "1320\n",
    },
    "pi": {
        "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 100 0 100 800 0 0 0 0 0 0\n",
        "proc/loadavg": "0.42 0.30 0.20 1/100 999\n",
        "proc/uptime": "3600.50 7000.00\n",
        "proc/meminfo": "MemTotal:  400000 kB\nMemFree: 50000 kB\nMemAvailable:  100000 kB\n",
        "proc/net/dev": (
            "Inter-|   Receive    |  Transmit\n face |bytes packets | bytes packets\n"
            "    lo: 9999 1 0 0 0 0 0 0 9999 1 0 0 0 0 0 0\n"
            "  eth0: 1000 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n"
        ),
        "sys/class/net/eth0/device/vendor": "x\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/block/mmcblk0/stat": "10 0 80 5 20 0 4000 7 0 1 1\n",
        "sys/block/mmcblk0/device/life_time": "0x01 0x03\n",
        "sys/block/loop0/stat": "10 0 80 5 20 0 999999 7 0 1 1\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    },
}


def plant(root: Path, tree: Mapping[str, str]) -> Path:
    """Write a tree of files under `root`."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def w1(root: Path, probes: Mapping[str, str], *, resolution: str = "12") -> Path:
    """A 1-Wire folder with these probes: address to the text of its `temperature`."""
    for address, text in probes.items():
        plant(root / address, {"temperature": text, "resolution": f"{resolution}\n"})
    return root
