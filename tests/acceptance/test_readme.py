"""The README promises nothing that does not run: its configs pass the check, its commands exist and work."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edge.cli.main import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
TOML = [text for language, text in BLOCKS if language == "toml"]
CODE = re.findall(r"`([^`\n]+)`", README) + [
    line.split("   #")[0].strip() for language, text in BLOCKS if not language for line in text.splitlines()
]
TARGETS = sorted({words.split()[1] for words in CODE if re.fullmatch(r"make [a-z]+( .*)?", words)})
VERBS = sorted(
    {
        " ".join(words)
        for text in CODE
        for words in re.findall(r"(?:^|/)tidewatt(?: --config \S+)? ([a-z0-9]+)(?: (disable|enable|bind|ask|status"
                                r"|migrate|check|schema|show|dead-letters|redrive))?", text)
    }
)  # fmt: skip


@pytest.mark.parametrize("text", TOML, ids=lambda text: text.split("\n", 1)[0])
def test_every_config_in_it_passes_the_check(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if set(tomllib.loads(text)) == {"uplink"}:
        text = '[site]\nname = "reef-1"\n' + text  # shown as what is added to a config
    config = tmp_path / "config.toml"
    config.write_text(text)
    assert run(["config", "check", str(config)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_in_it_exists(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "--help"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_in_it_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_names_real_files() -> None:
    named = set(re.findall(r"`((?:edge|drivers|sync|systemd|tests|migrations)/[\w./-]+)`", README))
    assert named
    missing = [path for path in sorted(named) if "<" not in path and not (ROOT / path).exists()]
    assert not missing


def test_a_sensor_file_on_the_way_of_the_newcomer_works(tmp_path: Path) -> None:
    """`config check`, `drivers` and `test` as the README has them, on this machine's own sensors."""
    text = next(text for text in TOML if 'driver = "ds18b20"' in text)
    config = tmp_path / "my.toml"
    config.write_text(text.replace("/var/lib/tidewatt", str(tmp_path)))
    command = [sys.executable, "-m", "edge.cli.main", "--config", str(config)]
    for verb, code in ((["drivers"], 0), (["test", "pi"], 0), (["test", "tank"], 1)):
        done = subprocess.run([*command, *verb], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
