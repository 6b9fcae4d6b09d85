"""A whole poll at once: claim new items, confirm those that worked, release the rest.

    python examples/batch_claims.py

Run it twice. Each run simulates a crash while it pays the last invoice. It is unknown
whether that invoice was paid, so its key is held, and the next run resolves it.
"""

from __future__ import annotations

import asyncio

from catalyst_seen import AsyncSeenStore, Claim

INVOICES = ["invoice-1", "invoice-2", "invoice-3"]
LEASE = 0.5  # seconds; a real lease is longer than the whole batch takes


async def main() -> None:
    """Resolve the held keys of earlier runs, then claim the invoices."""
    async with AsyncSeenStore("data/invoices.db", on_abandoned="hold") as store:
        for record in await store.held():
            print(f"{record.key} is held: let us say that it was not paid")
            await store.resolve(record.key, handled=False)

        claims = await store.claim_many(INVOICES, lease=LEASE)
        for claim in claims:
            print(f"{claim.key}: {claim.verdict}, attempt {claim.attempt}")
        mine = [claim for claim in claims if claim]
        paid = [claim for claim in mine if claim.key == "invoice-1"]
        back = [claim for claim in mine if claim.key == "invoice-2"]
        print("confirmed:", await store.confirm_many(paid))
        print("given back:", await store.release_many(back))
        await die(store, mine)


async def die(store: AsyncSeenStore, claims: list[Claim]) -> None:
    """Simulate a killed process: end no claim until the lease is over."""
    await asyncio.sleep(max((claim.remaining() for claim in claims), default=0))
    (claim,) = await store.claim_many(["invoice-3"])
    print(f"{claim.key}: {claim.verdict}, {(await store.stats()).abandoned}")


if __name__ == "__main__":
    asyncio.run(main())
