"""Tables of accuracies on corrupted test images: an experiment a row, a kind of corruption a column, beside the accuracy on clean images.

They are made of the evaluations whose data set is `corrupted`. S seeds, n test images.
"""

from statistics import fmean

from invp.pages.numbers import Numbers, estimate_of, last_stage
from invp.pages.tables import Table
from invp.plumbing.files import canonical_json


def evaluations_by_corruption(study: dict) -> list[dict]:
    """What a study measures on corrupted images: an entry for each evaluation, with its options, of each set that is corrupted.

    An entry has `evaluation` and `of`, the names of the evaluation's plug-in and of the set, and by experiment `clean`, the name of the
    same evaluation on the clean set ('' without one), and `kinds`: kind -> pairs of a severity and an evaluation's name.
    """
    found: dict[str, dict] = {}
    for experiment, options in study["loaded"].items():
        datasets = {name: options["datasets"][dataset] for name, dataset in options["evaluation_datasets"].items()}
        for name, evaluation in options["evaluations"].items():
            if datasets[name]["name"] != "corrupted":
                continue
            of = datasets[name]["of"]
            entry = found.setdefault(
                canonical_json([evaluation, of]), {"evaluation": evaluation["name"], "of": of["name"], "experiments": {}}
            )
            clean = next((n for n, other in options["evaluations"].items() if other == evaluation and datasets[n] == of), "")
            own = entry["experiments"].setdefault(experiment, {"clean": clean, "kinds": {}})
            own["kinds"].setdefault(datasets[name]["corruption"], []).append([datasets[name]["severity"], name])
    return list(found.values())


def first_column(entry: dict, metrics: list[dict]) -> str | None:
    """The first number in % that one of an entry's evaluations gives of test images, as `evaluation.metric`; None if there is none."""
    names = {(e, name) for e, own in entry["experiments"].items() for pairs in own["kinds"].values() for _, name in pairs}
    for content in metrics:
        if (content["experiment"], content["eval"]) in names:
            for metric in content["metrics"]:
                if content["units"][metric]["unit"] == "%" and not metric.startswith("validation"):
                    return f"{content['eval']}.{metric}"
    return None


def mean_by_seed(section: dict, numbers: Numbers, experiment: str, columns: list[str]) -> list[float] | None:
    """The mean of columns at an experiment's last stage, a value a seed; None unless every seed of the study has all of them."""
    stage, seeds = last_stage(section, experiment), section["seeds"]
    pairs = [(numbers.seeds(experiment, stage, column), numbers.values(experiment, stage, column)) for column in columns]
    known = [dict(zip(*pair, strict=True)) for pair in pairs]
    if not known or any(seed not in values for values in known for seed in seeds):
        return None
    return [fmean(values[seed] for values in known) for seed in seeds]


def tables(section: dict, numbers: Numbers, metrics: list[dict]) -> list[tuple[str, Table]]:
    """The tables of a study with their titles. A number is the mean over a kind's severities, then over kinds, with the deviation over S
    seeds; '-' where one of them is missing."""
    result = []
    for entry in section["corrupted"]:
        column = first_column(entry, metrics)
        if column is None:
            continue
        metric, decimals = column.split(".", 1)[1], numbers.decimals(column)
        severities: dict[str, set[int]] = {}
        for own in entry["experiments"].values():
            for kind, pairs in own["kinds"].items():
                severities.setdefault(kind, set()).update(severity for severity, _ in pairs)
        heads = [f"{kind.replace('_', ' ')} ({', '.join(map(str, sorted(own)))})" for kind, own in severities.items()]
        table = Table(["experiment", "clean", "mean over kinds", *heads], [])
        for experiment in (name for name in section["experiments"] if name in entry["experiments"]):
            own = entry["experiments"][experiment]
            by_kind = []
            for kind, asked in severities.items():
                pairs = own["kinds"].get(kind, [])
                columns = [f"{name}.{metric}" for _, name in pairs] if {severity for severity, _ in pairs} == asked else []
                by_kind.append(mean_by_seed(section, numbers, experiment, columns))
            over_kinds = None if None in by_kind else [fmean(values) for values in zip(*by_kind, strict=True)]
            own_clean = f"{own['clean']}.{metric}"
            whole = mean_by_seed(section, numbers, experiment, [own_clean])
            clean = numbers.text(experiment, last_stage(section, experiment), own_clean) if whole else "-"
            cells = [estimate_of(values).text(decimals) if values else "-" for values in (over_kinds, *by_kind)]
            table.rows.append([experiment, clean, *cells])
        images = " or ".join(f"{n:,}" for n in numbers.images(column))
        counted = f" (n = {images})" if images else ""
        result.append((f"{entry['evaluation']} on {entry['of']}, {metric} in %{counted}", table))
    return result
