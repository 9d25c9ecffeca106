"""A coverage-guided fuzzer for the meter file parser, run by hand: `python -m tests.fuzz.nem [-max_total_time=600]`.

It needs `pip install atheris` (not a dependency: it has wheels for Linux on x86-64 only), whose libFuzzer options it
takes; it begins with the cases of tests/cases.  It found within minutes what hypothesis did not: a day that followed a
row spliced with a 200 was handed to the next channel.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

CASES: Final = Path(__file__).parents[1] / "cases"
SMALL: Final = (
    "100,NEM12,202601151200,A,B 200,2001985732,E1,1,E1,N1,M,KWH,720, 300,20260110,1.5,2.5,A,,,20260112030405, "
    "300,20260111,1.5,2.5,V,,,20260112030405, 400,1,1,A,, 400,2,2,S14,76, 200,2001985732,E1,1,E1,N1,M,KWH,360, "
    "300,20260110,1.5,2.5 ,3,4,A,,,20260112030405, 300,20260111,1.5,2.5,4,5,A,79,,20260112030405, 400,1,4,A,79, "
    "500,N,,20260112030405, 900"
)
"""Intervals of hours make rows that a fuzzer can keep whole."""
WORDS: Final = (
    "100,", "200,", "300,", "400,", "500,", "250,", "550,", "900", "NEM12", "NEM13", "\\x0d\\x0a", "\\x0a", "\\x0d",
    ",A,,,20260112030405,", ",V,,,20260112030405,", "S14,76,", "KWH,30,", "KWH,720,", "20260112", "\\xef\\xbb\\xbf",
    "\\\"", ",,,,,", "2001985732",
)  # fmt: skip


def main() -> None:
    """Runs until it finds something, or as long as it is told."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("the fuzzer needs atheris: pip install atheris")
    with atheris.instrument_imports(include=["drivers"]):
        sound = importlib.import_module("tests.fuzz.sound").sound
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        _fill(corpus)
        words.write_text("".join(f'"{word}"\n' for word in WORDS))
        options = [f"-dict={words}", "-max_len=4000", "-timeout=20", *sys.argv[1:]]
        atheris.Setup([sys.argv[0], str(corpus), *options], lambda data: sound(bytes(data)))
        atheris.Fuzz()


def _fill(corpus: Path) -> None:
    corpus.mkdir()
    inputs = [path for path in CASES.glob("nem1[23]/*/*") if path.suffix not in (".json", ".ZIP")]
    for at, seed in enumerate([*(path.read_bytes() for path in inputs), SMALL.replace(" ", "\n").encode()]):
        (corpus / str(at)).write_bytes(seed)


if __name__ == "__main__":
    main()
