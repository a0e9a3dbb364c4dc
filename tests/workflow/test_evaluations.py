"""Every evaluation in one study from one command: digits, a tree in PASCAL VOC's layout, and folders of classes, all generated here."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from invp.data.answers import unpacked
from invp.data.shards import Shards
from invp.plumbing.config import plugin_options
from invp.plumbing.plugins import load_plugin, plugin_names
from invp.steps import prepare

# Added to the finished experiment, whose training is then done already.
EVALUATIONS = """
evaluations:
  knn: {}
  linear: {epochs: 5}
  linear-blocks: {epochs: 3, learning_rates: [0.1, 0.3], weight_decays: [0.0]}
  svm: {dataset: {name: voc2007, classes: ["0", "1"]}, costs: [0.1, 1.0]}
  low-shot-svm: {shots: [1, 4], draws: 2}
  embedding-statistics: {}
  clusters: {tries: 2}
  scan: {k: 5, epochs: 2, tries: 1}
  ranks: {viewed: 40, views: 4}
  semi-1pct: {name: semi_supervised, share: 0.01, batch_size: 10, epochs: 5}
  semi-10pct: {name: semi_supervised, share: 0.1, batch_size: 32, epochs: 5, learning_rate: 0.01}
  transfer:
    dataset: {name: image_folder, folder: folders}
    metric: mean_per_class
    learning_rates: [0.00001, 0.1]
    weight_decays: [0.0]
    steps: 40
    batch_size: 32
    crop_scale: [0.8, 1.0]
    flip: false
  layer-readout: {dataset: {name: composites, size: 16, train_images: 100, test_images: 50}, components: 20, splits: 2, costs: [0.01]}
  detection:
    dataset: {name: voc2007, classes: ["0", "1"]}
    steps: 100
    batch_size: 4
    drops: [80]
    warmup: 10
    train_sizes: [64]
    test_size: 64
    longest: 64
    anchors: [12, 18, 26]
    pooled: 7
    regions: 64
    curve: [0, 100]
  segmentation: {dataset: {name: scenes, size: 64, train_images: 8, test_images: 4}, steps: 3, batch_size: 2, crop: 48, width: 8}
"""
STUDY = "config/studies/every-evaluation.yaml"
PAGES = "results/studies/every-evaluation"
EXPERIMENT = "config/experiments/smoke-invp.yaml"
COLUMNS = "[linear-blocks.top1, linear-blocks.top1_stem]"


def write_folders(root: Path, digits: dict[str, Path]) -> None:
    """root/{train,val,test}/CLASS/*.png: 20, 8 and 12 digits of each of four classes."""
    shards = Shards(digits["train"])
    for label in range(4):
        numbers = (shards.labels == label).nonzero()[:40, 0]
        for place, (number, pixels) in enumerate(zip(numbers.tolist(), shards.images(numbers), strict=True)):
            part = "train" if place < 20 else "val" if place < 28 else "test"
            path = root / part / f"digit {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0].numpy()).resize((32, 32)).save(path)


@pytest.fixture(scope="module")
def project(finished, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluations")
    sys.path.insert(0, str(Path(__file__).parent.parent / "evals"))
    from test_detection import SCENES, as_voc

    for split, name in (("train", "trainval"), ("test", "test")):
        prepare.write_split(plugin_options("datasets", SCENES, "test"), split, None, folder / split, 2)
        as_voc(Shards(folder / split), folder / "data", name)
    (folder / "data/VOCdevkit/VOC2007/ImageSets/Main/val.txt").write_text("")
    write_folders(folder / "data/folders", digits)
    project = finished.copy(folder / "project")
    shutil.rmtree(project.folder / "results/studies/smoke")  # of other options: stale, as `verify` would say
    project.data = str(folder / "data")
    with open(project.folder / EXPERIMENT, "a") as file:
        file.write(EVALUATIONS)
    (project.folder / STUDY).write_text(f"study: every-evaluation\nexperiments: [smoke-invp]\ncolumns: {COLUMNS}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INVP_DATA", str(folder / "data"))
        project.snakemake("all", study=STUDY)
        yield project


def result(project, name: str) -> dict:
    return json.loads((project.folder / f"results/smoke-invp/seed-0/evals/{name}/stage-2/metrics.json").read_text())


def test_every_plugin_was_run_and_has_a_protocol_card(project):
    paths = sorted((project.folder / "results/smoke-invp/seed-0/evals").glob("*/stage-2/metrics.json"))
    contents = [json.loads(path.read_text()) for path in paths]
    assert {c["evaluation"]["name"] for c in contents} == set(plugin_names("evals"))
    for content in contents:
        assert {"kind", "data", "trained_on", "network", "epoch", "seed"} <= set(content["protocol"]), content["eval"]
        assert all(each in content["protocol"]["differs"] for each in load_plugin("evals", content["evaluation"]["name"]).DIFFERS)
        assert content["record"]["section"]["evaluation"] == content["evaluation"] and content["metrics"]
        classifies = content["evaluation"]["name"] in ("knn", "linear", "linear_blocks", "semi_supervised", "transfer")
        assert bool(content["answers"]) == classifies, content["eval"]
        for name, text in content["answers"].items():
            right = unpacked(text, content["protocol"]["test_images"])
            assert 100 * right.mean() == pytest.approx(content["metrics"][name])
    assert "0 faults" in project.invp("verify")


