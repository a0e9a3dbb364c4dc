"""What jobs ask for that depends on the study and the machine: threads, minutes, the number of a try; no rule."""

import json
import math
from pathlib import Path

from snakemake.exceptions import WorkflowError


def share_of_machine(w, least=2):
    """The threads of a job that decodes images: as many jobs run at once as the study has runs, and `least` of them at least.

    A profile's `set-threads` comes before it. One on two cores: two jobs of two threads there take three times as long.
    """
    try:
        return max(1, min(8, workflow.cores // max(least, len(runs()))))
    except WorkflowError:
        return 1  # a cluster, whose profile sets no threads: nothing says how many cores a node has


def share_of_training(w):
    """The same for a pretraining, which is alone where the study has one run: its stages follow each other."""
    return share_of_machine(w, least=1)


def attempt_of(w, attempt):
    """The number of a job's try, which tells it whether the one before was ended by a mistake that another try cannot mend."""
    return attempt


def pretrain_minutes(w):
    """The minutes that a pretraining asks for: the longest it may, or what is left of one that saved and left."""
    asked = workflow.resource_settings.overwrite_resources.get("pretrain", {}).get("max_runtime")
    longest = int(getattr(asked, "value", None) or 1440)  # a rule with other resources set has this one without a value
    left = Path(SCRATCH.format(**w)) / "left.json"
    if not left.exists():
        return longest
    return min(longest, math.ceil(1.25 * json.loads(left.read_text())["minutes"]) + 5)
