"""The figures of the power cuts, of what their run leaves; the README's rows find them."""

from __future__ import annotations

import json

from tests.bench import powercut, readme

TOLD = {
    "cuts": 20,
    "within_writes": 11,
    "loss_s": 4.6,
    "early_s": 9.0,
    "stated_s": 5.0,
    "findings": [],
    "seed": 7,
}


def test_a_clean_run_meets_its_targets_and_a_finding_misses_them() -> None:
    loss, early, findings = powercut.figures(json.dumps(TOLD), 20)
    assert (loss.value, loss.target, loss.met) == (4.6, 5.0, True)
    assert early.met is None
    assert findings.met
    loss, _, findings = powercut.figures(json.dumps(TOLD | {"loss_s": 5.2, "findings": ["doubled"]}), 20)
    assert (loss.met, findings.met, findings.value, findings.note) == (False, False, 1, "doubled")


def test_the_readme_has_a_row_for_each_that_counts() -> None:
    keys = [row.key for row in readme.ROWS if row.key.bench == "powercut"]
    figures = list(powercut.figures(json.dumps(TOLD), powercut.CUTS))
    assert [key.what for key in keys] == [figures[0].what, figures[2].what]
    assert all(figures[0].part.startswith(key.part) for key in keys)
