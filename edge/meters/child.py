"""The process that reads a meter file: `python -m edge.meters.child FILE ARCHIVE MODE`, descriptors that it inherits.

It runs at the lowest priority, imports the parser and the standard library only, and ends when standard input does:
with the daemon.  What it finds goes to standard output as `messages`, each after its length in four bytes.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from edge.meters import messages
from edge.meters.original import Original

NICE: Final = 19
OOM_SCORE_ADJUST: Final = 800
MEMORY_BYTES_MAX: Final = 400_000_000
"""Of address space: twice what any file needs, a fraction of the smallest Pi's memory and swap."""


def main(arguments: list[str]) -> None:
    _limit()
    gc.disable()  # rows hold no circles, and looking for them took a tenth of the time
    source, target, mode = arguments
    read(int(source), int(target), mode == "strict", partial(messages.send, sys.stdout.buffer))


def read(source: int, target: int, strict: bool, send: Callable[..., None]) -> None:
    """Read the file `source` and archive it into `target` (none: -1); both are descriptors."""
    original = Original(source, target, partial(send, "hash"))
    original.start()
    # The parser is imported meanwhile: that takes longer than the hash of most files.
    from edge.meters import reading

    original.wait_told()
    reading.read(source, strict, send, original.wait_archived)


def _limit() -> None:
    """Last in line for the processor, first for what the kernel does when memory is short."""
    os.nice(NICE)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write(str(OOM_SCORE_ADJUST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()


def _end_with_the_daemon() -> None:
    """Standard input is a pipe that nobody writes to: it ends when the daemon does."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
