"""Each data set from a small tree in its true layout: counts, labels, boxes and pixels read back equal."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from invp.data.shards import Shards
from invp.datasets import imagenet
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError
from invp.plumbing.plugins import plugin_names
from invp.steps import prepare

RNG = np.random.default_rng(0)


def png(shade: int, size=(12, 10), kind="PNG") -> bytes:
    """A photograph of one shade: bytes that a test can tell apart."""
    out = io.BytesIO()
    Image.new("RGB", size, (shade, 255 - shade, shade // 2)).save(out, kind)
    return out.getvalue()


def jpeg(shade: int, **options) -> bytes:
    return png(shade, kind="JPEG", **options)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def folders(root: Path, parts: dict[str, list[str]], each: int) -> dict[str, tuple[list[bytes], list[int]]]:
    """root/PART/CLASS/i.jpg; the contents and labels by part in the order that they should have."""
    found = {}
    for part, classes in parts.items():
        contents, labels = [], []
        for label, name in enumerate(classes):
            for i in range(each):
                contents.append(write(root / part / name / f"{i}.JPEG", jpeg(40 * label + 3 * i)).read_bytes())
                labels.append(label)
        found[part] = contents, labels
    return found


# One function a data set: writes its tree under `root`, returns by split the images (bytes or pixels), labels, and its options.
def tree_image_folder(root):
    made = folders(root / "mine", {"train": ["a", "b"], "test": ["a", "b"], "val": ["a", "b"]}, 2)
    write(root / "mine/unlabelled/x.png", png(9))
    return {**made, "unlabelled": ([png(9)], None)}, {"folder": "mine"}


def tree_imagenet(root):
    made = folders(root / "imagenet", {"train": ["n01", "n02"], "val": ["n01", "n02"]}, 3)
    return {"train": made["train"], "test": made["val"]}, {}


def tree_cifar10(root):
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        content = {"data": RNG.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [0, 3, 9, 1]}
        write(root / "cifar-10-batches-py" / name, pickle.dumps(content))
    names = [f"class {i}" for i in range(10)]
    write(root / "cifar-10-batches-py/batches.meta", pickle.dumps({"label_names": names}))

    def part(batches):
        loaded = [pickle.loads((root / "cifar-10-batches-py" / name).read_bytes()) for name in batches]
        return [row.reshape(3, 32, 32) for c in loaded for row in c["data"]], [label for c in loaded for label in c["labels"]]

    return {"train": part([f"data_batch_{i}" for i in range(1, 6)]), "test": part(["test_batch"])}, {}


def tree_cifar100(root):
    made = {}
    for split, count in (("train", 6), ("test", 3)):
        content = {"data": RNG.integers(0, 256, (count, 3072), dtype=np.uint8), "fine_labels": list(range(count))}
        write(root / "cifar-100-python" / split, pickle.dumps(content))
        made[split] = [row.reshape(3, 32, 32) for row in content["data"]], content["fine_labels"]
    write(root / "cifar-100-python/meta", pickle.dumps({"fine_label_names": [f"fine {i}" for i in range(100)]}))
    return made, {}


def tree_svhn(root):
    made = {}
    for split, count in (("train", 5), ("test", 3)):
        images, labels = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8), np.array([10, 1, 9, 5, 4][:count])
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": labels[:, None]})
        made[split] = list(images.transpose(3, 2, 0, 1)), (labels % 10).tolist()
    return made, {}


def tree_stl10(root):
    folder = root / "stl10_binary"
    write(folder / "class_names.txt", "\n".join(f"c{i}" for i in range(10)).encode())
    write(folder / "fold_indices.txt", b"0 1\n")
    made = {}
    for split, name, count in (("train", "train", 3), ("test", "test", 2), ("unlabelled", "unlabeled", 4)):
        images = RNG.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        write(folder / f"{name}_X.bin", images.transpose(0, 1, 3, 2).tobytes())
        labels = None
        if name != "unlabeled":
            labels = [0, 9, 4][:count]
            write(folder / f"{name}_y.bin", bytes(label + 1 for label in labels))
        made[split] = list(images), labels
    return made, {}


def tree_parquet(root):
    made = {}
    metadata = {"classes": "cat,dog"}
    for split, labels in (("train", [0, 1, 1]), ("test", [1]), ("val", [0]), ("unlabelled", None)):
        contents = [png(50 * i + len(split)) for i in range(len(labels or [0]))]
        columns = {
            "image": [{"bytes": c, "path": f"{i}.png"} for i, c in enumerate(contents)],
            **({"label": labels} if labels else {}),
        }
        (root / "set").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), root / "set" / f"{split}-00000-of-00001.parquet")
        made[split] = contents, labels
    return made, {"folder": "set"}


def annotation(objects) -> bytes:
    def one(name, box, difficult):
        corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"

    return f"<annotation>{''.join(one(*o) for o in objects)}</annotation>".encode()


VOC_OBJECTS = {
    "000001": [("dog", (1, 1, 6, 8), 0), ("person", (2, 3, 4, 5), 1)],
    "000002": [("person", (1, 2, 3, 4), 1), ("person", (5, 5, 9, 9), 0)],
    "000003": [],
}


def voc_tree(root, year, lists):
    folder = root / "VOCdevkit" / f"VOC{year}"
    for i, (name, objects) in enumerate(VOC_OBJECTS.items()):
        write(folder / "JPEGImages" / f"{name}.jpg", jpeg(30 * i))
        write(folder / "Annotations" / f"{name}.xml", annotation(objects))
    made = {}
    for split, listed, names in lists:
        write(folder / "ImageSets/Main" / f"{listed}.txt", "".join(f"{name}\n" for name in names).encode())
        made[split] = [(folder / "JPEGImages" / f"{name}.jpg").read_bytes() for name in names], None
    return made, {}


def tree_voc2007(root):
    return voc_tree(
        root, 2007, [("train", "trainval", ["000002", "000001"]), ("test", "test", ["000003"]), ("val", "val", ["000001"])]
    )


def tree_voc2012(root):
    return voc_tree(root, 2012, [("train", "train", ["000002", "000001"]), ("test", "val", ["000003"]), ("val", "val", ["000003"])])


def mask_png(number: int, size=(12, 10)) -> bytes:
    """A mask in VOC's colours: background, a square of a class, and a column that does not count."""
    values = np.zeros(size[::-1], np.uint8)
    values[2:6, 3:7], values[:, -1] = number, 255
    image, out = Image.fromarray(values), io.BytesIO()
    image.putpalette([channel for level in range(256) for channel in (level, 255 - level, 7)])
    image.save(out, "PNG")
    return out.getvalue()


