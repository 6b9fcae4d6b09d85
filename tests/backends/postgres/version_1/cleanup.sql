WITH clock AS MATERIALIZED (SELECT extract(epoch FROM clock_timestamp())::float8 AS now),
    page AS MATERIALIZED (
        SELECT * FROM {table} WHERE (namespace, id) > ($2, $3) ORDER BY namespace, id LIMIT $4
    ),
    old AS MATERIALIZED (
        SELECT free.namespace, free.id
        FROM (SELECT namespace, id, now FROM page, clock WHERE last_seen < now - $1::float8 AND (lease_until IS NULL
        OR lease_until <= now AND on_abandoned IS DISTINCT FROM 'hold')) AS found
        CROSS JOIN LATERAL (
            SELECT namespace, id FROM {table} AS latest
            WHERE latest.namespace = found.namespace AND latest.id = found.id
                AND last_seen < now - $1::float8 AND (lease_until IS NULL
        OR lease_until <= now AND on_abandoned IS DISTINCT FROM 'hold')
            FOR UPDATE SKIP LOCKED
        ) AS free
    ),
    deleted AS (
        DELETE FROM {table} AS stored USING old
        WHERE stored.namespace = old.namespace AND stored.id = old.id
        RETURNING 1
    )
    SELECT removed, namespace, id
    FROM (SELECT count(*) AS removed FROM deleted) AS deleted
    LEFT JOIN (
        SELECT namespace, id FROM page ORDER BY namespace, id OFFSET $4 - 1
    ) AS last ON true
