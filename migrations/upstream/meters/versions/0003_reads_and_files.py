"""Register reads, the ledger of meter files with every problem, and intervals that are found by date."""

from __future__ import annotations

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: tuple[str, ...] | None = None
depends_on: None = None

# Reads keep the file's own digits, leading zeros too; what has no column of its own stands in `body`.
REGISTER_READ = """
    CREATE TABLE register_read (
        edge integer NOT NULL,
        nmi text NOT NULL,
        suffix text NOT NULL,
        register text NOT NULL,
        serial text NOT NULL,
        direction text NOT NULL,
        from_at text NOT NULL,
        to_at text NOT NULL,
        previous_read text NOT NULL,
        current_read text NOT NULL,
        quantity text NOT NULL,
        unit text NOT NULL,
        quality text NOT NULL,
        body jsonb NOT NULL,
        hash text NOT NULL,
        updated text NOT NULL,
        loaded text NOT NULL,
        header text NOT NULL,
        line integer NOT NULL,
        PRIMARY KEY (edge, nmi, suffix, register, to_at, hash)
    )
"""
FILE_KINDS = "kind IN ('file-completed', 'file-failed', 'file-problems')"
EVENT_INDEX = f"CREATE INDEX event_meter_file ON event (edge, subject, log, seq) WHERE {FILE_KINDS}"

# The order of sync/rank.py: stamps of 12 and of 14 digits compare as what they say, byte by byte.
FULL = """(CASE WHEN {0} = '' THEN '' ELSE {0} || repeat('0', 14 - length({0})) END) COLLATE "C" """
STAMPS = ("updated", "loaded", "header")


def rank(row: str) -> str:
    """What versions compare by."""
    stamps = [FULL.format(f"{row}.{stamp}") for stamp in STAMPS]
    return f'({", ".join(stamps)}, {row}.line, {row}.hash COLLATE "C")'


# A version is current where no other one outranks it: the key finds the others, whichever columns are asked for, and
# what is said of edge, meter, channel and date reaches it (a window or DISTINCT ON would read all dates first).
OUTRANKED = f"""
    EXISTS (
        SELECT FROM {{table}} o WHERE o.edge = d.edge AND {{key}} AND o.hash <> d.hash AND {rank("o")} > {rank("d")}
    )
"""
DAY_OUTRANKED = OUTRANKED.format(
    table="channel_day", key="o.nmi = d.nmi AND o.suffix = d.suffix AND o.date = d.date"
)
READ_OUTRANKED = OUTRANKED.format(
    table="register_read",
    key="o.nmi = d.nmi AND o.suffix = d.suffix AND o.register = d.register AND o.to_at = d.to_at",
)

V1_CHANNEL_DAY = f"""
    CREATE VIEW v1_channel_day AS
    SELECT e.name AS edge, d.nmi, d.suffix, d.date, d.unit, d.interval_min, d."values", d.quality, d.method,
        d.reason, d.updated, d.loaded, d.header, d.line, d.hash, NOT {DAY_OUTRANKED} AS current
    FROM edge e JOIN channel_day d ON d.edge = e.id
"""  # constants of this file

# One value for the whole day, or the one of the interval.
OF_INTERVAL = "CASE jsonb_typeof({0}) WHEN 'array' THEN {0} ->> (v.at - 1)::int ELSE {0} #>> '{{}}' END"

