"""The inputs of a figure that NEEDS a network: the encoder of the checkpoint, and test images as it is given them."""

from typing import Any

import torch
from torch import Tensor, nn

from invp.data.batches import eval_batches
from invp.data.shards import Shards
from invp.plumbing.jobs import Job
from invp.training.checkpoint import load_network


def encoder_of(job: Job) -> nn.Module:
    """The encoder of the job's checkpoint, in evaluation mode."""
    return load_network(job.section["network"], job.input("checkpoint"))[0]


def images_of(job: Job) -> Any:
    """A function from the numbers of test images (B) to these images without augmentation, normalised as in training: Bx3xsizexsize."""
    shards, options = Shards(job.input("dataset_test").parent), job.section["network"]["augmentation"]

    def images(numbers: Tensor) -> Tensor:
        made = eval_batches(
            shards, size=options["size"], batch_size=64, device="cpu", mean=options["mean"], std=options["std"], numbers=numbers
        )
        return torch.cat([batch for _, batch in made])

    return images