def test_detection_rises_from_zero_and_the_others_from_chance(project):
    first, last = result(project, "detection")["details"]["curve"]
    assert first["ap"] < 1 < 5 < last["ap"] and result(project, "detection")["metrics"]["ap50"] > 10
    assert result(project, "knn")["metrics"]["top1"] > 40 and result(project, "linear")["metrics"]["top1"] > 60
    assert result(project, "semi-10pct")["metrics"]["top1"] > 20 and result(project, "svm")["metrics"]["map"] > 40
    transfer = result(project, "transfer")
    assert transfer["metrics"]["score"] > 50 and transfer["protocol"]["chosen"]["learning_rate"] == 0.1
    assert "own validation split" in transfer["protocol"]["choice"], "image_folder's val"


def test_every_blocks_probe_is_there_and_a_chosen_column_is_printed(project):
    found = result(project, "linear-blocks")
    assert found["metrics"]["top1"] > 60 and len(found["details"]["blocks"]) == 4
    assert f" {found['metrics']['top1_stem']:.1f} [" in (project.folder / PAGES / "summary.txt").read_text()


def test_few_labels_are_listed(project):
    assert len(result(project, "semi-1pct")["details"]["subset"]) == 10
    assert len(result(project, "semi-10pct")["details"]["subset"]) == 140


def test_the_papers_tables_are_beside_ours(project):
    text = (project.folder / PAGES / "summary.md").read_text()
    assert "## Table 1" in text, "which has VOC2007"
    for number in (2, 3, 4, 5):
        assert f"## Table {number}" not in text and f": Table {number}:" in text, "only which set it would need"
    assert "ours: smoke-invp" in text and "not comparable" in text and "pretrained on digits" in text
    lines = (project.folder / PAGES / "tables.csv").read_text().splitlines()
    assert lines[0].startswith("table,source,method")
    assert [line.split(",")[0] for line in lines if ",ours," in line] == ["linear_classification", "mmselfsup"], "VOC2007's SVMs"
    assert "voc2007_map on 24 images, not 4,952" in text
    page = (project.folder / PAGES / "report.html").read_text()
    assert "Beside published numbers" in page and "ours: smoke-invp" in page and "Confusion" in page


def test_an_evaluations_option_reruns_that_evaluation(project):
    assert project.planned(study=STUDY) == {}
    project.edit(EXPERIMENT, "linear: {epochs: 5}", "linear: {epochs: 6}")
    assert project.planned(study=STUDY) == {"evaluate": 1, "summary": 1, "report": 1}
    project.edit(EXPERIMENT, "linear: {epochs: 6}", "linear: {epochs: 5}")
    project.edit("config/published.yaml", "[InvP, 63.3]", "[InvP, 63.4]")
    assert project.planned(study=STUDY) == {"summary": 1, "report": 1}


