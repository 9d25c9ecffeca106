"""`make picture` from its command to a picture: the real demo, the real page, a real browser."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

from tests import picture

TAKEN_WITHIN_S = 300.0


def test_the_command_takes_a_picture_of_the_demo(tmp_path: Path) -> None:
    file = tmp_path / "handbook" / "page.png"
    command = [sys.executable, "-m", "tests.picture", str(file), "--lived", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TAKEN_WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{file}: ")
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (picture.WIDTH, picture.HEIGHT)
    assert 20_000 < len(content) < picture.BYTES_MAX, "less would be an empty page"


def test_the_picture_in_the_handbook_is_small() -> None:
    assert picture.PICTURE.stat().st_size < picture.BYTES_MAX
