"""JSON of meter files: what an upload is answered with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from edge.web.models import Count, Time, TimeOrNone


class MeterFile(TypedDict):
    """A row of the file ledger."""

    hash: Annotated[str, Field(description="SHA-256 of the content: what the file is")]
    name: str
    source: Annotated[str, Field(description="inbox, cli, http or demo")]
    size_bytes: Count
    received: Time
    ended: TimeOrNone
    state: Literal["pending", "processing", "completed", "failed"]
    mode: Literal["lenient", "strict"]
    version: Annotated[str, Field(description="NEM12 or NEM13; empty while that is not known")]
    created: Annotated[str, Field(description="the header's time, digits in the file's own clock")]
    channels: Count
    days: Annotated[Count, Field(description="channel-days in it, known before or not")]
    reads: Annotated[Count, Field(description="register reads in it, known before or not")]
    values: Count
    problems: Count
    error: str | None
    archive: Annotated[str | None, Field(description="name of the compressed original in the archive folder")]


class Upload(TypedDict):
    """What became of an upload."""

    file: MeterFile
    known: Annotated[bool, Field(description="the same content is completed already; nothing was done")]
