"""What the config file says about the local database: `[store]`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

MEGABYTE: Final = 1_000_000
WAL_PART: Final = 8
WAL_BYTES_MAX: Final = 16_384_000


class StoreConfig(BaseModel):
    """Where the records are kept, how often they are committed and for how long they stay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        "/var/lib/tidewatt/tidewatt.db", min_length=1, description="the database file, on a local disk"
    )
    control_path: str = Field(
        "", description="the small file of what control must remember; empty: control.db beside the database"
    )
    flush_interval_s: float = Field(
        5.0, ge=0.1, le=300, description="seconds between commits: what a power cut can lose at most"
    )
    queue_rows_max: int = Field(
        100_000,
        ge=1000,
        le=10_000_000,
        description="readings held in memory at most while the disk does not take them",
    )
    keep_settled_days: float = Field(
        2.0,
        ge=0,
        le=3650,
        description="days that delivered raw readings stay here",
    )
    keep_events_days: float = Field(
        90.0, ge=0, le=36_500, description="days that delivered events stay here, what outputs did among them"
    )
    keep_blocks_days: float = Field(
        730.0, ge=1, le=36_500, description="days that every reading stays here, compressed, for charts"
    )
    keep_minutes_days: float = Field(
        365.0, ge=1, le=36_500, description="days that means, lows and highs of a minute stay here"
    )
    keep_quarters_days: float = Field(
        1825.0, ge=1, le=36_500, description="days that those of a quarter of an hour stay here"
    )
    keep_hours_days: float = Field(
        36_500.0,
        ge=1,
        le=36_500,
        description="days that those of an hour and of a day stay here; none of them longer",
    )
    budget_mb: int = Field(
        2000,
        ge=32,
        le=1_000_000,
        description="megabytes of disk that the database may take; when they are used up, undelivered readings become "
        "summaries of 1, 5, then 60 minutes, and at last the oldest of these are dropped",
    )
    register_interval_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="seconds between two values of a register that are kept; 0: all are",
    )
    events_hour_max: int = Field(
        120,
        ge=1,
        le=100_000,
        description="events of one kind and subject that are kept an hour; of the rest the number is",
    )
    disk_free_min_mb: int = Field(
        50, ge=1, le=1_000_000, description="megabytes of free disk below which that is a problem"
    )

    @property
    def budget_bytes(self) -> int:
        return self.budget_mb * MEGABYTE

    @property
    def wal_bytes(self) -> int:
        """What the write-ahead log may have of the budget."""
        return min(WAL_BYTES_MAX, self.budget_bytes // WAL_PART)

    @property
    def database(self) -> Path:
        """The database file."""
        return Path(self.path)

    @property
    def control_database(self) -> Path:
        """The control database file."""
        return Path(self.control_path) if self.control_path else self.database.with_name("control.db")

    @model_validator(mode="after")
    def _two_files(self) -> StoreConfig:
        if self.control_database == self.database:
            raise ValueError("path and control_path name the same file; give control_path a name of its own")
        return self
