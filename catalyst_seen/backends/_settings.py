"""The settings that only some databases have."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from .._errors import ConfigurationError
from .._logging import log
from .._validation import truncated_repr

if TYPE_CHECKING:
    from .._config import SeenStoreConfig

SQLITE, MEMORY, REDIS, POSTGRES = "SQLite", "memory", "Redis", "PostgreSQL"

_OWNERS = {
    "wal_mode": (SQLITE,),
    "cache_size": (SQLITE,),
    "synchronous": (SQLITE,),
    "create": (SQLITE, POSTGRES),
    "file_mode": (SQLITE,),
    "sqlite": (SQLITE,),
    "clock": (SQLITE, MEMORY),
    "prefix": (REDIS,),
    "allow_eviction": (REDIS,),
    "wait_replicas": (REDIS,),
    "schema": (POSTGRES,),
}
"""The databases on which a setting has an effect; any other setting has one on all."""


def check_effective(config: SeenStoreConfig, database: str) -> None:
    """Refuse a setting that has no effect on this database.

    Who sets it relies on a promise that this database does not keep. A variable of the
    environment may be meant for other programs: it is logged.

    Raises:
        ConfigurationError: Code has set one to another value than the default.
    """
    defaults = {field.name: field.default for field in fields(config)}
    for setting, owners in _OWNERS.items():
        value = getattr(config, setting)
        if database in owners or value == defaults[setting]:
            continue
        name = config.origin(setting)
        if name == setting:
            raise ConfigurationError(
                setting,
                f"{truncated_repr(value)} has no effect on {database}, only on"
                f" {' and '.join(owners)}: remove it, or choose another database",
            )
        log("warning", "variable_ignored", variable=name, value=value, backend=database)
