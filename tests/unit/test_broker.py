"""The files for a fleet's mosquitto, and what the command refuses."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli.main import cli
from sync.broker import Fleet, acl_text, config_text, hash_line, passwords_text, read_hashes

FLEET = Fleet(
    logins={"reef-1": "edge", "sink-1": "sink"}, prefix="my/own", port=8883, message_bytes_max=600_000,
    cert_file="/c/server.crt", key_file="/c/server.key",
)  # fmt: skip


#: Made by `mosquitto_passwd -b` 2.0.11 for the password "secret".
KNOWN = (
    "reef-1:$7$101$V6XHnoJVqgej8E4y$s4t3mYJKG7BDt/BK6H1o6O+h1jmuLMitgx9lDuJWQ7mmYd72U+WXzDQ4UxEir7EGe505jRoj12bgkzYqw6"
    "4+8A=="
)


def test_passwords_are_hashed_as_mosquitto_does() -> None:
    salt = base64.b64decode(KNOWN.split("$")[3])
    assert hash_line("reef-1", "secret", salt) == KNOWN
    assert hash_line("reef-1", "secret") != KNOWN
    assert read_hashes(passwords_text([KNOWN, hash_line("b", "x")]))["reef-1"] == KNOWN


def test_a_login_is_the_client_id_and_tls_is_the_default() -> None:
    lines = config_text(FLEET, Path("/etc/fleet")).splitlines()
    for line in (
        "listener 8883",
        "use_username_as_clientid true",
        "tls_version tlsv1.2",
        "allow_anonymous false",
        "acl_file /etc/fleet/tidewatt.acl",
        "password_file /etc/fleet/tidewatt.passwords",
        "message_size_limit 600000",
    ):
        assert line in lines


def test_every_topic_is_under_the_prefix_and_only_sinks_use_wildcards_for_sites() -> None:
    part = ""
    for line in acl_text(FLEET).splitlines()[1:]:
        if line.startswith("user "):
            part = line.removeprefix("user ")
        elif line:
            _, _, topic = line.split(" ", 2)
            assert topic.startswith("my/own/+/" if part == "sink-1" else "my/own/reef-1/")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--edge", "Reef"], "'Reef' is no login"),
        (["--edge", "reef\nuser x"], "is no login"),
        (["--edge", "a", "--edge", "a"], "'a' is there twice (as edge and edge)"),
        (["--edge", "sink-1"], "'sink-1' is there twice (as edge and sink)"),
        (["--edge", "a", "--prefix", "a/#"], "'a/#' is no prefix"),
        (["--edge", "a", "--prefix", "a\ntopic #"], "is no prefix"),
        (["--edge", "a", "--message-size-limit", "300000"], "take at least 512000"),
        (["--edge", "a", "--out", "/proc/no"], "name another folder by --out"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, options: list[str], words: str) -> None:
    result = CliRunner().invoke(cli, ["broker", "config", "--out", str(tmp_path), *options])
    assert result.exit_code != 0
    assert words in f"{result.output}{result.exception}"
    assert not list(tmp_path.iterdir())
