"""Look at a prepared split: counts, a histogram of classes, and a contact sheet before and after augmentation."""

import argparse
from pathlib import Path

import numpy as np

from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="e.g. results/datasets/digits/train")
    parser.add_argument("--experiment", type=Path, help="an experiment's YAML, whose augmentation the sheet shows")
    parser.add_argument("--sheet", type=Path, help="write a PNG: each row an image and eight augmentations of it")
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> None:
    """Prints what the manifest says, and writes the contact sheet where one is asked for."""
    manifest = read_json(options.folder / "manifest.json")
    if not isinstance(manifest, dict) or not {"dataset", "split", "counts", "shards"} <= set(manifest):
        raise UserError(f"{options.folder / 'manifest.json'} is no manifest of a prepared split")
    print(f"{manifest['dataset']}, {manifest['split']}: {manifest['num_samples']:,} images, {len(manifest['classes'])} classes, "
          f"{' '.join(str(part) for part in (manifest['format'], manifest['shape']) if part)}, {len(manifest['shards'])} shards; split: {manifest['split_rule']}")  # fmt: skip
    counts = manifest["counts"]
    width, most = max(map(len, counts), default=0), max(counts.values(), default=0)  # of a set without labels nothing is counted
    for name, count in list(counts.items())[:50]:
        print(f"  {name:{width}}  {count:>7,}  {'#' * max(1, round(40 * count / most)) if count else ''}")
    if len(counts) > 50:
        print(f"  ... and {len(counts) - 50} more; fewest {min(counts.values()):,}, most {most:,}")
    if options.sheet:
        write_sheet(options.folder, options.experiment, options.sheet, options.seed)


def write_sheet(folder: Path, experiment: Path | None, out: Path, seed: int) -> None:
    """Eight seeded images, each with eight augmentations as the experiment makes them in its first epoch."""
    import torch
    from PIL import Image

    from invp.data.augment import Augment
    from invp.data.batches import eval_batches, train_batches
    from invp.data.shards import Shards
    from invp.plumbing.config import instance
    from invp.plumbing.experiments import load
    from invp.plumbing.sections import Augmentation, view_kinds
    from invp.tools.inspect_graph import contact_sheet

    if experiment is None:
        raise UserError("--sheet needs --experiment, e.g. config/experiments/digits-invp.yaml: it says how images are augmented")
    described = load(experiment)
    options = instance(Augmentation, described["augmentation"])
    kinds = [Augment(instance(Augmentation, kind)) for kind in view_kinds(described)] or [Augment(options)]
    shards = Shards(folder)
    chosen = torch.from_numpy(np.random.default_rng(seed).choice(shards.num_samples, min(8, shards.num_samples), replace=False))
    device = torch.device("cpu")
    common = {"batch_size": len(chosen), "start_step": 0, "rank": 0, "world_size": 1, "device": device, "seed": seed, "epoch": 1}
    _, _, views = next(train_batches(shards, order=chosen, augmentations=[kinds[i % len(kinds)] for i in range(8)], **common))
    plain = {}
    for index, images in eval_batches(shards, size=options.size, batch_size=512, device=device, mean=options.mean, std=options.std):
        plain |= {int(i): image for i, image in zip(index, images, strict=True) if int(i) in chosen.tolist()}
        if len(plain) == len(chosen):
            break

    def picture(image: torch.Tensor) -> Image.Image:
        image = image * torch.tensor(options.std)[:, None, None] + torch.tensor(options.mean)[:, None, None]
        array = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        return Image.fromarray(array).resize((64, 64), Image.Resampling.NEAREST)

    rows = [[picture(plain[int(number)]), *(picture(view[i]) for view in views)] for i, number in enumerate(chosen)]
    contact_sheet(rows, out)
