"""The inputs of an evaluation that NEEDS the encoder: networks of the checkpoint, and prepared splits as folders."""

from invp.data.tables import equal_classes
from invp.evals._inputs import EncoderInputs, Saves
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json
from invp.plumbing.jobs import Job
from invp.steps._saves import InScratch
from invp.training.checkpoint import load_network


def read(job: Job, takes_multi_label: bool) -> EncoderInputs:
    """Networks and folders; UserError if classes differ, or an image has several labels and the evaluation takes one."""
    train, test, validation = (job.optional(f"{split}_data") for split in ("train", "test", "validation"))
    classes = equal_classes([path for path in (train, test, validation) if path])
    if not takes_multi_label and read_json(train)["multi_label"]:
        raise UserError(f"{train.parent} has several labels an image, and this evaluation takes one")
    encoder, head = load_network(job.section, job.input("checkpoint"))
    options = job.section["augmentation"]
    return EncoderInputs(
        encoder=encoder,
        head=head,
        train=train.parent,
        test=test.parent if test else None,
        classes=classes,
        size=options["size"],
        mean=options["mean"],
        std=options["std"],
        workers=job.arguments.workers,
        validation=validation.parent if validation else None,
        saves=InScratch(job) if job.arguments.scratch else Saves(),
    )
