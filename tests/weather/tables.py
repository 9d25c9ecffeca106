"""Tables of module weather: their names begin with the module's."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Float, Integer, MetaData, Table

metadata: Final = MetaData()

observation: Final = Table(
    "weather_observation",
    metadata,
    Column("ts", Integer, primary_key=True),
    Column("pressure_hpa", Float, nullable=False),
)
