"""`invp compare`: what it finds in a folder, which methods it knows, their values for other images, and how it reckons time."""

import argparse
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.plugins import load_plugin, plugin_names
from invp.tools import _compare_methods as methods
from invp.tools import _compare_speed as speed
from invp.tools import compare
from invp.tools._compare_choice import Choice, batch_of, ladder
from invp.tools._compare_images import look
from invp.tools._compare_time import Clock
from invp.tools._estimates import Job
from invp.tools._schedule import makespan


def pictures(folder, names: list[str], side: int | tuple[int, int] = 32) -> None:
    """Noise of one colour and another, under these names."""
    width, height = side if isinstance(side, tuple) else (side, side)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def in_classes(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{'cats' if i % 2 else 'dogs'}/{i}.png" for i in range(count)]


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "my cats"
    pictures(folder, in_classes(100))
    return folder


def choice_of(folder, names, **options) -> Choice:
    sources = {kind: methods.loaded(name) for kind, name in methods.chosen(names).items()}
    images = look(folder)
    size, encoder = ladder(images.side)[0]
    return Choice("s", folder, images, sources, 1, size, {**encoder, "width": 16}, "fp32", **options)


def test_a_folder_of_classes_keeps_a_seeded_fifth_for_testing(cats):
    images = look(cats)
    assert (images.number, images.held_out, images.classes, images.side, images.unusable) == (80, 20, 2, 32, 0)
    assert images.root == cats.parent and images.dataset["folder"] == "my cats"
    assert images.dataset["test_share"] == 0.2 and images.dataset["decode"] and images.dataset["train"] == "."
    values = np.stack([np.asarray(Image.open(path), float) / 255 for path in sorted(cats.rglob("*.png"))])
    assert images.mean == pytest.approx(values.mean((0, 1, 2)), abs=0.01)
    assert images.std == pytest.approx(values.std((0, 1, 2)), abs=0.01)


def test_splits_are_taken_as_they_are_named(tmp_path):
    pictures(tmp_path / "a", in_classes(70, "train/") + in_classes(10, "val/"))
    images = look(tmp_path / "a")
    assert (images.number, images.held_out) == (70, 10) and "test_share" not in images.dataset and images.dataset["test"] == "val"


def test_images_without_labels_of_many_sizes_and_faults(tmp_path, monkeypatch):
    pictures(tmp_path / "flat", [f"{i}.png" for i in range(60)], (90, 150))
    pictures(tmp_path / "flat", [f"more {i}.png" for i in range(30)], (300, 80))
    (tmp_path / "flat/broken.jpg").write_bytes(b"no image")
    monkeypatch.setenv("INVP_DATA", str(tmp_path))
    images = look(tmp_path / "flat")
    assert images.classes == 0 and images.number == 73 and "decode" not in images.dataset and 80 <= images.side <= 90
    assert images.root == tmp_path, "INVP_DATA holds the folder, so that the study need not say where it is"
    (tmp_path / "flat/sub").mkdir()
    pictures(tmp_path / "few", in_classes(70))
    for folder, words in (
        (tmp_path / "few", "has 56 training images; valid: at least 64"),
        (tmp_path / "none", "is no folder|no folder"),
    ):
        with pytest.raises(UserError, match=words):
            look(folder)


def test_the_ladder_rises_in_cost_and_never_above_the_images_own_size():
    assert [size for size, _ in ladder(32)] == [32, 32, 32] and ladder(32)[-1][1]["stem"] == "cifar"
    assert [(size, encoder["name"]) for size, encoder in ladder(500)][-2:] == [(224, "resnet18"), (224, "resnet50")]
    assert {encoder["stem"] for _, encoder in ladder(8) if encoder["name"] == "resnet_small"} == {"cifar"}
    assert [batch_of(n) for n in (64, 100, 1600, 10**6)] == [8, 8, 128, 128]


def test_methods_are_kinds_of_experiments_and_every_objective():
    found = methods.chosen(["invp", "moco", "instance_discrimination", "invp-knn-positives"])
    assert list(found) == ["invp", "moco-v2", "instance-discrimination", "invp-knn-positives", "untrained"]
    for name in set(plugin_names("objectives")) - {"dino", "mae", "moco_v3"}:  # whose experiments all have a transformer
        (kind, experiment), _ = methods.chosen([name]).items()
        assert methods.loaded(experiment)["objective"]["name"] == name, kind


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["simclrr"], "no 'simclrr'; did you mean 'simclr'.*Valid: .*invp"),
        (["invp", "invp"], "twice"),
        (["moco", "moco-v2"], "moco-v2 twice"),
        (["untrained"], "at least one other"),
        ([""], "there is no ''"),
        (["mae"], "there is no 'mae'"),  # which needs a transformer, and all are compared with a ResNet
    ],
)
def test_other_names_are_refused_with_what_is_valid(names, words):
    with pytest.raises(UserError, match=words):
        methods.chosen(names)


