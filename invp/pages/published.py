"""The paper's tables with ours beside: the difference where the data are the same, and in words where protocols differ."""

from dataclasses import dataclass, field
from pathlib import Path

from invp.pages.numbers import cell, spread

PRETRAINING = {"data": "imagenet", "encoder": "resnet50"}  # of every published row here that has no architecture of its own
DESCRIPTIVE = ("method", "architecture", "params_millions", "epochs", "pretraining_set", "network")


@dataclass
class Row:
    """A line of a table: `values` are numbers, or (mean, SD, n) for ours, by column."""

    method: str
    about: dict[str, object]
    values: dict[str, object]
    ours: bool = False
    compared: str = ""  # the published row that it is held against
    differences: dict[str, float] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)


def measured(spec: dict, metrics: list[dict]) -> tuple[list[float], dict, str] | None:
    """The numbers over seeds that belong in a column, their protocol, and the evaluation's plug-in."""
    for substitute in (False, True):
        for name in spec["evaluations"]:
            found = [
                m for m in metrics
                if m["evaluation"]["name"] == name and spec["metric"] in m["metrics"]
                and all(m["evaluation"].get(key) == value for key, value in spec.get("options", {}).items())
                and (m["protocol"]["data"] == spec["data"] if not substitute else spec.get("substitute"))
            ]  # fmt: skip
            if found:
                one = [m for m in found if m["eval"] == found[0]["eval"]]
                return [m["metrics"][spec["metric"]] for m in one], one[0]["protocol"], name
    return None


def compared_row(table: dict, about: dict) -> dict | None:
    """The published row that an experiment is held against, as a dict; None if there is none of its kind."""
    for rule in table["compare"]:
        own = about["objective_options"]
        if (
            any(own.get(key) != value for key, value in rule["objective"].items())
            or rule.get("head", about["head"]) != about["head"]
        ):
            continue
        for values in table["rows"]:
            row = dict(zip(table["columns"], values, strict=True))
            if row["method"] == rule["method"] and row.get("architecture") == rule.get("architecture", row.get("architecture")):
                return row
    return None


def our_row(table: dict, name: str, about: dict, metrics: list[dict]) -> Row | None:
    """An experiment's row, from the metrics.json of its last stage; None if nothing of it belongs in the table."""
    found = {column: one for column, spec in table["measured"].items() if (one := measured(spec, metrics))}
    if not found:
        return None
    stage = about["stages"][-1]
    kind = f"{about['encoder']}, {about['head']} head"
    row = Row(name, {"architecture": kind, "network": kind, "epochs": stage, "pretraining_set": about["dataset"]}, {}, ours=True)
    published = compared_row(table, about) if stage else None  # an untrained network is nobody's
    epochs = published.get("epochs", table.get("epochs")) if published else None
    if about["dataset"] != PRETRAINING["data"]:
        row.differs.append(f"pretrained on {about['dataset']}")
    if about["encoder"] != PRETRAINING["encoder"]:
        row.differs.append(f"network {about['encoder']}")
    if epochs and stage != epochs:
        row.differs.append(f"{stage} epochs, not {epochs}")
    for column, (values, protocol, plugin) in found.items():
        spec = table["measured"][column]
        row.values[column] = spread(values)
        images = protocol.get("test_images")
        if protocol["data"] != spec["data"]:
            row.differs.append(f"{column} on {protocol['data']}")
        elif images != spec.get("test_images", images):
            row.differs.append(f"{column} on {images:,} images, not {spec['test_images']:,}")
        elif published and published.get(column) is not None:
            row.differences[column] = row.values[column][0] - published[column]
        if plugin != spec["evaluations"][0]:
            row.differs.append(f"{column} by {plugin}, not {spec['evaluations'][0]}")
    row.compared = "" if published is None else " ".join(str(published[k]) for k in ("method", "architecture") if k in published)
    return row


def tables_of(section: dict, published: dict, metrics: list[dict]) -> dict[str, tuple[dict, list[Row]]]:
    """Each of the paper's tables in which an experiment of the study has a number: the table and its rows, published first."""
    result = {}
    for key, table in published.items():
        ours = []
        for name in section["experiments"]:
            about = section["loaded"][name]
            own = [m for m in metrics if m["experiment"] == name and m["stage"] == about["stages"][-1]]
            if row := our_row(table, name, about, own):
                ours.append(row)
        if ours:
            rows = []
            for values in table["rows"]:
                row = dict(zip(table["columns"], values, strict=True))
                about = {k: row[k] for k in DESCRIPTIVE if k in row and k != "method"}
                rows.append(Row(str(row["method"]), about, {c: row[c] for c in table["measured"]}))
            result[key] = table, [*rows, *ours]
    return result


def words_of(table: dict, rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines as words; ours are marked, with the difference to the row named and what differs."""
    described = [c for c in table["columns"] if c in DESCRIPTIVE and c not in ("method", "params_millions")]
    columns = list(table["measured"])
    header = ["method", *described, *columns, "minus published", "differs from the paper in"]
    body = []
    for row in rows:
        values = [cell(row.values.get(c)) if row.ours else "-" if row.values[c] is None else f"{row.values[c]}" for c in columns]
        differences = ", ".join(f"{c} {value:+.2f}" for c, value in row.differences.items())
        against = f"{differences} ({row.compared})" if differences else "not comparable" if row.ours else ""
        about = ["-" if row.about.get(c) is None else str(row.about[c]) for c in described]
        name = f"ours: {row.method}" if row.ours else row.method
        body.append([name, *about, *values, against, "; ".join(row.differs)])
    return header, body


def csv_rows(key: str, rows: list[Row]) -> list[dict]:
    """A line a number: table, source, method, column, value, deviation, seeds, difference, compared, differs."""
    result = []
    for row in rows:
        for column, value in row.values.items():
            if value is None:
                continue
            mean, deviation, seeds = value if row.ours else (value, None, None)
            difference = row.differences.get(column)
            result.append({
                "table": key, "source": "ours" if row.ours else "published", "method": row.method, "column": column, "value": mean,
                "deviation": "" if deviation is None or deviation != deviation else deviation, "seeds": "" if seeds is None else seeds,
                "difference": "" if difference is None else difference, "compared": row.compared, "differs": "; ".join(row.differs),
            })  # fmt: skip
    return result


CSV_HEADER = ["table", "source", "method", "column", "value", "deviation", "seeds", "difference", "compared", "differs"]


def read_published(path: Path) -> dict:
    """config/published.yaml as plain data."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
