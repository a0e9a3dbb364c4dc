"""Published tables with our numbers of the same data sets beside: the difference, and where protocols differ."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from invp.core.significance import decimals_of_share
from invp.pages.numbers import Estimate, estimate_of, last_stage, share_text
from invp.pages.tables import Table

# Of every published row that has no architecture of its own, in a table that says nothing else under `pretraining`.
PRETRAINING = {"data": "imagenet", "encoder": "resnet50"}
# The columns that are no measurements.
DESCRIPTIVE = ("architecture", "params_millions", "epochs", "pretraining_set", "network")
CSV_HEADER = ["table", "source", "method", "column", "value", "deviation", "seeds", "images", "difference", "compared", "differs"]


@dataclass
class Row:
    """A row of a table, published or ours: its method (the experiment's name if ours) and its other columns by name."""

    method: str
    described: dict[str, object]  # the DESCRIPTIVE columns
    values: dict[str, Estimate | float | None]  # the measured columns: estimates if ours, numbers if published
    ours: bool = False
    compared_with: str = ""  # the published row that ours is held against
    minus_published: dict[str, float] = field(default_factory=dict)  # differences to that row, by column
    measured: dict[str, "Measurement"] = field(default_factory=dict)  # what ours are made of, by column
    differs_in: list[str] = field(default_factory=list)  # what of ours is not as published


class Measurement(NamedTuple):
    """What an experiment has for a column: a value a seed, their protocol, the plug-in that measured them, and whether each value is a
    share of the test images."""

    values: list[float]
    protocol: dict
    plugin: str
    is_share: bool

    @property
    def images(self) -> int | None:
        """n, the test images; None if the protocol does not say."""
        return self.protocol.get("test_images")

    @property
    def decimals(self) -> int:
        """How many the values are printed with."""
        return decimals_of_share(self.images) if self.images else 2

    def text(self) -> str:
        """The values with their spread over seeds, and shares with an interval over test images."""
        estimate = estimate_of(self.values)
        return share_text(estimate, self.decimals, self.images) if self.is_share else estimate.text(self.decimals)


def measurement(column: dict, metrics: list[dict]) -> Measurement | None:
    """What an experiment's metrics.json hold for a column of published.yaml's `measured`, on the column's data; None if nothing.

    The column's evaluations are tried in their order.
    """
    for plugin in column["evaluations"]:
        fitting = [
            content for content in fitting_but_for_data(column, metrics, plugin) if content["protocol"]["data"] == column["data"]
        ]
        if fitting:
            seeds = [content for content in fitting if content["eval"] == fitting[0]["eval"]]
            is_share = all(column["metric"] in content.get("answers", ()) for content in seeds)
            return Measurement([content["metrics"][column["metric"]] for content in seeds], seeds[0]["protocol"], plugin, is_share)
    return None


def fitting_but_for_data(column: dict, metrics: list[dict], plugin: str) -> list[dict]:
    """The contents of metrics.json by a plug-in and with the options that a column asks for, whatever the data set."""
    return [
        content for content in metrics
        if content["evaluation"]["name"] == plugin and column["metric"] in content["metrics"]
        and all(content["evaluation"].get(key) == value for key, value in column.get("options", {}).items())
    ]  # fmt: skip


def published_rows(table: dict) -> list[dict]:
    """The rows of a published table, by column name."""
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def compared_row(table: dict, experiment: dict) -> dict | None:
    """The published row that an experiment is held against, by its objective and head; None if there is none."""
    for rule in table["compare"]:
        options = experiment["objective_options"]
        same_objective = all(options.get(key) == value for key, value in rule["objective"].items())
        if same_objective and rule.get("head", experiment["head"]) == experiment["head"]:
            for row in published_rows(table):
                if row["method"] == rule["method"] and rule.get("architecture") in (None, row.get("architecture")):
                    return row
    return None


def our_row(table: dict, name: str, experiment: dict, metrics: list[dict]) -> Row | None:
    """An experiment's row, from the metrics.json of its last stage; None if nothing of it belongs in the table."""
    columns = table["measured"]
    measured = {key: found for key, column in columns.items() if (found := measurement(column, metrics))}
    if not measured:
        return None
    epochs, data, encoder = experiment["stages"][-1], experiment["dataset"], experiment["encoder"]
    network = f"{encoder}, {experiment['head']} head"
    described = {"architecture": network, "network": network, "epochs": epochs, "pretraining_set": data}
    row = Row(name, described, {}, ours=True, measured=measured)
    published = compared_row(table, experiment) if epochs else None  # nobody has published an untrained network
    published_epochs = published.get("epochs", table.get("epochs")) if published else None
    pretraining = table.get("pretraining", PRETRAINING)
    if data != pretraining["data"]:
        row.differs_in.append(f"pretrained on {data}")
    if encoder != pretraining["encoder"]:
        row.differs_in.append(f"network {encoder}")
    if published_epochs and epochs != published_epochs:
        row.differs_in.append(f"{epochs} epochs, not {published_epochs}")
    for key, found in measured.items():
        column = columns[key]
        row.values[key] = estimate_of(found.values)
        if found.images != column.get("test_images", found.images):
            row.differs_in.append(f"{key} on {found.images:,} images, not {column['test_images']:,}")
        elif published and published.get(key) is not None and column.get("comparable", True):
            row.minus_published[key] = row.values[key].mean - published[key]
        if found.plugin != column["evaluations"][0]:
            row.differs_in.append(f"{key} by {found.plugin}, not {column['evaluations'][0]}")
    if apart := [key for key in measured if not columns[key].get("comparable", True)]:
        row.differs_in.append(f"{', '.join(apart)} by another protocol")
    if published:
        row.compared_with = " ".join(str(published[column]) for column in ("method", "architecture") if column in published)
    return row


def tables_with_ours(section: dict, published: dict, metrics: list[dict]) -> dict[str, tuple[dict, list[Row]]]:
    """The published tables in which the study has a number: each with its rows, the published ones first."""
    result = {}
    for key, table in published.items():
        ours = []
        for name in section["experiments"]:
            last = [m for m in metrics if m["experiment"] == name and m["stage"] == last_stage(section, name)]
            if row := our_row(table, name, section["loaded"][name], last):
                ours.append(row)
        if ours:
            rows = [
                Row(str(row["method"]), {c: row[c] for c in DESCRIPTIVE if c in row}, {c: row[c] for c in table["measured"]})
                for row in published_rows(table)
            ]
            result[key] = table, [*rows, *ours]
    return result


def left_out(published: dict, shown: dict, metrics: list[dict]) -> list[str]:
    """A sentence for each published table that is not among those `shown`, though the study has a number of its kind: the data
    sets that it would need."""
    sentences = []
    for key, table in published.items():
        columns = table["measured"].values()
        of_its_kind = [c for c in columns if any(fitting_but_for_data(c, metrics, plugin) for plugin in c["evaluations"])]
        if key not in shown and of_its_kind:
            needed = " or ".join(dict.fromkeys(column["data"] for column in of_its_kind))
            sentences.append(f"Not shown, since it would need a number of ours on {needed}: {table['title']}.")
    return sentences


def as_table(table: dict, rows: list[Row]) -> Table:
    """A published table as text; ours are named so, with the difference to a published row."""
    described = [column for column in table["columns"] if column in DESCRIPTIVE and column != "params_millions"]
    columns = list(table["measured"])
    official = {key: f"{key} (n = {c['test_images']:,})" if "test_images" in c else key for key, c in table["measured"].items()}
    result = Table(["method", *described, *official.values(), "minus published", "differs from the published in"], [])
    for number, row in enumerate(rows):
        texts = ["-" if row.described.get(column) is None else str(row.described[column]) for column in described]
        if row.ours:
            result.ours.add(number)
            values = [row.measured[column].text() if column in row.measured else "-" for column in columns]
            # The paper's numbers have one decimal.
            differences = ", ".join(
                f"{key} {value:+.{min(1, row.measured[key].decimals)}f}" for key, value in row.minus_published.items()
            )
            minus_published = f"{differences} ({row.compared_with})" if differences else "not comparable"
            result.rows.append([f"ours: {row.method}", *texts, *values, minus_published, "; ".join(row.differs_in)])
        else:
            values = ["-" if row.values[column] is None else str(row.values[column]) for column in columns]
            result.rows.append([row.method, *texts, *values, "", ""])
    return result


def csv_rows(key: str, rows: list[Row]) -> list[dict]:
    """A row a number of a published table, by CSV_HEADER; what is not known is left out."""
    result = []
    for row in rows:
        for column, value in row.values.items():
            if value is None:
                continue
            line = {"table": key, "source": "ours" if row.ours else "published", "method": row.method, "column": column}
            if row.ours:
                line |= {
                    "value": value.mean,
                    "seeds": value.seeds,
                    "images": row.measured[column].images,
                    "difference": row.minus_published.get(column),
                }
                line |= {"compared": row.compared_with, "differs": "; ".join(row.differs_in)}
                if value.seeds > 1:
                    line["deviation"] = value.deviation
            else:
                line["value"] = value
            result.append(line)
    return result


def read_published(path: Path) -> dict:
    """config/published.yaml as plain data."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
