"""The fault campaign: `python -m tests.campaign --faults 500 --minutes 30`.

Two daemons, three sinks, mosquitto and Postgres run for real while faults hit them at random.  Everything that any
file ever held is remembered (books.py), and what stands upstream is judged by it (tests/judge.py).
"""
