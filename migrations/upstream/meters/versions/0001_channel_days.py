"""Channel-days of meter files, every version of them, and the current intervals as a view."""

from __future__ import annotations

from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: tuple[str, ...] | None = ("meters_core",)
depends_on: None = None

# `values` is a list with a number, text of digits, or null for each interval; `quality`, `method` and `reason` are
# one value for the whole day or a list of the same length.  The stamps are the file's own digits, '' where there
# are none.
CHANNEL_DAY = """
    CREATE TABLE channel_day (
        edge integer NOT NULL,
        nmi text NOT NULL,
        suffix text NOT NULL,
        date date NOT NULL,
        hash text NOT NULL,
        unit text NOT NULL,
        interval_min integer NOT NULL,
        values jsonb NOT NULL,
        quality jsonb,
        method jsonb,
        reason jsonb,
        updated text NOT NULL,
        loaded text NOT NULL,
        header text NOT NULL,
        line integer NOT NULL,
        PRIMARY KEY (edge, nmi, suffix, date, hash)
    )
"""

# The order of sync/rank.py: stamps of 12 and of 14 digits compare as what they say, byte by byte.
FULL = """(CASE WHEN {0} = '' THEN '' ELSE {0} || repeat('0', 14 - length({0})) END) COLLATE "C" DESC"""
STAMPS = ("d.updated", "d.loaded", "d.header")
RANK = ", ".join((*map(FULL.format, STAMPS), "d.line DESC", 'd.hash COLLATE "C" DESC'))

V1_CHANNEL_DAY = f"""
    CREATE VIEW v1_channel_day AS
    SELECT e.name AS edge, d.nmi, d.suffix, d.date, d.unit, d.interval_min, d."values", d.quality, d.method,
        d.reason, d.updated, d.loaded, d.header, d.line, d.hash,
        row_number() OVER (PARTITION BY d.edge, d.nmi, d.suffix, d.date ORDER BY {RANK}) = 1 AS current
    FROM channel_day d JOIN edge e ON e.id = d.edge
"""  # constants of this file

# One value for the whole day, or the one of the interval.
OF_INTERVAL = "CASE jsonb_typeof({0}) WHEN 'array' THEN {0} ->> (v.at - 1)::int ELSE {0} #>> '{{}}' END"

# Market time is UTC+10 the whole year, unless the meter's own record says otherwise.
V1_INTERVAL = f"""
    CREATE VIEW v1_interval AS
    WITH present AS (
        SELECT DISTINCT ON (d.edge, d.nmi, d.suffix, d.date) d.*
        FROM channel_day d ORDER BY d.edge, d.nmi, d.suffix, d.date, {RANK}
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

V1_METER = """
    CREATE VIEW v1_meter AS
    SELECT e.name AS edge, m.id AS meter, m.ts AS since, m.body
    FROM meta m JOIN edge e ON e.id = m.edge WHERE m.kind = 'meter' AND m.body IS NOT NULL
"""

GRANTS = """
    DO $do$
    BEGIN
        IF to_regrole('tidewatt_reader') IS NOT NULL THEN
            GRANT SELECT ON v1_channel_day, v1_interval, v1_meter TO tidewatt_reader;
        END IF;
        IF to_regrole('tidewatt_sink') IS NOT NULL THEN
            GRANT SELECT ON v1_channel_day, v1_interval, v1_meter, alembic_version_meters TO tidewatt_sink;
            GRANT SELECT, INSERT, UPDATE ON channel_day TO tidewatt_sink;
        END IF;
    END $do$
"""


def upgrade() -> None:
    for statement in (CHANNEL_DAY, V1_CHANNEL_DAY, V1_INTERVAL, V1_METER, GRANTS):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def downgrade() -> None:
    for view in ("v1_meter", "v1_interval", "v1_channel_day"):
        op.execute(f"DROP VIEW {view}")
    op.execute("DROP TABLE channel_day")