def segmentation_tree(root):
    """VOC2012 with masks of its first two images; the list `val` names the second."""
    made, _ = voc_tree(root, 2012, [])
    folder = root / "VOCdevkit/VOC2012"
    for split, listed, name, number in (("train", "train", "000001", 12), ("test", "val", "000002", 15)):
        write(folder / f"SegmentationClass/{name}.png", mask_png(number))
        write(folder / f"ImageSets/Segmentation/{listed}.txt", f"{name}\n".encode())
        made[split] = [(folder / f"JPEGImages/{name}.jpg").read_bytes()], None
    return made, {}


def tree_voc2012_segmentation(root):
    return segmentation_tree(root)


def tree_sbd(root):
    """Of SBD's three images two are VOC2012's: its own masks of these do not count, nor is an image of `val` trained on."""
    made, options = segmentation_tree(root)
    folder = root / "benchmark_RELEASE/dataset"
    for name, number in (("000001", 1), ("000002", 2), ("000003", 3)):
        entry = np.zeros((1, 1), [("Segmentation", object)])
        entry[0, 0] = (np.full((10, 12), number, np.uint8),)
        (folder / "cls").mkdir(parents=True, exist_ok=True)
        savemat(folder / f"cls/{name}.mat", {"GTcls": entry})
    write(folder / "train.txt", b"000002\n000003\n")
    write(folder / "val.txt", b"000001\n")
    made["train"][0].append((root / "VOCdevkit/VOC2012/JPEGImages/000003.jpg").read_bytes())
    return made, options


def tree_voc(root):
    made = voc_tree(root, 1, [("train", "train", ["000002", "000001"]), ("test", "test", ["000003"]), ("val", "val", ["000001"])])[
        0
    ]
    return made, {"folder": "VOCdevkit/VOC1"}


