"""Equal work is done once: the jobs of the study of the paper's tables, and what old results are told."""

import collections
import re

import yaml

TABLES = "config/studies/tables.yaml"
SETS = [
    "imagenet",
    "places205",
    "voc2007",
    "cifar10",
    "cifar100",
    "caltech101",
    "stanford-cars",
    "oxford-pets",
    "flowers102",
    "voc0712",
]


def test_the_study_tables_trains_each_network_once(new_project):
    """Prepared sets are pretended by their manifests: a dry run opens none."""
    for name in SETS:
        for split in ("train", "test", "val", "trainval"):
            manifest = new_project.folder / f"results/datasets/{name}/{split}/manifest.json"
            manifest.parent.mkdir(parents=True)
            manifest.write_text("{}")
    words = new_project.snakemake("all", "-n", "-p", study=TABLES)
    sections = re.findall(r"invp pretrain --section '([^']*)'", words)
    repeated = [section for section, count in collections.Counter(sections).items() if count > 1]
    assert len(sections) > 10 and not repeated
    experiments = yaml.safe_load((new_project.folder / TABLES).read_text())["experiments"]
    assert len({(m[1], m[2]) for m in re.finditer(r"experiment=([\w-]+), seed=0, stage=(\d+)$", words, re.MULTILINE)}) >= len(
        experiments
    )


def test_results_of_an_experiment_that_is_gone_are_named_with_what_to_do(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    (project.folder / "results/smoke-invp").rename(project.folder / "results/smoke-invp-tables")
    words = project.snakemake("all", "-n")
    assert "results of smoke-invp-tables are kept, but there is no such experiment" in words and "rename the folder" in words
    assert "smoke-instance-discrimination are kept" not in words
