"""Summaries beside readings, refused rows that are marked when they go in, and narrower rights for the sink."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: tuple[str, ...] | None = None
depends_on: None = None

TABLES: Sequence[str] = (
    # A row stands for `n` readings of a series among the positions first..last of log `source`, by whose clock its
    # time is.  One of span 0 is a reading carried over as it was.
    """
    CREATE TABLE summary (
        ts timestamptz NOT NULL,
        log bigint NOT NULL,
        seq bigint NOT NULL,
        source bigint NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        mean double precision,
        min double precision,
        max double precision,
        last_value double precision,
        edge integer NOT NULL,
        series integer NOT NULL,
        n integer NOT NULL,
        good integer NOT NULL,
        calibration integer NOT NULL DEFAULT 0,
        span_s integer NOT NULL,
        quality smallint NOT NULL DEFAULT 0,
        reason text NOT NULL DEFAULT ''
    )
    """,
    "CREATE UNIQUE INDEX summary_key ON summary (edge, series, ts, log, seq)",
    # Positions of the readings of log `source` that summaries of log `log` name, and perhaps some between them.
    """
    CREATE TABLE thinned (
        edge integer NOT NULL,
        source bigint NOT NULL,
        log bigint NOT NULL,
        positions int8multirange NOT NULL,
        PRIMARY KEY (edge, source, log)
    )
    """,
    # Some rows that this log wrote, or that stand for readings of it, may be told twice: only there a view has to look.
    "ALTER TABLE log ADD twice boolean NOT NULL DEFAULT false",
    "ALTER TABLE dead_letter ADD redriven_at timestamptz",
)

# What an operator asks of the tables that the sink's role may not read.
STANDING = """
    DO $do$ BEGIN EXECUTE format($sql$
        CREATE FUNCTION tidewatt_standing(which integer, stream text, wanted bigint, low bigint, high bigint)
        RETURNS int8multirange
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = %I, pg_temp AS $fn$
            SELECT coalesce(range_agg(int8range(seq, seq + 1)), '{}') FROM (
                SELECT seq FROM reading
                WHERE stream = 'readings' AND edge = which AND log = wanted AND seq BETWEEN low AND high
                UNION ALL SELECT seq FROM summary
                WHERE stream = 'summaries' AND edge = which AND log = wanted AND seq BETWEEN low AND high
                UNION ALL SELECT seq FROM event
                WHERE stream = 'events' AND edge = which AND log = wanted AND seq BETWEEN low AND high
            ) here
        $fn$ $sql$, current_schema()); END $do$
"""
# Between the last row before a time and the first row after another; rows that are gone have no time of their own.
BETWEEN = """
    DO $do$ BEGIN EXECUTE format($sql$
        CREATE FUNCTION tidewatt_between(which integer, wanted text, since timestamptz, before timestamptz)
        RETURNS TABLE (log bigint, first bigint, last bigint)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = %I, pg_temp AS $fn$
            WITH here AS (
                SELECT r.log, r.seq, r.ts FROM reading r WHERE wanted = 'readings' AND r.edge = which
                UNION ALL SELECT s.log, s.seq, s.ts FROM summary s WHERE wanted = 'summaries' AND s.edge = which
                UNION ALL SELECT e.log, e.seq, e.ts FROM event e WHERE wanted = 'events' AND e.edge = which
            ), told AS (
                SELECT d.log, coalesce(max(h.seq) FILTER (WHERE h.ts < since) + 1, d.first) AS first,
                    coalesce(min(h.seq) FILTER (WHERE h.ts >= before) - 1, d.head) AS last
                FROM ledger d LEFT JOIN here h ON h.log = d.log
                WHERE d.edge = which AND d.stream = wanted
                GROUP BY d.log, d.first, d.head
            )
            SELECT t.log, t.first, t.last FROM told t
            LEFT JOIN log l ON l.edge = which AND l.log = t.log
            WHERE t.first <= t.last
                AND to_timestamp(((t.log >> 20) + coalesce(l.offset_ms, 0)) / 1000.0) < before
        $fn$ $sql$, current_schema()); END $do$
"""
# A row is named by what stands for its position and its time: where a clock stepped back, positions of one bucket lie
# on both sides of another's.  The longest span bounds the look.  Called by views, with the rights of the owner; a
# subquery in their place would keep every query of the view from running in parallel.
NAMED = """
    DO $do$ BEGIN EXECUTE format($sql$
        CREATE FUNCTION tidewatt_named(which integer, of integer, source bigint, at timestamptz, seq bigint)
        RETURNS boolean
        LANGUAGE sql STABLE PARALLEL SAFE COST 1 SECURITY DEFINER SET search_path = %I, pg_temp AS $fn$
            SELECT EXISTS (
                SELECT FROM summary m
                WHERE m.edge = which AND m.series = of AND m.ts BETWEEN at - interval '1 hour' AND at
                    AND m.source = tidewatt_named.source AND tidewatt_named.seq BETWEEN m.first AND m.last
                    AND (m.ts = at OR m.ts + m.span_s * interval '1 second' > at)
            )
        $fn$ $sql$, current_schema()); END $do$
