"""The state machine of the delivery protocol, over the pure parts: planner, lanes, settlement, ledger, window, wire,
rank, the checks of summaries, and the daemon's retained status.

Each check bears its name from the protocol's list.  Where they are held:

- in every random life (protocol_checks: after each step, and when all is quiet): position_unique,
  position_immutable, range_total, settled_implies_upstream, no_silent_loss, one_row_per_position, order_free,
  row_beats_gap, ledger_equals_rows, foreign_ledger, meta_race, no_time_changes_after_send, downsample_sums,
  channel_day_current, liveness (with the retained status);
- by a scenario of that name in test_protocol_scenarios: offline_reuse, restore_old_backup, two_clones,
  upstream_rewinds, clone_gap_masks_row, foreign_ledger, late_duplicate, meta_race, clock_step_back, poison, oversize;
  several sinks, sites, versions, broken links and summaries in test_protocol_parties; bounds in test_protocol_bounds;
- over the real SQLite, publisher, sinks and Postgres in test_real_machine, over a real broker as well in
  test_real_broker; hostile payloads in tests/unit/test_wire; missing months and NUL in tests/integration.

That these tests can fail is proved in test_protocol_mutants: every rule is done wrong once, and the check of its name
finds it; `make mutants` does so in the source.
TIDEWATT_EXAMPLES=2000 makes the machine run longer; hypothesis prints how to replay what it finds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.contract.protocol_deeds import BROKER_BYTES, DEEDS, walk
from tests.contract.protocol_rows import Violation
from tests.contract.protocol_world import World

EXAMPLES: Final = int(os.environ.get("TIDEWATT_EXAMPLES", "100"))
STEPS: Final = 60
LIVES: Final = EXAMPLES * 3
GROUPS: Final = 10

pytestmark = pytest.mark.usefixtures("quiet")


class ProtocolMachine(RuleBasedStateMachine):
    """Any deeds in any order; then peace, and all promises are looked at."""

    world: World | None = None
    broken = False

    @initialize(seed=st.integers(0, 1 << 32), broker=st.sampled_from(BROKER_BYTES), bound=st.booleans())
    def begin(self, seed: int, broker: int, bound: bool) -> None:
        self.world = World(seed=seed, bytes_max=broker, bound=bound)

    @invariant()
    def promises(self) -> None:
        if self.world is not None:
            self.do(self.world.check)

    def do(self, deed: Callable[..., None], **numbers: int) -> None:
        try:
            deed(**numbers)
        except BaseException:
            self.broken = True
            raise

    def teardown(self) -> None:
        if self.world is not None and not self.broken:
            self.world.settle_down()


def _add_deed(name: str, rule_name: str, bounds: dict[str, int]) -> None:
    def act(self: ProtocolMachine, **numbers: int) -> None:
        self.do(getattr(self.world, name), **numbers)

    act.__name__ = rule_name
    numbers: dict[str, Any] = {argument: st.integers(0, end - 1) for argument, end in bounds.items()}
    decorate: Any = rule(**numbers)
    setattr(ProtocolMachine, rule_name, decorate(act))


for _name, (_weight, _bounds) in DEEDS.items():
    _add_deed(_name, _name, _bounds)
    # hypothesis takes all rules alike: what is frequent is several rules
    for _again in range(2, 1 + _weight // 3):
        _add_deed(_name, f"{_name}_{_again}", _bounds)

TestProtocol = ProtocolMachine.TestCase
TestProtocol.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("group", range(GROUPS))
def test_random_lives(group: int) -> None:
    """The same deeds by weight, deeper than hypothesis goes and a tenth of the cost; `walk(seed)` replays one."""
    for seed in range(group, LIVES, GROUPS):
        try:
            walk(seed)
        except Violation as violation:
            pytest.fail(f"walk({seed}): {violation}")
