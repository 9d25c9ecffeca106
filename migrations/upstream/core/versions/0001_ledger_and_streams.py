"""The ledger, the streams' tables, the stable views and the roles."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: tuple[str, ...] | None = ("core_core",)
depends_on: None = None

TABLES: Sequence[str] = (
    # Which database this is; its name goes into the ledger id together with where it runs.
    """
    CREATE TABLE ledger_identity (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        made_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "INSERT INTO ledger_identity DEFAULT VALUES",
    # Its row is the lock under which all of an edge's data change.
    """
    CREATE TABLE edge (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL UNIQUE,
        first_seen_at timestamptz NOT NULL DEFAULT now(),
        series_given integer NOT NULL DEFAULT 0,
        calibrations_given integer NOT NULL DEFAULT 0,
        newest_log bigint NOT NULL DEFAULT 0,
        run bigint NOT NULL DEFAULT 0,
        asked_at timestamptz,
        clone_seen_at timestamptz
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE log (
        edge integer NOT NULL,
        log bigint NOT NULL,
        clock text NOT NULL,
        offset_ms bigint,
        estimated boolean NOT NULL DEFAULT false,
        closed boolean NOT NULL DEFAULT false,
        run bigint NOT NULL DEFAULT 0,
        first_heard_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (edge, log)
    )
    """,
    # Rows are never deleted: they are what makes every record come once.
    """
    CREATE TABLE ledger (
        edge integer NOT NULL,
        log bigint NOT NULL,
        stream text NOT NULL,
        first bigint NOT NULL,
        head bigint NOT NULL,
        head_at timestamptz NOT NULL DEFAULT now(),
        ended bigint,
        ended_run bigint NOT NULL DEFAULT 0,
        stored int8multirange NOT NULL DEFAULT '{}',
        refused int8multirange NOT NULL DEFAULT '{}',
        gaps int8multirange NOT NULL DEFAULT '{}',
        PRIMARY KEY (edge, log, stream)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE series (
        edge integer NOT NULL,
        id integer NOT NULL,
        name text NOT NULL,
        unit text NOT NULL,
        PRIMARY KEY (edge, id),
        UNIQUE (edge, name, unit)
    )
    """,
    """
    CREATE TABLE calibration (
        edge integer NOT NULL,
        id integer NOT NULL,
        name text NOT NULL,
        PRIMARY KEY (edge, id),
        UNIQUE (edge, name)
    )
    """,
    """
    CREATE TABLE reading (
        ts timestamptz NOT NULL,
        log bigint NOT NULL,
        seq bigint NOT NULL,
        value double precision,
        edge integer NOT NULL,
        series integer NOT NULL,
        calibration integer NOT NULL DEFAULT 0,
        span_s integer NOT NULL DEFAULT 0,
        quality smallint NOT NULL DEFAULT 0,
        reason text NOT NULL DEFAULT ''
    ) PARTITION BY RANGE (ts)
    """,
    "CREATE UNIQUE INDEX reading_key ON reading (edge, series, ts, log, seq)",
    """
    CREATE TABLE event (
        edge integer NOT NULL,
        log bigint NOT NULL,
        seq bigint NOT NULL,
        ts timestamptz NOT NULL,
        kind text NOT NULL,
        subject text NOT NULL,
        severity text NOT NULL,
        body jsonb NOT NULL,
        PRIMARY KEY (edge, log, seq)
    )
    """,
    "CREATE INDEX event_time ON event (edge, ts)",
    """
    CREATE TABLE meta (
        edge integer NOT NULL,
        kind text NOT NULL,
        id text NOT NULL,
        log bigint NOT NULL,
        seq bigint NOT NULL,
        ts timestamptz NOT NULL,
        body jsonb,
        PRIMARY KEY (edge, kind, id)
    )
    """,
    # Why positions are gaps; which of them still are, the ledger says.
    """
    CREATE TABLE gap (
        edge integer NOT NULL,
        log bigint NOT NULL,
        stream text NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        reason text NOT NULL,
        ts_min timestamptz,
        ts_max timestamptz,
        noted_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (edge, log, stream, first)
    )
    """,
    # `payload` is JSON kept as text: what is refused is often just what jsonb cannot hold.
    """
    CREATE TABLE dead_letter (
        edge integer NOT NULL,
        log bigint NOT NULL,
        stream text NOT NULL,
        seq bigint NOT NULL,
        reason text NOT NULL,
        payload text NOT NULL,
        refused_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (edge, log, stream, seq)
    )
    """,
    """
    CREATE TABLE bad_batch (
        edge text NOT NULL,
        hash text NOT NULL,
        stream text NOT NULL,
        reason text NOT NULL,
        payload bytea NOT NULL,
        times integer NOT NULL DEFAULT 1,
        first_at timestamptz NOT NULL DEFAULT now(),
        last_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (edge, hash)
    )
    """,
)

