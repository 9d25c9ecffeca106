"""`tidewatt help`: a chapter of the handbook, or a command's help."""

from __future__ import annotations

import click

from edge.cli.support import Refused
from edge.options import nearest
from edge.web import handbook


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [chapter.topic for chapter in handbook.chapters() if chapter.topic.startswith(incomplete)]


@click.command(
    name="help",
    epilog="""\b
Examples:
  tidewatt help
  tidewatt help first-sensor
  tidewatt help outputs set
""",
)
@click.argument("topic", nargs=-1, shell_complete=_complete)
@click.pass_context
def help_(context: click.Context, topic: tuple[str, ...]) -> None:
    """Show the handbook: its chapters, the chapter TOPIC, or the help of a command."""
    if not topic:
        _list_chapters()
        return
    command = _command(context.find_root(), topic)
    if command is not None:
        click.echo(command.get_help())
        return
    chapter = handbook.find(" ".join(topic))
    if chapter is None:
        raise Refused(_unknown(context, " ".join(topic)), exit_code=2)
    click.echo_via_pager(chapter.text)


def _list_chapters() -> None:
    chapters = handbook.chapters()
    width = max(len(chapter.topic) for chapter in chapters)
    for chapter in chapters:
        click.echo(f"  {chapter.topic:<{width}}  {chapter.summary}")
    click.echo("\ntidewatt help TOPIC shows one; the running daemon's page has them at /handbook")


def _command(root: click.Context, words: tuple[str, ...]) -> click.Context | None:
    """The context of the command that the words name; None where they name none."""
    context = root
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            return None
        context = click.Context(command, info_name=word, parent=context)
    return context


def _unknown(context: click.Context, words: str) -> str:
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    known = [chapter.topic for chapter in handbook.chapters()]
    near = nearest(words, [*known, *root.command.list_commands(root)])
    of_it = [topic for topic in known if words in topic.split("-")]
    guesses = dict.fromkeys(word for word in (near, *of_it) if word)
    if guesses:
        return f"there is no chapter and no command {words!r}; did you mean {' or '.join(guesses)}?"
    told = handbook.mentions(words)
    if told:
        return f"there is no chapter {words!r}; these speak of it: {', '.join(told)}"
    return f"there is no chapter {words!r}; there are {', '.join(known)}"
