"""The machine in two halves: what is measured against a database must not compete with it for processors.

A database that may use every core while ready lines are posted, and shares them with collector, broker and gateways
afterwards, would be compared with itself on a larger machine. So it gets half of the cores in both cases, as it has a
machine of its own in a city, and everything else gets the other half. With a single core there is nothing to share out.
"""

import contextlib
import os
from collections.abc import Iterator


def halves() -> tuple[set[int], set[int]]:
    """(the database's cores, everything else's) of those that this process may use now."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return set(cores), set(cores)
    middle = len(cores) // 2
    return set(cores[:middle]), set(cores[middle:])


@contextlib.contextmanager
def confined(cores: set[int]) -> Iterator[None]:
    """This thread, and whatever it starts meanwhile, threads and processes, on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