def test_every_method_is_an_experiment_for_few_images(cats, tmp_path):
    """Each file is read and checked in full; what grows with the images is of at most half of them."""
    choice = choice_of(cats, list(methods.kinds()), unit=30, stages=3)
    loaded = {}
    for kind in choice.sources:
        path = tmp_path / f"s-{kind}.yaml"
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(choice.experiment(kind))))
        found = loaded[kind] = load(path)
        objective = found["objective"]
        assert found["figures"] == {} and list(found["evaluations"]) == ["knn", "linear"], kind
        assert objective.get("num_keys", objective.get("num_rows", 40)) <= 40 and objective.get("num_negatives", 0) <= 40, kind
        if kind == "untrained":
            continue
        assert found["stages"] == [10, 20, 30] or kind in ("swav", "nnclr") or len(found["stages"]) == 3
        assert found["stages"][-1] == found["training"]["epochs"] == choice.epochs(kind)
    assert loaded["invp"]["objective"]["ramp_epoch"] == round(choice.epochs("invp") / 3)
    assert loaded["invp-knn-positives"]["objective"]["positives"] == "knn"
    assert loaded["cmc"]["encoder"]["input"] == "l+ab"


def test_all_methods_see_equal_views(cats):
    choice = choice_of(cats, ["invp", "simclr", "swav"], unit=12, stages=4)
    assert {choice.views(kind) for kind in choice.trained} == {12 * 6 * 80}
    for kind, views in {"invp": 1, "simclr": 2, "swav": 3}.items():
        assert [views * end for end in choice.ends(kind)] == [18, 36, 54, 72]
    assert choice.ends("untrained") == [0] and choice.views("untrained") == 0


def test_small_views_and_patches_keep_their_share_of_the_image(tmp_path):
    pictures(tmp_path / "large", in_classes(100), 64)
    choice = choice_of(tmp_path / "large", ["swav", "jigsaw", "msf"])
    choice.size = 64
    for kind in choice.sources:
        compare.section(choice, kind, tmp_path)
    views = load(tmp_path / "s-swav.yaml")["views"]
    assert [(view["count"], view["size"]) for view in views] == [(2, 64), (4, 32)] and views[1]["crop_scale"] == [0.05, 0.2]
    assert load(tmp_path / "s-jigsaw.yaml")["objective"]["patch_size"] == 32
    assert [view["grayscale"] for view in load(tmp_path / "s-msf.yaml")["views"]] == [0.2, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in methods.kinds() if kind != methods.UNTRAINED])
def test_every_method_takes_a_step_on_few_images(kind, cats, tmp_path):
    from invp.training.distributed import join

    choice = choice_of(cats, [kind], unit=3, stages=2)
    section = compare.section(choice, kind, tmp_path)
    options = {key: value for key, value in choice.experiment(kind)["dataset"].items() if key != "id"}
    plugin = load_plugin("datasets", "image_folder")
    speed.prepared(plugin.load(instance(plugin.Config, options), choice.images.root, "train"), tmp_path / "sample")
    for epoch in (1, choice.epochs(kind)):
        timed = speed._timed(section, join(), epoch, {"dataset": str(tmp_path / "sample"), "threads": 1, "seconds": 0.0})
        assert timed["step"] > 0 and timed["begin"] >= 0


def test_a_sample_is_repeated_to_the_number_of_images(cats, tmp_path, monkeypatch):
    from invp.data.shards import Shards

    monkeypatch.setitem(speed.SAMPLED, "uint8", 30)
    plugin = load_plugin("datasets", "image_folder")
    options = {key: value for key, value in look(cats).dataset.items()}
    speed.prepared(plugin.load(instance(plugin.Config, options), cats.parent, "train"), tmp_path / "sample")
    shards = Shards(tmp_path / "sample")
    assert shards.num_samples == 81 and len(set(shards.sources())) == 27


def by_hand(durations: dict[str, float], needs: dict[str, list[str]], order: list[str], cores: int) -> float:
    """The schedule in steps of a second: the first that are ready and fit are started."""
    left, done, now = dict(durations), set(), 0
    running: list[str] = []
    while len(done) < len(order):
        for name in order:
            ready = name not in done and name not in running and all(need in done for need in needs.get(name, []))
            if ready and len(running) < cores:
                running.append(name)
        now += 1
        for name in list(running):
            left[name] -= 1
            if left[name] <= 0:
                running.remove(name)
                done.add(name)
    return now


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_a_schedule_equals_one_made_second_by_second(cores):
    generator = np.random.default_rng(cores)
    for _ in range(20):
        names = [f"job{i}" for i in range(9)]
        needs = {name: [other for other in names[:i] if generator.random() < 0.3] for i, name in enumerate(names)}
        durations = {name: int(generator.integers(1, 9)) for name in names}
        order = [names[i] for i in generator.permutation(9)]
        jobs = [Job("x", {}, [name], needs[name], pending=True) for name in order]
        found = makespan(jobs, lambda n: float(durations[order[n]]), cores, 0, lambda job: False)  # noqa: B023
        assert found == by_hand(durations, needs, order, cores)