# Market time is UTC+10 the whole year, unless the meter's own record says otherwise.
OFFSET = """
    LEFT JOIN meta m ON m.edge = d.edge AND m.kind = 'meter' AND m.id = d.nmi
    CROSS JOIN LATERAL (
        SELECT CASE WHEN m.body @? 'strict $.utc_offset_min ? (@ >= -1440 && @ <= 1440)'
            THEN (m.body ->> 'utc_offset_min')::numeric::int ELSE 600 END * interval '1 minute' AS ahead
    ) z
"""
V1_INTERVAL = f"""
    CREATE VIEW v1_interval AS
    SELECT e.name AS edge, d.nmi, d.suffix, d.unit,
        (d.date + (v.at - 1) * d.interval_min * interval '1 minute' - z.ahead) AT TIME ZONE 'UTC' AS start_ts,
        (d.date + v.at * d.interval_min * interval '1 minute' - z.ahead) AT TIME ZONE 'UTC' AS end_ts,
        nullif(v.value, '')::numeric AS value,
        {OF_INTERVAL.format("d.quality")} AS quality,
        {OF_INTERVAL.format("d.method")} AS method,
        {OF_INTERVAL.format("d.reason")} AS reason,
        d.date
    FROM edge e
    JOIN channel_day d ON d.edge = e.id
    {OFFSET}
    CROSS JOIN LATERAL jsonb_array_elements_text(d."values") WITH ORDINALITY v(value, at)
    WHERE NOT {DAY_OUTRANKED}
"""  # constants of this file

AT_TIME = """
    CASE WHEN {0} = '' THEN NULL ELSE (
        (left({0}, 8) || ' ' || rpad(substr({0}, 9), 6, '0'))::timestamp - z.ahead
    ) AT TIME ZONE 'UTC' END
"""
V1_REGISTER_READ = f"""
    CREATE VIEW v1_register_read AS
    SELECT e.name AS edge, d.nmi, d.suffix, d.register, d.serial, d.direction, d.unit,
        {AT_TIME.format("d.from_at")} AS start_ts, {AT_TIME.format("d.to_at")} AS end_ts,
        d.previous_read, d.current_read, nullif(d.quantity, '')::numeric AS quantity, d.quality, d.body, d.from_at,
        d.to_at, d.updated, d.loaded, d.header, d.line, d.hash, NOT {READ_OUTRANKED} AS current
    FROM edge e
    JOIN register_read d ON d.edge = e.id
    {OFFSET}
"""  # constants of this file

# The newest outcome of each file.  Whatever an event says, a view may not fail of it.
OUTCOME = """
    SELECT DISTINCT ON (v.edge, v.subject) v.edge, v.subject, v.log, v.seq, v.ts, v.body FROM event v
    WHERE v.kind IN ('file-completed', 'file-failed') ORDER BY v.edge, v.subject, v.log DESC, v.seq DESC
"""
NUMBER = "CASE jsonb_typeof({0} -> '{1}') WHEN 'number' THEN ({0} ->> '{1}')::numeric END"
COUNTS = ("size_bytes", "channels", "days", "reads", "values", "problems")

V1_FILE = f"""
    CREATE VIEW v1_file AS
    SELECT e.name AS edge, f.subject AS file, f.body ->> 'name' AS name, f.body ->> 'source' AS source,
        f.body ->> 'state' AS state, f.body ->> 'version' AS version, f.body ->> 'created' AS created,
        f.body ->> 'mode' AS mode, {", ".join(f'{NUMBER.format("f.body", name)} AS "{name}"' for name in COUNTS)},
        f.body ->> 'error' AS error, f.ts AS ended_at, f.log, f.seq
    FROM edge e JOIN ({OUTCOME}) f ON f.edge = e.id
"""  # constants of this file

# Of each problem what was said last; a file that was read again may have fewer of them than before.
V1_FILE_PROBLEM = f"""
    CREATE VIEW v1_file_problem AS
    SELECT DISTINCT ON (e.name, f.subject, p.first + w.at - 1)
        e.name AS edge, f.subject AS file, f.body ->> 'name' AS name, p.first + w.at - 1 AS at,
        w.problem ->> 'member' AS member, {NUMBER.format("w.problem", "line")} AS line, w.problem ->> 'code' AS code,
        w.problem ->> 'text' AS text
    FROM edge e
    JOIN ({OUTCOME}) f ON f.edge = e.id
    CROSS JOIN LATERAL (
        SELECT v.log, v.seq, {NUMBER.format("v.body", "first")} AS first, v.body -> 'problems' AS problems
        FROM event v WHERE v.edge = f.edge AND v.subject = f.subject AND v.kind = 'file-problems'
    ) p
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(p.problems) WHEN 'array' THEN p.problems ELSE '[]' END
    ) WITH ORDINALITY w(problem, at)
    WHERE coalesce(p.first + w.at <= {NUMBER.format("f.body", "problems")}, true)
    ORDER BY e.name, f.subject, p.first + w.at - 1, p.log DESC, p.seq DESC
"""  # constants of this file

