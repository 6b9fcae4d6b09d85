"""What a Redis server must be like to keep what a store promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from .._errors import ConfigurationError, StoreUnavailableError
from .._log import log

if TYPE_CHECKING:
    from .._config import SeenStoreConfig
    from ._redis_nodes import Nodes

_OLDEST = (7, 0)  # PEXPIRETIME


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
    _check_version(info, location)
    if info.get("role") not in {None, "master"}:
        raise StoreUnavailableError(
            location, "it is a replica, which is only read", "Name the primary"
        )
    _check_eviction(info, config, location)
    if info.get("aof_enabled") == "0" and await _never_saves(nodes, primary):
        log(
            "warning",
            "persistence_off",
            location=location,
            problem="all marks are lost when Redis ends: set appendonly yes",
        )
    if config.wait_replicas:
        await nodes.call(primary, "WAIT", 0, 1)  # may the user do that?
    if int(info.get("connected_slaves", 0)) < config.wait_replicas:
        log(
            "warning",
            "replicas_missing",
            location=location,
            wanted=config.wait_replicas,
            connected=int(info.get("connected_slaves", 0)),
        )
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version')}"


def _parsed(info: bytes) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def _check_version(info: dict[str, str], location: str) -> None:
    version = info.get("redis_version", "7.0")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise ConfigurationError(
            "Redis", f"7.0 is needed at least, {location} has {version}"
        )


def _check_eviction(
    info: dict[str, str], config: SeenStoreConfig, location: str
) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return
    if not config.allow_eviction:
        raise ConfigurationError(
            "maxmemory-policy",
            f"{location} has {policy}: when its memory is full it evicts marks, and"
            " items that were handled are new again. Set it to noeviction, or take"
            " SeenStoreConfig(allow_eviction=True)",
        )
    log("warning", "eviction_allowed", location=location, policy=policy)


async def _never_saves(nodes: Nodes, primary: str) -> bool:
    try:
        reply = await nodes.call(primary, "CONFIG", "GET", "save")
    except ResponseError:  # not everybody may ask
        return False
    _, value = reply if isinstance(reply, list) else next(iter(reply.items()))
    return not value
