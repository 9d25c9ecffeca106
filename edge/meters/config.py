"""What the config file says about meter files: `[meters]`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NEM_OFFSET_MIN: Final = 600
"""The clock of NEM12 and NEM13 files: UTC+10 all year."""
NMIS_MAX: Final = 10_000

Mode = Literal["lenient", "strict"]


class NmiConfig(BaseModel):
    """What differs for one meter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nmi: str = Field(min_length=1, max_length=40, description="the meter's NMI, as its files have it")
    utc_offset_min: int = Field(
        NEM_OFFSET_MIN,
        ge=-720,
        le=840,
        description="its clock's distance from UTC, minutes; the same all year",
    )


class MetersConfig(BaseModel):
    """Meter files of the utility (NEM12, NEM13): where they are taken from and how they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="take in meter files")
    inbox: str = Field("", description="folder that files are dropped into; empty: inbox beside the database")
    archive: str = Field(
        "", description="folder of the compressed originals; empty: archive beside the database"
    )
    scan_interval_s: float = Field(
        5.0, ge=0.1, le=3600, description="seconds between two looks; a file that changed between them waits"
    )
    mode: Mode = Field(
        "lenient",
        description="lenient: keep what is certain and tell every problem; strict: refuse a file that breaks a rule",
    )
    keep_originals: bool = Field(
        True, description="keep every file in the archive; false: it is deleted once its content is stored"
    )
    upload_bytes_max: int = Field(
        200_000_000, ge=1_000_000, le=10_000_000_000, description="largest upload that is taken, bytes"
    )
    nmi: Annotated[tuple[NmiConfig, ...], Field(max_length=NMIS_MAX)] = Field(
        (), description="meters of which something differs; a [[meters.nmi]] table each"
    )

    def inbox_folder(self, database: Path) -> Path:
        return Path(self.inbox) if self.inbox else database.with_name("inbox")

    def archive_folder(self, database: Path) -> Path:
        return Path(self.archive) if self.archive else database.with_name("archive")

    def utc_offset_min(self, nmi: str) -> int:
        """The clock of one meter's files."""
        return next((known.utc_offset_min for known in self.nmi if known.nmi == nmi), NEM_OFFSET_MIN)

    @model_validator(mode="after")
    def _no_doubles(self) -> MetersConfig:
        twice = [nmi for nmi, count in Counter(known.nmi for known in self.nmi).items() if count > 1]
        if twice:
            raise ValueError(f'nmi "{twice[0]}" has two tables; make one of them')
        if self.inbox and self.inbox == self.archive:
            raise ValueError("inbox and archive are the same folder; give archive one of its own")
        return self
