"""Batches of prepared shards, for training and for evaluation. N images, B batch, C channels, H x W pixels."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invp.core.selection import mixed_seed
from invp.data.augment import Augment, normalised
from invp.data.colour import coloured
from invp.data.decode import CENTRAL, central_crop, crop_draws, crops_on_device, photograph, random_crops, resized
from invp.data.shards import Shards

CHUNK = 8  # photographs that a thread makes ready at a time
AHEAD = 2  # batches that are made while another one is used
Batch = TypeVar("Batch")
Piece = TypeVar("Piece")


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
    augmentations: list[Augment],
    seed: int,
    epoch: int,
    workers: int = 1,
) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
    """Yields (step, index B, views of Bx3xsizexsize) of this process from `start_step` on, one view for each augmentation; the last,
    smaller batch is dropped.

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
            keys = [(seed, epoch, step, view) for view in range(len(augmentations))]
            yield step, index, [own(images, key, rows, batch_size) for own, key in zip(augmentations, keys, strict=True)]
        return
    inner = [Augment(own.after_crop()) for own in augmentations]
    if augmentations[0].options.decoder == "torchcodec":  # that of all views
        for step, index in batches:
            crops = crops_on_device(shards, index, augmentations, (seed, epoch), device)
            yield step, index, [inner[view](each, (seed, epoch, step, view), rows, batch_size) for view, each in enumerate(crops)]
        return

    def pieces(batch: tuple[int, Tensor]) -> list[Callable[[], list[Tensor]]]:
        """What threads do for a batch, a few photographs each; the numbers of the whole batch are drawn here, in a few calls."""
        step, index = batch
        boxes = np.stack([crop_draws(index, (seed, epoch, view)) for view in range(len(inner))], 1)
        on_gpu = device.type == "cuda"  # which takes levels, and changes their colours itself
        sizes = [own.options.size for own in inner]
        colours = [
            None if on_gpu else own.drawn((seed, epoch, step, view), rows, batch_size, size, size)
            for view, (own, size) in enumerate(zip(inner, sizes, strict=True))
        ]
        images = [torch.empty(len(index), 3, size, size, dtype=torch.uint8 if on_gpu else torch.float32) for size in sizes]

        def made(chunk: slice) -> list[Tensor]:
            crops = [random_crops(shards, int(i), augmentations, own) for i, own in zip(index[chunk], boxes[chunk], strict=True)]
            for own, augmentation, view, draws in zip(zip(*crops, strict=True), inner, images, colours, strict=True):
                if draws is None:
                    torch.stack(list(own), out=view[chunk])
                else:
                    coloured(list(own), augmentation, draws[chunk], out=view[chunk])
            return images  # of the whole batch, in which every chunk is when all are made

        return [partial(made, slice(start, start + CHUNK)) for start in range(0, len(index), CHUNK)]

    for (step, index), made in overlapped(batches, pieces, workers):
        images = made[0]
        if device.type == "cuda":
            images = [each.pin_memory().to(device, non_blocking=True) for each in images]
            images = [inner[view](each, (seed, epoch, step, view), rows, batch_size) for view, each in enumerate(images)]
        yield step, index, images


def overlapped(
    batches: Iterable[Batch], pieces: Callable[[Batch], list[Callable[[], Piece]]], workers: int
) -> Iterator[tuple[Batch, list[Piece]]]:
    """Each batch with its pieces, in order: `workers` threads make those of the next two batches while the one before is used.

    Decoding and arithmetic run outside of the interpreter's lock, with one thread of arithmetic a worker: they share the job's cores.
    """
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[tuple[Batch, list[Future[Piece]]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, [pool.submit(piece) for piece in pieces(batch)]))
                if len(waiting) > AHEAD:
                    batch, futures = waiting.popleft()
                    yield batch, [future.result() for future in futures]
            while waiting:
                batch, futures = waiting.popleft()
                yield batch, [future.result() for future in futures]
        finally:  # whoever stops reading does not wait for what nobody reads
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


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
    numbers: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (index B, normalised images Bx3xsizexsize) of the whole split in order, or of the images with these numbers.

    Equal-sized images are resized as a whole; photographs to a short side of size / `crop` with a central crop, as is usual.
    """
    indices = (torch.arange(shards.num_samples) if numbers is None else numbers).split(batch_size)
    if shards.format == "uint8":
        for index in indices:
            images = resized(shards.images(index, device).float().div_(255), size)
            images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
            yield index, normalised(images, mean, std)
        return

    def central(chunk: Tensor) -> Tensor:
        return torch.stack([central_crop(Image.fromarray(photograph(shards, int(i))), size, crop) for i in chunk])

    def pieces(index: Tensor) -> list[Callable[[], Tensor]]:
        return [partial(central, chunk) for chunk in index.split(CHUNK)]

    for index, made in overlapped(indices, pieces, workers):
        images = torch.cat(made)
        images = images.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else images
        yield index, normalised(images.float().div_(255), mean, std)