def test_vocs_layout_without_lists_gets_seeded_splits(tmp_path):
    voc_tree(tmp_path, 1, [])
    write(tmp_path / "VOCdevkit/VOC1/JPEGImages/bare.png", png(3))
    options = plugin_options("datasets", {"name": "voc", "folder": "VOCdevkit/VOC1", "test_share": 0.34}, "test")
    for split in ("train", "test"):
        prepare.write_split(options, split, tmp_path, tmp_path / "out" / split, 1)
    train, test = (Shards(tmp_path / "out" / split) for split in ("train", "test"))
    assert train.classes == ["dog", "person"] and (train.num_samples, test.num_samples) == (2, 1)
    assert {*train.sources(), *test.sources()} == {f"00000{i}.jpg" for i in (1, 2, 3)}
    assert train.manifest["split_rule"] == "0.34 for test, the rest for train, seed 0"
    assert train.manifest["ignored"] == {"images without an annotation": 1}


def tree_places205(root):
    rows = {"train": [("a/abbey/1.jpg", 0), ("a/airport/1.jpg", 1), ("a/abbey/2.jpg", 0)], "val": [("val/7.jpg", 1)]}
    made = {}
    for i, (part, listed) in enumerate(rows.items()):
        for j, (name, _) in enumerate(listed):
            write(root / "places205/images" / name, jpeg(70 * i + 9 * j))
        write(root / "places205" / f"{part}_places205.csv", "".join(f"{name} {label}\n" for name, label in listed).encode())
        contents = [(root / "places205/images" / name).read_bytes() for name, _ in listed]
        made["test" if part == "val" else part] = contents, [label for _, label in listed]
    return made, {}


def tree_caltech101(root):
    folders(root / "caltech101", {"101_ObjectCategories": ["BACKGROUND_Google", "ant", "bass"]}, 5)
    return {"train": (2 * 3, None), "test": (2 * 2, None)}, {"train_per_class": 3}


def tree_stanford_cars(root):
    folder, made = root / "stanford_cars", {}
    lists = (("train", "devkit/cars_train_annos.mat", "cars_train"), ("test", "cars_test_annos_withlabels.mat", "cars_test"))
    for split, listed, images in lists:
        names, labels = [f"0000{i}.jpg" for i in range(1, 4)], [2, 1, 2]
        contents = [write(folder / images / name, jpeg(17 * i + len(split))).read_bytes() for i, name in enumerate(names)]
        kinds = [("fname", object), ("class", np.uint8)]
        rows = np.array([tuple(pair) for pair in zip(names, labels, strict=True)], dtype=kinds)
        (folder / listed).parent.mkdir(parents=True, exist_ok=True)
        savemat(folder / listed, {"annotations": rows})
        made[split] = contents, [label - 1 for label in labels]
    savemat(folder / "devkit/cars_meta.mat", {"class_names": np.array(["Acura", "Audi"], dtype=object)})
    return made, {}


def tree_oxford_pets(root):
    folder, made = root / "oxford-iiit-pet", {}
    for split, listed in (("train", "trainval"), ("test", "test")):
        rows = [(f"Abyssinian_{len(split)}", 1), (f"great_pyrenees_{len(split)}", 2)]
        write(folder / "annotations" / f"{listed}.txt", ("#Image CLASS-ID\n" + "".join(f"{n} {c} 1 1\n" for n, c in rows)).encode())
        made[split] = [write(folder / "images" / f"{n}.jpg", jpeg(60 * c)).read_bytes() for n, c in rows], [c - 1 for _, c in rows]
    return made, {}


def tree_flowers102(root):
    folder, labels = root / "flowers-102", np.array([[1, 2, 3, 1, 2, 3]])
    contents = [write(folder / "jpg" / f"image_{i:05d}.jpg", jpeg(25 * i)).read_bytes() for i in range(1, 7)]
    savemat(folder / "imagelabels.mat", {"labels": labels})
    parts = {"train": ("trnid", [2, 1]), "val": ("valid", [4]), "test": ("tstid", [3, 5, 6])}
    savemat(folder / "setid.mat", {key: np.array([numbers]) for key, numbers in parts.values()})
    return {
        s: ([contents[n - 1] for n in numbers], [labels[0, n - 1] - 1 for n in numbers]) for s, (_, numbers) in parts.items()
    }, {}


