"""The paper's tables with ours beside: what belongs in which column, differences, and marks where protocols differ."""

from pathlib import Path

import pytest

from invp.pages import published
from invp.pages.tables import latex, markdown

TABLES = published.read_published(Path(__file__).resolve().parent.parent.parent / "config" / "published.yaml")


IMAGES = {"imagenet": 50000, "places205": 20500, "oxford-pets": 3669, "voc2007": 4952}


def experiment(**changes):
    return {
        "title": "", "objective": "invp", "objective_options": {"name": "invp", "positives": "hard", "hard_negatives": True},
        "encoder": "resnet50", "head": "linear", "dataset": "imagenet", "epochs": 800, "stages": [400, 800], **changes,
    }  # fmt: skip


def metrics(plugin, values, data="imagenet", stage=800, **options):
    return {
        "experiment": "a", "stage": stage, "eval": plugin, "evaluation": {"name": plugin, **options},
        "metrics": values, "protocol": {"data": data, "test_images": IMAGES.get(data, 360)},
        "answers": {"top1": "", "top5": ""} if "top1" in values or "top5" in values else {},
    }  # fmt: skip


def rows(content, **changes):
    section = {"experiments": ["a"], "loaded": {"a": experiment(**changes)}}
    tables = published.tables_with_ours(section, TABLES, content)
    return {key: rows[-1] for key, (_, rows) in tables.items() if rows[-1].ours}


def test_every_table_is_whole():
    assert list(TABLES) == [
        "linear_classification",
        "semi_supervised",
        "transfer",
        "detection",
        "ablation",
        "mmselfsup",
        "cifar10_transformers",
    ]
    for table in TABLES.values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert set(table["measured"]) <= set(table["columns"]) and table["columns"][0] == "method"
        for rule in table["compare"]:
            own = {"objective_options": rule["objective"], "head": rule.get("head", "linear")}
            assert published.compared_row(table, own)["method"] == rule["method"], "every rule leads to its row"


def test_the_same_protocol_has_a_difference_and_no_mark():
    row = rows([metrics("linear_blocks", {"top1": 68.0})])["linear_classification"]
    assert row.values == {"imagenet_top1": (68.0, pytest.approx(float("nan"), nan_ok=True), 1)}
    assert (
        row.minus_published == {"imagenet_top1": pytest.approx(0.3)}
        and row.differs_in == []
        and row.compared_with == "InvP ResNet-50"
    )


def test_the_value_is_the_mean_over_seeds():
    row = rows([metrics("linear_blocks", {"top1": v}) for v in (66.0, 68.0)])["linear_classification"]
    assert row.values["imagenet_top1"] == (67.0, pytest.approx(2**0.5), 2)


def test_an_mlp_head_is_held_against_the_mlp_row():
    row = rows([metrics("linear_blocks", {"top1": 71.0})], head="mlp")["linear_classification"]
    assert row.compared_with == "InvP ResNet-50-MLP" and row.minus_published["imagenet_top1"] == pytest.approx(-0.3)


def test_another_network_and_length_are_marked():
    changes = {"dataset": "digits", "encoder": "resnet_small", "stages": [90], "head": "mlp"}
    row = rows([metrics("linear", {"top1": 49.0}, stage=90)], **changes)["linear_classification"]
    assert row.minus_published == {"imagenet_top1": pytest.approx(49 - 71.3)} and row.differs_in == [
        "pretrained on digits", "network resnet_small", "90 epochs, not 800", "imagenet_top1 by linear, not linear_blocks",
    ]  # fmt: skip


NUMBERS = [
    metrics("linear", {"top1": 99.0}, data="digits", features="feature"), metrics("semi_supervised", {"top5": 99.0}, data="digits", share=0.1),
    metrics("svm", {"map": 99.0}, data="digits", features="feature"), metrics("detection", {"ap": 9.0, "ap50": 9.0, "ap75": 9.0}, data="scenes"),
]  # fmt: skip


def test_numbers_of_other_sets_stand_in_no_table_and_a_sentence_says_which_set_it_takes():
    section = {"experiments": ["a"], "loaded": {"a": experiment()}}
    assert published.tables_with_ours(section, TABLES, NUMBERS) == {}
    needed = {
        "linear_classification": "imagenet or places205 or voc2007", "semi_supervised": "imagenet", "detection": "voc0712", "ablation": "imagenet",
        "mmselfsup": "imagenet or voc2007 or voc0712",
    }  # fmt: skip
    assert published.left_out(TABLES, {}, NUMBERS) == [
        f"Not shown, since it would need a number of ours on {sets}: {TABLES[key]['title']}." for key, sets in needed.items()
    ]