VIEWS = ("v1_interval", "v1_channel_day", "v1_register_read", "v1_file", "v1_file_problem")
GRANTS = f"""
    DO $do$
    BEGIN
        IF to_regrole('tidewatt_reader') IS NOT NULL THEN
            GRANT SELECT ON {", ".join(VIEWS)} TO tidewatt_reader;
        END IF;
        IF to_regrole('tidewatt_sink') IS NOT NULL THEN
            GRANT INSERT ON register_read TO tidewatt_sink;
        END IF;
    END $do$
"""

# ------------------------------------------------------------------------------ as they were in 0001, to go back to

OLD_RANK = ", ".join(
    (*(f"{FULL.format(f'd.{stamp}')} DESC" for stamp in STAMPS), "d.line DESC", 'd.hash COLLATE "C" DESC')
)
OLD_V1_CHANNEL_DAY = f"""
    CREATE VIEW v1_channel_day AS
    SELECT e.name AS edge, d.nmi, d.suffix, d.date, d.unit, d.interval_min, d."values", d.quality, d.method,
        d.reason, d.updated, d.loaded, d.header, d.line, d.hash,
        row_number() OVER (PARTITION BY d.edge, d.nmi, d.suffix, d.date ORDER BY {OLD_RANK}) = 1 AS current
    FROM channel_day d JOIN edge e ON e.id = d.edge
"""  # constants of this file
OLD_V1_INTERVAL = f"""
    CREATE VIEW v1_interval AS
    WITH present AS (
        SELECT DISTINCT ON (d.edge, d.nmi, d.suffix, d.date) d.*
        FROM channel_day d ORDER BY d.edge, d.nmi, d.suffix, d.date, {OLD_RANK}
    )
    SELECT e.name AS edge, d.nmi, d.suffix, d.unit,
        t.midnight + (v.at - 1) * d.interval_min * interval '1 minute' AS start_ts,
        t.midnight + v.at * d.interval_min * interval '1 minute' AS end_ts,
        nullif(v.value, '')::numeric AS value,
        {OF_INTERVAL.format("d.quality")} AS quality,
        {OF_INTERVAL.format("d.method")} AS method,
        {OF_INTERVAL.format("d.reason")} AS reason
    FROM present d
    JOIN edge e ON e.id = d.edge
    LEFT JOIN meta m ON m.edge = d.edge AND m.kind = 'meter' AND m.id = d.nmi
    CROSS JOIN LATERAL (
        SELECT (d.date::timestamp - make_interval(mins => coalesce((m.body ->> 'utc_offset_min')::int, 600)))
            AT TIME ZONE 'UTC' AS midnight
    ) t
    CROSS JOIN LATERAL jsonb_array_elements_text(d."values") WITH ORDINALITY v(value, at)
"""  # constants of this file
OLD_GRANTS = """
    DO $do$
    BEGIN
        IF to_regrole('tidewatt_reader') IS NOT NULL THEN
            GRANT SELECT ON v1_channel_day, v1_interval TO tidewatt_reader;
        END IF;
    END $do$
"""


def upgrade() -> None:
    for statement in (
        REGISTER_READ,
        EVENT_INDEX,
        "DROP VIEW v1_interval",
        "DROP VIEW v1_channel_day",
        V1_CHANNEL_DAY,
        V1_INTERVAL,
        V1_REGISTER_READ,
        V1_FILE,
        V1_FILE_PROBLEM,
        GRANTS,
    ):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    for statement in (
        *(f"DROP VIEW {view}" for view in reversed(VIEWS)),
        "DROP INDEX event_meter_file",
        "DROP TABLE register_read",
        OLD_V1_CHANNEL_DAY,
        OLD_V1_INTERVAL,
        OLD_GRANTS,
    ):
        op.get_bind().exec_driver_sql(statement)
