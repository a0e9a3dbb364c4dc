"""What a study reads that no job makes, looked at when it is read: raw data, its splits, labels and masks, and given weights."""

from pathlib import Path

from invp.plumbing.config import data_root, instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json
from invp.plumbing.plugins import constants, load_plugin, plugin_names


def manifest(dataset_id: str, split: str) -> str:
    """The path of a prepared split's manifest."""
    return f"results/datasets/{dataset_id}/{split}/manifest.json"


def has_split(study: dict, dataset_id: str, split: str) -> bool:
    """Whether a set has a split: prepared or, of sets whose users bring what they have, in the raw data."""
    options = study["datasets"][dataset_id]
    plugin = load_plugin("datasets", options["name"])
    if split not in plugin.SPLITS or Path(manifest(dataset_id, split)).exists() or not hasattr(plugin, "has_split"):
        return split in plugin.SPLITS
    return plugin.has_split(instance(plugin.Config, options), data_root(), split)


def has_several_labels(options: dict) -> bool:
    """Whether an image of a data set has several labels; one that is made of another set has what that has."""
    return (
        has_several_labels(options["of"])
        if "of" in options
        else getattr(load_plugin("datasets", options["name"]), "MULTI_LABEL", False)
    )


def has_masks(options: dict) -> bool:
    """Whether the images of a data set have masks of classes; one that is made of another set has what that has."""
    return has_masks(options["of"]) if "of" in options else constants("datasets", options["name"]).get("MASKS", False)


def labels_of(study: dict, dataset_id: str) -> str:
    """How many labels an image of a set's training and test splits has: none, one or several."""
    options = study["datasets"][dataset_id]
    plugin = load_plugin("datasets", options["name"])
    if has_several_labels(options):
        return "several"
    labelled = True
    for split in ("train", "test"):
        if (prepared := Path(manifest(dataset_id, split))).exists():
            content = read_json(prepared)
            labelled &= not isinstance(content, dict) or content.get("classes") != []
        elif hasattr(plugin, "has_labels") and has_split(study, dataset_id, split):
            labelled &= plugin.has_labels(instance(plugin.Config, options), data_root(), split)
    return "one" if labelled else "none"


def check_evaluations(experiment: dict) -> None:
    """UserError for an evaluation of masks that its data set has not, or of a graph that is not left or is of other images."""
    for entry, options in experiment["evaluations"].items():
        stated, dataset = constants("evals", options["name"]), experiment["evaluation_datasets"][entry]
        if stated.get("MASKS") and not has_masks(experiment["datasets"][dataset]):
            valid = ", ".join(name for name in plugin_names("datasets") if constants("datasets", name).get("MASKS"))
            raise UserError(
                f"evaluations.{entry}: {options['name']} needs the class of each pixel, and data set '{dataset}' has no masks; valid: {valid}"
            )
        if stated["NEEDS"] == "graph":
            _check_graph(entry, options, experiment)


def _check_graph(entry: str, options: dict, experiment: dict) -> None:
    graph, own, other = experiment["graph"], experiment["dataset_id"], experiment["evaluation_datasets"][entry]
    whose = f"evaluations.{entry}: {options['name']} takes the neighbours in the graph of its stage"
    if not graph["snapshot"]:
        raise UserError(f"{whose}, and graph.snapshot is false; valid: true")
    if other != own:
        raise UserError(f"{whose}, which is of '{own}', and its dataset is '{other}'; valid: none of its own")
    if options["k"] > graph["k"]:
        raise UserError(f"{whose}: k is {options['k']}, and graph.k {graph['k']}; valid: at most that, or raise graph.k")


def leave_out_what_needs_labels(study: dict) -> list[str]:
    """Takes evaluations and figures out of a study's experiments whose images have not the labels that they need; a line for each
    experiment says which."""
    kinds: dict[str, str] = {}
    lines = []
    for name, experiment in study["loaded"].items():
        left: dict[str, list[str]] = {}
        for key, kind in (("evaluations", "evals"), ("figures", "figures")):
            for entry, options in list(experiment[key].items()):
                stated = constants(kind, options["name"])
                dataset = experiment["evaluation_datasets"][entry] if key == "evaluations" else experiment["dataset_id"]
                labels = kinds[dataset] = kinds.get(dataset) or labels_of(study, dataset)
                if labels == "one" or stated.get({"none": "UNLABELLED", "several": "MULTI_LABEL"}[labels]):
                    continue
                del experiment[key][entry]
                has = "no labels" if labels == "none" else "several labels an image"
                left.setdefault(f"data set '{dataset}' has {has}", []).append(f"{key}.{entry}")
        lines += [f"{name}: {reason}: {', '.join(entries)} left out" for reason, entries in left.items()]
    return lines


def check(study: dict) -> None:
    """UserError, before any job starts, if a split that the study needs, or a file of given weights, is missing."""
    for dataset_id, splits in _needed_splits(study).items():
        missing = {split: by for split, by in splits.items() if not Path(manifest(dataset_id, split)).exists()}
        options = study["datasets"][dataset_id]
        plugin = load_plugin("datasets", options["name"])
        if missing and hasattr(plugin, "check_root"):
            plugin.check_root(instance(plugin.Config, options), data_root())
        for split, by in missing.items():
            if not has_split(study, dataset_id, split):
                share = ", or set test_share" if split == "test" and hasattr(plugin.Config, "test_share") else ""
                raise UserError(
                    f"data set '{dataset_id}' ({options['name']}) has no split '{split}' under {data_root()}, and {by} needs it: put it "
                    f"there (docs/data.md){share}, or take {by} back"
                )
    for name, experiment in study["loaded"].items():
        if experiment["weights"] is not None:
            _check_weights(name, experiment, study["seeds"])


def _needed_splits(study: dict) -> dict[str, dict[str, str]]:
    """Data set -> split -> who needs it: a training `train`, an evaluation or a figure that looks at test images `test` too."""
    needed: dict[str, dict[str, str]] = {}
    for name, experiment in study["loaded"].items():
        needed.setdefault(experiment["dataset_id"], {}).setdefault("train", name)
        for entry, options in experiment["evaluations"].items():
            splits = needed.setdefault(experiment["evaluation_datasets"][entry], {})
            for split in constants("evals", options["name"]).get("SPLITS", ("train", "test")):
                splits.setdefault(split, f"evaluations.{entry} of {name}")
        for entry, options in experiment["figures"].items():
            if {"features", "objective", "encoder"} & set(constants("figures", options["name"])["NEEDS"]):
                needed[experiment["dataset_id"]].setdefault("test", f"figures.{entry} of {name}")
    return needed


def _check_weights(name: str, experiment: dict, seeds: list[int]) -> None:
    """UserError for given weights that the first stage would fail on; nothing if it was run for every seed."""
    first = experiment["stages"][0]
    if all(Path(f"results/{name}/seed-{seed}/pretrain/stage-{first}/checkpoint.pt").exists() for seed in seeds):
        return
    path = data_root() / experiment["weights"]["file"]
    what = "does not exist" if not path.is_file() else "is empty" if not path.stat().st_size else ""
    if what:
        raise UserError(
            f"{name}, section 'weights': file is {experiment['weights']['file']!r}, and {path} {what}; put the file there, or set "
            "INVP_DATA (or data_root in the profile) to the folder that holds it"
        )
