"""What the config file says about delivery over MQTT: `[uplink]`."""

from __future__ import annotations

from pydantic import Field, SecretStr

from sync.config import BrokerConfig, Prefix
from sync.messages import ROWS_MAX


class UplinkConfig(BrokerConfig):
    """The broker, how to log in to it, and how the records are cut into batches."""

    enabled: bool = Field(
        True,
        description="deliver to the broker; false: the site runs alone, its compressed history stays here",
    )
    password: SecretStr = Field(
        SecretStr(""),
        description="its password; better in TIDEWATT_UPLINK__PASSWORD or credential uplink_password",
    )
    prefix: Prefix = Field("tidewatt/v1", description="what every topic begins with; the sink needs the same")
    ledger: str = Field(
        "",
        pattern=r"^(tw1-[0-9a-f]{16})?$",
        description="id that `tidewatt sink` prints; empty: `tidewatt sync bind` binds once",
    )
    batch_interval_s: float = Field(
        5.0,
        ge=0.1,
        le=3600,
        description="seconds between batches of readings; at once while a backlog drains",
    )
    batch_rows_max: int = Field(5000, ge=1, le=ROWS_MAX, description="rows in a batch at most")
    batch_bytes_max: int = Field(
        256_000, ge=1024, le=16_000_000, description="bytes of a batch at most; below the broker's own limit"
    )
    batches_in_flight_max: int = Field(
        8, ge=1, le=64, description="backlog batches unanswered at a time at most"
    )
    live_in_flight_max: int = Field(
        2, ge=1, le=16, description="live batches of one stream unanswered at a time at most"
    )
    backlog_share: float = Field(
        0.7,
        ge=0,
        le=0.95,
        description="share of the bytes for the backlog at least, while live batches are sent too (0-0.95)",
    )
    reconnect_spread_s: float = Field(
        5.0,
        ge=0,
        le=600,
        description="seconds over which sites that lost their broker together come back, each at random",
    )
    clock_wait_s: float = Field(
        120.0,
        ge=0,
        le=86_400,
        description="seconds after connecting until the sink's time is taken for want of any other",
    )
    state_interval_s: float = Field(
        5.0, ge=0.1, le=3600, description="seconds between two retained live values of one series at least"
    )
    ask_interval_s: float = Field(
        3600.0, ge=10, le=86_400, description="seconds between asking the sink what it holds"
    )
    silence_alarm_s: float = Field(
        300.0, ge=5, le=86_400, description="seconds without an answer of the sink until that is an alarm"
    )
