"""Trainings that have collapsed, recognised by the numbers of an epoch."""

import math

from invp.plumbing.errors import UserError

EQUAL = 0.98  # squared length of the mean of unit vectors: 1 when all are equal
UNIFORM = 0.9  # share of log M from which on the instance loss is no better than a guess
# Of the entropies of a teacher's answers, as shares of log K: from which on they are uniform, and up to which all have the same prototype.
FLAT, ALIKE = 0.99, 0.1
# What to change, of the options that an objective has: where nothing tells images apart, and where all have one answer.
AGAINST_UNIFORM = {
    "num_negatives": "raise objective.num_negatives (0: all images)",
    "teacher_temperature": "lower objective.teacher_temperature",
    "temperature": "raise objective.temperature",
}
AGAINST_ALIKE = {"teacher_temperature": "raise objective.teacher_temperature", "centre_momentum": "lower objective.centre_momentum"}


def refuse_collapse(rows: list[dict], section: dict) -> None:
    """UserError if the numbers of the last epoch in `rows`, and of the one before it if that is there, are those of a collapsed training, with
    what to change in its `section`. One such epoch alone may be the beginning of a training at a low temperature.

    All features are equal, and the loss is what guessing among M gives; or, where a teacher answers with K prototypes, its answers are uniform,
    or the same prototype for every image. During a warm-up the network may still be as it began, and nothing is refused.
    """
    row = rows[-1]
    if row["epoch"] <= section["training"]["warmup_epochs"]:
        return
    found = [_of_answers(each) if "batch_entropy" in each else _of_features(each) for each in rows[-2:]]
    if all(found):
        what, known = found[-1]
        own = [words for key, words in known.items() if key in section["objective"]]
        raise UserError(f"collapsed: after epoch {row['epoch']} {what}. {', or '.join(['Lower training.learning_rate', *own])}")


def _of_features(row: dict) -> tuple[str, dict[str, str]] | None:
    if row.get("feature_agreement", 0) <= EQUAL or row.get("loss_instance", 1) < UNIFORM * row.get("uniform_loss", 1):
        return None
    what = (
        f"all features are equal (squared length of their mean {row['feature_agreement']:.3f}), and the instance loss is no better than a "
        f"uniform guess ({row.get('loss_instance', row['loss']):.3f}; log M is {row.get('uniform_loss', math.nan):.3f})"
    )
    return what, AGAINST_UNIFORM


def _of_answers(row: dict) -> tuple[str, dict[str, str]] | None:
    # A transformer begins with features that are nearly equal: they tell nothing.
    each, mean, log_k = row["teacher_entropy"], row["batch_entropy"], row["uniform_loss"]
    if each >= FLAT * log_k:
        return f"the teacher's answers are uniform for every image (entropy {each:.3f}; log K is {log_k:.3f})", AGAINST_UNIFORM
    if mean <= ALIKE * log_k:
        what = f"the teacher answers with the same prototype for every image (entropy of a batch's mean answer {mean:.3f}; log K is {log_k:.3f})"
        return what, AGAINST_ALIKE
    return None
