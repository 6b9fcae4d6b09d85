"""The tables of a store, in SQL."""

from __future__ import annotations

# Text is compared by its bytes, as Python compares it, in every database.
CREATE_NAMES = """
    CREATE TABLE {schema}.namespace (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        recipe text,
        polls bigint NOT NULL DEFAULT 0,
        poll_clock float8 NOT NULL DEFAULT 0,
        first_poll float8,
        last_poll float8,
        digest bytea,
        listed bigint,
        largest bigint,
        recent_sizes text,
        baseline_at float8,
        validators text,
        poller_state text,
        last_error text,
        observation text,
        summary text,
        totals text
    )"""
CREATE_DETAILS = """
    CREATE TABLE {schema}.detail (
        namespace bigint NOT NULL,
        key text COLLATE "C" NOT NULL,
        note text,
        alias text COLLATE "C",
        digest bytea,
        last_error text,
        PRIMARY KEY (namespace, key)
    )"""
CREATE_ALIAS_INDEX = """
    CREATE INDEX detail_alias ON {schema}.detail (namespace, alias)
        WHERE alias IS NOT NULL"""
CREATE_SEQ_INDEX = """
    CREATE INDEX seen_seq ON {schema}.seen (namespace, seq) WHERE seq IS NOT NULL"""
CREATE = f"""{CREATE_NAMES};
    CREATE TABLE {{schema}}.seen (
        namespace bigint NOT NULL,
        key text COLLATE "C" NOT NULL,
        first_seen float8 NOT NULL,
        last_seen float8 NOT NULL,
        expires_at float8,
        token text,
        attempt integer NOT NULL DEFAULT 0,
        lease_until float8,
        on_abandoned text,
        seq bigint,
        listed_poll bigint,
        listed_at float8,
        kept_until float8,
        has_detail boolean NOT NULL DEFAULT false,
        PRIMARY KEY (namespace, key)
    );
    CREATE INDEX seen_expires_at ON {{schema}}.seen (expires_at)
        WHERE expires_at IS NOT NULL;
    CREATE INDEX seen_hold ON {{schema}}.seen (namespace, key)
        WHERE on_abandoned = 'hold';
    {CREATE_SEQ_INDEX};
    {CREATE_DETAILS};
    {CREATE_ALIAS_INDEX};
    CREATE TABLE {{schema}}.seen_version (version integer NOT NULL)"""
