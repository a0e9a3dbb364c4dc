"""Trainings that have collapsed, recognised by the numbers of an epoch."""

import math

from invp.plumbing.errors import UserError

EQUAL = 0.98  # squared length of the mean of unit vectors: 1 when all are equal
UNIFORM = 0.9  # share of log M from which on the instance loss is no better than a guess
ALIKE = 0.1  # share of log K up to which the entropy of a batch's mean answer says that nearly all images have the same prototype
# What to change, of the options that an objective has: where nothing tells images apart, and where all have one answer.
AGAINST_UNIFORM = {
    "num_negatives": "raise objective.num_negatives (0: all images)",
    "teacher_temperature": "lower objective.teacher_temperature",
    "temperature": "raise objective.temperature",
}
AGAINST_ALIKE = {"teacher_temperature": "raise objective.teacher_temperature", "centre_momentum": "lower objective.centre_momentum"}


def refuse_collapse(row: dict, section: dict) -> None:
    """UserError if the numbers `row` of an epoch are those of a collapsed training, with what to change in its `section`.

    All features are equal, and the loss is what guessing among M gives; or, where a teacher answers with one of K prototypes, it answers with the
    same one for every image, which makes the loss 0. During a warm-up the network may still be as it began, and nothing is refused.
    """
    if row["epoch"] <= section["training"]["warmup_epochs"]:
        return
    options, uniform = section["objective"], row.get("uniform_loss", math.nan)
    if row.get("batch_entropy", math.inf) <= ALIKE * uniform:
        raise UserError(
            f"collapsed: after epoch {row['epoch']} the teacher answers with the same prototype for every image (entropy of a batch's mean answer "
            f"{row['batch_entropy']:.3f}; log K is {uniform:.3f}). {_advice(AGAINST_ALIKE, options)}"
        )
    equal = row.get("feature_agreement", 0) > EQUAL
    if equal and row.get("loss_instance", 1) >= UNIFORM * row.get("uniform_loss", 1):
        raise UserError(
            f"collapsed: after epoch {row['epoch']} all features are equal (squared length of their mean "
            f"{row['feature_agreement']:.3f}), and the instance loss is no better than a uniform guess "
            f"({row.get('loss_instance', row['loss']):.3f}; log M is {uniform:.3f}). {_advice(AGAINST_UNIFORM, options)}"
        )


def _advice(known: dict[str, str], options: dict) -> str:
    own = [words for key, words in known.items() if key in options]
    return ", or ".join(["Lower training.learning_rate", *own])
