"""The first losses of the digits experiment, to notice a change of the method that nobody meant.

After a change that was meant: `python tests/reliability/test_golden.py` writes the file anew; say why in the commit.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

from invp.plumbing.experiments import load
from invp.steps import pretrain
from invp.training.distributed import Group
from invp.training.loop import Stage

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "digits-losses.json"


def pretrain_section(loaded: dict, seed: int, stage: int) -> dict:
    return pretrain.section({"loaded": {"one": loaded}}, experiment="one", seed=seed, stage=stage)


def losses(dataset: Path, **objective) -> list[float]:
    """The losses of the first 20 steps of digits-invp with seed 0, at a learning rate so small that roundings do not grow."""
    experiment = load(ROOT / "config" / "experiments" / "digits-invp.yaml")
    experiment["objective"] |= objective
    experiment["training"]["learning_rate"] = 0.001
    stage = Stage(pretrain_section(experiment, 0, 15), dataset, None, Group(0, 1, torch.device("cpu")), "golden")
    stage.objective.train()
    stage.sums = {}
    stage.objective.begin_epoch(1, stage.embed)
    found = []
    for batch in stage._batches():
        stage._train_step(*batch)
        found.append(stage.unchecked[0].item())
        if len(found) == 20:
            return found
    raise AssertionError("an epoch has at least 20 steps")


CASES = {"as published": {}, "with positives from the first epoch": {"ramp": "constant"}}


@pytest.mark.parametrize("name", CASES)
def test_the_first_losses_are_those_of_the_golden_file(name, digits):
    """Tolerance: other processors round float32 otherwise, and twenty steps carry that on."""
    assert losses(digits["train"], **CASES[name]) == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=2e-4)


if __name__ == "__main__":
    import tempfile

    from invp.plumbing.config import plugin_options
    from invp.steps import prepare

    with tempfile.TemporaryDirectory() as folder:
        prepare.write_split(plugin_options("datasets", {"name": "digits"}, "golden"), "train", None, Path(folder), 1)
        GOLDEN.write_text(json.dumps({n: losses(Path(folder), **options) for n, options in CASES.items()}, indent=1) + "\n")
    sys.exit()
