"""How long a study's jobs take together where few run side by side, for `plan` and `compare`: Snakemake starts whatever is ready and fits."""

import heapq
import os
from collections.abc import Callable

from invp.tools._estimates import Job


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def makespan(jobs: list[Job], seconds: Callable[[int], float], cores: int, gpus: int, on_gpu: Callable[[Job], bool]) -> float:
    """Seconds until the last of the pending jobs ends, if each starts as soon as what it reads is made and enough cores are free.

    `seconds` is of a job's number in the list.
    Of the ready ones, the first in the list is first. With GPUs each job that uses one holds one.
    """
    by_output = {path: number for number, job in enumerate(jobs) if job.pending for path in job.outputs}
    needs = {n: {by_output[path] for path in job.inputs if path in by_output} for n, job in enumerate(jobs) if job.pending}
    waiting, running, now = sorted(needs), [], 0.0
    free = {"cores": cores, "gpus": gpus}

    def taken(number: int) -> dict[str, int]:
        job = jobs[number]
        return {"cores": min(cores, job.threads), "gpus": min(gpus, job.gpus) if on_gpu(job) else 0}

    while waiting or running:
        for number in list(waiting):
            asked = taken(number)
            if not needs[number] and all(free[key] >= asked[key] for key in free):
                waiting.remove(number)
                free = {key: free[key] - asked[key] for key in free}
                heapq.heappush(running, (now + seconds(number), number))
        assert running, "jobs wait for each other"
        now, ended = heapq.heappop(running)
        free = {key: free[key] + taken(ended)[key] for key in free}
        for number in waiting:
            needs[number].discard(ended)
    return now
