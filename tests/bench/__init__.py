"""`make bench`: what the product costs and how fast it drains, beside its targets.  Never a timed test."""
