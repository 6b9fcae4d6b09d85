"""Every verb of a store that accepts a key, a namespace or a duration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from catalyst_seen import AsyncSeenStore, Claim, Verdict

Verb = Callable[[AsyncSeenStore, Any], Awaitable[object]]

KEY_VERBS: dict[str, Verb] = {
    "is_seen": lambda store, key: store.is_seen(key),
    "mark_seen": lambda store, key: store.mark_seen(key),
    "check_and_mark": lambda store, key: store.check_and_mark(key),
    "forget": lambda store, key: store.forget(key),
    "get": lambda store, key: store.get(key),
    "claim": lambda store, key: _claim(store, key, lease=1),
    "claim_many": lambda store, key: store.claim_many(["fine", key]),
    "resolve": lambda store, key: store.resolve(key, handled=True),
    "mark_many": lambda store, key: store.mark_many(["fine", key]),
    "check_and_mark_many": lambda store, key: store.check_and_mark_many(["fine", key]),
    "refresh": lambda store, key: store.refresh(["fine", key]),
    "once": lambda store, key: store.once(key, _nothing),
    "filter_new": lambda store, key: store.filter_new(["fine", key]),
    "filter_new key": lambda store, key: store.filter_new(
        ["fine", "bad"], key=lambda item: item if item == "fine" else key
    ),
}

NAMESPACE_VERBS: dict[str, Verb] = {
    "is_seen": lambda store, name: store.is_seen("k", namespace=name),
    "mark_seen": lambda store, name: store.mark_seen("k", namespace=name),
    "check_and_mark": lambda store, name: store.check_and_mark("k", namespace=name),
    "forget": lambda store, name: store.forget("k", namespace=name),
    "get": lambda store, name: store.get("k", namespace=name),
    "claim": lambda store, name: _claim(store, "k", namespace=name),
    "claim_many": lambda store, name: store.claim_many(["k"], namespace=name),
    "resolve": lambda store, name: store.resolve("k", handled=True, namespace=name),
    "mark_many": lambda store, name: store.mark_many(["k"], namespace=name),
    "check_and_mark_many": lambda store, name: store.check_and_mark_many(
        ["k"], namespace=name
    ),
    "refresh": lambda store, name: store.refresh(["k"], namespace=name),
    "once": lambda store, name: store.once("k", _nothing, namespace=name),
    "filter_new": lambda store, name: store.filter_new(["k"], namespace=name),
    "count": lambda store, name: store.count(namespace=name),
    "held": lambda store, name: store.held(namespace=name),
    "stats": lambda store, name: store.stats(namespace=name),
    "purge_expired": lambda store, name: store.purge_expired(namespace=name),
    "cleanup": lambda store, name: store.cleanup_old_entries(namespace=name),
}

TTL_VERBS: dict[str, Verb] = {
    "mark_seen": lambda store, ttl: store.mark_seen("k", ttl=ttl),
    "mark_many": lambda store, ttl: store.mark_many(["k"], ttl=ttl),
    "check_and_mark": lambda store, ttl: store.check_and_mark("k", ttl=ttl),
    "check_and_mark_many": lambda store, ttl: store.check_and_mark_many(["k"], ttl=ttl),
    "claim": lambda store, ttl: _claim(store, "k", ttl=ttl),
    "claim_many": lambda store, ttl: store.claim_many(["k"], ttl=ttl),
    "resolve": lambda store, ttl: store.resolve("k", handled=True, ttl=ttl),
    "refresh": lambda store, ttl: store.refresh(["k"], ttl=ttl),
    "once": lambda store, ttl: store.once("k", _nothing, ttl=ttl),
    "confirm": lambda store, ttl: _use_claim(store, lambda c: c.confirm(ttl=ttl)),
    "confirm_many": lambda store, ttl: _use_claim(
        store, lambda claim: store.confirm_many([claim], ttl=ttl)
    ),
}

LEASE_VERBS: dict[str, Verb] = {
    "claim": lambda store, lease: _claim(store, "k", lease=lease),
    "claim_many": lambda store, lease: store.claim_many(["k"], lease=lease),
    "once": lambda store, lease: store.once("k", _nothing, lease=lease),
    "renew": lambda store, lease: _use_claim(store, lambda c: c.renew(lease=lease)),
}

DELAY_VERBS: dict[str, Verb] = {
    "wait": lambda store, wait: _claim(store, "k", wait=wait),
    "delay": lambda store, delay: _use_claim(store, lambda c: c.release(delay=delay)),
    "delay many": lambda store, delay: _use_claim(
        store, lambda claim: store.release_many([claim], delay=delay)
    ),
}


def _nothing() -> None:
    """What ``once`` calls."""


async def _claim(store: AsyncSeenStore, key: str, **options: Any) -> Claim:
    return await store.claim(key, **options)


async def _use_claim(
    store: AsyncSeenStore, use: Callable[[Claim], Awaitable[object]]
) -> None:
    """Use a claim, and assert that the failed call did not end it."""
    claim = await store.claim("used")
    try:
        await use(claim)
    finally:
        assert (await store.claim("used")).verdict is Verdict.IN_FLIGHT
        await store.forget("used")
