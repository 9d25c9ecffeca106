"""`tidewatt run`: the daemon."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial

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
    anyio.run(partial(run_app, config, cli.config_path, SystemClock(), refused))
    _leave_stuck_threads()


def _leave_stuck_threads() -> None:
    """A call that never came back from a device or a resolver must not hold the process."""
    main = threading.main_thread()
    if any(thread.is_alive() and not thread.daemon for thread in threading.enumerate() if thread is not main):
        sys.stdout.flush()
        os._exit(0)
