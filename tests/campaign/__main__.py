"""`python -m tests.campaign`: play faults, judge, and say what was found.

Exit 0: all faults were played and nothing was found; 1: findings, or not all faults were played; 3: no end.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, NoReturn

from tests.campaign.disk import isolate
from tests.campaign.kinds import FAULTS
from tests.campaign.play import Outcome, Plan, Player
from tests.campaign.program import BUGS
from tests.campaign.site import EDGES, SINKS, Site, running

QUIET_PART: Final = 0.3
"""Of the time, at most so much is for the last judgement."""
QUIET_S: Final = (20.0, 120.0)
MEMORY: Final = Path("/dev/shm")
MEMORY_MIN_BYTES: Final = 2_000_000_000
"""Nothing here needs to outlive the machine, and copies of Postgres's data take long on a card."""
CLOSING_S: Final = 20.0
"""Time kept for ending the processes."""

_started_s = time.monotonic()


def say(line: str) -> None:
    print(f"{time.monotonic() - _started_s:7.1f} s {line}", flush=True)


def main() -> int:
    arguments = _arguments()
    isolate("tests.campaign", sys.argv[1:])
    seed = arguments.seed
    print(
        f"campaign: --seed {seed} --faults {arguments.faults} --minutes {arguments.minutes:g}"
        f"{' --plant ' + arguments.plant if arguments.plant else ''}"
        f"{' --only ' + ','.join(arguments.only) if arguments.only else ''};"
        f" {len(EDGES)} sites, {SINKS} sinks, {len(arguments.only or FAULTS)} kinds of faults",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="tidewatt-campaign-", dir=arguments.folder))
    folder.chmod(0o755)
    length_s = arguments.minutes * 60
    quiet_s = min(max(length_s * QUIET_PART, QUIET_S[0]), QUIET_S[1])
    plan = Plan(
        seed=seed, faults=arguments.faults, only=tuple(arguments.only), check_every=arguments.check_every,
        end_s=_started_s + length_s - quiet_s - CLOSING_S, quiet_s=quiet_s,
    )  # fmt: skip
    outcome = _played(folder, plan, arguments.plant, length_s)
    return _tell(outcome, folder, arguments)


def _played(folder: Path, plan: Plan, bug: str, length_s: float) -> Outcome:
    sites: list[Site] = []
    watchdog = threading.Timer(length_s, _no_end, (sites,))
    watchdog.daemon = True
    watchdog.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running(folder, plan.seed, bug=bug) as site:
        sites.append(site)
        mounted = all(edge.disk.lasting for edge in site.edges)
        say(f"disks: {'file systems of their own' if mounted else 'limits on files; mounting takes root'}")
        player = Player(site, plan, say)
        try:
            player.play()
        except Exception as error:
            player.outcome.findings.append(f"the campaign itself failed: {error!r}")
            faulthandler.dump_traceback(sys.stdout)
            raise
        finally:
            watchdog.cancel()
            if player.outcome.findings:
                _tell_logs(site)
    return player.outcome


def _no_end(sites: list[Site]) -> NoReturn:
    """The time is over and something hangs: say where, take everything down, and go."""
    print("campaign: no end in time", flush=True)
    faulthandler.dump_traceback(sys.stdout, all_threads=True)
    for site in sites:
        site.kill()
    os._exit(3)


def _tell_logs(site: Site) -> None:
    for program in site.programs():
        if program.log.exists():
            print(f"--- end of {program.log}\n{program.tail()}", flush=True)


def _tell(outcome: Outcome, folder: Path, arguments: argparse.Namespace) -> int:
    played = ", ".join(f"{name} {count}" for name, count in sorted(outcome.played.items()))
    print(f"campaign: {outcome.played.total()} of {arguments.faults} faults played: {played}")
    if arguments.json:
        told = {"seed": arguments.seed, "played": outcome.played, "findings": outcome.findings}
        print(json.dumps(told | {"records": sum(outcome.judged.values())}))
    for finding in outcome.findings:
        print(f"FOUND {finding}")
    if outcome.findings or arguments.keep:
        print(f"campaign: everything is kept in {folder}; again: --seed {arguments.seed}", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    code, words = verdict(outcome, arguments.faults)
    records = sum(outcome.judged.values())
    print(f"campaign: {words}; {records:,} records, {time.monotonic() - _started_s:.0f} s", flush=True)
    return code


def verdict(outcome: Outcome, faults: int) -> tuple[int, str]:
    """The exit code, and why: clean is only a campaign that played all its faults."""
    played = outcome.played.total()
    if outcome.findings:
        return 1, f"FAILED, {len(outcome.findings)} findings in {played} of {faults} faults"
    if outcome.time_is_up:
        return (
            1,
            f"time is up after {played} of {faults} faults; nothing lost in those; give it more --minutes",
        )
    if played < faults:
        return 1, f"only {played} of {faults} faults could be played; nothing lost in those"
    return 0, f"clean, {faults} faults"


def roomy(folder: Path) -> Path | None:
    """The folder, if it may be written and has room."""
    usable = folder.is_dir() and os.access(folder, os.W_OK)
    return folder if usable and shutil.disk_usage(folder).free > MEMORY_MIN_BYTES else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--faults", type=int, default=500, help="how many (500)")
    parser.add_argument("--minutes", type=float, default=30, help="until everything has ended (30)")
    seed = os.environ.get("TIDEWATT_SEED")
    parser.add_argument(
        "--seed", type=int, default=int(seed) if seed else random.SystemRandom().randrange(1 << 32),
        help="plays the same faults again; also TIDEWATT_SEED",
    )  # fmt: skip
    parser.add_argument(
        "--check-every", type=int, default=50, help="faults between two judgements (50); 0: one at the end"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], help="kinds, with commas between them"
    )
    parser.add_argument(
        "--plant", choices=sorted(BUGS), default="", help="a bug, to see it found (program.py)"
    )
    folder = roomy(MEMORY) or Path(tempfile.gettempdir())
    parser.add_argument(
        "--folder", type=Path, default=folder, help="where everything is put (in memory where there is room)"
    )
    parser.add_argument("--keep", action="store_true", help="keep everything also when nothing is found")
    parser.add_argument("--json", action="store_true", help="a line of JSON at the end")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(FAULTS):
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(sorted(FAULTS))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