def test_jobs_on_a_gpu_wait_for_one_and_what_is_done_takes_no_time():
    jobs = [Job("x", {}, [name], pending=True) for name in "abc"] + [Job("x", {}, ["d"])]
    assert (
        makespan(jobs, lambda n: 5.0, 8, 1, lambda job: True) == 15 and makespan(jobs, lambda n: 5.0, 8, 1, lambda job: False) == 5
    )
    wide = [Job("x", {}, [name], threads=2, pending=True) for name in "ab"]
    assert makespan(wide, lambda n: 5.0, 3, 0, lambda job: False) == 10


@pytest.fixture
def clock(cats) -> Clock:
    """A clock that has measured: InvP's epochs take 2 s before the ramp and 4 s after it, SimCLR's 6 s."""
    choice = choice_of(cats, ["invp", "simclr"], stages=2)
    clock = Clock(choice, 600.0)
    clock.cores, clock.gpus, clock.rate, clock.start = 2, 0, 100.0, 5.0
    steps = choice.images.number // choice.batch
    for kind, early, late in (("invp", 2.0, 4.0), ("simclr", 6.0, 6.0)):
        epochs = [{"begin": 1.0, "step": (seconds - 1) / steps, "cpu": 0.5} for seconds in (early, late)]
        clock.answers[kind], clock.early[kind] = {"epochs": epochs}, {"invp": 1 / 3, "simclr": 0.0}[kind]
    clock.jobs, clock._seconds = [], {}
    choice.unit = 2
    for kind, stages in {"invp": (2, 4), "simclr": (1, 2), "untrained": (0,)}.items():
        parent = []
        for stage in stages:
            output = f"results/s-{kind}/seed-0/pretrain/stage-{stage}/checkpoint.pt"
            clock.jobs.append(Job("pretrain", {"stage": stage}, [output], parent, pending=True))
            parent = [output]
    clock.planned = {f"s-{kind}": choice.ends(kind) for kind in choice.sources}
    return clock


def test_a_training_takes_its_epochs_before_and_after_the_ramp(clock):
    clock.choice.unit = 6  # 12 epochs of InvP, 4 of them before the ramp
    assert clock.training_seconds("invp", 1, 12) == pytest.approx(4 * 2 + 8 * 4)
    assert clock.training_seconds("invp", 3, 6) == pytest.approx(2 * 2 + 2 * 4)
    assert clock.training_seconds("simclr", 1, 6) == pytest.approx(36)


def test_a_burst_of_other_work_is_not_blamed_on_the_method_that_it_met(clock):
    # Both steps took 2 s of a core: one in 4 s, the other in 10 s beside other work. In the mean 0.35 of a core was had.
    answers = [{"epochs": [{"begin": 0.0, "step": step, "cpu": 2 / step}]} for step in (4.0, 10.0)]
    assert [answer["epochs"][0]["step"] for answer in clock.evened(answers)] == pytest.approx([2 / 0.35] * 2)
    assert all(answer["epochs"][0]["cpu"] == pytest.approx(0.35) for answer in clock.evened(answers))
    clock.gpus = 1
    assert clock.evened(answers) == answers


def test_the_views_are_the_most_that_fit(clock):
    # Two methods on two cores: SimCLR's path and InvP's, each with two starts, and a start of the untrained network beside one of them.
    assert clock.total(12) == pytest.approx(max(12 * 6 + 10 + 5, 8 * 2 + 16 * 4 + 10))
    assert clock.core_seconds() == pytest.approx(5 * 5 * 1.0 + 0.5 * (72 + 80))
    unit = clock.fitting_unit()
    assert unit % 2 == 0 and clock.total(unit) <= 600 < clock.total(unit + 4)
    clock.limit = 1.0
    assert clock.fitting_unit() == 2, "one round of views a stage, though it takes longer"


def test_fewer_stages_where_starting_jobs_takes_the_time(clock):
    found = []
    for clock.limit in (10, 200, 400, 600, 10_000):
        found.append(clock.affordable_stages(4, 1 / 3))
    assert found == sorted(found) and found[0] == 1 and found[-1] == 4
    assert all(a <= b for a, b in itertools.pairwise(found)) and math.isfinite(sum(found))


def test_what_cannot_be_is_refused_before_anything_is_timed(root, monkeypatch, tmp_path, run_invp):
    def words(minutes=1.0, seeds=1, out="config/studies/x.yaml"):
        with pytest.raises(UserError) as error:
            compare.refuse(argparse.Namespace(minutes=minutes, seeds=seeds), Path(out), ["invp"])
        return str(error.value)

    monkeypatch.chdir(root)
    assert "valid: a time above 0, and at least 1 seed" in words(minutes=0) and "--seeds 0" in words(seeds=0)
    assert "--out is x.txt" in words(out="x.txt") and "--out is é.yaml" in words(out="é.yaml")
    assert "config/studies/smoke.yaml exists; delete it, or name another" in words(out="config/studies/smoke.yaml")
    assert "smoke-invp.yaml exists" in words(out="config/studies/new/smoke.yaml")
    monkeypatch.chdir(tmp_path)
    assert "invp init" in words()
    done = run_invp("compare", "--data", tmp_path, "--methods", "invp,byol", "--minutes", 1)
    assert done.returncode == 2 and "there is no 'byol'" in done.stderr
