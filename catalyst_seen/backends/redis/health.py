"""What a Redis server must be like to keep what a store promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from ..._errors import ConfigurationError, StoreUnavailableError
from ..._logging import log
from ..._types import CheckReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._config import SeenStoreConfig
    from .cluster import Nodes

_NEVER_SAVES = "all marks are lost when Redis ends: set appendonly yes"
_SETTINGS = ("maxmemory", "maxmemory_policy", "aof_enabled", "connected_slaves")


async def check_safety(
    nodes: Nodes, primary: str, config: SeenStoreConfig, location: str
) -> str:
    """Refuse a server that would break promises; warn of one that could.

    Returns:
        What it is, with its version.

    Raises:
        ConfigurationError: It evicts keys when its memory is full, or is older than
            Redis 7.
        StoreUnavailableError: It is a replica.
    """
    info = _parsed(await nodes.call(primary, "INFO"))
    _check_version(info, config, location)
    if info.get("role") not in {None, "master"}:
        raise StoreUnavailableError(
            location, "it is a replica, which is only read", "Name the primary"
        )
    _check_eviction(info, config, location)
    if await _never_saves(info, nodes, primary):
        log(
            "warning",
            "persistence_off",
            location=location,
            problem=_NEVER_SAVES,
        )
    if config.wait_replicas:
        await nodes.call(primary, "WAIT", 0, 1)  # may the user do that?
    if _replicas(info) < config.wait_replicas:
        log(
            "warning",
            "replicas_missing",
            location=location,
            wanted=config.wait_replicas,
            connected=_replicas(info),
        )
    return _engine(info)


async def check(nodes: Nodes, config: SeenStoreConfig, location: str) -> CheckReport:
    """Look at each primary: what it is set up for, and whether it could save."""
    problems: list[str] = []
    settings: dict[str, str | int] = {}
    engine = ""
    for primary in await nodes.primaries():
        info = _parsed(await nodes.call(primary, "INFO"))
        engine = _engine(info)
        settings |= {
            f"{primary} {name}": info[name] for name in _SETTINGS if name in info
        }
        never_saves = await _never_saves(info, nodes, primary)
        problems += [
            f"{primary}: {problem}"
            for problem in _problems(info, config, never_saves=never_saves)
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
    info: dict[str, str], config: SeenStoreConfig, *, never_saves: bool
) -> Iterator[str]:
    policy = _eviction(info)
    if policy is not None:
        yield (
            f"maxmemory-policy is {policy}, so that a full server"
            f" throws marks away; evicted so far: {info.get('evicted_keys', '?')} keys"
        )
    if never_saves:
        yield _NEVER_SAVES
    for status in ("aof_last_write_status", "rdb_last_bgsave_status"):
        if info.get(status, "ok") != "ok":
            yield f"it cannot save ({status} is {info[status]}): look at its disk"
    if _replicas(info) < config.wait_replicas:
        yield f"{_replicas(info)} replicas are connected, wait_replicas needs more"


def _engine(info: dict[str, str]) -> str:
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version')}"


def _eviction(info: dict[str, str]) -> str | None:
    """Name the rule by which a full server throws keys away, if it does."""
    policy = info.get("maxmemory_policy", "noeviction")
    return None if policy == "noeviction" else policy


def _replicas(info: dict[str, str]) -> int:
    return int(info.get("connected_slaves", 0))


def _parsed(info: bytes) -> dict[str, str]:
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
    policy = _eviction(info)
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


async def _never_saves(info: dict[str, str], nodes: Nodes, primary: str) -> bool:
    if info.get("aof_enabled") != "0":
        return False
    try:
        reply = await nodes.call(primary, "CONFIG", "GET", "save")
    except ResponseError:  # not everybody may ask
        return False
    _, value = reply if isinstance(reply, list) else next(iter(reply.items()))
    return not value
