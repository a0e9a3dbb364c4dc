"""Batches of prepared shards, for training and for evaluation. N images, B batch, C channels, H x W pixels."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from invp.core.selection import mixed_seed
from invp.data.augment import Augment, normalised
from invp.data.decode import CENTRAL, central_crop, crops_on_device, random_crop, resized
from invp.data.shards import Shards

CHUNK = 8  # photographs that a thread decodes and augments at a time: they stay in the processor's cache


def epoch_order(num_samples: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in an epoch, a permutation of N that is a function of (seed, epoch)."""
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(mixed_seed(seed, epoch)))


# Keyword-only, and many: an epoch's batches are a function of all of these, and its three callers name each.
def train_batches(
    shards: Shards,
    *,
    order: Tensor,
    batch_size: int,
    start_step: int,
    rank: int,
    world_size: int,
    device: torch.device,
    augmentation: Augment,
    seed: int,
    epoch: int,
    views: int,
    workers: int = 1,
) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
    """Yields (step, index B, views of Bx3xsizexsize) of this process from `start_step` on; the last, smaller batch is dropped.

    `order` holds the numbers of the images in the order of the epoch; `batch_size` counts the images of all processes together.
    Photographs are decoded by `workers` threads.
    """
    local = batch_size // world_size
    rows = slice(rank * local, (rank + 1) * local)
    steps = range(start_step, len(order) // batch_size)
    batches = [(step, order[step * batch_size : (step + 1) * batch_size][rows]) for step in steps]
    if shards.format == "uint8":
        for step, index in batches:
            images = shards.images(index, device)
            yield step, index, [augmentation(images, (seed, epoch, step, view), rows, batch_size) for view in range(views)]
        return
    inner = Augment(augmentation.after_crop())
    if augmentation.options.decoder == "torchcodec":
        for step, index in batches:
            crops = (crops_on_device(shards, index, augmentation, (seed, epoch, view), device) for view in range(views))
            yield step, index, [inner(each, (seed, epoch, step, view), rows, batch_size) for view, each in enumerate(crops)]
        return

    def crops(step: int, index: Tensor, view: int, chunk: slice) -> Tensor:
        """The crops of a chunk of the batch, uint8; on a CPU all of their augmentation. `chunk` counts in the global batch."""
        numbers = index[chunk.start - rows.start : chunk.stop - rows.start]
        images = torch.stack([random_crop(shards, int(i), augmentation, (seed, epoch, view)) for i in numbers])
        return images if device.type == "cuda" else inner(images, (seed, epoch, step, view), chunk, batch_size)

    def submitted(pool: ThreadPoolExecutor, step: int, index: Tensor) -> list[list[Future]]:
        stop = rows.start + len(index)
        chunks = [slice(start, min(start + CHUNK, stop)) for start in range(rows.start, stop, CHUNK)]
        return [[pool.submit(crops, step, index, view, chunk) for chunk in chunks] for view in range(views)]

    def finished(step: int, futures: list[list[Future]]) -> list[Tensor]:
        views = [torch.cat([chunk.result() for chunk in chunks]) for chunks in futures]
        if device.type != "cuda":
            return views
        views = [images.pin_memory().to(device, non_blocking=True) for images in views]
        return [inner(images, (seed, epoch, step, view), rows, batch_size) for view, images in enumerate(views)]

    # PIL and torch work outside the interpreter's lock; two batches are made while the one before is trained on.
    # One thread of arithmetic a worker: they share the cores as they are.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque = deque()
        for step, index in batches:
            waiting.append((step, index, submitted(pool, step, index)))
            if len(waiting) > 2:
                step, index, futures = waiting.popleft()
                yield step, index, finished(step, futures)
        while waiting:
            step, index, futures = waiting.popleft()
            yield step, index, finished(step, futures)


# Keyword-only: what a network was trained with, and the machine's facts.
def eval_batches(
    shards: Shards,
    *,
    size: int,
    batch_size: int,
    device: torch.device | str,
    mean: list[float],
    std: list[float],
    workers: int = 1,
    crop: float = CENTRAL,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (index B, normalised images Bx3xsizexsize) of the whole split in order.

    Equal-sized images are resized as a whole; photographs to a short side of size / `crop` with a central crop, as is usual.
    """
    with ThreadPoolExecutor(workers) as pool:
        for index in torch.arange(shards.num_samples).split(batch_size):
            if shards.format == "uint8":
                images = resized(shards.images(index, device).float().div_(255), size)
            else:
                parts = list(pool.map(lambda i: central_crop(shards.decoded(int(i)), size, crop), index))
                images = torch.stack(parts).to(device).float().div_(255)
            images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
            yield index, normalised(images, mean, std)
