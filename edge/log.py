"""Log lines: JSON under systemd or into a file, coloured in a terminal; no secret ever gets through.

`setup` routes the libraries' own logging through the same chain.  structlog's timestamp is the one place
outside `edge/clock.py` that reads time: a line says when it was written, and nothing is computed from it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import IO, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretBytes, SecretStr

MASK: Final = "********"
SECRET_KEY: Final = re.compile(
    r"password|passwd|secret|token|postgres$|dsn$|authorization|api_?key", re.IGNORECASE
)
CREDENTIALS_IN_URL: Final = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/]*@", re.IGNORECASE)
PASSWORD_IN_TEXT: Final = re.compile(
    r"(?P<key>\b(?:password|passwd|token|secret)\b['\"]?\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;&)}]+)",
    re.IGNORECASE,
)
MASK_DEPTH_MAX: Final = 6
NOISY: Final = (
    "aiosqlite",
    "sqlalchemy",
    "alembic",
    "uvicorn.access",
    "mqtt",
    "asyncio",
    "amqtt",
    "transitions",
)

EventDict = MutableMapping[str, Any]


class LogConfig(BaseModel):
    """What is logged, and how it looks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least severe lines that are written: debug, info, warning or error"
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console (coloured, for people), or auto: console in a terminal, else json"
    )


def setup(config: LogConfig, *, stream: IO[str] | None = None) -> None:
    """Make every logger of the process write to `stream` (standard error) in one shape."""
    import structlog  # here, not above: the command line needs LogConfig, but seldom a logger

    out = stream if stream is not None else sys.stderr
    level = getattr(logging, config.level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a reload may change the level for loggers already in use
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(_is_json(config, out), colours=out.isatty() and not os.environ.get("NO_COLOR")),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    _quieten_libraries(level)


def _is_json(config: LogConfig, out: IO[str]) -> bool:
    if config.format != "auto":
        return config.format == "json"
    # Not by systemd's variables alone: a desktop's terminal inherits them too.
    return not out.isatty()


def _renderers(as_json: bool, *, colours: bool) -> list[Any]:
    import structlog

    if as_json:
        # Tracebacks first become text, so that a secret in one is masked too.
        return [
            structlog.processors.format_exc_info,
            mask_secrets,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    # A plain traceback: the pretty ones print local variables, and with them secrets.
    plain = structlog.dev.plain_traceback
    console = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain, pad_event_to=34)
    return [structlog.processors.format_exc_info, mask_secrets, console]


def _quieten_libraries(level: int) -> None:
    """Libraries speak from WARNING on unless everything is wanted; their own handlers go."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.INFO if level <= logging.DEBUG else logging.WARNING)
    for name in list(logging.Logger.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(True)


def mask_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """structlog processor: what is a secret by its type, its key or its shape is not written."""
    return {key: _masked(str(key), value) for key, value in event.items()}


def _masked(key: str, value: Any, depth: int = 0) -> Any:
    if isinstance(value, SecretStr | SecretBytes) or (
        SECRET_KEY.search(key) and value not in (None, "", False)
    ):
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if depth < MASK_DEPTH_MAX and isinstance(value, dict):
        return {inner: _masked(str(inner), held, depth + 1) for inner, held in value.items()}
    if depth < MASK_DEPTH_MAX and isinstance(value, list | tuple):
        return [_masked("", held, depth + 1) for held in value]
    if isinstance(value, bool | int | float | type(None)):
        return value
    return mask_text(str(value))


def mask_text(text: str) -> str:
    """A text without the passwords that stand in its URLs and `password=…` parts."""
    text = CREDENTIALS_IN_URL.sub(rf"\g<scheme>:{MASK}@", text)
    return PASSWORD_IN_TEXT.sub(rf"\g<key>{MASK}", text)
