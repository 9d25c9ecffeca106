"""Tests in the virtual Pi: the real drivers and units on simulated lines.  `make vm` runs them, pytest does not."""
