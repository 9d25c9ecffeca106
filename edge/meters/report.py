"""What became of a file, in words for a person: the text beside one that was not taken."""

from __future__ import annotations

from edge.meters.files import problem_line, safe_name
from edge.meters.importer import Outcome


def report(name: str, outcome: Outcome) -> str:
    """Why a file was not taken, and its problems by line."""
    file = outcome.file
    lines = [
        f"{safe_name(name)} was not taken; nothing of it is stored.",
        "",
        f"Why: {file.error}",
        "",
        "Correct the file, or ask its sender for another one, and put that into the inbox.",
        f"Content (SHA-256): {file.hash}",
    ]
    if outcome.problems:
        lines += ["", f"Problems ({file.problem_count}):"]
        lines += [problem_line(*problem) for problem in outcome.problems]
    if file.problem_count > len(outcome.problems):
        lines.append(f"… and {file.problem_count - len(outcome.problems)} more")
    return "\n".join(lines) + "\n"
