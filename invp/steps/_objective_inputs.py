"""The inputs of a figure that NEEDS the objective: the whole of it, of the checkpoint."""

from torch import nn

from invp.data.shards import Shards
from invp.plumbing.jobs import Job
from invp.training.objective import load_objective


def objective_of(job: Job) -> nn.Module:
    """The objective of the job's checkpoint, in evaluation mode; its memory has a row for each training image."""
    section = {**job.section["network"], "seed": job.section["seed"]}
    return load_objective(section, job.input("checkpoint"), Shards(job.input("dataset_train").parent).num_samples)
