"""README and handbook promise nothing that does not run: their configs pass the check, their commands are taken."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from edge.cli.main import cli, run
from tests.handbook import CHAPTERS, README, ROOT, Block, blocks

README_LINES_MAX = 150
PAGES = [README, *CHAPTERS]
BLOCKS = [block for page in PAGES for block in blocks(page)]
CONFIGS = [block for block in BLOCKS if block.language == "toml" and not block.file]
LINES = [
    (block, line)
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.replace("\\\n", " ").splitlines()
]
COMMANDS = [(block, line) for block, line in LINES if re.match(r"(sudo )?(\S*/)?tidewatt ", line)]
SPOKEN = re.compile(r"`(tidewatt [^`]+|make [a-z][^`]*)`")
INLINE = sorted(
    {
        (page, " ".join(words.split()))
        for page in PAGES
        for words in SPOKEN.findall(re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL))
    }
)
MAKE = [(block, line) for block, line in LINES if line.startswith("make ")]


def name(value: object) -> str:
    return str(value) if isinstance(value, Block) else value.stem if isinstance(value, Path) else str(value)


def test_there_is_something_to_check() -> None:
    assert len(CONFIGS) >= 10
    assert len(COMMANDS) >= 100
    assert all(block.language for block in BLOCKS), "say of each block what it is: sh, toml, sql, text"
    assert {block.language for block in BLOCKS} <= {
        "sh",
        "toml",
        "sql",
        "python",
        "text",
        "ini",
        "json",
        "mermaid",
    }


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= README_LINES_MAX


@pytest.mark.parametrize(
    "block", [block for block in CONFIGS if 'driver = "battery"' not in block.text], ids=name
)
def test_every_config_passes_the_check(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the one with the walk-through's own driver, which its test installs."""
    text = whole(block)
    config = tmp_path / "config.toml"
    config.write_text(text)
    assert run(["config", "check", str(config)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("block", [block for block in CONFIGS if 'kind = "heater"' in block.text], ids=name)
def test_every_heater_that_is_shown_ends_safe(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`selftest` is the next command of README and handbook: their own sites pass it, and nothing warns of them."""
    config = tmp_path / "config.toml"
    config.write_text(whole(block))
    assert run(["config", "check", str(config)]) == 0
    assert ": warning:" not in capsys.readouterr().out
    assert run(["selftest", "--unsafe", "--config", str(config)]) == 0, capsys.readouterr().out
    assert "every output ends safe" in capsys.readouterr().out


def whole(block: Block) -> str:
    """A block as a config: what shows no site is added to the page's, or stands for itself where it changes that."""
    shown = tomllib.loads(block.text)
    if shown.keys() & {"site", "sink"}:
        return block.text
    for other in CONFIGS:
        site = tomllib.loads(other.text)
        if other.page == block.page and "site" in site and not clash(site, shown):
            return other.text + block.text
    return '[site]\nname = "reef-1"\n' + block.text


def clash(site: dict[str, Any], shown: dict[str, Any]) -> bool:
    """Whether both name a device or output, or both have a plain table."""
    lists = [key for key in site.keys() & shown.keys() if isinstance(site[key], list)]
    twice = any({one["name"] for one in site[key]} & {one["name"] for one in shown[key]} for key in lists)
    return twice or bool(site.keys() & shown.keys() - set(lists))


@pytest.mark.parametrize(("block", "line"), COMMANDS, ids=name)
def test_every_command_is_taken(block: Block, line: str) -> None:
    words = shlex.split(line, comments=True)
    for sign in ("|", "&&", ">", ">>"):
        words = words[: words.index(sign)] if sign in words else words
    taken(words[words.index(next(word for word in words if word.endswith("tidewatt"))) + 1 :])


def taken(words: list[str]) -> None:
    """Let the real parsers read a command line, without doing it."""
    context = cli.make_context("tidewatt", words)
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest and context.command.invoke_without_command:
            return
        verb, command, rest = context.command.resolve_command(context, rest)
        assert command is not None
        try:
            context = command.make_context(verb, rest, parent=context)
        except click.BadParameter as error:
            if "does not exist" not in error.message:  # a file that the reader has
                raise
            return


@pytest.mark.parametrize(("page", "words"), INLINE, ids=name)
def test_what_is_spoken_of_exists(page: Path, words: str) -> None:
    """Commands within the text: their verbs and options; what they work on may be left out."""
    if words.startswith("make "):
        planned(words)
        return
    context: click.Context = click.Context(cli, info_name="tidewatt")
    for word in shlex.split(words)[1:]:
        known = {
            option
            for one in context.command.get_params(context)
            for option in (*one.opts, *one.secondary_opts)
        }
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in known, words
        elif isinstance(context.command, click.Group):
            command = context.command.get_command(context, word)
            if command is None:
                assert context.command.invoke_without_command or word.startswith("/"), words
                return
            context = click.Context(command, info_name=word, parent=context)


@pytest.mark.parametrize(("block", "line"), MAKE, ids=name)
def test_every_make_line_is_planned(block: Block, line: str) -> None:
    planned(line)


def planned(line: str) -> None:
    command = ["make", "-n", *shlex.split(line, comments=True)[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_it_names_real_files(page: Path) -> None:
    named = set(
        re.findall(
            r"(?<![\w/.])((?:edge|drivers|sync|systemd|tests|migrations)/[\w@./-]*\w)",
            page.read_text("utf-8"),
        )
    )
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_a_first_sensor_on_the_way_of_the_newcomer_works(tmp_path: Path) -> None:
    """`config check`, `drivers` and `test` as the README has them, on this machine's own sensors."""
    text = next(block.text for block in CONFIGS if block.page == README and '"ds18b20"' in block.text)
    config = tmp_path / "my.toml"
    config.write_text(text.replace("data/", f"{tmp_path}/"))
    command = [sys.executable, "-m", "edge.cli.main", "--config", str(config)]
    for verb, code in ((["drivers"], 0), (["test", "pi"], 0), (["test", "tank"], 1)):
        done = subprocess.run([*command, *verb], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
