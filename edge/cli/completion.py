"""`tidewatt completion SHELL`: the script that asks tidewatt itself what may come next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from edge.cli.main import COMPLETE_VARIABLE, PROGRAM, cli

MENDED: Final[Mapping[str, tuple[str, str]]] = {
    "zsh": ("[[ $zsh_eval_context[-1] == loadautofunc ]]", f"[[ $funcstack[1] == _{PROGRAM} ]]"),
    "fish": ('string split "," $completion', 'string split --max 1 "," $completion'),
}
"""Shell -> what is put right in click's script.

zsh   a file of fpath is the body of its function: from the second Tab on it is called, and no longer being loaded
fish  a summary may have a comma
"""


@click.command(
    epilog="""\b
Examples:
  tidewatt completion bash > ~/.local/share/bash-completion/completions/tidewatt
  tidewatt completion zsh  > ~/.zfunc/_tidewatt     (with ~/.zfunc in fpath, before compinit)
  tidewatt completion fish > ~/.config/fish/completions/tidewatt.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes tidewatt's commands, options and names in SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # Not .source(): that runs the shell to look at its version, and this may be another machine.
    completer = kind(cli, {}, PROGRAM, COMPLETE_VARIABLE)
    script = completer.source_template % completer.source_vars()
    click.echo(script.replace(*MENDED.get(shell, ("", ""))))
