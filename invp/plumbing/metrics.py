"""What each number of a study is: its unit, and whether more or less of it is better. Tables, marks, tests and plots follow."""

from fnmatch import fnmatchcase
from typing import NamedTuple


class Metric(NamedTuple):
    """`unit` as it is printed, empty for a pure number; `better` is higher or lower, or empty where neither is."""

    unit: str
    better: str


PERCENT = Metric("%", "higher")
SHARE = Metric("share", "higher")
CORRELATION = Metric("r", "higher")
# Measures of a neighbour graph and of its rows, by the names of summary.json. How they hang together, or spread, is neither good nor bad.
GRAPH = {
    "same_class_share": SHARE,
    "neighbour_quality": SHARE,
    "nearest_same_class*": SHARE,
    "*positives_same_class*": SHARE,
    "recall": SHARE,
    "positives_per_anchor": Metric("images", ""),
    "anchors_with_chosen_and_other": Metric("images", ""),
    "rankme": Metric("dimensions", ""),
    "uniformity": Metric("", ""),
    "mutual_share": Metric("share", ""),
    "overlap_with_previous": Metric("share", ""),
    "never_a_neighbour": Metric("share", ""),
    "components": Metric("", ""),
    "mutual_components": Metric("", ""),
    "in_degree_skewness": Metric("", ""),
    "largest_in_degree": Metric("images", ""),
}
# Numbers of a training, by the names of metrics.jsonl. Losses of different objectives are no contest, nor is what was spent.
TRAINING = {
    "epoch": Metric("epochs", ""),
    "views": Metric("views", ""),
    "seconds": Metric("s", ""),
    "memory_mb": Metric("MB", ""),
    "images_per_second": Metric("images/s", ""),
    "pretext_accuracy": Metric("%", ""),  # of tasks that differ: nothing to compare
    "*": Metric("", ""),
}


def metric_of(table: dict[str, Metric], name: str) -> Metric:
    """The entry of a table whose pattern the name fits first; KeyError if none does."""
    for pattern, metric in table.items():
        if fnmatchcase(name, pattern):
            return metric
    raise KeyError(f"no entry for the metric {name!r} among {', '.join(table)}")
