"""All kinds of faults there are: the modules register what they hold when they are imported."""

from __future__ import annotations

from tests.campaign import on_edges, on_links, on_machines, on_upstream
from tests.campaign.faults import FAULTS

MODULES = (on_edges, on_links, on_machines, on_upstream)

__all__ = ["FAULTS", "MODULES"]