FUNCTIONS: Sequence[str] = (
    """
    CREATE FUNCTION tidewatt_count(positions int8multirange) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT coalesce(sum(upper(span) - lower(span)), 0)::bigint FROM unnest(positions) span)
    """,
    """
    CREATE FUNCTION tidewatt_span(first bigint, last bigint) RETURNS int8multirange
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN last >= first THEN int8multirange(int8range(first, last + 1))
        ELSE '{}'::int8multirange
    END
    """,
    # A copy of this database on another server, or under another name, has another id and must be bound anew.
    """
    DO $do$ BEGIN EXECUTE format($sql$
        CREATE FUNCTION tidewatt_ledger() RETURNS text
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = %I, pg_temp AS $fn$
            SELECT 'tw1-' || left(encode(sha256(convert_to(
                i.id::text || '/' || c.system_identifier::text || '/' || d.oid::text, 'UTF8')), 'hex'), 16)
            FROM ledger_identity i, pg_control_system() c, pg_database d WHERE d.datname = current_database()
        $fn$ $sql$, current_schema()); END $do$
    """,
    # Made apart and attached: that locks out no reader and no writer of the other months.
    """
    DO $do$ BEGIN EXECUTE format($sql$
        CREATE FUNCTION tidewatt_month(month date) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp AS $fn$
        DECLARE
            start date := date_trunc('month', month);
            name text := 'reading_' || to_char(start, 'YYYY_MM');
            partition boolean;
        BEGIN
            IF start < '1900-01-01' OR start > '2200-01-01' THEN
                RAISE EXCEPTION 'tidewatt_month makes months from 1900 to 2200 only, not %%', start;
            END IF;
            PERFORM pg_advisory_xact_lock('reading'::regclass::oid::bigint);
            SELECT relispartition INTO partition FROM pg_class WHERE oid = to_regclass(quote_ident(name));
            IF partition THEN
                RETURN 'there';
            ELSIF partition IS NOT NULL THEN
                RETURN 'detached';
            END IF;
            EXECUTE format('CREATE TABLE %%I (LIKE reading INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE reading ATTACH PARTITION %%I FOR VALUES FROM (%%L) TO (%%L)', name,
                start || ' 00:00:00+00', (start + interval '1 month')::date || ' 00:00:00+00');
            RETURN 'made';
        END $fn$ $sql$, current_schema()); END $do$
    """,
    "REVOKE ALL ON FUNCTION tidewatt_month(date) FROM PUBLIC",
)

CLOCK = "CASE WHEN l.estimated THEN 'estimated' WHEN l.clock = 'unknown' THEN 'corrected' ELSE l.clock END"
"""How a time came about: synced, holdover, corrected afterwards, or estimated."""

