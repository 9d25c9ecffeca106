"""The command line as a whole: help, versions, completion, errors, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli.main import VERBS, cli, run
from edge.version import version

ROOT = Path(__file__).parents[2]


def tidewatt(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "edge.cli.main", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_verb_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in VERBS:
        assert f"  {verb} " in text
    assert "Examples:" in text


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "completion"])
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    assert "--config FILE" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["db", "nem12", "config"])
def test_a_group_alone_shows_its_help_and_nothing_is_done(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([group]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"Usage: tidewatt {group} ")
    assert "tidewatt: " not in said.err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tidewatt {version()}\n"


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from edge.cli.main import run; run(sys.argv[1:]);"
        "heavy = {'sqlalchemy', 'pydantic', 'structlog', 'anyio', 'starlette', 'drivers.catalog', 'tomllib'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["stats"], "tidewatt: there is no command 'stats'; did you mean status?"),
        (["xyzzy"], "tidewatt: there is no command 'xyzzy'; see tidewatt --help"),
        (["status", "--jsno"], "tidewatt: No such option '--jsno'"),
        (
            ["db", "generate", "…", "--head", "core_core@head"],
            "tidewatt: Invalid value for MSG: say in a few words",
        ),
        (["readings"], "tidewatt: Missing argument 'SERIES...'. tidewatt series lists what there is."),
        (["intervals"], "tidewatt: Missing argument 'NMI'. tidewatt meters lists what there is."),
        (["outputs", "set", "heater", "off"], "tidewatt: Missing option '--for'. How long: 90s, 30m, 2h;"),
        (["outputs", "set", "heater"], "tidewatt: Missing argument 'LEVEL'. Write on, off, 40% or 0.4."),
        (["db", "generate", "x"], "'--head'. The history that it continues. There are core_core@head, "),
        (["readings", "a", "--limit", "0"], "tidewatt: Invalid value for '--limit'"),
    ],
)
def test_wrong_use_is_told_and_exits_with_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert expected.lower().replace("'", "") in said.err.lower().replace("'", "")


@pytest.mark.parametrize("before", [True, False])
def test_the_config_is_named_before_or_after_the_verb(
    before: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = ["--config", str(tmp_path / "none.toml")]
    assert run([*option, "series"] if before else ["series", *option]) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path}/none.toml: no such file; name it with --config FILE or TIDEWATT_CONFIG\n"
    )


def test_the_config_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEWATT_CONFIG", str(tmp_path / "env.toml"))
    assert run(["series"]) == 1
    assert "env.toml: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_TIDEWATT_COMPLETE" in capsys.readouterr().out


def test_completion_answers_the_shell() -> None:
    done = tidewatt(_TIDEWATT_COMPLETE="bash_complete", COMP_WORDS="tidewatt s", COMP_CWORD="1")
    assert [line.partition(",")[2] for line in done.stdout.split()] == [
        "status",
        "series",
        "sync",
        "scan",
        "selftest",
        "sink",
    ]
    done = tidewatt(_TIDEWATT_COMPLETE="bash_complete", COMP_WORDS="tidewatt config c", COMP_CWORD="2")
    assert done.stdout.split() == ["plain,check"]


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m edge.cli.main config schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() in (["{", "0"], ["{", "141"])
    assert done.stderr == ""


def test_a_reader_that_was_never_there_is_no_failure_of_the_command() -> None:
    """As `| head` has it in the middle of a long answer."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli.main", "config", "schema"],
            cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


def test_a_bug_is_one_line_and_a_traceback_only_where_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("in the middle")

    for name in ("TIDEWATT_DEBUG", "INVOCATION_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "main", broken)
    assert run([]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("tidewatt: ZeroDivisionError: in the middle; TIDEWATT_DEBUG=1")
    monkeypatch.setenv("TIDEWATT_DEBUG", "1")
    assert run([]) == 1
    assert "Traceback" in capsys.readouterr().err