def test_what_is_shown_is_not_said_to_be_missing_and_digits_stay_out_of_it():
    section = {"experiments": ["a"], "loaded": {"a": experiment()}}
    content = [*NUMBERS, {**metrics("linear_blocks", {"top1": 68.0}), "eval": "on-imagenet"}]
    shown = published.tables_with_ours(section, TABLES, content)
    assert set(shown) == {"linear_classification", "ablation"}
    (ours,) = [row for row in shown["linear_classification"][1] if row.ours]
    assert {column: value.mean for column, value in ours.values.items()} == {"imagenet_top1": 68.0}
    assert [sentence.split(": ")[1] for sentence in published.left_out(TABLES, shown, content)] == [
        "Table 2",
        "Table 4",
        "mmselfsup's model zoo",
    ]


def test_a_study_without_such_an_evaluation_is_told_nothing():
    assert published.left_out(TABLES, {}, [metrics("knn", {"top1": 99.0}, data="digits")]) == []


def test_only_its_own_set_fills_places_and_a_transfer_column():
    content = [metrics("linear_blocks", {"top1": 50.0}, data="places205"), metrics("linear_blocks", {"top1": 60.0})]
    row = rows(content)["linear_classification"]
    assert row.values["places205_top1"][0] == 50 and row.values["imagenet_top1"][0] == 60
    assert rows([metrics("transfer", {"score": 97.0}, data="digits")]) == {}
    assert rows([metrics("transfer", {"score": 97.0}, data="oxford-pets")])["transfer"].minus_published == {
        "pets": pytest.approx(7.6)
    }


def test_a_part_of_the_official_test_set_is_not_it():
    content = metrics("svm", {"map": 60.0}, data="voc2007")
    content["protocol"]["test_images"] = 24
    row = rows([content])["linear_classification"]
    assert row.minus_published == {} and row.differs_in == ["voc2007_map on 24 images, not 4,952"]


def test_options_tell_one_per_cent_from_ten():
    content = [metrics("semi_supervised", {"top5": 70.0}, share=0.01), metrics("semi_supervised", {"top5": 85.0}, share=0.1)]
    content[1]["eval"] = "semi-10"
    row = rows(content)["semi_supervised"]
    assert {c: v[0] for c, v in row.values.items()} == {"top5_1pct": 70.0, "top5_10pct": 85.0}


@pytest.mark.parametrize(
    ("options", "name"),
    [({"positives": "knn"}, "KNN positives (K=50)"), ({"positives": "easy"}, "without hard positives"),
     ({"hard_negatives": False, "positives": "hard"}, "without hard negatives")],
)  # fmt: skip
def test_an_ablation_finds_its_row(options, name):
    own = {"name": "invp", "positives": "hard", "hard_negatives": True, **options}
    row = rows([metrics("linear_blocks", {"top1": 60.0}, stage=200)], stages=[200], objective_options=own)["ablation"]
    assert row.compared_with == name and "epochs" not in " ".join(row.differs_in)


def test_numbers_of_one_code_base_stand_beside_ours_of_the_encoders_features_alone():
    moco = {"objective_options": {"name": "moco"}, "head": "mlp", "stages": [200]}
    content = [
        metrics("low_shot_svm", {"map_k1": 45.1, "map_k16": 75.4}, data="voc2007", stage=200, features="feature"),
        metrics("knn", {"top1_k20_t0.07": 57.7}, stage=200, features="feature"),
    ]
    row = rows(content, **moco)["mmselfsup"]
    assert row.compared_with == "MoCo v2" and row.differs_in == []
    assert row.minus_published == {
        "voc2007_map_k1": pytest.approx(2.0), "voc2007_map_k16": pytest.approx(0), "imagenet_knn20": pytest.approx(2.0),
    }  # fmt: skip
    content = [metrics("knn", {"top1_k20_t0.07": 57.7}, stage=200, features="embedding")]
    assert rows(content, **moco) == {}