VIEWS: Sequence[str] = (
    f"""
    CREATE VIEW v1_reading AS
    SELECT e.name AS edge, s.name AS series, s.unit, r.ts, r.value,
        CASE r.quality WHEN 0 THEN 'good' WHEN 1 THEN 'estimated' WHEN 2 THEN 'bad'
            ELSE 'code ' || r.quality END AS quality,
        nullif(r.reason, '') AS reason, r.span_s, {CLOCK} AS clock, c.name AS calibration, r.log, r.seq
    FROM reading r
    JOIN edge e ON e.id = r.edge
    JOIN series s ON s.edge = r.edge AND s.id = r.series
    LEFT JOIN calibration c ON c.edge = r.edge AND c.id = r.calibration
    LEFT JOIN log l ON l.edge = r.edge AND l.log = r.log
    """,  # constants of this file
    f"""
    CREATE VIEW v1_event AS
    SELECT e.name AS edge, v.ts, v.kind, v.subject, v.severity, v.body, {CLOCK} AS clock, v.log, v.seq
    FROM event v
    JOIN edge e ON e.id = v.edge
    LEFT JOIN log l ON l.edge = v.edge AND l.log = v.log
    """,  # constants of this file
    """
    CREATE VIEW v1_series AS
    SELECT e.name AS edge, s.name AS series, s.unit FROM series s JOIN edge e ON e.id = s.edge
    """,
    """
    CREATE VIEW v1_meta AS
    SELECT e.name AS edge, m.kind, m.id, m.ts, m.body, m.log, m.seq
    FROM meta m JOIN edge e ON e.id = m.edge WHERE m.body IS NOT NULL
    """,
    """
    CREATE VIEW v1_site AS
    SELECT e.name AS edge, m.body ->> 'timezone' AS timezone, m.ts AS since, m.body
    FROM edge e LEFT JOIN meta m ON m.edge = e.id AND m.kind = 'site' AND m.id = e.name AND m.body IS NOT NULL
    """,
    """
    CREATE VIEW v1_edge AS
    SELECT name AS edge, first_seen_at, asked_at, run, newest_log, clone_seen_at FROM edge
    """,
    """
    CREATE VIEW v1_completeness AS
    SELECT e.name AS edge, d.log, d.stream,
        CASE WHEN g.closed THEN 'closed' WHEN g.run < e.run THEN 'orphaned' ELSE 'open' END AS state,
        d.head, d.head_at, tidewatt_count(d.stored) AS stored, tidewatt_count(d.refused) AS refused,
        tidewatt_count(d.gaps) AS gaps,
        tidewatt_count(
            tidewatt_span(greatest(d.ended + 1, d.first), CASE WHEN d.ended IS NOT NULL THEN d.head END)
                - d.stored - d.refused - d.gaps) AS lost,
        tidewatt_count(
            tidewatt_span(d.first, least(d.ended, d.head)) - d.stored - d.refused - d.gaps) AS missing
    FROM ledger d
    JOIN edge e ON e.id = d.edge
    JOIN log g ON g.edge = d.edge AND g.log = d.log
    """,
    """
    CREATE VIEW v1_gap AS
    WITH still AS (
        SELECT g.edge, g.log, g.stream, g.reason,
            unnest(range_agg(int8range(g.first, g.last + 1)) * d.gaps) AS span
        FROM gap g JOIN ledger d ON d.edge = g.edge AND d.log = g.log AND d.stream = g.stream
        GROUP BY g.edge, g.log, g.stream, g.reason, d.gaps
    )
    SELECT e.name AS edge, s.log, s.stream, lower(s.span) AS first, upper(s.span) - 1 AS last, s.reason,
        upper(s.span) - lower(s.span) AS n, t.ts_min, t.ts_max
    FROM still s
    JOIN edge e ON e.id = s.edge
    CROSS JOIN LATERAL (
        SELECT min(g.ts_min) AS ts_min, max(g.ts_max) AS ts_max FROM gap g
        WHERE g.edge = s.edge AND g.log = s.log AND g.stream = s.stream AND g.reason = s.reason
            AND int8range(g.first, g.last + 1) && s.span
    ) t
    """,
    """
    CREATE VIEW v1_dead_letter AS
    SELECT e.name AS edge, d.log, d.stream, d.seq, d.reason, d.payload, d.refused_at
    FROM dead_letter d JOIN edge e ON e.id = d.edge
    """,
)

VIEW_NAMES: Sequence[str] = (
    "v1_reading", "v1_event", "v1_series", "v1_meta", "v1_site", "v1_edge", "v1_completeness", "v1_gap",
    "v1_dead_letter",
)  # fmt: skip
SINK_TABLES: Sequence[str] = (
    "edge", "log", "ledger", "series", "calibration", "reading", "event", "meta", "gap", "dead_letter",
    "bad_batch",
)  # fmt: skip

#: A role belongs to the whole server: it may be there already, and a downgrade leaves it.
ROLES = """
    DO $do$
    DECLARE role text;
    BEGIN
        FOREACH role IN ARRAY ARRAY['tidewatt_reader', 'tidewatt_sink'] LOOP
            BEGIN
                IF to_regrole(role) IS NULL THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', role);
                END IF;
            EXCEPTION
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'role % was not made: the migrating user may not create roles', role;
                WHEN duplicate_object OR unique_violation THEN
                    NULL;
            END;
        END LOOP;
    END $do$
"""

GRANTS = f"""
    DO $do$
    BEGIN
        IF to_regrole('tidewatt_reader') IS NOT NULL THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO tidewatt_reader', current_schema());
            GRANT SELECT ON {", ".join(VIEW_NAMES)} TO tidewatt_reader;
        END IF;
        IF to_regrole('tidewatt_sink') IS NOT NULL THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO tidewatt_sink', current_schema());
            GRANT SELECT ON {", ".join(VIEW_NAMES)}, alembic_version_core TO tidewatt_sink;
            GRANT SELECT, INSERT, UPDATE ON {", ".join(SINK_TABLES)} TO tidewatt_sink;
            GRANT DELETE ON dead_letter TO tidewatt_sink;
            GRANT EXECUTE ON FUNCTION tidewatt_month(date) TO tidewatt_sink;
        END IF;
    END $do$
"""


def upgrade() -> None:
    for statement in (*TABLES, *FUNCTIONS, *VIEWS, ROLES, GRANTS):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))


def downgrade() -> None:
    for view in VIEW_NAMES:
        op.execute(f"DROP VIEW {view}")
    op.execute("DROP FUNCTION tidewatt_month(date)")
    op.execute("DROP FUNCTION tidewatt_ledger()")
    op.execute("DROP FUNCTION tidewatt_span(bigint, bigint)")
    op.execute("DROP FUNCTION tidewatt_count(int8multirange)")
    for table in (*SINK_TABLES, "ledger_identity"):
        op.execute(f"DROP TABLE {table}")
