"""Coverage-guided fuzzing, by hand: `python -m tests.fuzz.nem` (see there).  `make test` fuzzes with hypothesis."""