"""
# Of two that share rows the one that stands for more is shown.
OUTDONE = """
    DO $do$ BEGIN EXECUTE format($sql$
        CREATE FUNCTION tidewatt_outdone(which integer, of integer, at timestamptz, log bigint, seq bigint)
        RETURNS boolean
        LANGUAGE sql STABLE PARALLEL SAFE COST 1 SECURITY DEFINER SET search_path = %I, pg_temp AS $fn$
            SELECT EXISTS (
                SELECT FROM summary m JOIN summary o ON o.edge = m.edge AND o.series = m.series
                    AND o.ts BETWEEN m.ts - interval '1 hour' AND m.ts + m.span_s * interval '1 second'
                    AND o.source = m.source AND o.first <= m.last AND o.last >= m.first
                    AND (o.ts = m.ts OR (o.ts < m.ts + m.span_s * interval '1 second'
                        AND o.ts + o.span_s * interval '1 second' > m.ts))
                    AND (o.n, o.log, o.seq) > (m.n, m.log, m.seq)
                WHERE m.edge = which AND m.series = of AND m.ts = at AND m.log = tidewatt_outdone.log
                    AND m.seq = tidewatt_outdone.seq
            )
        $fn$ $sql$, current_schema()); END $do$
"""
FUNCTIONS: Sequence[str] = (
    STANDING,
    BETWEEN,
    NAMED,
    OUTDONE,
    "REVOKE ALL ON FUNCTION tidewatt_standing(integer, text, bigint, bigint, bigint) FROM PUBLIC",
    "REVOKE ALL ON FUNCTION tidewatt_between(integer, text, timestamptz, timestamptz) FROM PUBLIC",
)

CLOCK = "CASE WHEN l.estimated THEN 'estimated' WHEN l.clock = 'unknown' THEN 'corrected' ELSE l.clock END"
QUALITY = """
    CASE {0}.quality WHEN 0 THEN 'good' WHEN 1 THEN 'estimated' WHEN 2 THEN 'bad' ELSE 'code ' || {0}.quality END
"""
NAMES = """
    JOIN edge e ON e.id = {0}.edge
    JOIN series s ON s.edge = {0}.edge AND s.id = {0}.series
    LEFT JOIN calibration c ON c.edge = {0}.edge AND c.id = {0}.calibration
"""

# Plain tables are united, and what is joined is joined outside: so the planner sees through to their indexes.
# Measured against the view of revision 0001, with 1 M and with 2.4 M readings: 1.0-1.2 times as long for all of them,
# 1.2-2.2 for one edge of two and 0.6-1.9 for one series, for the join is planned otherwise (see revision 0003), in
# parallel as before.  A plain anti-join took 2-2.8 times as long, and with 500,000 summaries beside them more than 20 s
# where this takes 0.5.
BOTH = """
    SELECT edge, series, ts, value, quality, reason, span_s, calibration, log, seq, log AS source, true AS raw, 1 AS n,
        CASE WHEN value IS NULL OR quality = 2 THEN 0 ELSE 1 END AS good, value AS min, value AS max,
        value AS last_value
    FROM reading
    UNION ALL
    SELECT edge, series, ts, mean, quality, reason, span_s, calibration, log, seq, source, false, n, good, min, max,
        last_value
    FROM summary
"""
TWICE = "SELECT log FROM log WHERE twice"

V1_READING = f"""
    CREATE OR REPLACE VIEW v1_reading AS
    SELECT e.name AS edge, s.name AS series, s.unit, r.ts, r.value, {QUALITY.format("r")} AS quality,
        nullif(r.reason, '') AS reason, r.span_s, {CLOCK} AS clock, c.name AS calibration, r.log, r.seq,
        CASE WHEN r.raw THEN 'readings' ELSE 'summaries' END AS stream, r.n, r.good, r.min, r.max, r.last_value
    FROM ({BOTH}) r {NAMES.format("r")}
    LEFT JOIN log l ON l.edge = r.edge AND l.log = r.source
    WHERE CASE
        WHEN r.raw THEN
            r.log NOT IN ({TWICE}) OR NOT tidewatt_named(r.edge, r.series, r.log, r.ts, r.seq)
        ELSE
            (r.source NOT IN ({TWICE}) AND r.log NOT IN ({TWICE}))
            OR NOT tidewatt_outdone(r.edge, r.series, r.ts, r.log, r.seq)
        END
