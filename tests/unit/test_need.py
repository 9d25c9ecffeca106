"""`.ci/need` with a Python: what it says of one that is missing, too old, too new, or does not run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NEED = Path(__file__).parents[2] / ".ci" / "need"
FAKE = """\
#!/bin/sh
[ "$1" = --version ] && echo "Python {version}" && exit
exec "{python}" -c 'import sys; sys.version_info = ({parts}); exec(sys.argv[1])' "$2"
"""


def need(python: Path | str) -> tuple[int, str]:
    done = subprocess.run([NEED, str(python)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def fake(folder: Path, text: str) -> Path:
    path = folder / "python3"
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("version", "code", "words"),
    [
        ("2.7", 1, "needs 3.11 or later: make PYTHON=python3.11"),
        ("3.9", 1, "is Python 3.9, tidewatt needs 3.11 or later"),
        ("3.10", 1, "is Python 3.10, tidewatt needs 3.11 or later"),
        ("3.11", 0, ""),
        ("3.12", 0, ""),
        ("3.13", 0, ""),
        ("3.14", 0, "newer than tidewatt is tested with (3.11 to 3.13); going on"),
        ("4.0", 0, "newer than tidewatt is tested with"),
    ],
)
def test_the_version_decides(version: str, code: int, words: str, tmp_path: Path) -> None:
    parts = version.replace(".", ", ")
    found, said = need(fake(tmp_path, FAKE.format(version=version, python=sys.executable, parts=parts)))
    assert found == code
    assert words in said
    assert bool(said) == bool(words)


def test_one_that_is_not_there_is_not_fetched() -> None:
    code, said = need("python3.99")
    assert code == 1
    assert said == (
        "there is no 'python3.99' here; name a Python 3.11, 3.12 or 3.13 that is: make PYTHON=python3.11 …\n"
    )


def test_one_that_does_not_run_says_why_in_a_line(tmp_path: Path) -> None:
    text = "#!/bin/sh\necho 'shim: command not found' >&2\necho 'much more' >&2\nexit 127\n"
    code, said = need(fake(tmp_path, text))
    assert code == 1
    assert said.count("\n") == 1
    assert "does not run (shim: command not found)" in said
