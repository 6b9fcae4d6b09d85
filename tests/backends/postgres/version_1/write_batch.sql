WITH clock AS MATERIALIZED (SELECT extract(epoch FROM clock_timestamp())::float8 AS now),
    snapshot AS MATERIALIZED (
        SELECT requested.now, state.verdict, outcome.is_done,
    requested.namespace, requested.id,
    stored.first_seen, stored.last_seen, stored.expires_at, stored.token,
    stored.attempt, stored.lease_until, stored.on_abandoned, requested.verb, requested.token AS own_token,
            requested.lease, requested.ttl, requested.policy, requested.ts,
            stored.id IS NOT NULL AS is_stored, effect.is_change
        FROM (SELECT now, position, operation.id, CASE WHEN cardinality($2) = 1 THEN ($2)[1] ELSE operation.namespace END AS namespace, CASE WHEN cardinality($3) = 1 THEN ($3)[1] ELSE operation.verb END AS verb, CASE WHEN cardinality($4) = 1 THEN ($4)[1] ELSE operation.token END AS token, CASE WHEN cardinality($5) = 1 THEN ($5)[1] ELSE operation.lease END AS lease, CASE WHEN cardinality($6) = 1 THEN ($6)[1] ELSE operation.ttl END AS ttl, CASE WHEN cardinality($7) = 1 THEN ($7)[1] ELSE operation.policy END AS policy, CASE WHEN cardinality($8) = 1 THEN ($8)[1] ELSE operation.ts END AS ts
    FROM clock CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[],
            $5::float8[], $6::float8[], $7::text[], $8::float8[]) WITH ORDINALITY
        AS operation (id, namespace, verb, token, lease, ttl, policy, ts, position)) AS requested
        LEFT JOIN {table} AS stored USING (namespace, id)
        CROSS JOIN LATERAL (SELECT CASE
        WHEN stored.id IS NULL OR stored.expires_at <= requested.now THEN 'new'
        WHEN stored.lease_until IS NULL THEN 'duplicate'
        WHEN requested.now < stored.lease_until THEN 'in_flight'
        WHEN stored.on_abandoned = 'hold' THEN 'held'
        WHEN stored.on_abandoned = 'drop' THEN 'duplicate'
        ELSE 'retry' END AS verdict) AS state
    CROSS JOIN LATERAL (SELECT coalesce(CASE
        WHEN requested.verb = 'get' THEN false
        WHEN requested.verb = 'mark' THEN true
        WHEN requested.verb IN ('check_and_mark', 'claim')
            THEN state.verdict IN ('new', 'retry')
        WHEN requested.verb = 'refresh' THEN state.verdict = 'duplicate'
        WHEN requested.verb IN ('resolve', 'resolve_handled')
            THEN state.verdict = 'held'
        WHEN state.verdict = 'new' THEN false
        WHEN requested.verb = 'forget' THEN true
        WHEN requested.verb IN ('confirm', 'renew')
            AND stored.lease_until IS NOT NULL AND stored.on_abandoned IS NULL
            THEN false
        WHEN requested.verb = 'confirm' THEN stored.token = requested.token
        ELSE stored.token = requested.token AND stored.lease_until IS NOT NULL
        END, false) AS is_done) AS outcome
    CROSS JOIN LATERAL (SELECT outcome.is_done AND NOT (
        requested.verb = 'confirm' AND stored.lease_until IS NULL) AS is_change
        ) AS effect
        ORDER BY requested.position
    ),
    decision AS MATERIALIZED (
        SELECT locked.now, state.verdict, outcome.is_done,
            requested.namespace, requested.id,
            CASE WHEN NOT is_change THEN stored.first_seen
                WHEN state.verdict = 'new' THEN seen_at
                WHEN verb IN ('mark', 'check_and_mark', 'resolve_handled')
                    AND state.verdict <> 'duplicate'
                    THEN least(stored.first_seen, seen_at)
                ELSE stored.first_seen END AS first_seen,
            CASE WHEN is_change THEN refreshed_at
                ELSE stored.last_seen END AS last_seen,
            CASE WHEN NOT is_change THEN stored.expires_at
                WHEN verb = 'refresh' AND stored.expires_at > refreshed_at + ttl
                    THEN stored.expires_at
                WHEN verb = 'refresh' AND stored.expires_at IS NULL THEN NULL
                ELSE coalesce(now + lease, refreshed_at) + ttl END AS expires_at,
            CASE WHEN NOT is_change OR verb = 'resolve' THEN stored.token
                WHEN verb NOT IN ('mark', 'refresh') THEN requested.token
                WHEN state.verdict = 'duplicate' AND stored.lease_until IS NULL
                    THEN stored.token END AS token,
            CASE WHEN NOT is_change THEN stored.attempt
                WHEN state.verdict = 'new' THEN 0 ELSE stored.attempt END
                + CASE WHEN is_change AND verb = 'claim' THEN 1 ELSE 0 END AS attempt,
            CASE WHEN is_change THEN now + lease
                ELSE stored.lease_until END AS lease_until,
            CASE WHEN is_change THEN policy
                ELSE stored.on_abandoned END AS on_abandoned,
            verb, is_change, stored.id IS NULL AND is_change AS is_insert
        FROM (
            SELECT now AS started, namespace, id, verb, own_token AS token, lease, ttl,
                policy, is_stored, ts
            FROM snapshot WHERE is_change
        ) AS requested
        LEFT JOIN LATERAL (
            SELECT * FROM {table} AS latest
            WHERE requested.is_stored AND latest.namespace = requested.namespace
                AND latest.id = requested.id
            FOR UPDATE
        ) AS stored ON true
        CROSS JOIN LATERAL (
            SELECT CASE WHEN stored.id IS NULL THEN started ELSE extract(epoch FROM clock_timestamp())::float8 END AS now
        ) AS locked
        CROSS JOIN LATERAL (SELECT coalesce(ts, locked.now) AS seen_at) AS sighting
        CROSS JOIN LATERAL (SELECT CASE
        WHEN stored.id IS NULL OR stored.expires_at <= locked.now THEN 'new'
        WHEN stored.lease_until IS NULL THEN 'duplicate'
        WHEN locked.now < stored.lease_until THEN 'in_flight'
        WHEN stored.on_abandoned = 'hold' THEN 'held'
        WHEN stored.on_abandoned = 'drop' THEN 'duplicate'
        ELSE 'retry' END AS verdict) AS state
    CROSS JOIN LATERAL (SELECT coalesce(CASE
        WHEN requested.verb = 'get' THEN false
        WHEN requested.verb = 'mark' THEN true
        WHEN requested.verb IN ('check_and_mark', 'claim')
            THEN state.verdict IN ('new', 'retry')
        WHEN requested.verb = 'refresh' THEN state.verdict = 'duplicate'
        WHEN requested.verb IN ('resolve', 'resolve_handled')
            THEN state.verdict = 'held'
        WHEN state.verdict = 'new' THEN false
        WHEN requested.verb = 'forget' THEN true
        WHEN requested.verb IN ('confirm', 'renew')
            AND stored.lease_until IS NOT NULL AND stored.on_abandoned IS NULL
            THEN false
        WHEN requested.verb = 'confirm' THEN stored.token = requested.token
        ELSE stored.token = requested.token AND stored.lease_until IS NOT NULL
        END, false) AS is_done) AS outcome
    CROSS JOIN LATERAL (SELECT outcome.is_done AND NOT (
        requested.verb = 'confirm' AND stored.lease_until IS NULL) AS is_change
        ) AS effect
        CROSS JOIN LATERAL (SELECT CASE
            WHEN verb IN ('renew', 'release', 'resolve') THEN stored.last_seen
            WHEN verb IN ('mark', 'refresh') AND state.verdict = 'duplicate'
                THEN greatest(stored.last_seen, seen_at)
            ELSE seen_at END AS refreshed_at) AS refresh
    ),
    inserted AS (
        INSERT INTO {table} AS existing (namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned)
        SELECT namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned FROM decision WHERE is_insert
        ON CONFLICT (namespace, id) DO UPDATE SET
            first_seen = CASE WHEN excluded.token IS NULL
                    AND existing.lease_until IS NOT NULL
                THEN least(existing.first_seen, excluded.first_seen)
                ELSE existing.first_seen END,
            last_seen = CASE WHEN excluded.token IS NOT NULL THEN existing.last_seen
                WHEN existing.lease_until IS NOT NULL THEN excluded.last_seen
                ELSE greatest(existing.last_seen, excluded.last_seen) END,
            expires_at = CASE WHEN excluded.token IS NOT NULL THEN existing.expires_at
                WHEN existing.lease_until IS NOT NULL THEN excluded.expires_at
                ELSE excluded.expires_at
                    + greatest(existing.last_seen - excluded.last_seen, 0) END,
            token = CASE WHEN excluded.token IS NOT NULL
                    OR existing.lease_until IS NULL
                THEN existing.token END,
            lease_until = CASE WHEN excluded.token IS NOT NULL
                THEN existing.lease_until END,
            on_abandoned = CASE WHEN excluded.token IS NOT NULL
                THEN existing.on_abandoned END
        RETURNING namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned
    ),
    updated AS (
        INSERT INTO {table} (namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned)
        SELECT namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned FROM decision
        WHERE is_change AND NOT is_insert AND verb <> 'forget'
        ON CONFLICT (namespace, id) DO UPDATE
        SET (first_seen, last_seen, expires_at,
                token, attempt, lease_until, on_abandoned)
            = ROW (excluded.first_seen, excluded.last_seen, excluded.expires_at,
                excluded.token, excluded.attempt, excluded.lease_until,
                excluded.on_abandoned)
    ),
    forgotten AS MATERIALIZED (
        SELECT namespace, id FROM decision WHERE is_change AND verb = 'forget'
    ),
    deleted AS (
        DELETE FROM {table} AS stored
        WHERE stored.namespace = ANY (ARRAY(SELECT namespace FROM forgotten))
            AND stored.id = ANY (ARRAY(SELECT id FROM forgotten))
            AND (SELECT true FROM forgotten
                WHERE forgotten.namespace = stored.namespace
                AND forgotten.id = stored.id)
    )
    SELECT (SELECT now FROM clock) AS now, NULL AS verdict, NULL::boolean AS is_done,
        namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned FROM inserted
    UNION ALL SELECT now, verdict, is_done, namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned FROM decision WHERE NOT is_insert
    UNION ALL SELECT now, verdict, is_done, namespace, id, first_seen, last_seen, expires_at,
    token, attempt, lease_until, on_abandoned FROM snapshot WHERE NOT is_change
