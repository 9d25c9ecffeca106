"""Peers that pip brings, each in a venv of its own under `.bench/`: nothing else needs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(".bench")


def peer_python(name: str, *requirements: str) -> Path:
    """The Python of the venv that has them; made when it is not there, or has others.

    Raises RuntimeError where pip cannot bring them; what it says goes to standard error.
    """
    folder = FOLDER / name
    python, ready = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join(requirements) + "\n"
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements]
        if subprocess.run(pip, check=False, stdout=sys.stderr).returncode:
            raise RuntimeError(f"pip cannot bring {' '.join(requirements)} here: see what it says above")
        ready.write_text(wanted)
    return python.absolute()