def test_numbers_of_another_protocol_stand_beside_without_a_difference_in_few_words():
    moco = {"objective_options": {"name": "moco"}, "head": "mlp", "stages": [200]}
    other = [
        metrics("linear", {"top1": 66.0}, stage=200, features="feature"), metrics("segmentation", {"miou": 60.0}, data="sbd", stage=200, mode="fcn"),
        metrics("detection", {"ap": 50.0, "ap50": 80.0, "ap75": 55.0}, data="voc0712", stage=200),
    ]  # fmt: skip
    for content, found in zip(other[1:], ("sbd", "voc0712"), strict=True):
        content["protocol"]["test_images"] = {"sbd": 1449, "voc0712": 4952}[found]
    row = rows(other, **moco)["mmselfsup"]
    assert {key: value.mean for key, value in row.values.items()} == {"imagenet_top1": 66, "voc0712_ap50": 80, "voc2012_miou": 60}
    assert row.minus_published == {} and row.differs_in == ["imagenet_top1, voc0712_ap50, voc2012_miou by another protocol"]
    section = {"experiments": ["a"], "loaded": {"a": experiment(**moco)}}
    table, every = published.tables_with_ours(section, TABLES, other)["mmselfsup"]
    assert published.as_table(table, every).rows[-1][-2:] == ["not comparable", row.differs_in[0]]
    both = rows([*other, metrics("knn", {"top1_k20_t0.07": 57.7}, stage=200, features="feature")], **moco)["mmselfsup"]
    assert both.minus_published == {"imagenet_knn20": pytest.approx(2.0)}, "what is comparable is compared"


def test_an_untrained_network_is_held_against_nobody():
    row = rows([metrics("linear_blocks", {"top1": 5.0}, stage=0)], stages=[0])["linear_classification"]
    assert row.compared_with == "" and row.minus_published == {}


def test_only_the_last_stage_counts():
    assert rows([metrics("linear_blocks", {"top1": 5.0}, stage=400)]) == {}


def test_as_a_table_and_as_csv():
    section = {"experiments": ["a"], "loaded": {"a": experiment()}}
    content = [metrics("linear_blocks", {"top1": value}) for value in (67.5, 68.5)]
    paper, rows = published.tables_with_ours(section, TABLES, content)["linear_classification"]
    table = published.as_table(paper, rows)
    assert all(len(row) == len(table.header) for row in table.rows) and len(table.rows) == 22 and table.ours == {21}
    ours = dict(zip(table.header, table.rows[-1], strict=True))
    assert ours["method"] == "ours: a" and ours["minus published"] == "imagenet_top1 +0.3 (InvP ResNet-50)"
    imagenet, places = "imagenet_top1 (n = 50,000)", "places205_top1 (n = 20,500)"
    assert ours[imagenet] == "68.00 ± 0.71 [67.59, 68.41]" and ours[places] == "-"
    assert dict(zip(table.header, table.rows[-3], strict=True))[imagenet] == "67.7"
    assert "| ours: a |" in markdown(table.header, table.rows) and r"imagenet\_top1" in latex(table.header, table.rows)
    lines = published.csv_rows("t", rows)
    assert lines[0] == {"table": "t", "source": "published", "method": "Supervised", "column": "imagenet_top1", "value": 75.9}
    assert (
        lines[-1]["value"] == 68.0
        and lines[-1]["seeds"] == 2
        and lines[-1]["images"] == 50000
        and lines[-1]["deviation"] == pytest.approx(0.5**0.5)
    )
    assert lines[-1]["difference"] == pytest.approx(0.3) and set(lines[-1]) == set(published.CSV_HEADER)


def test_a_table_may_be_of_another_pretraining():
    values = metrics("semi_supervised", {"top1": 88.0, "top5": 99.0}, data="cifar10", stage=400, share=1.0)
    values["protocol"]["test_images"] = 10000
    own = {"objective_options": {"name": "mae"}, "encoder": "vit_tiny", "dataset": "cifar10", "stages": [400]}
    row = rows([values], **own)["cifar10_transformers"]
    assert row.minus_published == {"fine_tuned": pytest.approx(-1.77)} and row.differs_in == ["400 epochs, not 2000"]
    del own["encoder"], own["dataset"]
    differs = rows([values], **own)["cifar10_transformers"].differs_in
    assert differs == ["pretrained on imagenet", "network resnet50", "400 epochs, not 2000"]
