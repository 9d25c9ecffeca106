"""An event as a person reads it: no keys of programs, and what is over reads as over."""

from __future__ import annotations

from typing import Any

import pytest

from edge.cli.eventwords import words


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("limit-tripped", {"text": "heater is held off: it is; see"}, "heater is held off: it is; see"),
        ("input-lost", {"ended": True, "text": "heater has no input"}, "over: heater has no input"),
        (
            "spare-probe-lost",
            {"ended": True, "text": "sump cannot be used", "still": "heater has no input"},
            "not over: heater has no input",
        ),
        ("clock-confirmed", {"uid": 0, "who": "root", "why": "", "ahead_ms": -90_000}, "ahead -1 min 30 s · by root"),
        (
            "override-set",
            {"who": "ada", "why": "algae", "level": 0.4, "for_s": 600.0, "ramp_s": 0, "blind": False},
            "40% · for 10 min · by ada (algae)",
        ),
        ("override-set", {"who": "ada", "for_s": 5400, "blind": True}, "for 1 h 30 min · blind · by ada"),
        ("device-failed", {"error": "no answer"}, "no answer"),
        ("device-recovered", {"failures": 3}, "failures: 3"),
        ("config-reloaded", {"changed": ["devices", "outputs"]}, "changed: devices, outputs"),
        ("control-memory-lost", {"why": "torn", "aside": ""}, "why: torn"),
        (
            "calibration-changed",
            {"old": "ab12", "new": "cd34", "old_pairs": [], "new_pairs": [[3.9, 4.01], [7.1, 7.0]]},
            "new pairs: 3.9 → 4.01, 7.1 → 7.0",
        ),
        ("started", {}, ""),
        (
            "output",
            {"change": "b-7", "state": "pending", "from": 0.0, "to": 1.0, "layer": "override", "cause": "ada",
             "text": "ada set it by hand", "who": "ada"},
            "off → on · on its way · ada set it by hand · by ada",
        ),
        (
            "output",
            {"change": "b-8", "state": "failed", "to": 0.35, "layer": "default", "error": "no answer"},
            "at the start → 35% · failed · default · no answer",
        ),
    ],
)  # fmt: skip
def test_a_body_is_told_in_words(kind: str, body: dict[str, Any], told: str) -> None:
    assert words(kind, body) == told
