"""All that may happen in the protocol's World, how often, and a random life made of it."""

from __future__ import annotations

import random
from typing import Final

from sync.messages import STREAMS
from tests.contract.protocol_upstream import SINKS
from tests.contract.protocol_versions import EDITIONS
from tests.contract.protocol_world import GARBAGE, PAUSES_S, PROCESSES_MAX, SKEWS_MS, STEPS_S, World

EDGES: Final = PROCESSES_MAX
DEEDS: Final[dict[str, tuple[int, dict[str, int]]]] = {
    "sample": (6, {"which": EDGES, "count": 6, "kind": 7}),
    "event": (2, {"which": EDGES}),
    "change_meta": (3, {"which": EDGES, "key": 3, "form": 4}),
    "import_day": (2, {"which": EDGES, "day": 3, "version": 7}),
    "overflow": (1, {"which": EDGES, "count": 6}),
    "thin": (3, {"which": EDGES, "count": 9}),
    "thin_again": (2, {"which": EDGES}),
    "prune": (2, {"which": EDGES, "count": 8}),
    "connect": (4, {"which": EDGES}),
    "disconnect": (1, {}),
    "half_open": (1, {"which": EDGES, "how": 3}),
    "will_lands": (1, {"at": 9}),
    "hear_status": (2, {"which": EDGES}),
    "send": (8, {"stream": len(STREAMS), "lane": 2}),
    "turn": (3, {"which": EDGES}),
    "ask": (1, {}),
    "talk": (2, {}),
    "deliver_up": (10, {"at": 9, "keep": 2}),
    "sink_takes": (4, {"sink": SINKS, "at": 9, "keep": 2}),
    "sink_commits": (3, {"sink": SINKS, "mute": 2}),
    "sink_dies": (1, {"sink": SINKS}),
    "deliver_down": (10, {"at": 9, "keep": 2}),
    "deliver_foreign": (1, {"at": 9}),
    "drop": (2, {"at": 9, "down": 2}),
    "garbage": (1, {"which": EDGES, "topic": len(STREAMS), "what": len(GARBAGE)}),
    "replay": (1, {"which": EDGES, "at": 99}),
    "pass_time": (3, {"pause": len(PAUSES_S)}),
    "kill": (1, {"which": EDGES, "skew": len(SKEWS_MS), "trusted": 3}),
    "cut": (2, {"which": EDGES, "commits": 5, "skew": len(SKEWS_MS), "trusted": 3}),
    "backup_edge": (1, {"which": EDGES}),
    "restore_edge": (1, {"which": EDGES, "skew": len(SKEWS_MS)}),
    "clone": (1, {"which": EDGES}),
    "backup_upstream": (1, {}),
    "restore_upstream": (1, {}),
    "step_clock": (1, {"which": EDGES, "step": len(STEPS_S)}),
    "trust_clock": (1, {"which": EDGES}),
    "redrive": (1, {}),
    "detach": (1, {"count": 5}),
    "upgrade_edge": (1, {"which": EDGES, "edition": len(EDITIONS)}),
    "upgrade_sinks": (1, {"edition": len(EDITIONS)}),
    "bind": (1, {}),
}
"""What may happen: a method of World -> how often, and its arguments, each a number below a bound."""
REWRITING: Final = ("cut", "restore_edge", "clone", "restore_upstream", "detach")
"""Deeds after which upstream may rightly show fewer rows than were sampled."""

STEPS_MAX: Final = 90
BROKER_BYTES: Final = (1 << 30, 1 << 30, 1200)


def walk(seed: int) -> World:
    """A random life of two sites, then peace; raises Violation.  The same seed makes the same life."""
    rng = random.Random(seed)
    world = World(seed=seed, bytes_max=rng.choice(BROKER_BYTES), bound=rng.random() < 0.8)
    # A life that lacks some deeds altogether goes deeper into the others.
    left_out = {name for name in DEEDS if rng.random() < 0.2} | set(REWRITING if rng.random() < 0.3 else ())
    deeds = [name for name, (weight, _) in DEEDS.items() if name not in left_out for _ in range(weight)]
    for _ in range(STEPS_MAX if deeds else 0):
        name = rng.choice(deeds)
        getattr(world, name)(**{argument: rng.randrange(end) for argument, end in DEEDS[name][1].items()})
        world.check()
    world.settle_down()
    return world
