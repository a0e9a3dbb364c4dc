"""The numbers of a study: a row a number, as in summary.csv; over seeds their mean and standard deviation; and how they are printed.

n test images, S seeds.
"""

import math
import re
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np

from invp.core.significance import decimals_of_share, wilson
from invp.data.answers import unpacked
from invp.data.tables import read_curves
from invp.plumbing.files import read_json
from invp.plumbing.metrics import GRAPH, TRAINING, Metric, metric_of

TABLES = {"graph": GRAPH, "training": TRAINING}
DECIMALS = {"share": 3, "r": 3, "%": 2}  # by unit, of what is not known to be of n test images
RUN = re.compile(r"(?:.*/)?(?P<experiment>[^/]+)/seed-(?P<seed>\d+)/.*stage-(?P<stage>\d+)/[^/]+")


class Number(NamedTuple):
    """One number: of an experiment's seed, at the end of a stage, from an evaluation, the graph or the training."""

    experiment: str
    seed: int
    stage: int  # the epoch at which the stage ends
    source: str  # the evaluation's name in the experiment, "graph" or "training"
    metric: str
    value: int | float


CSV_HEADER = [*Number._fields, "images", "low", "high"]


class Estimate(NamedTuple):
    """Mean and sample standard deviation (NaN for one seed) of a number over seeds, and how many seeds there are."""

    mean: float
    deviation: float
    seeds: int

    def text(self, decimals: int) -> str:
        """'98.3 ± 0.2'; without a deviation for one seed."""
        mean = f"{self.mean:.{decimals}f}"
        return mean if math.isnan(self.deviation) else f"{mean} ± {self.deviation:.{decimals}f}"


def estimate_of(values: list[float]) -> Estimate:
    """The estimate of at least one value, a value a seed."""
    return Estimate(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan, len(values))


def share_text(estimate: Estimate, decimals: int, images: int) -> str:
    """An accuracy in %, of one seed or several, with Wilson's 95 % interval over n test images: '98.3 ± 0.2 [96.4, 99.2]'.

    Of several seeds the interval is that of their mean for n images, and not n S: all have the same ones. It may be too wide, not too
    narrow.
    """
    low, high = (f"{100 * end:.{decimals}f}" for end in wilson(estimate.mean / 100, images))
    return f"{estimate.text(decimals)} [{low}, {high}]"


def decimals_of(values: list[float]) -> int:
    """The decimals of a column of other numbers: none if all are whole or some are large, else two or, of small ones, three."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    largest = max(finite, default=0.0)
    return 0 if largest >= 500 or all(value.is_integer() for value in map(float, finite)) else 2 if largest >= 10 else 3


class Numbers:
    """All numbers of a study; a column is named `source.metric`, as in the study's `columns`.

    `data` and `images` have, by experiment and source, the data set and the number of its test images; `right` the packed answers of a
    number's test images (`invp/data/answers.py`).
    """

    def __init__(
        self,
        rows: list[Number],
        units: dict[str, Metric] | None = None,
        data: dict[tuple[str, str], str] | None = None,
        images: dict[tuple[str, str], int] | None = None,
        right: dict[tuple[str, int, int, str], str] | None = None,
    ):
        self.rows, self._units, self._data, self._images, self._right = rows, units or {}, data or {}, images or {}, right or {}
        self._values: dict[tuple[str, int, str], dict[int, float]] = {}
        columns: dict[str, list[float]] = {}
        for row in rows:
            column = f"{row.source}.{row.metric}"
            self._values.setdefault((row.experiment, row.stage, column), {})[row.seed] = row.value
            columns.setdefault(column, []).append(row.value)
        self._decimals = {column: self._decimals_of(column, values) for column, values in columns.items()}

    def _decimals_of(self, column: str, values: list[float]) -> int:
        images = self.images(column)
        return decimals_of_share(min(images)) if images else DECIMALS.get(self.metric(column).unit) or decimals_of(values)

    def values(self, experiment: str, stage: int, column: str) -> list[float]:
        """The numbers of a column at a stage, one a seed; empty if there is none."""
        return list(self._values.get((experiment, stage, column), {}).values())

    def seeds(self, experiment: str, stage: int, column: str) -> list[int]:
        """The seeds that have a number in a column at a stage."""
        return list(self._values.get((experiment, stage, column), {}))

    def images(self, column: str) -> list[int]:
        """How many test images the numbers in % of a column are of, ascending: one n if all experiments have the same set. Empty for what
        is not measured on test images in %."""
        source, name = column.split(".", 1)
        if self.metric(column).unit != "%" or name.startswith("validation"):
            return []
        return sorted({n for (_, own), n in self._images.items() if own == source})

    def answers(self, experiment: str, seed: int, stage: int, column: str) -> np.ndarray | None:
        """Whether each of the n test images is right, bool in their order; None where the evaluation does not answer single images."""
        text = self._right.get((experiment, seed, stage, column))
        return None if text is None else unpacked(text, self._images[experiment, column.split(".", 1)[0]])

    def shared_by(self, experiment: str, stage: int, column: str) -> int | None:
        """The n test images of which the numbers of a column are shares; None if they are no such shares."""
        seeds = self.seeds(experiment, stage, column)
        if not seeds or any((experiment, seed, stage, column) not in self._right for seed in seeds):
            return None
        return self._images[experiment, column.split(".", 1)[0]]

    def as_line(self, number: Number) -> dict[str, object]:
        """A number by CSV_HEADER; what is a share of n test images has these, and the ends of Wilson's 95 % interval in %."""
        images = self._images.get((number.experiment, number.source))
        if (number.experiment, number.seed, number.stage, f"{number.source}.{number.metric}") not in self._right or not images:
            return number._asdict()
        low, high = wilson(number.value / 100, images)
        return {**number._asdict(), "images": images, "low": 100 * low, "high": 100 * high}

    def heading(self, column: str) -> str:
        """A column's name, with the number of test images where its numbers are accuracies."""
        images = " or ".join(f"{n:,}" for n in self.images(column))
        return f"{column} (n = {images})" if images else column

    def decimals(self, column: str) -> int:
        """The decimals that all numbers of a column have."""
        return self._decimals[column]

    def number_text(self, value: float, column: str) -> str:
        """A number with the decimals of its column."""
        return f"{value:.{self.decimals(column)}f}"

    def text(self, experiment: str, stage: int, column: str) -> str:
        """A cell: '98.3 [96.4, 99.2]', the accuracy and its interval over test images; '98.3 ± 0.2 [96.4, 99.2]' with the deviation over
        seeds; '-' where there is no number."""
        estimate = self.estimate(experiment, stage, column)
        if estimate is None:
            return "-"
        decimals, images = self.decimals(column), self.shared_by(experiment, stage, column)
        return share_text(estimate, decimals, images) if images else estimate.text(decimals)

    def metric(self, column: str) -> Metric:
        """The unit of a column, and whether more or less of it is better."""
        source, name = column.split(".", 1)
        if source in TABLES:
            return metric_of(TABLES[source], name)
        return self._units.get(column, Metric("", ""))

    def comparable(self, experiments: list[str], column: str) -> bool:
        """Whether the numbers of a column are of one data set in all of these experiments."""
        source = column.split(".", 1)[0]
        return len({self._data.get((name, source)) for name in experiments}) <= 1

    def estimate(self, experiment: str, stage: int, column: str) -> Estimate | None:
        """Mean, deviation and number of seeds of a column at a stage; None if there is no number."""
        values = self.values(experiment, stage, column)
        return estimate_of(values) if values else None


