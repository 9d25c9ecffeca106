"""What the config file says about the local database: `[store]`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
        description="days that delivered raw readings and events stay here (undelivered ones always)",
    )
    keep_blocks_days: float = Field(
        730.0, ge=1, le=36_500, description="days that compressed history for charts stays here"
    )
    disk_free_min_mb: int = Field(
        50, ge=1, le=1_000_000, description="megabytes of free disk below which that is a problem"
    )

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
