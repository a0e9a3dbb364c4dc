"""What a machine is capable of, for `compare`: real training steps of each method on the user's images, in processes as jobs are.

Run as a module it is such a process: it reads a request and prints an answer, both JSON. N images, B batch.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from invp.plumbing.errors import UserError
from invp.plumbing.files import sha256_of, write_json, write_tables
from invp.plumbing.plugins import PACKAGE

SAMPLED = {"uint8": 2000, "encoded": 256}  # images that are prepared for the measuring, at most
WARM_UP = 2  # steps that are not timed


def prepared(source: Any, folder: Path) -> float:
    """Writes a sample of a split as shards, repeated to about its number of images, and returns the seconds that an image took.

    So banks, queues and clusters are as large as they will be, though few images are read.
    """
    from invp.steps.prepare import shard_table

    number, most = source.num_samples, SAMPLED[source.format]
    step = -(-number // most)  # every so many images one is read, and it stands for as many
    started = time.perf_counter()
    table, *_ = shard_table(source, range(0, number, step))
    seconds = (time.perf_counter() - started) / len(range(0, number, step))
    folder.mkdir()
    write_tables(folder / "shard.arrow", iter([table]))
    shard = {"file": "shard.arrow", "rows": len(table), "sha256": sha256_of(folder / "shard.arrow")}
    described = {"num_samples": step * len(table), "format": source.format, "shape": source.shape, "classes": source.classes}
    write_json(folder / "manifest.json", {**described, "shards": [shard] * step})
    return seconds


def measured(requests: list[dict[str, Any]], side_by_side: int, threads: int) -> list[dict[str, Any]]:
    """The answers to requests, each from a process of its own; as many run at once as jobs of the study will.

    The last ones have company too: further requests are asked again, and the slower answer counts.
    """
    padded = list(islice(cycle(range(len(requests))), -(-len(requests) // side_by_side) * side_by_side))
    answers: list[dict[str, Any]] = [{} for _ in requests]
    for first in range(0, len(padded), side_by_side):
        numbers = padded[first : first + side_by_side]
        for number, answer in zip(numbers, _together([requests[n] for n in numbers], threads), strict=True):
            if not answers[number] or answer["epochs"][-1]["step"] > answers[number]["epochs"][-1]["step"]:
                answers[number] = answer
    return answers


def _together(requests: list[dict[str, Any]], threads: int) -> Iterator[dict[str, Any]]:
    """The answers of processes that run at the same time, with the threads, the allocator and the package of the workflow's jobs."""
    path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    allocator = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
    environment = {**os.environ, **allocator, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    running = []
    for request in requests:
        command = [sys.executable, "-m", "invp.tools._compare_speed", json.dumps({**request, "launched": time.time()})]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env=environment, **pipes))
    printed = [process.communicate() for process in running]
    for process, (text, words) in zip(running, printed, strict=True):
        if process.returncode:
            last = next((line for line in reversed(words.splitlines()) if line.strip()), "")
            if not last.startswith("error: "):
                raise RuntimeError(f"a process that times trainings failed:\n{words}")
            raise UserError(f"a training could not be timed on these images: {last.removeprefix('error: ')}")
        yield json.loads(text.splitlines()[-1])


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Times epochs of trainings on a prepared sample, `dataset`: seconds of what comes before an epoch's steps, and of a step.

    `sections` are those of the step pretrain, tried in turn until one makes fewer than `enough` images a second; the first one in each of
    `precisions`, and the faster of these holds for the others. `epochs` are those that are timed, for `seconds` each, and one step at least.
    """
    import torch

    from invp.models.libraries import imported
    from invp.steps import pretrain  # noqa: F401
    from invp.training.distributed import join

    imported("torchvision.models.resnet")  # which a job's encoder needs
    started = time.time() - request["launched"]
    found: dict[str, Any] = {"start": started, "start_cpu": time.process_time() / started, "epochs": [], "rates": []}
    torch.set_num_threads(request["threads"])
    group = join()
    precisions = request["precisions"]
    for section in request["sections"]:
        tried = {}
        for precision in precisions:
            training = {**section["training"], "precision": precision}
            timed = [_timed({**section, "training": training}, group, epoch, request) for epoch in request["epochs"]]
            tried[training["batch_size"] / timed[-1]["step"]] = precision, timed
        rate = max(tried)
        found["precision"], found["epochs"] = tried[rate]
        found["rates"].append(rate)
        precisions = [found["precision"]]
        if rate < request["enough"]:
            break
    return found


def _timed(section: dict, group: Any, epoch: int, request: dict) -> dict[str, float]:
    """Seconds of the beginning of an epoch and of one of its steps, as the training loop makes them, and the cores that these took."""
    import torch

    from invp.training.loop import Stage

    def now() -> float:
        if group.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    stage = Stage(section, Path(request["dataset"]), None, group, "", request["threads"])
    stage.objective.train()
    stage.epoch = epoch - 1
    started = now()
    stage.objective.begin_epoch(epoch, stage.embed)
    begin = now() - started
    steps, warm_up, since, cpu = 0, min(WARM_UP, stage.steps - 1), now(), time.process_time()
    for batch in stage._batches():
        stage._train_step(*batch)
        steps += 1
        if steps == warm_up:
            since, cpu = now(), time.process_time()
        elif now() - since > request["seconds"]:
            break
    spent = now() - since
    return {"begin": begin, "step": spent / max(1, steps - warm_up), "cpu": (time.process_time() - cpu) / spent}


if __name__ == "__main__":
    try:
        print(json.dumps(answer(json.loads(sys.argv[1]))))
    except UserError as error:
        sys.exit(f"error: {error}")
