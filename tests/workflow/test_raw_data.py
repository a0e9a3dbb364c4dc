"""Raw data that changes after it was prepared: what runs again, and what is said."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.conftest import Project, fresh, jobs_in

STUDY = "config/studies/mine.yaml"
EXPERIMENT = """\
extends: smoke-invp
title: Folders of classes
dataset: {name: image_folder, folder: mine, decode: true}
evaluations: {linear: false}
graph: {snapshot: false}
figures: {training-curves: false}
training: {epochs: 1, batch_size: 32}
objective: {ramp_epoch: 0, num_negatives: 0}
stages: [1]
"""
AFTER_TEST = {"features": 1, "evaluate": 1, "summary": 1, "report": 1}
AFTER_TRAIN = {"pretrain": 1, **AFTER_TEST, "features": 2}


class Mine(Project):
    """A project with raw data of its own beside it."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.raw = folder / "raw"

    def copy(self, folder: Path) -> "Mine":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Mine(folder)

    def snakemake(self, *arguments: str, **options) -> str:
        return super().snakemake(*arguments, study=STUDY, INVP_DATA="raw", **options)

    def invp(self, *arguments: str, expect: int | None = 0) -> str:
        return self.python("invp", *arguments, expect=expect, INVP_DATA="raw")

    def bytes_of(self) -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (self.folder / "results").rglob("*") if p.is_file()}


