"""Wear of a card from a sysfs of files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge.store.card import CARD_FULL_WRITES, UNKNOWN_WEAR, Card


def disk(folder: Path, on: Path, *, sectors: int, partition: bool = True, name: str = "mmcblk0") -> Path:
    """A disk of 32 GB under `folder`, with the partition that `on` lies on."""
    whole = folder / "devices" / name
    part = whole / f"{name}p2" if partition else whole
    part.mkdir(parents=True)
    if partition:
        (part / "partition").write_text("2\n")
    (whole / "size").write_text(f"{32_000_000_000 // 512}\n")
    (whole / "stat").write_text(f"1 2 3 4 5 6 {sectors} 8 9 10 11\n")
    device = on.stat().st_dev
    link = folder / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(part)
    return whole


PI = "Raspberry Pi 4 Model B Rev 1.4\0"
DAY_S = 86_400


def machine(folder: Path, *, model: str = PI, own: int = 5000) -> Path:
    """What kind of machine it is, and what this process wrote."""
    told = folder / "firmware" / "devicetree" / "base" / "model"
    told.parent.mkdir(parents=True)
    told.write_text(model)
    (folder / "self").mkdir()
    (folder / "self" / "io").write_text(f"rchar: 9\nwrite_bytes: {own}\ncancelled_write_bytes: 0\n")
    return folder


@pytest.mark.parametrize("partition", [True, False])
def test_the_rate_of_the_whole_disk_gives_a_day_and_a_life(tmp_path: Path, partition: bool) -> None:
    whole = disk(tmp_path, tmp_path, sectors=1000, partition=partition)
    card = Card(tmp_path, 100.0, tmp_path, machine(tmp_path))
    (whole / "stat").write_text("1 2 3 4 5 6 3000 8 9 10 11\n")  # 2000 sectors, 1,024,000 bytes
    (tmp_path / "self" / "io").write_text("write_bytes: 35000\n")
    wear = card.wear(100.0 + DAY_S / 10)
    assert card.own_bytes() == 30_000
    assert wear.own_bytes_day == pytest.approx(300_000)
    assert wear.bytes_day == pytest.approx(10_240_000)
    assert wear.on_card
    assert wear.life_years == pytest.approx(32_000_000_000 * CARD_FULL_WRITES / 10_240_000 / 365.25)


def test_a_rate_takes_an_hour_and_a_life_takes_writes(tmp_path: Path) -> None:
    disk(tmp_path, tmp_path, sectors=1000)
    card = Card(tmp_path, 0.0, tmp_path, machine(tmp_path))
    assert card.wear(3599.0) == replace(UNKNOWN_WEAR, on_card=True)
    assert card.wear(3600.0).own_bytes_day == 0
    assert card.wear(3600.0).bytes_day == 0
    assert card.wear(3600.0).life_years is None


@pytest.mark.parametrize(("model", "name"), [("Some laptop", "mmcblk0"), ("", "mmcblk0"), (PI, "nvme0n1")])
def test_only_of_a_pi_s_card_a_life_is_foretold(tmp_path: Path, model: str, name: str) -> None:
    """Of a machine with other work to do, the whole disk's writes say nothing about a site."""
    whole = disk(tmp_path, tmp_path, sectors=1000, name=name)
    card = Card(tmp_path, 0.0, tmp_path, machine(tmp_path, model=model))
    (whole / "stat").write_text("1 2 3 4 5 6 3000 8 9 10 11\n")
    wear = card.wear(7200.0)
    assert wear.bytes_day == pytest.approx(1_024_000 * 12)
    assert not wear.on_card
    assert wear.life_years is None


def test_a_file_system_without_a_disk_has_no_wear(tmp_path: Path) -> None:
    wear = Card(tmp_path, 0.0, tmp_path / "nowhere", tmp_path / "nowhere").wear(7200.0)
    assert wear.own_bytes_day == 0
    assert wear.bytes_day is None
    assert wear.life_years is None
    assert not wear.on_card
