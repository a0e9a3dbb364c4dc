"""Batches of prepared shards, for training and for evaluation. N images, B batch, C channels, H x W pixels."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from invp.core.selection import mixed_seed
from invp.data.augment import Augment, normalised
from invp.data.decode import central_crop, crops_on_device, random_crop
from invp.data.shards import Shards

CHUNK = 8  # photographs that a thread decodes and augments at a time: they stay in the processor's cache


def epoch_order(num_samples: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in an epoch, a permutation of N that is a function of (seed, epoch)."""
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(mixed_seed(seed, epoch)))


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
    """Yields (step, index B, views of Bx3xsizexsize) of this process from `start_step` on; the last, smaller batch is dropped."""
    local = batch_size // world_size
    rows = slice(rank * local, (rank + 1) * local)
    steps = range(start_step, len(order) // batch_size)
    indices = (order[step * batch_size : (step + 1) * batch_size][rows] for step in steps)
    if shards.format == "uint8":
        for step, index in zip(steps, indices, strict=True):
            images = shards.images(index, device)
            yield step, index, [augmentation(images, (seed, epoch, step, view), rows, batch_size) for view in range(views)]
        return
    inner = Augment(augmentation.after_crop())
    if augmentation.options.decoder == "torchcodec":
        for step, index in zip(steps, indices, strict=True):
            crops = (crops_on_device(shards, index, augmentation, (seed, epoch, view), device) for view in range(views))
            yield step, index, [inner(each, (seed, epoch, step, view), rows, batch_size) for view, each in enumerate(crops)]
        return
    # One thread of arithmetic a worker: they share the cores as they are.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        # PIL and torch work outside the interpreter's lock; two batches are made while the one before is trained on.
        def submit(step: int, index: Tensor) -> list[list[Future]]:
            parts = [slice(a, min(a + CHUNK, rows.start + len(index))) for a in range(rows.start, rows.start + len(index), CHUNK)]
            return [
                [
                    pool.submit(
                        _photographs,
                        shards,
                        index,
                        part,
                        rows.start,
                        augmentation,
                        inner,
                        (seed, epoch, step, view),
                        batch_size,
                        device,
                    )
                    for part in parts
                ]
                for view in range(views)
            ]

        waiting: deque = deque()
        for step, index in zip(steps, indices, strict=True):
            waiting.append((step, index, submit(step, index)))
            if len(waiting) > 2:
                yield _collected(waiting.popleft(), inner, seed, epoch, rows, batch_size, device)
        while waiting:
            yield _collected(waiting.popleft(), inner, seed, epoch, rows, batch_size, device)


def _photographs(
    shards: Shards,
    index: Tensor,
    part: slice,
    first: int,
    augmentation: Augment,
    inner: Augment,
    key: tuple[int, int, int, int],
    batch_size: int,
    device: torch.device,
) -> Tensor:
    """The crops of a part of a batch, uint8; on a CPU all of their augmentation. `part` counts in the global batch."""
    seed, epoch, _, view = key
    numbers = index[part.start - first : part.stop - first]
    crops = torch.stack([random_crop(shards, int(i), augmentation, (seed, epoch, view)) for i in numbers])
    return crops if device.type == "cuda" else inner(crops, key, part, batch_size)


def _collected(waiting, augment, seed, epoch, rows, batch_size, device) -> tuple[int, Tensor, list[Tensor]]:
    step, index, futures = waiting
    views = [torch.cat([part.result() for part in parts]) for parts in futures]
    if device.type == "cuda":
        views = [
            augment(images.pin_memory().to(device, non_blocking=True), (seed, epoch, step, view), rows, batch_size)
            for view, images in enumerate(views)
        ]
    return step, index, views


def eval_batches(
    shards: Shards,
    *,
    size: int,
    batch_size: int,
    device: torch.device | str,
    mean: list[float],
    std: list[float],
    workers: int = 1,
    crop: float = 0.875,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (index B, normalised images Bx3xsizexsize) of the whole split in order.

    Equal-sized images are resized as a whole; photographs to a short side of size / `crop` with a central crop, as is usual.
    """
    with ThreadPoolExecutor(workers) as pool:
        for index in torch.arange(shards.num_samples).split(batch_size):
            if shards.format == "uint8":
                images = shards.images(index, device).float().div_(255)
                if images.shape[-1] != size or images.shape[-2] != size:
                    images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
            else:
                parts = list(pool.map(lambda i: central_crop(shards.decoded(int(i)), size, crop), index))
                images = torch.stack(parts).to(device).float().div_(255)
            images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
            yield index, normalised(images, mean, std)
