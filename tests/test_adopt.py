"""Adopting results after an edit that changes no number, and refusing to after one that does."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from invp.plumbing import config
from invp.plumbing.files import read_table, write_json, write_table
from invp.plumbing.records import adopted_record, is_as_used, records_under
from invp.tools._reread import read_again

BANK, TWICE = "invp/core/bank.py", ("2 * bound", "bound * 2")
RUN = "results/smoke-invp/seed-0"


@pytest.fixture
def project(finished, tmp_path):
    return finished.copy(tmp_path / "project")


def content(project) -> dict[Path, tuple[bytes, int]]:
    """The bytes and the date of every record, and of all that Snakemake remembers."""
    files = [*records_under(project.folder / "results"), *(project.folder / ".snakemake/metadata").rglob("*")]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files if path.is_file()}


def test_an_edit_that_changes_no_number_reruns_nothing_after_adoption(project):
    dates = {path: date for path, (_, date) in content(project).items() if path.name.endswith("record.json")}
    project.edit(BANK, *TWICE)
    assert project.planned()["pretrain"] == 4
    words = project.invp("adopt", "results")
    assert "adopted 2 of pretrain" in words and "images read again" not in words
    assert project.planned() == {}
    record = json.loads((project.folder / RUN / "pretrain/stage-2/record.json").read_text())
    (entry,) = record["adopted"]
    assert entry["to"] == record["code"] != entry["from"] and "pretrain/invp/invp" in entry["checked"]
    assert {path: path.stat().st_mtime_ns for path in dates} == dates
    verified = project.invp("verify")
    assert "0 faults" in verified and f"2 of pretrain: code {entry['from']} -> {entry['to']}" in verified
    explained = project.invp("why", f"{RUN}/pretrain/stage-2/checkpoint.pt")
    assert f"code {entry['from']} -> {entry['to']}, after a check of" in explained and "as it is now" in explained
    assert "changed since" not in project.invp("why", "results/studies/smoke/report.html")

    # A second time, by another edit; then nothing is left to adopt, and later jobs run by the code as it is.
    project.edit(BANK, *reversed(TWICE))
    project.edit(BANK, "torch.rand(num_samples, dim, ", "torch.rand(*(num_samples, dim), ")
    project.invp("adopt", "results/smoke-invp", "results/smoke-instance-discrimination")
    assert project.planned() == {}
    again = json.loads((project.folder / RUN / "pretrain/stage-2/record.json").read_text())
    assert again["adopted"][0] == entry and again["adopted"][1]["from"] == entry["to"] and len(again["adopted"]) == 2
    assert "0 faults" in project.invp("verify")
    before = content(project)
    assert "nothing to adopt" in project.invp("adopt", "results")
    assert content(project) == before
    (project.folder / RUN / "evals/knn/stage-2/metrics.json").unlink()
    project.snakemake("all")
    assert project.planned() == {} and "0 faults" in project.invp("verify")


@pytest.mark.parametrize("path, old, new, case", [
    (BANK, "2 * bound", "3 * bound", "pretrain/invp/invp"),
    pytest.param("invp/core/metrics.py", "np.exp(", "np.exp(1.01 * ", "evaluate/knn/pixels.knn", marks=pytest.mark.slow),
    pytest.param("invp/datasets/digits.py", "255 / 16", "254 / 16", "prepare/any/digits-train", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_changed_golden_number_is_named_and_nothing_is_rewritten(path, old, new, case, project):
    project.edit(path, old, new)
    before = content(project)
    words = project.invp("adopt", "results", expect=2)
    assert f"golden number changed: {case}" in words and "nothing was adopted" in words and "Traceback" not in words, words
    assert content(project) == before


def test_images_are_read_again(project):
    project.edit("invp/datasets/digits.py", "values * 255 / 16", "255 * values / 16")
    assert project.planned()["prepare"] == 2
    project.invp("adopt", "results/datasets")
    assert project.planned() == {}
    record = json.loads((project.folder / "results/datasets/digits/train/record.json").read_text())
    assert "200 images read again" in record["adopted"][0]["checked"]
    assert "0 faults" in project.invp("verify")


def test_a_plug_in_without_golden_numbers_is_refused_with_what_to_do(project):
    shutil.copy(project.folder / "invp/evals/knn.py", project.folder / "invp/evals/mine.py")
    project.edit("config/experiments/digits-invp.yaml", "  knn: {}", "  knn: {}\n  mine: {}")
    project.snakemake(f"{RUN}/evals/mine/stage-2/metrics.json")
    project.edit("invp/evals/mine.py", "for k in config.k", "for k in list(config.k)")
    words = project.invp("adopt", "results", expect=2)
    assert "there is no golden number of mine" in words and "golden.yaml" in words and "golden --write" in words, words


def test_results_without_snakemakes_memory(project):
    shutil.rmtree(project.folder / ".snakemake")
    project.edit("invp/core/metrics.py", "np.exp(", "np.exp(1 * ")
    words = project.invp("adopt", f"{RUN}/evals/knn/stage-2/metrics.json")
    assert "adopted 1 of evaluate" in words and "no .snakemake in this folder" in words, words
    assert not (project.folder / ".snakemake").exists()
    assert project.planned().get("evaluate") is None


def test_while_a_workflow_runs_nothing_is_adopted(project):
    (project.folder / ".snakemake/locks").mkdir(exist_ok=True)
    (project.folder / ".snakemake/locks/0.input.lock").write_text("x\n")
    assert "a workflow runs in this folder" in project.invp("adopt", "results", expect=2)


def test_a_stage_that_has_not_ended_goes_on(project):
    """Its saved state is taken over with the finished stage before it, which was made by the same code."""
    folder = project.folder / RUN / "pretrain/stage-2"
    command = shlex.split(json.loads((folder / "record.json").read_text())["command"])[3:]
    shutil.rmtree(folder)
    project.invp(*command, "--max-minutes", "0.0001", expect=75)
    assert (folder.parent / "scratch-stage-2/partial.pt").exists()
    project.edit(BANK, *TWICE)
    words = project.invp("adopt", f"{RUN}/pretrain")
    assert "adopted 2 of pretrain" in words
    project.snakemake(f"{RUN}/pretrain/stage-2/checkpoint.pt")
    log = (project.folder / "results/logs/pretrain/smoke-invp-seed-0-stage-2.log").read_text()
    assert "continuing in epoch 2 after step" in log, log


def test_a_difference_from_the_images_that_were_read_is_found(digits, tmp_path):
    options = config.plugin_options("datasets", {"name": "digits"}, "test")
    assert read_again(digits["test"], {"dataset": options, "split": "test"}) == (200, "")
    other = read_again(digits["test"], {"dataset": {**options, "split_seed": 1}, "split": "test"})
    assert other[1].startswith("split_rule would be")
    folder = Path(shutil.copytree(digits["test"], tmp_path / "test"))
    table = read_table(folder / "shards/shard-00000.arrow")
    images = [bytearray(image) for image in table["image"].to_pylist()]
    images[-1][5] ^= 1
    column = table.column_names.index("image")
    changed = table.set_column(column, "image", pa.array(map(bytes, images), table.schema.field("image").type))
    write_table(folder / "shards/shard-00000.arrow", changed)
    assert "image 359 is read otherwise" in read_again(folder, {"dataset": options, "split": "test"})[1]


def test_an_adopted_record_is_as_used_and_one_that_was_edited_is_not(tmp_path):
    from invp.plumbing.files import sha256_of

    path = tmp_path / "record.json"
    record = {"step": "pretrain", "section": {"a": 0.1}, "code": "one", "inputs": {}, "outputs": {}, "seconds": 1.5, "name": "ä"}
    write_json(path, record)
    used = sha256_of(path)
    for code in ("two", "three"):
        record = adopted_record(record, code, ["x"])
        write_json(path, record)
        assert is_as_used(path, used, sha256_of(path))
    write_json(path, {**record, "seconds": 2.5})
    assert not is_as_used(path, used, sha256_of(path))
    path.write_text("{")
    assert not is_as_used(path, used, sha256_of(path))


def test_a_record_says_whether_its_own_code_was_committed(new_project):
    """Results of code that nobody kept cannot be adopted. An edit of other code does not matter."""
    code = "from invp.plumbing.jobs import Job; from invp.plumbing.records import _committed; "
    code += "print(_committed(Job('figure', {'figure': {'name': 'training_curves'}}, {}, {}, '')))"

    def committed() -> str:
        return new_project.run(sys.executable, "-c", code).strip()

    assert committed() == "None"  # no repository
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    for arguments in (("init", "-q"), ("add", "invp"), ("commit", "-q", "-m", "one")):
        new_project.run(*git, *arguments)
    assert committed() == "True"
    new_project.edit("invp/pages/html.py", "from pathlib import Path", "from pathlib import Path\n\nX = 1")
    new_project.edit("invp/plumbing/errors.py", "class UserError", "X = 1\n\n\nclass UserError")
    assert committed() == "True"
    new_project.edit("invp/figures/training_curves.py", 'NEEDS = ("curves",)', 'NEEDS = ("curves",)\nX = 1')
    assert committed() == "False"