def tree_digits(root):
    return {"train": (1437, None), "test": (360, None)}, {}


def tree_voc0712(root):
    made = {}
    for year in (2007, 2012):
        found = voc_tree(root, year, [("train", "trainval", ["000002", "000001"]), ("test", "test", ["000003"])])[0]
        made[year] = found
    return {"train": (made[2007]["train"][0] + made[2012]["train"][0], None), "test": made[2007]["test"]}, {}


COCO_BOXES = {
    2: [(18, [0, 0, 6, 8], 0), (1, [1.5, 2, 3, 3], 1)],
    1: [(1, [0, 1, 3, 3], 1), (1, [4, 4, 5, 5], 0), (7, [0, 0, 1, 1], 0)],
    3: [],
}


def coco_file(path, numbers, boxes=COCO_BOXES, categories=((7, "cup"), (1, "person"), (18, "dog"))):
    """Instances in COCO's layout: image i is 00000i.jpg of 12 x 10 pixels."""
    made = [(i, *box) for i in numbers for box in boxes[i]]
    content = {
        "images": [{"id": i, "file_name": f"{i:06d}.jpg", "width": 12, "height": 10} for i in numbers],
        "categories": [{"id": number, "name": name, "supercategory": "thing"} for number, name in categories],
        "annotations": [
            {"id": 10 + n, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
            for n, (i, c, box, crowd) in enumerate(made)
        ],
    }
    return write(path, json.dumps(content).encode())


def coco_tree(root, **splits):
    made = {}
    for split, (name, numbers) in splits.items():
        coco_file(root / f"coco/annotations/instances_{name}.json", numbers)
        made[split] = [write(root / f"coco/{name}/{i:06d}.jpg", jpeg(40 * i)).read_bytes() for i in numbers], None
    return made, {}


def tree_coco(root):
    return coco_tree(root, train=("train2017", [2, 1]), test=("val2017", [3]), val=("val", [1]))


def tree_image_masks(root):
    """Images in folders of folders, with masks of the same names; a file of the system lies beside."""
    made = {}
    for split, names in (("train", ["a/1.jpg", "b.png"]), ("test", ["c.JPG"])):
        contents = []
        for number, name in enumerate(names, 1):
            write(root / f"roads/masks/{split}/{name.rsplit('.', 1)[0]}.png", mask_png(number))
            contents.append(write(root / f"roads/images/{split}/{name}", png(9 * number, kind="PNG" if "png" in name else "JPEG")))
        made[split] = [path.read_bytes() for path in contents], None
    write(root / "roads/images/train/Thumbs.db", b"x")
    return made, {"folder": "roads", "classes": ["road", "car", "tree"]}


def tree_scenes(root):
    return {"train": (20, None), "test": (10, None)}, {"train_images": 20, "test_images": 10, "num_classes": 2}


def tree_composites(root):
    return {"train": (30, None), "test": (20, None)}, {"train_images": 30, "test_images": 20}


def tree_coil20(root):
    made = {"train": (2 * 3, None), "test": (2 * 1, None)}
    for number in (1, 2):
        for pose in range(4):
            write(root / "coil20" / f"obj{number}__{pose}.png", png(50 * number + pose))
    return made, {}


def tree_corrupted(root):
    made = folders(root / "mine", {"train": ["a", "b"], "test": ["a", "b"], "val": ["a", "b"]}, 2)
    options = {"of": {"name": "image_folder", "folder": "mine"}, "corruption": "jpeg_compression", "severity": 2}
    return {"train": made["train"], "test": (4, None), "val": made["val"]}, options


def tree_held_out(root):
    folders(root / "mine", {"train": ["a", "b"], "test": ["a", "b"]}, 5)
    return {"train": (7, None), "test": (3, None)}, {"of": {"name": "image_folder", "folder": "mine"}, "share": 0.3}


TREES = {name.removeprefix("tree_"): value for name, value in list(globals().items()) if name.startswith("tree_")}


@pytest.mark.parametrize("name", plugin_names("datasets"))
def test_a_tree_in_the_true_layout_reads_back_equal(name, tmp_path, monkeypatch):
    root = tmp_path / "data"
    root.mkdir()
    parts, options = TREES[name](root)
    # torchvision holds some files against the digests of the true ones; the generated ones are read by the same code.
    for where in ("cifar", "svhn", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{where}.check_integrity", lambda path, md5=None: Path(path).exists())
    options = plugin_options("datasets", {"name": name, "rows_per_shard": 1000, **options}, "test")
    for split, (images, labels) in parts.items():
        prepare.write_split(options, split, root, tmp_path / split, 2)
        shards = Shards(tmp_path / split)
        if isinstance(images, int):
            assert shards.num_samples == images and set(shards.manifest["counts"].values()) != {0}
            continue
        assert shards.num_samples == len(images)
        assert shards.labels.tolist() == ([-1] * len(images) if labels is None else list(labels))
        if labels is not None:
            assert list(shards.manifest["counts"].values()) == np.bincount(labels, minlength=len(shards.classes)).tolist()
        for i, image in enumerate(images):
            if shards.format == "uint8":
                assert np.array_equal(shards.images(torch.tensor([i]))[0].numpy(), image)
            else:
                assert shards.encoded(i) == image


@pytest.mark.parametrize("name", ["voc2007", "voc2012"])
def test_labels_and_boxes_of_voc_read_back(name, tmp_path):
    TREES[name](tmp_path)
    prepare.write_split(plugin_options("datasets", {"name": name}, "test"), "train", tmp_path, tmp_path / "out", 1)
    shards = Shards(tmp_path / "out")
    dog, person = shards.classes.index("dog"), shards.classes.index("person")
    expected = torch.zeros(2, 20, dtype=torch.int8)
    expected[0, person], expected[1, dog], expected[1, person] = 1, 1, -1
    assert torch.equal(shards.multi_labels, expected)
    assert shards.manifest["counts"]["person"] == 1 and shards.manifest["multi_label"]
    boxes, labels, difficult = shards.boxes(1)  # counted from 0, ends excluded
    assert boxes.tolist() == [[0, 0, 6, 8], [1, 2, 4, 5]]
    assert labels.tolist() == [dog, person] and difficult.tolist() == [False, True]


def masks_of(name: str, root: Path, split: str = "train", **options) -> list[np.ndarray]:
    prepare.write_split(plugin_options("datasets", {"name": name, **options}, "test"), split, root, root / "out" / split, 1)
    shards = Shards(root / "out" / split)
    return [shards.mask(i) for i in range(shards.num_samples)]


def test_masks_of_voc_read_back_with_what_does_not_count(tmp_path):
    TREES["voc2012_segmentation"](tmp_path)
    for split, number in (("train", 12), ("test", 15)):
        (mask,) = masks_of("voc2012_segmentation", tmp_path, split)
        expected = np.zeros((10, 12), np.uint8)
        expected[2:6, 3:7], expected[:, -1] = number, 255
        assert mask.dtype == np.uint8 and np.array_equal(mask, expected)
    assert Shards(tmp_path / "out/train").classes[12 - 1] == "dog"
    assert len(Shards(tmp_path / "out/train").boxes(0)[0]) == 2


def test_train_aug_has_vocs_masks_and_of_other_images_those_of_sbd(tmp_path):
    TREES["sbd"](tmp_path)
    own, added = masks_of("sbd", tmp_path)
    assert set(np.unique(own)) == {0, 12, 255} and np.array_equal(added, np.full((10, 12), 3))
    assert [set(np.unique(mask)) for mask in masks_of("sbd", tmp_path, "test")] == [{0, 15, 255}]


@pytest.mark.parametrize(("content", "reason"), [
    (mask_png(21), "its mask has the number 21; valid: 0 to 20, and 255"),
    (mask_png(1, (12, 9)), "it has 12x10 pixels, and its mask 12x9"),
    (png(3), "it is PNG in mode RGB, not a PNG of class numbers"),
    (jpeg(3), "it is JPEG in mode RGB"),
    (mask_png(1)[:40], "its mask cannot be read"),
])  # fmt: skip
def test_a_mask_that_does_not_fit_its_image_is_a_bad_image(content, reason, tmp_path):
    TREES["voc2012_segmentation"](tmp_path)
    path = write(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/000001.png", content)
    with pytest.raises(UserError, match=reason):
        masks_of("voc2012_segmentation", tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="000001.png is no mask, but its image is listed"):
        masks_of("voc2012_segmentation", tmp_path)


def test_masks_of_ones_own_give_labels_and_a_share_for_the_test(tmp_path):
    options = TREES["image_masks"](tmp_path)[1]
    masks = masks_of("image_masks", tmp_path, **options)
    shards = Shards(tmp_path / "out/train")
    assert shards.sources() == ["a/1.jpg", "b.png"] and [set(np.unique(mask)) for mask in masks] == [{0, 1, 255}, {0, 2, 255}]
    assert shards.multi_labels.tolist() == [[1, 0, 0], [0, 1, 0]] and len(shards.boxes(0)[0]) == 0
    assert shards.manifest["ignored"] == {".db": 1} and shards.manifest["counts"] == {"road": 1, "car": 1, "tree": 0}
    with pytest.raises(UserError, match="test_share is 0.5, but there is a test split, .*roads/images/test; set test_share: 0"):
        masks_of("image_masks", tmp_path, "test", **options, test_share=0.5)
    for split in ("train", "test"):
        shared = {**options, "test_share": 0.5, "test": "none"}
        assert len(masks_of("image_masks", tmp_path, split, **shared)) == 1
    assert Shards(tmp_path / "out/train").sources() != Shards(tmp_path / "out/test").sources()


def test_an_image_without_a_mask_is_named_and_a_mask_that_does_not_fit_too(tmp_path):
    options = TREES["image_masks"](tmp_path)[1]
    (tmp_path / "roads/masks/train/b.png").unlink()
    with pytest.raises(UserError, match=r"1 images have no mask of their name \(.png\) in .*roads/masks/train: b.png"):
        masks_of("image_masks", tmp_path, **options)
    write(tmp_path / "roads/masks/train/b.png", mask_png(4))
    with pytest.raises(UserError, match="b.png is no usable image: its mask has the number 4; valid: 0 to 3, and 255"):
        masks_of("image_masks", tmp_path, **options)


def test_the_masks_of_scenes_are_the_pixels_of_their_digits(tmp_path):
    """Inside of a mask the image is grey as digits are, which it is not three pixels beside; every box is that of its mask."""
    masks = masks_of("scenes", tmp_path, train_images=20, num_classes=3, size=64)
    shards, inside, moved = Shards(tmp_path / "out/train"), [], []
    for i, mask in enumerate(masks):
        boxes, labels, _ = shards.boxes(i)
        assert set(np.unique(mask)) == {0, *(labels + 1).tolist()}
        outside = mask.copy()
        for (x1, y1, x2, y2), label in zip(boxes.int().tolist(), labels.tolist(), strict=True):
            part = mask[y1:y2, x1:x2]
            assert set(np.unique(part)) == {0, label + 1}
            rows, columns = np.flatnonzero((part > 0).any(1)), np.flatnonzero((part > 0).any(0))
            assert rows[0] <= 1 and columns[0] <= 1 and rows[-1] >= len(part) - 2 and columns[-1] >= part.shape[1] - 2
            outside[y1:y2, x1:x2] = 0
            grey = np.asarray(shards.decoded(i).crop((x1, y1, x2, y2)), np.int64)
            spread = grey.max(2) - grey.min(2)  # digits are grey
            inside.append(spread[part > 0])
            moved.append(spread[np.roll(part > 0, 3, 1)])
        assert not outside.any()
    assert 3 * np.concatenate(inside).mean() < np.concatenate(moved).mean()


def test_a_set_without_masks_has_no_column_of_them(tmp_path):
    TREES["voc2012"](tmp_path)
    prepare.write_split(plugin_options("datasets", {"name": "voc2012"}, "test"), "train", tmp_path, tmp_path / "out", 1)
    shards = Shards(tmp_path / "out")
    assert not shards.has_masks and "mask" not in shards._tables[0].column_names


def test_an_empty_annotation_has_no_boxes(tmp_path):
    TREES["voc2007"](tmp_path)
    prepare.write_split(plugin_options("datasets", {"name": "voc2007"}, "test"), "test", tmp_path, tmp_path / "out", 1)
    boxes, labels, difficult = Shards(tmp_path / "out").boxes(0)
    assert boxes.shape == (0, 4) and labels.shape == difficult.shape == (0,)


def test_real_annotations_in_vocs_layout(data_root, tmp_path):
    archive = data_root / "bccd-voc" / "BCCD_voc.tar"
    if not archive.exists():  # whoever has other real sets need not have this one
        pytest.skip("bccd-voc is not under INVP_DATA")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "data", filter="data")
    folder = next(p.parent for p in (tmp_path / "data").rglob("Annotations"))
    names = {"name": "voc2007", "folder": str(folder.relative_to(tmp_path / "data")), "classes": ["RBC", "WBC", "Platelets"]}
    prepare.write_split(plugin_options("datasets", names, "test"), "train", tmp_path / "data", tmp_path / "out", 1)
    shards = Shards(tmp_path / "out")
    assert shards.num_samples > 100 and (shards.multi_labels.abs().sum(1) > 0).all()
    for i in range(0, shards.num_samples, 20):
        boxes, _, _ = shards.boxes(i)
        width, height = shards.decoded(i).size
        assert (boxes[:, :2] >= -1).all() and (boxes[:, 2] <= width + 1).all() and (boxes[:, 3] <= height + 1).all()


def test_imagenet_from_its_tars_equals_imagenet_from_folders(tmp_path):
    made = folders(tmp_path / "folders/imagenet", {"train": ["n01", "n02"], "val": ["n01", "n02"]}, 3)
    tars = tmp_path / "tars" / "imagenet"
    tars.mkdir(parents=True)

    def add(tar, name, content):
        about = tarfile.TarInfo(name)
        about.size = len(content)
        tar.addfile(about, io.BytesIO(content))

    with tarfile.open(tars / "ILSVRC2012_img_train.tar", "w") as outer:
        for name in ("n02", "n01"):
            inside = io.BytesIO()
            with tarfile.open(fileobj=inside, mode="w") as inner:
                for path in sorted((tmp_path / "folders/imagenet/train" / name).iterdir()):
                    add(inner, path.name, path.read_bytes())
            add(outer, f"{name}.tar", inside.getvalue())
    contents, labels = made["val"]
    order = [3, 0, 4, 1, 5, 2]  # the validation images are not sorted by class
    with tarfile.open(tars / "ILSVRC2012_img_val.tar", "w") as tar:
        for i, at in enumerate(order):
            add(tar, f"ILSVRC2012_val_{i:08d}.JPEG", contents[at])
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    synsets = np.array([(1, "n02", 0), (2, "n01", 0), (3, "n09", 2)], dtype=kinds)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    with tarfile.open(tars / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        words = "\n".join(str({1: 1, 0: 2}[labels[at]]) for at in order)
        add(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", words.encode())
    for split in ("train", "test"):
        read = {}
        for kind in ("folders", "tars"):
            options = plugin_options("datasets", {"name": "imagenet"}, "test")
            prepare.write_split(options, split, tmp_path / kind, tmp_path / kind / split, 1)
            shards = Shards(tmp_path / kind / split)
            read[kind] = sorted((int(shards.labels[i]), shards.encoded(i)) for i in range(shards.num_samples))
            assert shards.classes == ["n01", "n02"]
        assert read["folders"] == read["tars"]


def test_a_subset_of_classes(tmp_path):
    made = folders(tmp_path / "imagenet", {"train": ["n01", "n02", "n03"]}, 2)
    options = plugin_options("datasets", {"name": "imagenet", "classes": ["n03", "n01"]}, "test")
    prepare.write_split(options, "train", tmp_path, tmp_path / "out", 1)
    shards = Shards(tmp_path / "out")
    assert shards.classes == ["n03", "n01"] and shards.labels.tolist() == [0, 0, 1, 1]
    assert shards.encoded(2) == made["train"][0][0]


@pytest.mark.parametrize("place", ["imagenet", "imagenet/train"])
def test_imagenets_tars_of_classes_are_refused_with_what_to_do(place, tmp_path):
    write(tmp_path / place / "n01440764.tar", b"x")
    write(tmp_path / place / "n01443537.tar", b"x")
    options = plugin_options("datasets", {"name": "imagenet"}, "test")
    with pytest.raises(UserError, match="holds the tars of 2 classes .n01440764.tar, ....*unpack each into a folder of its name"):
        imagenet.check_root(imagenet.Config(), tmp_path)
    with pytest.raises(UserError, match="unpack each"):
        prepare.write_split(options, "train", tmp_path, tmp_path / "out", 1)
