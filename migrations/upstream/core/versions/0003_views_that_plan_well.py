"""The interval of a reading carried over into summaries; v1_reading as quick as before there were summaries."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: tuple[str, ...] | None = None
depends_on: None = None

# Of a row of span 0, which is a reading carried over as it was: the span that this reading has itself.
INTERVAL = "ALTER TABLE summary ADD interval_s integer NOT NULL DEFAULT 0"

QUALITY = """
    CASE {0}.quality WHEN 0 THEN 'good' WHEN 1 THEN 'estimated' WHEN 2 THEN 'bad' ELSE 'code ' || {0}.quality END
"""
CLOCK = "CASE WHEN l.estimated THEN 'estimated' WHEN l.clock = 'unknown' THEN 'corrected' ELSE l.clock END"
NAMES = """
    JOIN edge e ON e.id = {0}.edge
    JOIN series s ON s.edge = {0}.edge AND s.id = {0}.series
"""

# Plain tables are united, and what is joined is joined outside: so a query reads only the columns that it names, each
# table by its index, in parallel.  But of united tables the planner knows no statistics and takes a join with them for
# far smaller than it is; names of clocks and calibrations, joined, were then looked up row by row in nested loops.
# Here most clocks are told by a look into a small hash table, and what is left by subqueries, after ORDER BY and LIMIT.
#
# Measured against the view of revision 0001 on PostgreSQL 18, 2.4 M readings of two edges with 10 series each, 300,000
# summaries of one of them, medians beside other work; for the edge without summaries (revision 0002 / this one): its
# last 100 of a series, all columns 1.9 / 0.8; last one 1.1 / 0.9; a day of a series 1.0 / 1.1, all columns 6.1 / 1.0;
# hourly means of a month 1.5 / 1.1; a day of all series 1.3 / 1.2; means of all its series 1.7 / 1.8 (the smaller
# estimate makes them be sorted); all its rows and columns 2.2 / 1.1.  Last 100 of the edge with summaries 3.5 / 1.3.
# A union of two views that are joined inside took 1.1-1.9 times as long, for it computes columns that nobody asked
# for; a lateral union for each series up to 3.1.
BOTH = """
    SELECT edge, series, ts, value, quality, reason, span_s, calibration, log, seq, log AS source, true AS raw, 1 AS n,
        CASE WHEN value IS NULL OR quality = 2 THEN 0 ELSE 1 END AS good, value AS min, value AS max,
        value AS last_value
    FROM reading
    UNION ALL
    SELECT edge, series, ts, mean, quality, reason, span_s + interval_s, calibration, log, seq, source, false, n, good,
        min, max, last_value
    FROM summary
"""
CLOCKS = "(r.edge, r.source) IN (SELECT edge, log FROM log WHERE NOT estimated AND clock = '{}')"
TWICE = "SELECT log FROM log WHERE twice"
# Where a log is marked, a reading may be hidden only by what `thinned` names; all others need no look of their own,
# which costs 40 us each: with one log of ten marked a scan of all took 14 s without this, 6 s with it, 1 s where none
# is; the rest is spent on looks at each summary of that log.
THINNED = """
    coalesce((
        SELECT range_agg(t.positions) FROM thinned t JOIN log l ON l.edge = t.edge AND l.log = t.source AND l.twice
    ), '{}')
"""

V1_READING = f"""
    CREATE OR REPLACE VIEW v1_reading AS
    SELECT e.name AS edge, s.name AS series, s.unit, r.ts, r.value, {QUALITY.format("r")} AS quality,
        nullif(r.reason, '') AS reason, r.span_s,
        CASE WHEN {CLOCKS.format("synced")} THEN 'synced' WHEN {CLOCKS.format("unknown")} THEN 'corrected'
            ELSE (SELECT {CLOCK} FROM log l WHERE l.edge = r.edge AND l.log = r.source) END AS clock,
        CASE WHEN r.calibration <> 0 THEN
            (SELECT c.name FROM calibration c WHERE c.edge = r.edge AND c.id = r.calibration) END AS calibration,
        r.log, r.seq, CASE WHEN r.raw THEN 'readings' ELSE 'summaries' END AS stream, r.n, r.good, r.min, r.max,
        r.last_value
    FROM ({BOTH}) r {NAMES.format("r")}
    WHERE CASE
        WHEN r.raw THEN
            r.log NOT IN ({TWICE}) OR NOT r.seq <@ {THINNED}
            OR NOT tidewatt_named(r.edge, r.series, r.log, r.ts, r.seq)
        ELSE
            (r.source NOT IN ({TWICE}) AND r.log NOT IN ({TWICE}))
            OR NOT tidewatt_outdone(r.edge, r.series, r.ts, r.log, r.seq)
        END
"""  # constants of this file

SUMMARY = f"""
    SELECT e.name AS edge, s.name AS series, s.unit, m.ts, m.span_s, m.n, m.good, m.min, m.mean, m.max,
        m.last_value AS last, {QUALITY.format("m")} AS quality, nullif(m.reason, '') AS reason, {CLOCK} AS clock,
        c.name AS calibration, m.source, m.first, m.last AS last_seq, m.log, m.seq{{more}}
    FROM summary m {NAMES.format("m")}
    LEFT JOIN calibration c ON c.edge = m.edge AND c.id = m.calibration
    LEFT JOIN log l ON l.edge = m.edge AND l.log = m.source
"""  # constants of this file
V1_SUMMARY = f"CREATE OR REPLACE VIEW v1_summary AS {SUMMARY.format(more=', m.interval_s')}"

# As revision 0002 has them.
OLD_V1_READING = f"""
    CREATE VIEW v1_reading AS
    SELECT e.name AS edge, s.name AS series, s.unit, r.ts, r.value, {QUALITY.format("r")} AS quality,
        nullif(r.reason, '') AS reason, r.span_s, {CLOCK} AS clock, c.name AS calibration, r.log, r.seq,
        CASE WHEN r.raw THEN 'readings' ELSE 'summaries' END AS stream, r.n, r.good, r.min, r.max, r.last_value
    FROM ({BOTH.replace(" + interval_s", "")}) r {NAMES.format("r")}
    LEFT JOIN calibration c ON c.edge = r.edge AND c.id = r.calibration
    LEFT JOIN log l ON l.edge = r.edge AND l.log = r.source
    WHERE CASE
        WHEN r.raw THEN
            r.log NOT IN ({TWICE}) OR NOT tidewatt_named(r.edge, r.series, r.log, r.ts, r.seq)
        ELSE
            (r.source NOT IN ({TWICE}) AND r.log NOT IN ({TWICE}))
            OR NOT tidewatt_outdone(r.edge, r.series, r.ts, r.log, r.seq)
        END
"""  # constants of this file
OLD_V1_SUMMARY = f"CREATE VIEW v1_summary AS {SUMMARY.format(more='')}"
#: A view that is dropped loses who may read it.
GRANTS = """
    DO $do$
    BEGIN
        IF to_regrole('tidewatt_reader') IS NOT NULL THEN
            GRANT SELECT ON v1_reading, v1_summary TO tidewatt_reader;
        END IF;
    END $do$
"""

UPGRADE: Sequence[str] = (INTERVAL, V1_READING, V1_SUMMARY)
DOWNGRADE: Sequence[str] = (
    "DROP VIEW v1_reading",
    "DROP VIEW v1_summary",
    OLD_V1_READING,
    OLD_V1_SUMMARY,
    "ALTER TABLE summary DROP interval_s",
    GRANTS,
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