def test_parts_are_jobs_with_files_and_one_more_runs_alone(project):
    folder = project.folder / "results/smoke-invp/seed-0/evals"
    files = {path.name for path in folder.glob("*/stage-2/parts/*.json") if not path.name.endswith(".record.json")}
    assert files == {"rate-1e-05-decay-0.0.json", "rate-0.1-decay-0.0.json", "split-0.json", "split-1.json"}
    assert "made by      evaluate_part" in project.invp("why", f"{folder}/transfer/stage-2/parts/rate-0.1-decay-0.0.json")
    scores = [
        json.loads(path.read_text())["result"]["score"] for path in sorted(folder.glob("transfer/stage-2/parts/rate-?.?-*0.0.json"))
    ]
    assert scores == [result(project, "transfer")["metrics"]["validation_score"]]
    project.edit(EXPERIMENT, "learning_rates: [0.00001, 0.1]", "learning_rates: [0.00001, 0.1, 0.2]")
    assert project.planned(study=STUDY) == {"evaluate_part": 1, "evaluate": 1, "summary": 1, "report": 1}
    project.edit(EXPERIMENT, "learning_rates: [0.00001, 0.1, 0.2]", "learning_rates: [0.1]")  # one pair is one job
    assert project.planned(study=STUDY) == {"evaluate": 1, "summary": 1, "report": 1}
    project.edit(EXPERIMENT, "learning_rates: [0.1]", "learning_rates: [0.00001, 0.1]")
    project.edit(EXPERIMENT, "components: 20, splits: 2", "components: 20, splits: 3")
    assert project.planned(study=STUDY) == {"evaluate_part": 1, "evaluate": 1, "summary": 1, "report": 1}
    project.edit(EXPERIMENT, "components: 20, splits: 3", "components: 20, splits: 2")


def test_under_the_profile_of_a_cluster_jobs_without_a_gpu_ask_for_none(project):
    printed = project.python("snakemake", "--profile", "profiles/slurm", "-n", "--forceall", "all", "--configfile", STUDY)
    asked: dict[str, set[tuple[str, bool, str]]] = {}
    for block in printed.split("rule ")[1:]:
        evaluation, resources = (re.search(pattern, block) for pattern in (r"eval=([\w-]+)", r"resources: (.*)"))
        if evaluation:
            partition = re.search(r"slurm_partition=(\w+)", resources[1])[1]
            asked.setdefault(evaluation[1], set()).add((block.split(":")[0], "gpu=1" in resources[1], partition))
    on_gpu, on_cpu, part = ("evaluate", True, "gpu"), ("evaluate_on_cpu", False, "cpu"), ("evaluate_part", True, "gpu")
    assert asked == {
        **dict.fromkeys(("knn", "svm", "low-shot-svm", "embedding-statistics", "clusters"), {on_cpu}),
        **dict.fromkeys(
            ("linear", "linear-blocks", "scan", "ranks", "semi-1pct", "semi-10pct", "detection", "segmentation"), {on_gpu}
        ),
        "transfer": {on_gpu, part},
        "layer-readout": {on_cpu, part},
    }


def test_a_folder_without_val_is_planned_without_it(project):
    """What a user brings need not have a validation split: transfer then holds training images out."""
    shutil.copytree(Path(project.data) / "folders", Path(project.data) / "plain", ignore=shutil.ignore_patterns("val"))
    options = "{name: transfer, dataset: {name: image_folder, id: SET, folder: FOLDER}, steps: 5, batch_size: 8}"
    for name, folder, prepared in (("with-val", "folders", 3), ("without-val", "plain", 2)):
        own = options.replace("SET", name).replace("FOLDER", folder)
        text = (
            f"extends: digits-invp\nevaluations: {{knn: false, linear: false, moved: {own}}}\nfigures: {{training-curves: false}}\n"
        )
        (project.folder / f"config/experiments/digits-{name}.yaml").write_text(text)
        study = f"config/studies/{name}.yaml"
        (project.folder / study).write_text(f"study: {name}\nexperiments: [digits-{name}]\n")
        assert project.planned(study=study)["prepare"] == prepared
