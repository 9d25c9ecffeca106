"""`tidewatt run`: the daemon."""

from __future__ import annotations

import os
import shlex
import sys
from functools import partial
from typing import Final

import click

from edge.cli.loop import run_unwaited
from edge.cli.support import Cli, pass_cli

SYSTEMD_ASKS: Final = "NOTIFY_SOCKET"
FIRST_PROCESS: Final = 1


@click.command(
    epilog="""\b
Examples:
  tidewatt --config /etc/tidewatt/config.toml run
  tidewatt --config /var/lib/tidewatt/last-good.toml run
"""
)
@pass_cli
def run(cli: Cli) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP reloads the config.

    Where nobody watches, an invalid config starts the last good one of the same file, loudly.  At a terminal its
    mistakes are told and nothing is started.
    """
    from edge import log
    from edge.app import run as run_app
    from edge.clock import SystemClock
    from edge.config import Config
    from edge.control.lastgood import last_good_path, load_or_last_good
    from edge.mistakes import ConfigInvalid

    config, refused = load_or_last_good(cli.config_path, Config)
    if refused is not None and _is_watched():
        last = shlex.quote(str(last_good_path(config.store.control_database)))
        advice = f"nothing was started; the last good config runs by: tidewatt --config {last} run"
        raise ConfigInvalid(refused.mistakes, advice)
    log.setup(config.log)
    run_unwaited(partial(run_app, config, cli.config_path, SystemClock(), refused))


def _is_watched() -> bool:
    """Whether a person started it and reads what it says: systemd and containers may lend a terminal too."""
    return sys.stderr.isatty() and SYSTEMD_ASKS not in os.environ and os.getpid() != FIRST_PROCESS
