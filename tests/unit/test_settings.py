"""Loading a config: what comes from where, and every mistake at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from edge.mistakes import ConfigInvalid
from edge.options import MASK
from edge.settings import CONFIG_BYTES_MAX, load

Write = Callable[[str], Path]
SECRET = "correct-horse-battery"


class Broker(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("localhost", min_length=1, description="the broker's name")
    port: int = Field(1883, ge=1, le=65535, description="the broker's port")
    share: float = Field(0.5, gt=0, lt=1, description="share of the line")
    tls: bool = Field(False, description="speak TLS")
    password: SecretStr = Field(SecretStr(""), min_length=8, description="the password")


class Pump(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z]+$", description="small letters")
    curve: tuple[tuple[float, float], ...] = Field((), description="[flow, power] pairs")


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    broker: Broker = Field(Broker(), description="the broker")
    pumps: tuple[Pump, ...] = Field((), description="pumps")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    for name in [name for name in os.environ if name.startswith("TIDEWATT_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def mistakes(path: Path) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, Tree)
    return [str(mistake).removeprefix(f"{path}:") for mistake in caught.value.mistakes]


# ------------------------------------------------------------------------------------------ sources


def test_each_source_wins_over_the_one_below_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write('[broker]\nhost = "file"\nport = 1\nshare = 0.25\n\n[[pumps]]\nname = "main"\n')
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "broker_host").write_text("credential\n")
    (credentials / "broker_password").write_text(f"{SECRET}\n")
    (credentials / "someone_elses").write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("TIDEWATT_BROKER__HOST", "environment")
    monkeypatch.setenv("TIDEWATT_CONFIG", "is no option of the tree")
    config, origins = load(path, Tree)
    assert (config.broker.host, config.broker.port, config.broker.tls) == ("environment", 1, False)
    assert config.broker.password.get_secret_value() == SECRET
    assert origins == {
        "broker.host": "environment TIDEWATT_BROKER__HOST",
        "broker.port": f"{path}:3",
        "broker.share": f"{path}:4",
        "broker.tls": "default",
        "broker.password": "credential broker_password",
        "pumps.main.name": f"{path}:7",
        "pumps.main.curve": "default",
    }


def test_a_whole_section_may_come_from_the_environment_as_json(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEWATT_PUMPS", '[{"name": "main"}]')
    config, origins = load(write(""), Tree)
    assert config.pumps == (Pump(name="main"),)
    assert origins["pumps.main.name"] == "environment TIDEWATT_PUMPS"


def test_the_tree_is_frozen(write: Write) -> None:
    config, _ = load(write(""), Tree)
    with pytest.raises(ValidationError):
        config.broker.port = 5  # type: ignore[misc]


def test_a_file_from_windows_is_read(write: Write) -> None:
    path = write("")
    path.write_bytes('\ufeff[broker]\r\nhost = "x"\r\nport = "y"\r\n'.encode())
    assert mistakes(path) == [
        '3: broker.port: must be a whole number, without quotes, is "y"; the broker\'s port; default 1883'
    ]


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[broker]\nport = "1883"', '2: broker.port: must be a whole number, without quotes, is "1883"'),
        ("[broker]\nport = 1.5", "2: broker.port: must be a whole number, is 1.5"),
        ("[broker]\nport = true", "2: broker.port: must be a whole number, is true"),
        ("[broker]\nport = 0", "2: broker.port: must be from 1 to 65535, is 0"),
        ("[broker]\nshare = 1", "2: broker.share: must be above 0 and below 1, is 1"),
        ("[broker]\nshare = nan", "2: broker.share: must be above 0 and below 1, is nan"),
        ("[broker]\ntls = 1", "2: broker.tls: must be true or false, without quotes, is 1"),
        ("[broker]\nhost = 5", "2: broker.host: must be text in quotes, is 5"),
        ('[broker]\nhost = ""', "2: broker.host: must not be empty"),
        ("[broker]\nhost = []", "2: broker.host: must be text in quotes, is a list"),
        ('[broker]\nhsot = "x"', "2: broker.hsot: there is no such option; did you mean host?"),
        ("broker = 5", "1: broker: must be a table, is 5"),
        ('[brokr]\nhost = "x"', "1: brokr: there is no such option; did you mean broker?"),
        ('[[pumps]]\nname = "A b"', '2: pumps.A b.name: does not fit, is "A b"; write small letters'),
        ("\n[brokers.host]\nx = 1", "2: brokers: there is no such option; did you mean broker?"),
        ("\n[[brokers.host]]\nx = 1", "2: brokers: there is no such option; did you mean broker?"),
        ('[pumps]\nname = "a"', "1: pumps: stands once, as a table; write [[pumps]], with two"),
        ("\n[[pumps]]\n", "2: pumps[0].name: is missing; add name = … (small letters)"),
        (
            '[[pumps]]\nname="a"\n[[pumps]]\nname="b"\ncurve=[[1,2],[3]]',
            "5: pumps.b.curve[1][1]: has too few values",
        ),
        ('[[pumps]]\nname="a"\ncurve=[\n[1,2],\n[3,"x"]]', "5: pumps.a.curve[1][1]: must be a number"),
    ],
)
def test_a_wrong_value_is_told_by_line_and_name(write: Write, text: str, expected: str) -> None:
    found = mistakes(write(text))
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        f'password = "{SECRET}"\nport = 0', f'passwd = "{SECRET}"', f"password = ['{SECRET}']",
        f"password = {SECRET}", f"password = 5{SECRET}", f"password = {SECRET};", f"password = '5{SECRET}",
        f"password = “{SECRET}”", f"pass word = {SECRET}",
    ],
)  # fmt: skip
def test_no_message_repeats_a_secret(write: Write, text: str) -> None:
    assert SECRET not in "\n".join(mistakes(write(f"[broker]\n{text}\n")))


def test_a_secret_that_is_refused_is_not_shown(write: Write) -> None:
    (said,) = mistakes(write('[broker]\npassword = "short"'))
    assert said.startswith("2: broker.password:")
    assert "short" not in said


def test_a_validators_own_words_are_masked(write: Write) -> None:
    class Loud(Broker):
        def model_post_init(self, context: object, /) -> None:
            raise ValueError(f"login with {self.password.get_secret_value()} failed")

    class Trees(BaseModel):
        broker: Loud

    with pytest.raises(ConfigInvalid) as caught:
        load(write(f'[broker]\npassword = "{SECRET}"'), Trees)
    assert str(caught.value).endswith(f"login with {MASK} failed")


# ------------------------------------------------------------------------------------------- syntax


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[broker]\nhost = localhost", "2: broker.host: not a TOML value; text needs quotes"),
        ("[broker]\nhost = “a”", '2: broker.host: these are typographic quotes (“); use "'),
        ("[broker]\nhost = ‘a’", '2: broker.host: these are typographic quotes (‘); use "'),
        ("[broker]\ntls = True", "2: broker.tls: not a TOML value; write true or false"),
        ("[broker]\nhost =", "2: broker.host: has no value"),
        ("[broker]\nport: 5", "2: broker.port: no equals sign"),
        ("[broker]\nshare = 0,5", "2: broker.share: decimals have a point"),
        ("[broker]\nhost = 10.0.0.1", "2: broker.host: something is left over after the value"),
        (f"[broker]\nport = {'9' * 5000}", "2: broker.port: the number has too many digits"),
        ('[broker]\nhost = "a\nport = 1', "2: broker.host: the text has no closing quote"),
        ('[broker]\nhost = "C:\\dir"', "2: broker.host: a backslash is special"),
        ("[broker]\nport = 1\nport = 2", "3: broker.port: is set twice"),
        ("[broker]\n[broker]\n", "2: broker: this table stands twice; put its options under one"),
        ("[broker\nport = 1", "1: the brackets do not match; write [broker]"),
        ("\n[broker]]\nport = 1", "2: broker: the brackets do not match; write [[broker]]"),
        ("\n[[pumps]  # of the left tank", "2: pumps: the brackets do not match; write [[pumps]]"),
        (
            "[pumps.a]\n[[pumps]]",
            "2: pumps: [pumps.a] in line 1 stands before it; move that behind the [[pumps]] it",
        ),
        (
            "[pumps]\n\n[[pumps]]",
            "3: pumps: [pumps] stands in line 1 with one bracket; write [[pumps]] there too",
        ),
        ("x = " + "[" * 5000, " lists or tables stand in each other too deeply"),
        ("\n[[pumps]]\ncurve = [[1, 2],\n\n# end", "3: pumps.curve: the list that begins here has no end"),
        ('[broker]\nhost = """a\nport = 5\n', "2: broker.host: the text that begins here has no end"),
        ("\n[[pumps]]\ncurve = [[1, 2],\nname = 'a'", "3: pumps.curve: the list that begins here has no end"),
        ("port 5", "1: no equals sign"),
    ],
)
def test_wrong_syntax_is_told_in_plain_words(write: Write, text: str, expected: str) -> None:
    found = mistakes(write(text))
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_a_slip_of_syntax_does_not_hide_the_other_mistakes(write: Write) -> None:
    found = mistakes(write("[broker]\nhost = localhost\nport = 0\nshare = 0,5\n[[pumps]]\nname = main\n"))
    assert [said.split(": ")[:2] for said in found] == [
        ["2", "broker.host"],
        ["3", "broker.port"],
        ["4", "broker.share"],
        ["6", "pumps.name"],
    ]


