"""Fixtures of the contract tests."""

from __future__ import annotations

import logging

import pytest
import structlog


@pytest.fixture
def quiet() -> None:
    """Thousands of faults are not worth a line each; `own_logging` puts the log back."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
