"""Whatever the order, however often, and over a restored database: the same files end in the same visible state."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import FakeClock
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer
from edge.meters.service import recover
from edge.meters.staging import Staging, sweep
from edge.store.database import Store
from tests.meterstore import in_process, ledger, nem12, staged, state, write
from tests.stores import migrated

__all__ = ["in_process"]  # a fixture

EXAMPLES = 30

STAMPS = st.sampled_from(["", "20260201000000", "202602010000", "20260301120000"])
DAYS = st.lists(
    st.tuples(st.sampled_from(["20260101", "20260102", "20260103"]), st.sampled_from(["0.1", "0.10", "7"])),
    min_size=1,
    max_size=4,
)
FILES = st.builds(
    nem12,
    DAYS,
    nmi=st.sampled_from(["6102000001", "6102000002"]),
    suffix=st.sampled_from(["E1", "B1"]),
    created=st.sampled_from(["202602010000", "202603010000"]),
    updated=STAMPS,
    serial=st.sampled_from(["", "A", "B"]),
)


@pytest.mark.usefixtures("in_process")
@settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data(), files=st.lists(FILES, min_size=1, max_size=5))
def test_any_order_any_number_of_times_over_a_restored_database(
    data: st.DataObject, files: list[bytes]
) -> None:
    order = data.draw(st.permutations(range(len(files))))
    again = data.draw(st.lists(st.sampled_from(range(len(files))), max_size=4))
    saved_after = data.draw(st.integers(0, len(files)))
    with tempfile.TemporaryDirectory(prefix="tidewatt-order-") as scratch:
        one, other = Path(scratch, "one"), Path(scratch, "other")
        content = [write(Path(scratch, "files"), f"{at}.csv", file) for at, file in enumerate(files)]
        anyio.run(import_all, one, content)
        anyio.run(import_all, other, [content[at] for at in [*order[:saved_after], *again]])
        backup = shutil.copytree(other, Path(scratch, "backup"))
        anyio.run(import_all, other, [content[at] for at in order[saved_after:]])
        shutil.rmtree(other)
        backup.rename(other)
        anyio.run(import_all, other, [content[at] for at in [*again, *order]])
        for folder in (one, other):
            assert staged(folder / "tidewatt.db") == 0
        assert state(other / "tidewatt.db") == state(one / "tidewatt.db")
        assert ledger(other / "tidewatt.db") == ledger(one / "tidewatt.db")


async def import_all(folder: Path, paths: Sequence[Path]) -> None:
    """One run of the daemon's part."""
    folder.mkdir(exist_ok=True)
    clock = FakeClock()
    async with Store.open(migrated(folder), clock) as store:
        importer = Importer(store, MetersConfig(keep_originals=False), clock)
        await recover(importer)
        for path in paths:
            assert (await importer.take(path, name=path.name, source="inbox")).file.state == "completed"


@pytest.mark.anyio
@pytest.mark.usefixtures("in_process")
async def test_what_a_broken_off_import_staged_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    first = write(tmp_path, "a.csv", nem12([("20260101", "1")]))
    second = write(tmp_path, "b.csv", nem12([("20260102", "1"), ("20260103", "1")]))
    async with Store.open(migrated(tmp_path), clock) as store:
        importer = Importer(store, MetersConfig(), clock)
        await importer.take(first, name="a", source="inbox")
        before = state(store.path)

        async def stop(*_: object) -> None:
            raise anyio.get_cancelled_exc_class()

        with monkeypatch.context() as patch:
            patch.setattr(Staging, "publish", stop)
            with pytest.raises(anyio.get_cancelled_exc_class()):
                await importer.take(second, name="b", source="inbox")
        assert (staged(store.path), state(store.path)) == (2, before)
        assert sorted(row[0] for row in ledger(store.path).values()) == ["completed", "processing"]
        assert await sweep(store) == 2
        assert (staged(store.path), state(store.path)) == (0, before)
        await importer.take(second, name="b", source="inbox")
        assert (staged(store.path), len(state(store.path)["days"])) == (0, 3)
