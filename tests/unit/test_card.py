"""Wear of a card from a sysfs of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.store.card import CARD_FULL_WRITES, Card


def disk(folder: Path, on: Path, *, sectors: int, partition: bool = True) -> Path:
    """A disk of 32 GB under `folder`, with the partition that `on` lies on."""
    whole = folder / "devices" / "mmcblk0"
    part = whole / "mmcblk0p2" if partition else whole
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


@pytest.mark.parametrize("partition", [True, False])
def test_the_rate_of_the_whole_disk_gives_a_day_and_a_life(tmp_path: Path, partition: bool) -> None:
    whole = disk(tmp_path, tmp_path, sectors=1000, partition=partition)
    card = Card(tmp_path, 100.0, tmp_path)
    (whole / "stat").write_text("1 2 3 4 5 6 3000 8 9 10 11\n")  # 2000 sectors, 1,024,000 bytes
    wear = card.wear(100.0 + 864)  # a hundredth of a day
    assert wear.bytes_day == pytest.approx(102_400_000)
    assert wear.life_years == pytest.approx(32_000_000_000 * CARD_FULL_WRITES / 102_400_000 / 365.25)


def test_too_early_and_without_writes_nothing_is_claimed(tmp_path: Path) -> None:
    disk(tmp_path, tmp_path, sectors=1000)
    card = Card(tmp_path, 0.0, tmp_path)
    assert card.wear(10.0).bytes_day is None
    assert card.wear(1000.0).bytes_day == 0
    assert card.wear(1000.0).life_years is None


def test_a_file_system_without_a_disk_has_no_wear(tmp_path: Path) -> None:
    wear = Card(tmp_path, 0.0, tmp_path / "nowhere").wear(1000.0)
    assert wear.bytes_day is None
    assert wear.life_years is None
