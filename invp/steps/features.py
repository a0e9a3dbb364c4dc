"""Write the features of one split: encoder and head applied to every image, without augmentation, streamed to Arrow.

B batch, F features of the encoder, D dimensions of the head.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import torch
import torch.nn.functional as F

from invp.data.batches import eval_batches
from invp.data.shards import Shards
from invp.data.tables import fixed_size_list
from invp.plumbing.files import atomic_path, with_record
from invp.plumbing.jobs import Job, add_workers
from invp.plumbing.progress import Progress
from invp.plumbing.sections import network_section
from invp.training.checkpoint import load_network

GPU = True


def section(study: dict, *, experiment: str, seed: int, stage: int, dataset: str, split: str) -> dict:
    """The network and the split it is applied to."""
    network = network_section(study["loaded"][experiment])
    return {**network, "seed": seed, "stage": stage, "dataset": dataset, "split": split}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the step is told of its machine."""
    add_workers(parser)


def run(job: Job) -> None:
    """Writes the features table of the split whose manifest is the job's input `dataset`."""
    folder = job.input("dataset").parent
    write_features(job.section, job.input("checkpoint"), folder, job.outputs["features"], job.record, job.arguments.workers)


def write_features(section: dict, checkpoint: Path, dataset: Path, out: Path, record: dict, workers: int = 1) -> None:
    """Writes the features table of the split in the folder `dataset`, a batch at a time."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, head = (module.to(device) for module in load_network(section, checkpoint))
    shards, options = Shards(dataset), section["augmentation"]
    batches = eval_batches(
        shards, size=options["size"], batch_size=256, device=device, mean=options["mean"], std=options["std"], workers=workers
    )
    progress = Progress(f"features of {dataset.parent.name}-{dataset.name}", shards.num_samples)
    with torch.no_grad(), atomic_path(out) as temporary:
        writer = None
        for index, images in batches:
            feature = encoder(images)
            labels = shards.labels[index]
            multi_label = {} if shards.multi_labels is None else {"labels": fixed_size_list(shards.multi_labels[index].numpy())}
            batch = pa.record_batch(
                {
                    "index": pa.array(index.numpy()),
                    "label": pa.array(labels.numpy().astype("int32"), mask=(labels < 0).numpy()),
                    **multi_label,
                    "feature": fixed_size_list(feature.float().cpu().numpy()),
                    "embedding": fixed_size_list(F.normalize(head(feature), dim=1).float().cpu().numpy()),
                }
            )
            if writer is None:
                writer = pa.ipc.new_file(temporary, with_record(batch.schema, record))
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=with_record(batch.schema, record)))
            progress.update(len(index))
        assert writer is not None, "a prepared split has at least one image"
        writer.close()
    progress.close()
