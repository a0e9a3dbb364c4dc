"""When a training without a teacher is refused as collapsed."""

import pytest

from invp.plumbing.errors import UserError
from invp.training.collapse import refuse_collapse

SECTION = {"objective": {"name": "invp", "num_negatives": 8, "temperature": 0.1}, "training": {"warmup_epochs": 0}}
ROW = {"epoch": 2, "loss": 6.9, "loss_instance": 6.9, "uniform_loss": 6.931, "feature_agreement": 0.99}


@pytest.mark.parametrize("changes", [{}, {"loss_instance": 6.3}, {"loss_instance": 7.274}, {"feature_agreement": 1.0}])
def test_equal_features_with_no_better_loss_than_a_guess_are_refused(changes):
    for rows in ([ROW | changes], [ROW | {"epoch": 1}, ROW | changes]):
        with pytest.raises(UserError, match="collapsed: after epoch 2 all features are equal.*raise objective.num_negatives"):
            refuse_collapse(rows, SECTION)


@pytest.mark.parametrize("changes", [{"feature_agreement": 0.97}, {"loss_instance": 6.0}])
def test_features_that_differ_or_tell_images_apart_are_not(changes):
    refuse_collapse([ROW | changes], SECTION)


def test_one_epoch_after_a_sound_one_is_not():
    """As ISD's at temperature 0.02, seed 2 of digits-isd: 0.991 after the second epoch, and less from the third on."""
    refuse_collapse([ROW | {"epoch": 1, "feature_agreement": 0.9}, ROW], SECTION)
