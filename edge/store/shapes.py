"""History as the API and `--json` show it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from drivers.base import Quality
from edge.clock import iso_utc
from edge.store.codec import CLOCKS, Sample
from edge.store.history import EventRow, Piece, SeriesInfo
from edge.store.rollup import Bucket

CLOCK_LABELS: Final = {"synced": "synced", "holdover": "holdover", "corrected": "holdover"}
"""What is shown of CLOCKS; everything else is "unknown"."""
QUALITY_LABELS: Final = {quality.value: quality.label for quality in Quality}


def series_json(found: Iterable[SeriesInfo]) -> list[dict[str, Any]]:
    return [
        {
            "name": s.name, "unit": s.unit, "decimals": s.decimals,
            "first": None if s.first_ms is None else iso_utc(s.first_ms),
            "last": None if s.newest is None else iso_utc(s.newest.ts_ms),
            "value": None if s.newest is None else s.newest.value,
            "quality": None if s.newest is None else QUALITY_LABELS[s.newest.quality],
            "ts": None if s.newest is None else iso_utc(s.newest.ts_ms),
        }
        for s in found
    ]  # fmt: skip


def readings_json(found: Iterable[Piece]) -> list[dict[str, Any]]:
    return [
        {
            "series": piece.name,
            "unit": piece.unit,
            "readings": [*map(_sample_json, piece.samples), *map(_bucket_json, piece.buckets)],
        }
        for piece in found
    ]


def events_json(found: Iterable[EventRow]) -> list[dict[str, Any]]:
    return [
        {
            "seq": e.seq, "ts": iso_utc(e.ts_ms), "kind": e.kind, "subject": e.subject,
            "severity": e.severity, "body": e.body,
        }
        for e in found
    ]  # fmt: skip


def _sample_json(sample: Sample) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ts": iso_utc(sample.ts_ms),
        "value": sample.value,
        "quality": QUALITY_LABELS[sample.quality],
        "reason": sample.reason,
        "clock": CLOCK_LABELS.get(CLOCKS[sample.clock], "unknown"),
    }
    if sample.span_s:
        shown["span_s"] = sample.span_s
    return shown


def _bucket_json(bucket: Bucket) -> dict[str, Any]:
    return {
        "ts": iso_utc(bucket.ts_ms), "value": bucket.mean, "min": bucket.min, "max": bucket.max,
        "n": bucket.n,
    }  # fmt: skip
