"""Input functions: what the jobs read."""

from invp.plumbing.files import read_json
from invp.plumbing.needs import has_split
from invp.plumbing.plugins import constants


def training_manifest(w):
    return manifest(EXPERIMENTS[w.experiment]["dataset_id"], "train")


def try_again_if_not_made(record):
    """Forces the job of a result that `on_error: report` let pass without being made, when the study has `stop` again.

    Nothing that is tracked of the job tells: `on_error` is no part of what is made. Called while the graph of jobs is built.
    """
    if STUDY["on_error"] == "stop" and workflow.is_main_process and Path(record).exists() and "not_made" in read_json(record):
        workflow.dag.forcefiles.add(record)


def parent_of(w):
    stages = stages_of(w.experiment)
    position = stages.index(int(w.stage))
    if position == 0:
        return {}
    return {"parent": f"{RUN}/pretrain/stage-{stages[position - 1]}/checkpoint.pt".format(**w)}


def pretrain_inputs(w):
    if int(w.stage) not in stages_of(w.experiment):
        raise ValueError(f"{w.experiment} has no stage {w.stage}; its stages: {stages_of(w.experiment)}")
    return {"dataset": training_manifest(w), **parent_of(w)}


def previous_graph(w):
    stages = stages_of(w.experiment)
    position = stages.index(int(w.stage))
    return {"previous": f"{RUN}/graph/stage-{stages[position - 1]}/knn.arrow".format(**w)} if position else {}


def features_for_graph(w):
    """The training set's features, where the objective keeps no bank or the graph is asked of features."""
    experiment = EXPERIMENTS[w.experiment]
    if experiment["graph"]["of"] == "bank" and int(w.stage) > 0:
        return {}
    return {"features": f"{RUN}/features/stage-{{stage}}/{experiment['dataset_id']}-train.arrow".format(**w)}


def graph_inputs(w):
    path = f"{RUN}/pretrain/stage-{{stage}}/checkpoint.pt".format(**w)
    return {"checkpoint": path, "dataset": training_manifest(w), **previous_graph(w), **features_for_graph(w)}


def explorer_inputs(w):
    graphs = [f"{RUN}/graph/stage-{s}/knn.arrow".format(**w) for s in stages_of(w.experiment)]
    return {"graph": graphs, "dataset": training_manifest(w)}


def evaluation_data(w):
    """What an evaluation and each of its parts read."""
    experiment = EXPERIMENTS[w.experiment]
    dataset = experiment["evaluation_datasets"][w.eval]
    stated = constants("evals", experiment["evaluations"][w.eval]["name"])
    files = {}
    if stated["NEEDS"] == "encoder":
        files["checkpoint"] = f"{RUN}/pretrain/stage-{{stage}}/checkpoint.pt".format(**w)
    if stated["NEEDS"] == "graph":
        files["graph"] = f"{RUN}/graph/stage-{{stage}}/knn.arrow".format(**w)
    for split in stated.get("SPLITS", ("train", "test")):
        if stated["NEEDS"] in ("features", "graph"):
            files[split] = f"{RUN}/features/stage-{{stage}}/{dataset}-{split}.arrow".format(**w)
        files[f"{split}_data"] = manifest(dataset, split)
    # The set's own validation split, for an evaluation that chooses on one.
    if stated.get("VALIDATION") and has_split(STUDY, dataset, "val"):
        files["validation_data"] = manifest(dataset, "val")
    return files


def part_inputs(w):
    try_again_if_not_made(f"{EVALUATION}/parts/{{part}}.record.json".format(**w))
    return evaluation_data(w)


def evaluate_inputs(w):
    try_again_if_not_made(f"{EVALUATION}/record.json".format(**w))
    parts = PARTS_OF[w.experiment, w.eval]
    files = {"part": [f"{EVALUATION}/parts/{part}.json".format(**w) for part in parts]} if parts else {}
    return {**evaluation_data(w), **files}


def figure_inputs(w):
    """Only what the figure's plug-in needs, so that it reruns for nothing else."""
    experiment = EXPERIMENTS[w.experiment]
    try_again_if_not_made(f"{RUN}/figures/{{figure}}.record.json".format(**w))
    needs = constants("figures", experiment["figures"][w.figure]["name"])["NEEDS"]
    run, stages = RUN.format(**w), experiment["stages"]
    files = {}
    if "curves" in needs:
        files["curves"] = [f"{run}/pretrain/stage-{s}/metrics.jsonl" for s in stages]
    if "graph" in needs:
        files["graph"] = [f"{run}/graph/stage-{s}/knn.arrow" for s in stages]
    if "features" in needs:
        for split in ("train", "test"):
            files[f"features_{split}"] = f"{run}/features/stage-{stages[-1]}/{experiment['dataset_id']}-{split}.arrow"
    if "stage_features" in needs:
        files["stage_features"] = [f"{run}/features/stage-{s}/{experiment['dataset_id']}-train.arrow" for s in stages]
    if "metrics" in needs:
        files["metrics"] = [f"{run}/evals/{e}/stage-{stages[-1]}/metrics.json" for e in experiment["evaluations"]]
    if {"objective", "encoder"} & set(needs):
        files["checkpoint"] = f"{run}/pretrain/stage-{stages[-1]}/checkpoint.pt"
    for split in ("train", "test") if {"features", "objective", "encoder"} & set(needs) else ("train",):
        files[f"dataset_{split}"] = manifest(experiment["dataset_id"], split)
    return files


def pictured():
    """The graphs on the report's first screen: maps before and after training, the walks after it, and the images of both."""
    found = MEMO(canonical_json(["pictured", STUDY_DIGEST]), lambda: load_plugin("steps", "report").pictured(STUDY))
    if not found:
        return {}
    name, stage = found[-1]
    graph = f"{RUN}/graph/stage-{stage}".format(experiment=name, seed=SEEDS[0])
    walks = [f"{graph}/{file}.arrow" for file in ("knn", "positives")]
    images = manifest(EXPERIMENTS[name]["dataset_id"], "train")
    maps = [f"{RUN}/map.arrow".format(experiment=name, seed=SEEDS[0]) for name, _ in found]
    return {"maps": maps, "walks": walks, "images": images}