def test_ever_more_wrong_lines_end(write: Write) -> None:
    assert len(mistakes(write("x y\n" * 5000))) == 50


# ------------------------------------------------------------------------------------- whole sources


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no such file; name it with --config FILE or TIDEWATT_CONFIG"):
        load(tmp_path / "none.toml", Tree)


def test_what_is_no_text_file_is_told(tmp_path: Path, write: Write) -> None:
    with pytest.raises(ConfigInvalid, match="is a directory"):
        load(tmp_path, Tree)
    path = write("")
    path.write_bytes(b"[broker]\nhost = '\xff\xfe'\n")
    assert mistakes(path) == ["2: not UTF-8; save the file as UTF-8 in the editor"]
    for coding in ("utf-16-le", "utf-16-be"):
        path.write_bytes("[broker]\nhost = 'x'\n".encode(coding))
        with pytest.raises(ConfigInvalid, match="no text in UTF-8"):
            load(path, Tree)
    path.write_bytes(b"#" * (CONFIG_BYTES_MAX + 1))
    with pytest.raises(ConfigInvalid, match="larger than"):
        load(path, Tree)


def test_wrong_values_of_the_environment_name_the_variable(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEWATT_BROKER__PORT", "many")
    monkeypatch.setenv("TIDEWATT_BROKER__PASWORD", SECRET)
    monkeypatch.setenv("TIDEWATT_PUMPS", "[{")
    port = "environment TIDEWATT_BROKER__PORT: broker.port: must be a whole number"
    assert mistakes(write("")) == [
        "environment TIDEWATT_BROKER__PASWORD: sets no option; did you mean TIDEWATT_BROKER__PASSWORD?",
        f'{port}, is "many"; the broker\'s port; default 1883',
        "environment TIDEWATT_PUMPS: must be JSON; write it so, or set the options in the file",
    ]


def test_a_wrong_credential_names_the_credential(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broker_port").write_text("many")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert mistakes(write(""))[0].startswith("credential broker_port: broker.port: must be a whole number")