"""  # constants of this file

V1_SUMMARY = f"""
    CREATE VIEW v1_summary AS
    SELECT e.name AS edge, s.name AS series, s.unit, m.ts, m.span_s, m.n, m.good, m.min, m.mean, m.max,
        m.last_value AS last, {QUALITY.format("m")} AS quality, nullif(m.reason, '') AS reason, {CLOCK} AS clock,
        c.name AS calibration, m.source, m.first, m.last AS last_seq, m.log, m.seq
    FROM summary m {NAMES.format("m")}
    LEFT JOIN log l ON l.edge = m.edge AND l.log = m.source
"""  # constants of this file

V1_DEAD_LETTER = """
    CREATE OR REPLACE VIEW v1_dead_letter AS
    SELECT e.name AS edge, d.log, d.stream, d.seq, d.reason, d.payload, d.refused_at
    FROM dead_letter d JOIN edge e ON e.id = d.edge WHERE d.redriven_at IS NULL
"""

#: The sink inserts data, and reads and changes only what it keeps books in; it deletes nothing.
GRANTS = """
    DO $do$
    BEGIN
        IF to_regrole('tidewatt_reader') IS NOT NULL THEN
            GRANT SELECT ON v1_summary TO tidewatt_reader;
        END IF;
        IF to_regrole('tidewatt_sink') IS NOT NULL THEN
            REVOKE ALL ON edge, log, ledger, series, calibration, reading, event, meta, gap, dead_letter, bad_batch,
                v1_reading, v1_event, v1_series, v1_meta, v1_site FROM tidewatt_sink;
            GRANT INSERT ON reading, summary, event, gap TO tidewatt_sink;
            GRANT SELECT, INSERT ON series, calibration TO tidewatt_sink;
            GRANT SELECT, INSERT, UPDATE ON edge, log, ledger, thinned, meta, dead_letter, bad_batch TO tidewatt_sink;
            GRANT EXECUTE ON FUNCTION tidewatt_standing(integer, text, bigint, bigint, bigint) TO tidewatt_sink;
            GRANT EXECUTE ON FUNCTION tidewatt_between(integer, text, timestamptz, timestamptz) TO tidewatt_sink;
        END IF;
    END $do$
"""

OLD_GRANTS = """
    DO $do$
    BEGIN
        IF to_regrole('tidewatt_reader') IS NOT NULL THEN
            GRANT SELECT ON v1_reading TO tidewatt_reader;
        END IF;
        IF to_regrole('tidewatt_sink') IS NOT NULL THEN
            GRANT SELECT ON v1_reading, v1_event, v1_series, v1_meta, v1_site TO tidewatt_sink;
            GRANT SELECT, INSERT, UPDATE ON edge, log, ledger, series, calibration, reading, event, meta, gap,
                dead_letter, bad_batch TO tidewatt_sink;
            GRANT DELETE ON dead_letter TO tidewatt_sink;
        END IF;
    END $do$
"""
OLD_V1_READING = f"""
    CREATE VIEW v1_reading AS
    SELECT e.name AS edge, s.name AS series, s.unit, r.ts, r.value, {QUALITY.format("r")} AS quality,
        nullif(r.reason, '') AS reason, r.span_s, {CLOCK} AS clock, c.name AS calibration, r.log, r.seq
    FROM reading r {NAMES.format("r")}
    LEFT JOIN log l ON l.edge = r.edge AND l.log = r.log
"""  # constants of this file
OLD_V1_DEAD_LETTER = """
    CREATE OR REPLACE VIEW v1_dead_letter AS
    SELECT e.name AS edge, d.log, d.stream, d.seq, d.reason, d.payload, d.refused_at
    FROM dead_letter d JOIN edge e ON e.id = d.edge
"""


def upgrade() -> None:
    for statement in (*TABLES, *FUNCTIONS, V1_READING, V1_SUMMARY, V1_DEAD_LETTER, GRANTS):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def downgrade() -> None:
    for statement in (
        "DROP VIEW v1_summary",
        "DROP VIEW v1_reading",
        OLD_V1_READING,
        OLD_V1_DEAD_LETTER,
        "DROP FUNCTION tidewatt_named(integer, integer, bigint, timestamptz, bigint)",
        "DROP FUNCTION tidewatt_outdone(integer, integer, timestamptz, bigint, bigint)",
        "DROP FUNCTION tidewatt_standing(integer, text, bigint, bigint, bigint)",
        "DROP FUNCTION tidewatt_between(integer, text, timestamptz, timestamptz)",
        "DELETE FROM dead_letter WHERE redriven_at IS NOT NULL",
        "ALTER TABLE dead_letter DROP redriven_at",
        "ALTER TABLE log DROP twice",
        "DROP TABLE thinned",
        "DROP TABLE summary",
        OLD_GRANTS,
    ):
        op.get_bind().exec_driver_sql(statement)
