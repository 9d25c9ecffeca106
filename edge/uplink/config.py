"""What the config file says about delivery over MQTT: `[uplink]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from sync.messages import ROWS_MAX

Prefix = Annotated[str, Field(pattern=r"^[^/#+$\x00][^#+\x00]*[^/#+\x00]$", max_length=200)]


class UplinkConfig(BaseModel):
    """The broker, how to log in to it, and how the records are cut into batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        True,
        description="deliver to the broker; false: the site runs alone, its compressed history stays here",
    )
    host: str = Field("localhost", min_length=1, description="the broker's name or address")
    port: int = Field(1883, ge=1, le=65535, description="the broker's port (8883 is usual with tls)")
    username: str = Field("", description="login at the broker; empty for none")
    password: SecretStr = Field(
        SecretStr(""),
        description="its password; better in TIDEWATT_UPLINK__PASSWORD or credential uplink_password",
    )
    tls: bool = Field(False, description="speak TLS to the broker")
    ca_file: str = Field("", description="file with the certificate authority; empty: the system's")
    cert_file: str = Field("", description="file with the client certificate; empty for none")
    key_file: str = Field("", description="file with the client certificate's key")
    prefix: Prefix = Field("tidewatt/v1", description="what every topic begins with; the sink needs the same")
    ledger: str = Field(
        "",
        pattern=r"^(tw1-[0-9a-f]{16})?$",
        description="id that `tidewatt sink` prints; empty: `tidewatt sync bind` binds once",
    )
    keepalive_s: int = Field(30, ge=5, le=3600, description="seconds between signs of life to the broker")
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

    @model_validator(mode="after")
    def _certificate_whole(self) -> UplinkConfig:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file belong together; set both or neither")
        if (self.cert_file or self.ca_file) and not self.tls:
            raise ValueError("ca_file, cert_file and key_file have no effect without tls; set tls = true")
        if self.password.get_secret_value() and not self.username:
            raise ValueError("a password without a username is not sent; set username too")
        return self
