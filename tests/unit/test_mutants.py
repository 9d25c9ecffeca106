"""The catalogue of sabotage stays true to the code; that each is noticed is for `make mutants` to say."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import INVARIANTS, ROOT, Mutant
from tests.mutants.catalogue import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.invariant}-{mutant.path}")
def test_each_line_stands_once_and_still_makes_a_program(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text()
    wrong = mutant.applied(text)
    assert wrong != text
    assert len(wrong.splitlines()) == len(text.splitlines())
    ast.parse(wrong)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.invariant}-{mutant.path}")
def test_the_tests_that_have_to_notice_it_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        path, _, name = test.partition("::")
        text = (ROOT / path).read_text()
        assert not name or f"def {name.partition('[')[0]}(" in text, test


def test_every_promise_has_its_sabotage() -> None:
    assert {mutant.invariant for mutant in MUTANTS} == set(INVARIANTS)


def test_a_line_that_moved_away_is_told() -> None:
    mutant = Mutant(invariant="bounds", path="a.py", before="x = 1", after="x = 2", tests=("t",))
    assert mutant.applied("if y:\n    x = 1\n") == "if y:\n    x = 2\n"
    with pytest.raises(ValueError, match=r"a\.py: this line stands there 0 times"):
        mutant.applied("x = 3\n")
    with pytest.raises(ValueError, match="2 times"):
        mutant.applied("x = 1\nx = 1\n")
