WITH clock AS MATERIALIZED (SELECT extract(epoch FROM clock_timestamp())::float8 AS now, pg_try_advisory_xact_lock($1::bigint) AS has_lock),
    expired AS MATERIALIZED (
        SELECT ctid, expires_at FROM {table}
        WHERE (SELECT has_lock FROM clock) AND expires_at >= $2
            AND expires_at <= (SELECT now FROM clock)
        ORDER BY expires_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ),
    deleted AS (
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM expired))
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM deleted), (SELECT count(*) FROM expired),
        (SELECT max(expires_at) FROM expired)
