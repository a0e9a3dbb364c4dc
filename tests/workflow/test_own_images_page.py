"""The page "Your own images" as a newcomer follows it: each of its files as it stands there, in an empty folder, with one command."""

import csv
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from invp.plumbing.files import sha256_of
from tests import warm_jobs
from tests.conftest import Project

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/own_images.md").read_text()
FILES = dict(re.findall(r"^```yaml\n# (config/[\w/.-]+)\n(.*?)^```", PAGE, re.M | re.S))
LABELS = load_digits().target
HOSTILE = ["Füchse 🦊", "a & b", "$_$", "_private", 'it\'s "x"']  # names of classes in one of the sets


def picture(number: int, size: tuple[int, int] = (24, 24)) -> Image.Image:
    """A digit as a coloured picture."""
    grey = (load_digits().images[number] * 15).astype(np.uint8)
    pixels = np.stack([grey, 255 - grey, grey // 2 + 40], -1)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def save(path: Path, number: int, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number, **options).save(path)


def numbers(label: int, count: int, first: int = 0) -> list[int]:
    return np.flatnonzero(LABELS == label)[first : first + count].tolist()


def classes_in_folders(root: Path) -> None:
    """CIFAR-100 as PNG folders; a class and a file are named as strangers name them."""
    for split, count, first in (("train", 10, 0), ("test", 4, 10)):
        for label, name in enumerate(HOSTILE):
            for i in numbers(label, count, first):
                save(root / f"cifar100/{split}/{name}/{i} 'é'.png", i)


def caltech(root: Path) -> None:
    """Caltech-101: a folder a class, photographs of many sizes, a background class, and files of the system."""
    for label, name in enumerate(("BACKGROUND_Google", "accordion", "Leopards")):
        for n, i in enumerate(numbers(label, 12)):
            save(root / f"101_ObjectCategories/{name}/image_{n:04d}.jpg", i, size=(30 + n, 48 - n))
    (root / "101_ObjectCategories/.DS_Store").write_bytes(b"x")
    (root / "101_ObjectCategories/accordion/Thumbs.db").write_bytes(b"x")


def tiny_imagenet(root: Path) -> None:
    lines = []
    for label, name in enumerate(("n01443537", "n01629819", "n01641577")):
        for n, i in enumerate(numbers(label, 8)):
            save(root / f"tiny-imagenet-200/train/{name}/images/{name}_{n}.JPEG", i)
        (root / f"tiny-imagenet-200/train/{name}/{name}_boxes.txt").write_text("n_0.JPEG\t0\t0\t9\t9\n")
        for n, i in enumerate(numbers(label, 3, 8)):
            save(root / f"tiny-imagenet-200/val/images/val_{3 * label + n}.JPEG", i)
            lines.append(f"val_{3 * label + n}.JPEG\t{name}\t0\t32\t44\t62\n")
    (root / "tiny-imagenet-200/val/val_annotations.txt").write_text("".join(lines))
    (root / "tiny-imagenet-200/test/images").mkdir(parents=True)


def lists(root: Path) -> None:
    for split, count, first in (("train", 8, 0), ("test", 3, 8)):
        rows = [("filename", "class")]
        for label, name in ((1, "wren"), (2, "robin"), (3, "jay")):
            for i in numbers(label, count, first):
                save(root / f"birds/images/{i}.png", i, size=(40, 30))
                rows.append((f"{i}.png", name))
        with (root / f"birds/{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def parquet(root: Path) -> None:
    (root / "hub/data").mkdir(parents=True)
    for split, count, first in (("train", 8, 0), ("test", 3, 8)):
        chosen = [(i, label) for label in range(3) for i in numbers(label, count, first)]
        rows = []
        for i, _ in chosen:
            file = io.BytesIO()
            picture(i).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": f"{i}.png"})
        table = pa.table({"img": rows, "fine_label": [label for _, label in chosen], "coarse_label": [0] * len(chosen)})
        pq.write_table(table, root / f"hub/data/{split}-00000-of-00001.parquet")


def scene(number: int) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """A digit somewhere on a plain ground, with its box."""
    image = Image.new("RGB", (64, 56), (90, 120, 60 + number % 100))
    x, y = 4 + number % 30, 3 + number % 20
    image.paste(picture(number), (x, y))
    ImageDraw.Draw(image).line((0, 0, 10, 5), fill="white")
    return image, (x, y, x + 24, y + 24)


def boxes(root: Path) -> None:
    """Raccoons in VOC's layout, without lists of splits."""
    for part in ("JPEGImages", "Annotations"):
        (root / f"raccoons/{part}").mkdir(parents=True)
    for n in range(32):
        label = n % 2
        image, (x1, y1, x2, y2) = scene(numbers(label, 1, n)[0])
        image.save(root / f"raccoons/JPEGImages/raccoon-{n}.jpg")
        (root / f"raccoons/Annotations/raccoon-{n}.xml").write_text(
            f"<annotation><size><width>64</width><height>56</height></size><object><name>{('raccoon', 'cat')[label]}</name>"
            f"<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object></annotation>"
        )


def instances(root: Path) -> None:
    (root / "shop/images").mkdir(parents=True)
    images, annotations = [], []
    for n in range(32):
        image, (x1, y1, x2, y2) = scene(numbers(n % 2, 1, n)[0])
        image.save(root / f"shop/images/{n}.jpg")
        images.append({"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 56})
        annotations.append({"id": n, "image_id": n, "category_id": 3 + n % 2, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0})
    categories = [{"id": 3, "name": "shoe"}, {"id": 4, "name": "hat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "shop/instances.json").write_text(json.dumps(content))


def photographs(root: Path) -> None:
    """Flat, with every kind of fault."""
    folder = root / "holidays"
    folder.mkdir(parents=True)
    for i in range(30):
        picture(i, (70 + i, 90 - i)).save(folder / f"IMG_{i:04d}.JPG")
    good = (folder / "IMG_0000.JPG").read_bytes()
    picture(40).convert("L").save(folder / "grey.png")
    picture(41).convert("RGBA").save(folder / "transparent.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(42, (50, 40)).save(folder / "turned.jpg", exif=turned)
    (folder / "cut.jpg").write_bytes(good[:-400])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.jpg").write_bytes(good)
    picture(43).convert("CMYK").save(folder / "print.jpg")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(folder / "deep.png")
    picture(44).save(folder / "moving.gif", save_all=True, append_images=[picture(45)])
    with open(os.fsencode(folder) + b"/caf\xe9.jpg", "wb") as file:  # not UTF-8
        file.write(good)


TREES = (classes_in_folders, caltech, tiny_imagenet, lists, parquet, boxes, instances, photographs)


@pytest.fixture(scope="module")
def mine(finished, tmp_path_factory):
    """The folder of a newcomer who has followed the page to its end, with the page's study made."""
    folder, data = tmp_path_factory.mktemp("newcomer") / "mine", tmp_path_factory.mktemp("my data")
    for make in TREES:
        make(data)
    checkpoint = finished.folder / "results/smoke-invp/seed-0/pretrain/stage-2/checkpoint.pt"
    weights = data / "my-network.safetensors"
    finished.invp("export", str(checkpoint), "--to", "safetensors", "--out", str(weights))
    finished.invp("init", str(folder))
    for path, text in FILES.items():
        (folder / path).write_text(text.replace("SHA256", sha256_of(weights)))
    project = Project(folder)
    words = project.python("snakemake", "--profile", "profiles/local", INVP_DATA=str(data), **warm_jobs.environment())
    return project, words, data


def test_every_file_of_the_page_is_a_whole_one():
    assert len(FILES) == 12 and PAGE.count("```yaml\n# config/") == PAGE.count("```yaml") == len(FILES)


def test_one_command_makes_all_of_them(mine):
    project, words, data = mine
    results = project.folder / "results"
    rows = list(csv.DictReader((results / "studies/mine/summary.csv").open()))
    found = {(row["experiment"], row["source"], row["metric"]): float(row["value"]) for row in rows if row["value"]}
    labelled = ("my-classes", "my-folders", "my-tiny-imagenet", "my-list", "My_Parquet", "my-network")
    for name in labelled:
        assert 0 < found[name, "knn", "top1"] <= 100, name
    assert 0 < found["my-boxes", "svm", "map"] <= 100 and 0 < found["my-instances", "svm", "map"] <= 100
    assert found["my-boxes", "detection", "ap"] >= 0
    assert not [key for key in found if key[:2] == ("my-photographs", "knn")] and found["my-photographs", "training", "loss"] > 0
    assert "my-photographs: data set 'holidays' has no labels: evaluations.knn left out" in words
    assert "several labels an image: evaluations.knn left out" in words
    assert "report: results/studies/mine/report.html" in words
    report = (results / "studies/mine/report.html").read_text()
    assert all(name in report for name in (*labelled, "my-boxes", "my-photographs"))
    assert (results / "my-photographs/seed-0/explorer.html").stat().st_size > 10_000
    for measure in ("rankme", "uniformity", "mutual_share"):
        assert found["my-photographs", "graph", measure] != 0
    assert found["my-photographs", "ranks", "rankme"] > 1 and "clusters: my-photographs, seed 0" in report
    assert json.loads((results / "my-photographs/seed-0/figures/clusters.json").read_text())["data"]["shown"]
    assert "0 faults" in project.python("invp", "verify", PYTHONPATH=str(ROOT), INVP_DATA=str(data))


def test_what_was_left_out_is_listed(mine):
    manifest = json.loads((mine[0].folder / "results/datasets/holidays/train/manifest.json").read_text())
    left = {entry["source"]: entry["reason"] for entry in manifest["skipped"]}
    assert set(left) == {"cut.jpg", "empty.jpg", "page.jpg", "print.jpg", "dot.png", "deep.png", "moving.gif"}
    assert not [reason for reason in left.values() if re.search(r"0x[0-9a-f]{6}", reason)], "no addresses of memory"
    assert manifest["num_samples"] == 34 and manifest["ignored"] == {".heic": 1, ".txt": 1, "hidden": 1}


def test_classes_are_as_their_folders_are_named(mine):
    results = mine[0].folder / "results/datasets"
    assert json.loads((results / "cifar100/test/manifest.json").read_text())["classes"] == sorted(HOSTILE)
    assert json.loads((results / "tiny-imagenet/test/manifest.json").read_text())["num_samples"] == 9
    caltech = [json.loads((results / f"caltech/{split}/manifest.json").read_text()) for split in ("train", "test")]
    assert [sum(each["counts"].values()) for each in caltech] == [30, 6]
    assert json.loads((results / "cifar100/train/manifest.json").read_text())["format"] == "uint8"


def test_training_in_earnest_is_planned(mine):
    project, _, data = mine
    experiments = project.folder / "config/experiments"
    (experiments / "earnest.yaml").write_text(
        "extends: _earnest\ndataset: {name: image_folder, id: caltech, folder: 101_ObjectCategories, train: ., test_share: 0.2}\n"
    )
    study = project.folder / "config/earnest.yaml"
    study.write_text("study: earnest\nexperiments: [earnest]\n")
    printed = project.python("snakemake", "--profile", "profiles/local", "-n", "--configfile", str(study), INVP_DATA=str(data))
    assert re.search(r"^pretrain +4$", printed, re.M), printed