def image(path: Path, pixels) -> None:
    """A BMP: all of them have the same size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15).astype("uint8")).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Mine:
    """A finished study of two classes: 2 x 30 images for training, 2 x 10 for the test. Not to be changed: copy it."""
    project = Mine(fresh(tmp_path_factory.mktemp("raw") / "made").folder)
    for label in (0, 1):
        for i, pixels in enumerate(load_digits().images[load_digits().target == label][:40]):
            image(project.raw / "mine" / ("train" if i < 30 else "test") / f"digit-{label}" / f"{i:02d}.bmp", pixels)
    (project.folder / "config/experiments/mine-invp.yaml").write_text(EXPERIMENT)
    (project.folder / STUDY).write_text("study: mine\nexperiments: [mine-invp]\ncolumns: [knn.top1]\n")
    project.snakemake("all")
    return project


@pytest.fixture
def project(made, tmp_path) -> Mine:
    return made.copy(tmp_path / "project")


def rename_class(raw: Path) -> None:
    for split in ("train", "test"):
        (raw / split / "digit-1").rename(raw / split / "one")


def delete_image(raw: Path) -> None:
    (raw / "train/digit-0/03.bmp").unlink()


def add_image(raw: Path) -> None:
    shutil.copy(raw / "test/digit-0/33.bmp", raw / "test/digit-0/99.bmp")


def other_content(raw: Path) -> None:
    """Of the same size in bytes."""
    (raw / "train/digit-0/05.bmp").write_bytes((raw / "train/digit-0/04.bmp").read_bytes())


def touch(raw: Path) -> None:
    for path in (raw / "train").rglob("*.bmp"):
        os.utime(path, (1, 1))


def nothing(raw: Path) -> None:
    pass


DELETED = "mine/train/digit-1/00.bmp, mine/train/digit-1/01.bmp, mine/train/digit-1/02.bmp, ..."
ADDED = DELETED.replace("digit-1", "one")
# What is changed, the jobs that run again, and what the start says of the split train and of the split test.
CHANGES = {
    "a renamed class": (
        rename_class,
        {"prepare": 2, **AFTER_TRAIN},
        f"changed since it was prepared: 30 deleted ({DELETED}), 30 added ({ADDED}): it is prepared again",
        "changed since it was prepared: 10 deleted (mine/test/digit-1/30.bmp, ",
    ),
    "a deleted image": (
        delete_image,
        {"prepare": 1, **AFTER_TRAIN},
        "changed since it was prepared: 1 deleted (mine/train/digit-0/03.bmp): it is prepared again",
        None,
    ),
    "an added image": (
        add_image,
        {"prepare": 1, **AFTER_TEST},
        None,
        "changed since it was prepared: 1 added (mine/test/digit-0/99.bmp): it is prepared again",
    ),
    "the same name with other content": (
        other_content,
        {"prepare": 1, **AFTER_TRAIN},
        "changed since it was prepared: 1 changed (mine/train/digit-0/05.bmp): it is prepared again",
        None,
    ),
    "touched": (touch, {}, "has 60 files with another time and the same content: nothing runs again for that", None),
    "nothing": (nothing, {}, None, None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_runs_again_after_a_change_of_raw_data_and_what_is_said(name, project):
    change, jobs, train, test = CHANGES[name]
    change(project.raw / "mine")
    before = project.bytes_of()
    printed = project.snakemake("all", "-n")
    assert jobs_in(printed) == jobs
    for split, said in (("train", train), ("test", test)):
        lines = [line for line in printed.splitlines() if f"raw data of image-folder, split {split}, " in line]
        assert len(lines) == (said is not None) and all(said in line for line in lines), printed
    assert project.bytes_of() == before, "a dry run wrote something"
    changed = train is not None and bool(jobs)
    assert (f"image-folder/train: its raw data {train}".split(": it is prepared")[0] if changed else "faults") in project.invp(
        "verify", expect=int(bool(jobs))
    )
    why = project.invp("why", "results/datasets/image-folder/train")
    assert ": prepare would run again" in why if changed else "raw data     as it was" in why or name == "touched"
    assert "its section" in why and "its code" in why


def test_touched_files_are_said_once_and_a_split_that_was_prepared_again_is_as_it_was(project):
    touch(project.raw / "mine")
    before = project.bytes_of()
    assert "60 files with another time and the same content" in project.snakemake("all")
    after = project.bytes_of()
    listing = project.folder / "results/datasets/image-folder/train/raw.arrow"
    assert after.pop(listing) != before.pop(listing) and after == before, "no job ran, no result was written"
    assert "raw data" not in project.snakemake("all", "-n")
    add_image(project.raw / "mine")
    assert "1 added" in project.snakemake("results/datasets/image-folder/test/manifest.json")
    printed = project.snakemake("all", "-n")
    assert "raw data" not in printed and jobs_in(printed) == AFTER_TEST


def test_a_prepare_that_fails_hides_no_change(project):
    """Snakemake deletes what a failed job wrote, and does not miss it where all that was made of it is there."""
    broken = project.raw / "mine/train/digit-0/99.bmp"
    broken.write_bytes(b"no image")
    assert "99.bmp is no usable image" in project.snakemake("all", expect=1)
    assert jobs_in(project.snakemake("all", "-n"))["prepare"] == 1
    broken.unlink()
    printed = project.snakemake("all", "-n")
    assert "was not prepared to the end: it is prepared again" in printed and jobs_in(printed) == {"prepare": 1, **AFTER_TRAIN}


def test_raw_data_that_is_gone_is_said_and_results_are_used(project):
    shutil.rmtree(project.raw)
    printed = project.snakemake("all")
    assert "Nothing to be done" in printed and printed.count("is no longer under raw: what was prepared of it is used") == 2
    assert "0 faults" in project.invp("verify")
    assert "raw data     is no longer under raw" in project.invp("why", "results/datasets/image-folder/train/manifest.json")
    shutil.rmtree(project.folder / "results/mine-invp/seed-0/features")
    shutil.rmtree(project.folder / "results/mine-invp/seed-0/evals")
    assert jobs_in(project.snakemake("all", "-n")) == {"features": 2, "evaluate": 1, "summary": 1, "report": 1}


def test_the_comparison_may_be_switched_off_and_that_is_said(project):
    rename_class(project.raw / "mine")
    printed = project.snakemake("all", "-n", "--config", "raw_data=trust")
    assert "raw data is not compared with what was prepared of it (raw_data: trust)" in printed and jobs_in(printed) == {}


def test_what_was_prepared_without_a_listing_is_compared_from_the_next_start_on(project):
    listing = project.folder / "results/datasets/image-folder/train/raw.arrow"
    listing.unlink()
    for arguments in (("-n",), ()):
        assert "was not listed when it was prepared: it is compared from now on" in project.snakemake("all", *arguments)
        assert listing.exists() == (not arguments)
    delete_image(project.raw / "mine")
    assert jobs_in(project.snakemake("all", "-n"))["prepare"] == 1


def test_a_cache_of_shards_knows_other_raw_data(project, tmp_path):
    (tmp_path / "cache").mkdir()
    shutil.rmtree(project.folder / "results")
    other = project.copy(tmp_path / "other")
    delete_image(other.raw / "mine")
    wanted, shared = "results/datasets/image-folder/train/manifest.json", {"SNAKEMAKE_OUTPUT_CACHE": str(tmp_path / "cache")}
    for each, images in ((project, 60), (other, 59)):
        each.snakemake(wanted, "--cache", "prepare", **shared)
        assert f'"num_samples": {images},' in (each.folder / wanted).read_text()
    touch(other.raw / "mine")
    assert jobs_in(other.snakemake(wanted, "-n")) == {}
