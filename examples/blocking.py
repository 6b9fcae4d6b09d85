"""The blocking twin, shared by threads: each job is done by exactly one of them.

Eight threads go through the same hundred jobs, each in an order of its own.

python examples/blocking.py
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from catalyst_seen import SeenStore

JOBS = [f"job-{number}" for number in range(100)]


def work(store: SeenStore, name: str) -> int:
    """Take every job that no other thread has taken."""
    jobs = random.sample(JOBS, len(JOBS))
    done = [job for job in jobs if store.check_and_mark(job)]
    print(f"{name} did {len(done)} jobs")
    return len(done)


def main() -> None:
    """Let eight threads race for the same hundred jobs."""
    with (
        SeenStore(":memory:", ttl=timedelta(hours=1)) as store,
        ThreadPoolExecutor(8) as pool,
    ):
        counts = pool.map(lambda n: work(store, f"thread {n}"), range(8))
        print(f"{sum(counts)} jobs done, each once")


if __name__ == "__main__":
    main()
