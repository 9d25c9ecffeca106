"""`tidewatt run`: the daemon."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import click

from edge.cli.support import Cli, pass_cli


@click.command(
    epilog="""\b
Example:
  tidewatt --config /etc/tidewatt/config.toml run
"""
)
@pass_cli
def run(cli: Cli) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP reloads the config."""
    import anyio

    from edge import log
    from edge.app import run as run_app
    from edge.clock import SystemClock
    from edge.config import Config
    from edge.control.lastgood import load_or_last_good

    config, refused = load_or_last_good(cli.config_path, Config)
    log.setup(config.log)

    async def running() -> None:
        asyncio.get_running_loop().set_default_executor(_Unwaited())
        await run_app(config, cli.config_path, SystemClock(), refused)

    anyio.run(running)
    _leave_stuck_threads()


class _Unwaited(ThreadPoolExecutor):
    """Its loop does not wait for what it still does: connecting to a broker may hang in a name lookup."""

    def shutdown(self, *_: object, **__: object) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def _leave_stuck_threads() -> None:
    """A call that never came back from a device or a resolver must not hold the process."""
    main = threading.main_thread()
    if any(thread.is_alive() and not thread.daemon for thread in threading.enumerate() if thread is not main):
        sys.stdout.flush()
        os._exit(0)
