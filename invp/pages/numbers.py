"""The numbers of a study: a row a number, as in summary.csv, and mean and standard deviation over seeds."""

import math
import re
import statistics
from pathlib import Path
from typing import NamedTuple

from invp.data.tables import read_curves
from invp.plumbing.files import read_json
from invp.plumbing.metrics import GRAPH, TRAINING, Metric, metric_of

TABLES = {"graph": GRAPH, "training": TRAINING}
RUN = re.compile(r"(?:.*/)?(?P<experiment>[^/]+)/seed-(?P<seed>\d+)/.*stage-(?P<stage>\d+)/[^/]+")


class Number(NamedTuple):
    """One number: of an experiment's seed, at the end of a stage, from an evaluation, the graph or the training."""

    experiment: str
    seed: int
    stage: int  # the epoch at which the stage ends
    source: str  # the evaluation's name in the experiment, "graph" or "training"
    metric: str
    value: int | float


class Estimate(NamedTuple):
    """Mean and sample standard deviation (NaN for one seed) of a number over seeds, and how many seeds there are."""

    mean: float
    deviation: float
    seeds: int

    @property
    def whole(self) -> bool:
        """Whether it is a whole number that does not vary over seeds, such as a count."""
        return self.mean.is_integer() and not self.deviation > 0

    @property
    def digits(self) -> int:
        """The digits shown after the point: shares and losses get three, large and whole numbers none."""
        return 0 if self.whole or abs(self.mean) >= 500 else 2 if abs(self.mean) >= 10 else 3

    @property
    def shown(self) -> float:
        """The mean as it is shown, so that what looks equal is equal."""
        return round(self.mean, self.digits)

    def __str__(self) -> str:
        """'98.33 ± 0.20'; without a deviation for one seed."""
        mean = f"{self.mean:.{self.digits}f}"
        return mean if self.whole or math.isnan(self.deviation) else f"{mean} ± {self.deviation:.{self.digits}f}"


def estimate_of(values: list[float]) -> Estimate:
    """The estimate of at least one value, a value a seed."""
    return Estimate(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan, len(values))


class Numbers:
    """All numbers of a study; a column is named `source.metric`, as in the study's `columns`."""

    def __init__(self, rows: list[Number], units: dict[str, Metric] | None = None, data: dict[tuple[str, str], str] | None = None):
        self.rows, self._units, self._data = rows, units or {}, data or {}
        self._values: dict[tuple[str, int, str], list[float]] = {}
        for row in rows:
            self._values.setdefault((row.experiment, row.stage, f"{row.source}.{row.metric}"), []).append(row.value)

    def values(self, experiment: str, stage: int, column: str) -> list[float]:
        """The numbers of a column at a stage, one a seed; empty if there is none."""
        return self._values.get((experiment, stage, column), [])

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
    rows, units = [], {}
    data = {(name, "graph"): section["loaded"][name]["dataset"] for name in section["experiments"]}
    for kind in ("metrics", "graphs", "curves"):
        for path in inputs.get(kind, []):
            run = RUN.fullmatch(path.as_posix())
            if kind == "metrics":
                content = read_json(path)
                source, values = content["eval"], content["metrics"]
                units |= {f"{source}.{name}": Metric(**unit) for name, unit in content["units"].items()}
                data[run["experiment"], source] = content["protocol"]["data"]
            elif kind == "graphs":
                source, values = "graph", read_json(path)["measures"]
            else:
                source, values = "training", _last_epoch(path)
            for metric, value in values.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    rows.append(Number(run["experiment"], int(run["seed"]), int(run["stage"]), source, metric, value))
    order = {name: i for i, name in enumerate(section["experiments"])}
    rows.sort(key=lambda row: (order[row.experiment], *row[1:5]))
    return Numbers(_with_seconds_from_the_beginning(rows), units, data)


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