def last_stage(section: dict, experiment: str) -> int:
    """The epoch at which an experiment's last stage ends; 0 for what is not trained."""
    return section["loaded"][experiment]["stages"][-1]


def read_numbers(section: dict, inputs: dict[str, list[Path]]) -> Numbers:
    """All numbers of a study in its order, from the inputs `metrics`, `graphs` (summaries) and `curves`.

    Of a curve the last epoch counts, with the seconds since the training began.
    """
    rows: list[Number] = []
    units: dict[str, Metric] = {}
    images: dict[tuple[str, str], int] = {}
    right: dict[tuple[str, int, int, str], str] = {}
    data = {(name, "graph"): section["loaded"][name]["dataset"] for name in section["experiments"]}
    for kind in ("metrics", "graphs", "curves"):
        for path in inputs.get(kind, []):
            run = RUN.fullmatch(path.as_posix())
            if kind == "metrics":
                content = read_json(path)
                source, values = content["eval"], content["metrics"]
                units |= {f"{source}.{name}": Metric(**unit) for name, unit in content["units"].items()}
                own = run["experiment"], source
                data[own] = content["protocol"]["data"]
                if "test_images" in content["protocol"]:
                    images[own] = content["protocol"]["test_images"]
                place = run["experiment"], int(run["seed"]), int(run["stage"])
                # What an earlier version measured and `adopt` accepted may keep none.
                right |= {(*place, f"{source}.{name}"): text for name, text in content.get("answers", {}).items()}
            elif kind == "graphs":
                source, values = "graph", read_json(path)["measures"]
            else:
                source, values = "training", _last_epoch(path)
            for metric, value in values.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    rows.append(Number(run["experiment"], int(run["seed"]), int(run["stage"]), source, metric, value))
    order = {name: i for i, name in enumerate(section["experiments"])}
    rows.sort(key=lambda row: (order[row.experiment], *row[1:5]))
    return Numbers(_with_seconds_from_the_beginning(rows), units, data, images, right)


def _last_epoch(path: Path) -> dict:
    """The numbers of a stage's last epoch, with the seconds of the whole stage; empty for a stage without epochs."""
    epochs = read_curves([path])
    return {**epochs[-1], "seconds": sum(epoch["seconds"] for epoch in epochs)} if epochs else {}


def _with_seconds_from_the_beginning(rows: list[Number]) -> list[Number]:
    """Turns the seconds of each stage's training into those since the training began; the rows of a run go by stage."""
    total: dict[tuple[str, int], float] = {}
    for i, row in enumerate(rows):
        if (row.source, row.metric) == ("training", "seconds"):
            run = row.experiment, row.seed
            total[run] = total.get(run, 0.0) + row.value
            rows[i] = row._replace(value=total[run])
    return rows
