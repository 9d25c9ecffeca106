"""What the config file says about the page and the API: `[web]`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from sync.config import Host


class WebConfig(BaseModel):
    """Where the status page, the JSON API and the metrics are served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="serve the page, the API and /metrics")
    host: Host = Field(
        "127.0.0.1",
        description="address to listen on; 0.0.0.0 for the whole network (nothing asks for a password yet)",
    )
    port: int = Field(8080, ge=1, le=65535, description="TCP port to listen on")
