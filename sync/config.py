"""What the config file says about the broker, and about the upstream process: `[sink]`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


def plain_host(host: str) -> str:
    """The host itself.  Raises ValueError for what is more than a name or an address."""
    if "/" in host or " " in host:
        raise ValueError(
            "no URL and no blanks here; write the name or the address alone, such as 192.168.1.10"
        )
    if host.count(":") == 1:
        raise ValueError("the port stands in an option of its own, port; write the name or the address alone")
    return host


Host = Annotated[str, Field(min_length=1), AfterValidator(plain_host)]
Prefix = Annotated[str, Field(pattern=r"^[^/#+$\x00][^#+\x00]*[^/#+\x00]$", max_length=200)]


class BrokerConfig(BaseModel):
    """How to reach the broker, and as whom; what the edge's end and the sink's have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Host = Field("localhost", description="the broker's name or address")
    port: int = Field(1883, ge=1, le=65535, description="the broker's port (8883 is usual with tls)")
    username: str = Field("", description="login at the broker; empty for none")
    password: SecretStr = Field(SecretStr(""), description="its password")
    tls: bool = Field(False, description="speak TLS to the broker")
    ca_file: str = Field("", description="file with the certificate authority; empty: the system's")
    cert_file: str = Field("", description="file with the client certificate; empty for none")
    key_file: str = Field("", description="file with the client certificate's key")
    keepalive_s: int = Field(30, ge=5, le=3600, description="seconds between signs of life to the broker")
    prefix: Prefix = Field("tidewatt/v1", description="what every topic begins with, at both ends the same")

    @model_validator(mode="after")
    def _certificate_whole(self) -> Self:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file belong together; set both or neither")
        if (self.cert_file or self.ca_file) and not self.tls:
            raise ValueError("ca_file, cert_file and key_file have no effect without tls; set tls = true")
        if self.password.get_secret_value() and not self.username:
            raise ValueError("a password without a username is not sent; set username too")
        return self


class SinkConfig(BrokerConfig):
    """The broker to listen at, and the Postgres to fill."""

    postgres: SecretStr = Field(
        SecretStr("postgresql:///tidewatt"),
        description="connection string; better as TIDEWATT_SINK__POSTGRES or credential sink_postgres",
    )
    password: SecretStr = Field(
        SecretStr(""),
        description="its password; better in TIDEWATT_SINK__PASSWORD or credential sink_password",
    )
    prefix: Prefix = Field(
        "tidewatt/v1", description="what every topic begins with; as in the edges' [uplink]"
    )
    client_id: str = Field(
        "", max_length=100, description="name at the broker; empty: tidewatt-sink and a random part"
    )
    group: str = Field(
        "",
        pattern=r"^[^/#+\x00]*$",
        max_length=100,
        description="shared subscription that several sinks divide among them; empty: a plain one",
    )
    months_ahead: int = Field(
        2, ge=1, le=120, description="months made in advance; later times are refused, that is a wrong clock"
    )
    months_behind: int = Field(
        24, ge=1, le=1200, description="months back that are accepted; earlier times are refused"
    )
    messages_in_flight_max: int = Field(
        200, ge=1, le=10_000, description="messages taken from the broker and not yet committed at most"
    )

    metrics_port: int = Field(
        0, ge=0, le=65535, description="port of /metrics (Prometheus) and /healthz; 0: neither"
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="address they are served at; they need no login"
    )

    @field_validator("postgres")
    @classmethod
    def _connection_string(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not text.startswith(("postgresql://", "postgres://")) and "=" not in text:
            raise ValueError("not a connection string; write postgresql://user@host:5432/database")
        return value
