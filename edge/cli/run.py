"""`tidewatt run`: the daemon."""

from __future__ import annotations

from functools import partial

import click

from edge.cli.loop import run_unwaited
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
    from edge import log
    from edge.app import run as run_app
    from edge.clock import SystemClock
    from edge.config import Config
    from edge.control.lastgood import load_or_last_good

    config, refused = load_or_last_good(cli.config_path, Config)
    log.setup(config.log)
    run_unwaited(partial(run_app, config, cli.config_path, SystemClock(), refused))
