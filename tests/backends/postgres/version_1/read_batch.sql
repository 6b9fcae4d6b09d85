WITH clock AS MATERIALIZED (SELECT extract(epoch FROM clock_timestamp())::float8 AS now)
    SELECT requested.now, state.verdict, outcome.is_done,
    requested.namespace, requested.id,
    stored.first_seen, stored.last_seen, stored.expires_at, stored.token,
    stored.attempt, stored.lease_until, stored.on_abandoned
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
