"""The requirements on a Redis server, and the health check.

A server that would break a promise of the store is refused at open; one that may lose
marks is reported by a warning and by ``check()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from ..._errors import ConfigurationError, StoreUnavailableError
from ..._logging import log
from ..._types import CheckReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._config import SeenStoreConfig
    from .cluster import Topology

_PERSISTENCE_OFF = "all marks are lost when Redis ends: set appendonly yes"
_SETTINGS = ("maxmemory", "maxmemory_policy", "aof_enabled", "connected_slaves")


async def check_server(
    topology: Topology, primary: str, config: SeenStoreConfig, location: str
) -> str:
    """Refuse a server that would break a promise; log a warning of one that may.

    Returns:
        The name and the version of the server.

    Raises:
        ConfigurationError: The server evicts keys when its memory is full, or is older
            than Redis 7.
        StoreUnavailableError: The server is a replica.
    """
    info = _parse_info(await topology.execute(primary, "INFO"))
    _check_version(info, config, location)
    if info.get("role") not in {None, "master"}:
        raise StoreUnavailableError(
            location, "it is a replica, which is only read", "Name the primary"
        )
    _check_eviction(info, config, location)
    if await _is_persistence_off(info, topology, primary):
        log(
            "warning",
            "persistence_off",
            location=location,
            problem=_PERSISTENCE_OFF,
        )
    if config.wait_replicas:
        await topology.execute(primary, "WAIT", 0, 1)  # fails without permission
    if _connected_replicas(info) < config.wait_replicas:
        log(
            "warning",
            "replicas_missing",
            location=location,
            wanted=config.wait_replicas,
            connected=_connected_replicas(info),
        )
    return _engine(info)


async def check(
    topology: Topology, config: SeenStoreConfig, location: str
) -> CheckReport:
    """Report the settings of each primary, and the problems that may lose marks."""
    problems: list[str] = []
    settings: dict[str, str | int] = {}
    engine = ""
    for primary in await topology.primaries():
        info = _parse_info(await topology.execute(primary, "INFO"))
        engine = _engine(info)
        settings |= {
            f"{primary} {name}".strip(): info[name]
            for name in _SETTINGS
            if name in info
        }
        is_persistence_off = await _is_persistence_off(info, topology, primary)
        problems += [
            f"{primary}: {problem}".removeprefix(": ")
            for problem in _problems(
                info, config, is_persistence_off=is_persistence_off
            )
        ]
    return CheckReport(
        location=location,
        engine=engine,
        is_full=False,
        schema=None,
        settings=settings,
        problems=tuple(problems),
    )


def _problems(
    info: dict[str, str], config: SeenStoreConfig, *, is_persistence_off: bool
) -> Iterator[str]:
    policy = _eviction_policy(info)
    if policy is not None:
        yield (
            f"maxmemory-policy is {policy}, so that a full server"
            f" throws marks away; evicted so far: {info.get('evicted_keys', '?')} keys"
        )
    if is_persistence_off:
        yield _PERSISTENCE_OFF
    for status in ("aof_last_write_status", "rdb_last_bgsave_status"):
        if info.get(status, "ok") != "ok":
            yield f"it cannot save ({status} is {info[status]}): look at its disk"
    replicas = _connected_replicas(info)
    if replicas < config.wait_replicas:
        yield f"{replicas} replicas are connected, wait_replicas needs more"


def _engine(info: dict[str, str]) -> str:
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version')}"


def _eviction_policy(info: dict[str, str]) -> str | None:
    """Return the policy by which a full server evicts keys; ``None`` if it does not."""
    policy = info.get("maxmemory_policy", "noeviction")
    return None if policy == "noeviction" else policy


def _connected_replicas(info: dict[str, str]) -> int:
    return int(info.get("connected_slaves", 0))


def _parse_info(info: bytes) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def _check_version(
    info: dict[str, str], config: SeenStoreConfig, location: str
) -> None:
    version = info.get("redis_version", "7.0")
    if tuple(int(part) for part in version.split(".")[:2]) < config.tuning.oldest_redis:
        raise ConfigurationError(
            "Redis", f"7.0 is needed at least, {location} has {version}"
        )


def _check_eviction(
    info: dict[str, str], config: SeenStoreConfig, location: str
) -> None:
    policy = _eviction_policy(info)
    if policy is None:
        return
    if not config.allow_eviction:
        raise ConfigurationError(
            "maxmemory-policy",
            f"{location} has {policy}: when its memory is full it evicts marks, and"
            " items that were handled are new again. Set it to noeviction, or take"
            " SeenStoreConfig(allow_eviction=True)",
        )
    log("warning", "eviction_allowed", location=location, policy=policy)


async def _is_persistence_off(
    info: dict[str, str], topology: Topology, primary: str
) -> bool:
    if info.get("aof_enabled") != "0":
        return False
    try:
        reply = await topology.execute(primary, "CONFIG", "GET", "save")
    except ResponseError:  # the user has no permission to read the configuration
        return False
    _, value = reply if isinstance(reply, list) else next(iter(reply.items()))
    return not value
