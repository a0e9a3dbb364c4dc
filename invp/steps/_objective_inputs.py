"""The inputs of a figure that NEEDS the objective: the whole of it, of the checkpoint, and test images as it is given them."""

from typing import Any

import torch
from torch import Tensor, nn

from invp.data.batches import eval_batches
from invp.data.shards import Shards
from invp.plumbing.jobs import Job
from invp.training.objective import load_objective


def objective_of(job: Job) -> nn.Module:
    """The objective of the job's checkpoint, in evaluation mode; its memory has a row for each training image."""
    section = {**job.section["network"], "seed": job.section["seed"]}
    return load_objective(section, job.input("checkpoint"), Shards(job.input("dataset_train").parent).num_samples)


def images_of(job: Job) -> Any:
    """A function from the numbers of test images (B) to these images without augmentation, normalised as in training: Bx3xsizexsize."""
    shards, options = Shards(job.input("dataset_test").parent), job.section["network"]["augmentation"]

    def images(numbers: Tensor) -> Tensor:
        made = eval_batches(
            shards, size=options["size"], batch_size=64, device="cpu", mean=options["mean"], std=options["std"], numbers=numbers
        )
        return torch.cat([batch for _, batch in made])

    return images
