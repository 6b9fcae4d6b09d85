CREATE TABLE {schema}.seen (
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    first_seen float8 NOT NULL,
    last_seen float8 NOT NULL,
    expires_at float8,
    token text,
    attempt integer NOT NULL DEFAULT 0,
    lease_until float8,
    on_abandoned text,
    PRIMARY KEY (namespace, id)
);
CREATE INDEX seen_expires_at ON {schema}.seen (expires_at)
    WHERE expires_at IS NOT NULL;
CREATE INDEX seen_hold ON {schema}.seen (namespace, id)
    WHERE on_abandoned = 'hold';
CREATE TABLE {schema}.seen_version (version integer NOT NULL);
INSERT INTO {schema}.seen_version VALUES (1)
