"""Child processes of the daemon, which end with it however it ends.

An orphan would go on writing into files that the next daemon has opened by then.
`python -m edge.child PARENT MODULE ARGUMENT…` is what runs.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from subprocess import CompletedProcess

PR_SET_PDEATHSIG: Final = 1
"""From linux/prctl.h: the signal that the kernel sends when the thread that began this process ends."""


async def run_module(module: str, *arguments: object) -> CompletedProcess[bytes]:
    """Run `python -m MODULE ARGUMENT…` to its end; to be awaited on the main thread, with which it dies."""
    from subprocess import DEVNULL

    import anyio  # the child has no use for it

    command = [sys.executable, "-m", "edge.child", str(os.getpid()), module, *map(str, arguments)]
    return await anyio.run_process(command, check=False, stdin=DEVNULL)


def main(arguments: Sequence[str]) -> None:
    """Become MODULE, but not without the parent: it may have gone before the kernel was told."""
    parent, module, *rest = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):
        os._exit(1)
    sys.argv[1:] = rest
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
