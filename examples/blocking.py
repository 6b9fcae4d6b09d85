"""The blocking twin, shared by threads: exactly one thread does each job.

    python examples/blocking.py

Eight threads process the same hundred jobs, each thread in a random order. The claim of
a job that fails is released, and a thread claims the job again.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from catalyst_seen import SeenStore

JOBS = [f"job-{number}" for number in range(100)]
FAILURES = 0.2


def do(job: str) -> None:
    """Do a job; one in five fails."""
    if random.random() < FAILURES:
        raise RuntimeError(job)


def work(store: SeenStore, name: str) -> int:
    """Claim and do every job that no other thread owns, until none is left."""
    done = failed = 0
    while jobs := store.filter_new(JOBS):
        for job in random.sample(jobs, len(jobs)):
            try:
                with store.claim(job, wait=5) as claim:
                    if claim:
                        do(job)
                        done += 1
            except RuntimeError:
                failed += 1
    print(f"{name} did {done} jobs, and failed {failed} times")
    return done


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
