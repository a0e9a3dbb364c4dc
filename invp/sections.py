"""What each step sees of an experiment: exactly what can change its result, and so what Snakemake tracks."""

from invp.plugins import load_plugin


def prepare(dataset: dict, split: str) -> dict:
    return {"dataset": dataset, "split": split}


def pretrain(experiment: dict, seed: int, stage: int) -> dict:
    keys = ("objective", "encoder", "head", "augmentation", "training", "weights")
    # Stages never change a result, but for an objective that takes its graph where a stage begins.
    begins = [s for s in experiment["stages"] if s < stage] if experiment["objective"].get("graph") == "stage" else []
    return {**{key: experiment[key] for key in keys}, "graph_stages": begins, "seed": seed, "stage": stage}


def network(experiment: dict) -> dict:
    """What it takes to build the encoder and the head, and to feed them."""
    augmentation = {key: experiment["augmentation"][key] for key in ("size", "mean", "std")}
    return {"encoder": experiment["encoder"], "head": experiment["head"], "augmentation": augmentation}


def graph(experiment: dict, seed: int, stage: int) -> dict:
    return {"graph": experiment["graph"], "objective": experiment["objective"], "seed": seed, "stage": stage}


def explorer(experiment: dict, seed: int) -> dict:
    return {
        "name": experiment["name"],
        "title": experiment["title"],
        "objective": experiment["objective"],
        "graph": experiment["graph"],
        "stages": experiment["stages"],
        "seed": seed,
    }


def features(experiment: dict, seed: int, stage: int, split: str) -> dict:
    return {**network(experiment), "seed": seed, "stage": stage, "split": split}


def evaluate(experiment: dict, seed: int, stage: int, name: str) -> dict:
    evaluation = experiment["evaluations"][name]
    section = {
        "experiment": experiment["name"],
        "evaluation_name": name,
        "evaluation": evaluation,
        "dataset": experiment["evaluation_datasets"][name],
        "pretraining_dataset": experiment["dataset_id"],
        "objective": experiment["objective"]["name"],
        "epochs": experiment["training"]["epochs"],
        "seed": seed,
        "stage": stage,
        "encoder_name": experiment["encoder"]["name"],
        "head_kind": experiment["head"]["kind"],
    }
    if load_plugin("evals", evaluation["name"]).NEEDS == "encoder":
        section |= network(experiment)
    return section


def figure(experiment: dict, seed: int, name: str) -> dict:
    return {
        "experiment": experiment["name"],
        "title": experiment["title"],
        "figure_name": name,
        "figure": experiment["figures"][name],
        "objective": experiment["objective"],
        "graph": experiment["graph"],
        "stages": experiment["stages"],
        "seed": seed,
    }


def summary(study: dict) -> dict:
    keys = ("study", "title", "columns", "reference", "experiments", "seeds")
    experiments = {
        name: {
            "title": e["title"],
            "objective": e["objective"]["name"],
            "objective_options": e["objective"],
            "encoder": e["encoder"]["name"],
            "head": e["head"]["kind"],
            "dataset": e["dataset_id"],
            "epochs": e["training"]["epochs"],
            "stages": e["stages"],
        }
        for name, e in study["loaded"].items()
    }
    return {**{key: study[key] for key in keys}, "loaded": experiments}


def report(study: dict) -> dict:
    descriptions = {name: e["description"] for name, e in study["loaded"].items()}
    return {**summary(study), "description": study["description"], "descriptions": descriptions}
