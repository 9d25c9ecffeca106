"""Log lines: their shapes, what the libraries say, and that no secret gets through."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from edge import log

SECRET = "correct-horse"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Loggers are the whole process's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in log.NOISY}
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_where_no_terminal_reads_it() -> None:
    out = io.StringIO()
    log.setup(log.LogConfig(), stream=out)
    structlog.get_logger("edge.poll").warning("device failed", device="tank", after_s=1.5)
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "device failed",
        "device": "tank",
        "after_s": 1.5,
        "level": "warning",
        "logger": "edge.poll",
    }


def test_a_line_is_for_people_in_a_terminal() -> None:
    out = Terminal()
    log.setup(log.LogConfig(), stream=out)
    structlog.get_logger("edge.poll").info("device recovered", device="tank")
    text = out.getvalue()
    assert "device recovered" in text
    assert "\x1b[" in text
    assert not text.startswith("{")


@pytest.mark.parametrize(("wanted", "stream"), [("json", Terminal()), ("console", io.StringIO())])
def test_the_config_decides_the_shape(wanted: Any, stream: io.StringIO) -> None:
    log.setup(log.LogConfig(format=wanted), stream=stream)
    structlog.get_logger().info("x")
    assert stream.getvalue().startswith("{") is (wanted == "json")


def test_less_severe_lines_are_not_written() -> None:
    out = io.StringIO()
    log.setup(log.LogConfig(level="warning"), stream=out)
    structlog.get_logger().info("small")
    logging.getLogger("some.library").info("small")
    structlog.get_logger().error("big")
    assert [line["event"] for line in lines(out)] == ["big"]


def test_a_reload_changes_the_level_of_loggers_in_use() -> None:
    out = io.StringIO()
    logger = structlog.get_logger("edge.poll")
    for level in ("info", "debug", "error"):
        log.setup(log.LogConfig.model_validate({"level": level}), stream=out)
        logger.debug("at a level", level_now=level)
    assert [line["level_now"] for line in lines(out)] == ["debug"]


def test_libraries_speak_through_the_same_chain_and_only_when_it_matters() -> None:
    out = io.StringIO()
    own = logging.getLogger("uvicorn.error")
    own.addHandler(logging.StreamHandler(io.StringIO()))
    log.setup(log.LogConfig(), stream=out)
    own.warning("port %d in use", 8080)
    logging.getLogger("aiosqlite").info("executing")
    logging.getLogger("aiosqlite").warning("trouble")
    assert [(line["logger"], line["event"], line["level"]) for line in lines(out)] == [
        ("uvicorn.error", "port 8080 in use", "warning"),
        ("aiosqlite", "trouble", "warning"),
    ]
    assert own.handlers == []


def test_warnings_of_python_are_lines_too() -> None:
    out = io.StringIO()
    log.setup(log.LogConfig(), stream=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old call", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "old call" in lines(out)[0]["event"]


@pytest.mark.parametrize(
    "fields",
    [
        {"password": SECRET},
        {"uplink_password": SECRET},
        {"postgres": f"postgresql://u:{SECRET}@h/db"},
        {"token": [SECRET]},
        {"value": SecretStr(SECRET)},
        {"config": {"sink": {"password": SECRET}}},
        {"rows": [{"secret": SECRET}, SecretStr(SECRET)]},
        {"dsn": f"host=h password={SECRET}"},
        {"error": f"could not connect to postgresql://user:{SECRET}@db.example:5432/x"},
        {"error": f"connection string: host=a password='{SECRET}' user=b"},
        {"error": OSError(f"mqtt://user:{SECRET}@broker refused")},
        {"deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"url": f"x://u:{SECRET}@h"}}}}}}}}},
    ],
)
@pytest.mark.parametrize("shape", ["json", "console"])
def test_no_secret_is_written(fields: dict[str, Any], shape: Any) -> None:
    out = io.StringIO()
    log.setup(log.LogConfig(format=shape), stream=out)
    structlog.get_logger("x").warning("trouble", **fields)
    assert "trouble" in out.getvalue()
    assert SECRET not in out.getvalue()


@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_traceback_is_written_without_secrets_and_local_variables(shape: Any) -> None:
    out = io.StringIO()
    log.setup(log.LogConfig(format=shape), stream=out)
    held = SECRET
    try:
        raise ConnectionError(f"postgresql://tidewatt:{held}@localhost refused")
    except ConnectionError as error:
        structlog.get_logger("x").error("failed", exc_info=error)
        logging.getLogger("library").exception("failed too")
    assert out.getvalue().count("ConnectionError") >= 2
    assert SECRET not in out.getvalue()


@pytest.mark.parametrize(
    "text", ["the password is wrong; set it again", "refused: token expired", "a:b@c", "http://h:80/p"]
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert log.mask_text(text) == text


def test_an_empty_password_is_shown_as_empty() -> None:
    assert log.mask_secrets(None, "info", {"event": "x", "password": ""})["password"] == ""
