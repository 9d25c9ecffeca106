"""Everything with a loop, a clock or the local database."""
