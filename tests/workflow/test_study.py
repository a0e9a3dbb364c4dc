"""The whole workflow on a small study: from nothing to the report."""

import csv
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from invp.plumbing.files import read_table
from tests.conftest import STUDY, jobs_in

PAGES = "results/studies/smoke"


def broken_links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead to that is no file; what lies inside the page leads nowhere."""
    targets = re.findall(r'\b(?:href|src)="([^"]*)"', page.read_text())
    assert targets
    return [each for each in targets if not each.startswith(("data:", "#")) and not (page.parent / unquote(each)).is_file()]


def test_from_nothing_to_the_report(finished):
    results = finished.folder / "results"
    printed = (finished.folder / "printed.txt").read_text()
    assert "knn.top1" in printed and "smoke-invp" in printed  # the summary's table
    # With two experiments on two cores, the first graph does not wait for the trainings of second stages.
    started = re.findall(r"^(?:local)?rule (\w+):$", printed, re.M)
    assert started[: started.index("graph")].count("pretrain") == 2
    pages = finished.folder / PAGES
    rows = list(csv.DictReader((pages / "summary.csv").open()))
    assert {r["experiment"] for r in rows} == {"smoke-invp", "smoke-instance-discrimination"}
    assert {r["source"] for r in rows} >= {"knn", "linear", "graph", "training"}
    page = (pages / "report.html").read_text()
    assert "coloured and named by class" in page and "✓ the anchor's class" in page
    assert "smoke-invp" in page and page.count("explorer.html") == 2
    assert broken_links(pages / "report.html") == broken_links(pages / "comparison.html") == []
    assert f"report: {PAGES}/report.html\n" in printed
    index = finished.folder / "results/index.html"
    assert "all studies: results/index.html" in printed and "smoke/report.html" in index.read_text() and broken_links(index) == []
    graph = read_table(results / "smoke-invp/seed-0/graph/stage-2/knn.arrow")
    assert graph.column_names == ["index", "neighbours", "similarities", "position"] and graph.num_rows == 1437
    assert (results / "smoke-invp/seed-0/explorer.html").stat().st_size > 10_000


def test_each_study_keeps_its_own_pages_and_a_run_prints_no_stale_table(finished, tmp_path):
    project, other = finished.copy(tmp_path / "project"), "config/studies/other.yaml"
    kept = {path: path.read_bytes() for path in (project.folder / PAGES).iterdir()}
    (project.folder / other).write_text("study: other\ntitle: Another study\nexperiments: [smoke-invp]\n")
    words = project.snakemake("all", study=other)
    assert "Another study" in words and "report: results/studies/other/report.html" in words
    assert broken_links(project.folder / "results/studies/other/report.html") == []
    assert {path: path.read_bytes() for path in (project.folder / PAGES).iterdir()} == kept and len(kept) == 10
    again = project.invp("run", "other", "--nolock")
    assert "Nothing to be done" in again and "Another study" in again and "report: results/studies/other/report.html" in again
    assert "estimate:" not in again, "with arguments for snakemake nothing is said of the time"
    assert project.planned() == project.planned(study=other) == {} and "0 faults" in project.invp("verify")
    refused = project.snakemake("results/studies/other/summary.csv", "-n", "--force", expect=1)
    assert "results/studies/other/summary.csv" in refused, refused

    (project.folder / "results/report.html").write_text("of an older version")
    with open(project.folder / "invp/datasets/digits.py", "a") as file:
        file.write("\nCHANGED = 1\n")
    words = project.snakemake("all", "--until", "prepare")
    assert "knn.top1" not in words and "report:" not in words and (project.folder / "results/report.html").exists()
    (warning,) = [line for line in words.splitlines() if "of an older version" in line]
    assert "results/report.html" in warning and "may be deleted" in warning and PAGES in warning


def test_again_it_runs_no_job(finished):
    command = ["snakemake", "--profile", "profiles/local", "all", "-n", "--configfile", STUDY]
    assert jobs_in(finished.run(sys.executable, "-m", *command)) == {}


def test_tools_answer_as_a_user_types_them(finished, tmp_path):
    """Each in a Python of its own; other tests start them in a fork, see tests/warm_python.py."""
    stage = "results/smoke-invp/seed-0/{}/stage-2"
    for arguments, answer in (
        (["verify"], "0 faults"),
        (["outdated"], ""),
        (["why", f"{stage.format('evals/knn')}/metrics.json"], "invp/evals/knn.py"),
        (["plan", STUDY], "\n0 jobs, "),
        (["inspect", "graph", stage.format("graph"), "--anchor", "5"], "class 5"),
        (["inspect", "data", "results/datasets/digits/train"], "1,437 images"),
        (["inspect", "checkpoint", f"{stage.format('pretrain')}/checkpoint.pt"], "bank"),
        (
            [
                "export",
                f"{stage.format('pretrain')}/checkpoint.pt",
                "--to",
                "safetensors",
                "--out",
                str(tmp_path / "e.safetensors"),
            ],
            "tensors",
        ),
    ):
        assert answer in finished.run(sys.executable, "-m", "invp", *arguments), arguments


def test_every_artifact_verifies_and_an_altered_truncated_or_foreign_one_does_not(finished, tmp_path):
    project = finished.copy(tmp_path / "copy")
    assert "0 faults" in project.invp("verify")
    results = project.folder / "results"
    metrics = results / "smoke-invp/seed-0/evals/knn/stage-2/metrics.json"
    metrics.write_text(metrics.read_text().replace("1", "2", 1))
    features = next((results / "smoke-invp/seed-0/features/stage-2").glob("*-test.arrow"))
    features.write_bytes(features.read_bytes()[:-50])
    shard = next((results / "datasets/digits/train/shards").glob("shard-*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    (results / "smoke-invp/seed-0/extra.bin").write_bytes(b"?")
    words = project.invp("verify", "results", expect=1)
    for kind, name in (
        ("altered", "metrics.json"),
        ("truncated", features.name),
        ("altered", shard.name),
        ("orphaned", "extra.bin"),
    ):
        assert re.search(rf"{kind}.*{re.escape(name)}", words), words


def test_why_names_inputs_and_code(finished):
    printed = finished.invp("why", "results/smoke-invp/seed-0/graph/stage-2/knn.arrow")
    assert "checkpoint.pt (as it was)" in printed and "invp/steps/graph.py" in printed and "as it is now" in printed


def test_every_record_answers_what_the_artifact_is(finished):
    records = [*(finished.folder / "results").rglob("record.json"), *(finished.folder / "results").rglob("*.record.json")]
    assert len(records) > 15
    for path in records:
        record = json.loads(path.read_text())
        assert record["section"] and record["code"] and record["versions"] and record["device"] and record["command"], path
        assert record["outputs"] and record["seconds"] >= 0


def test_results_travel_to_another_folder_and_rerun_nothing(finished, new_project):
    import shutil

    for part in ("results", ".snakemake"):
        shutil.copytree(finished.folder / part, new_project.folder / part)
    assert new_project.planned() == {}
    assert "0 faults" in new_project.invp("verify")


@pytest.mark.parametrize(
    "content, words",
    [
        ("study: s\nexperiments: [smoke-invb]\n", ["bad.yaml", "smoke-invb", "smoke-invp"]),
        ("study: s\nexperimants: [smoke-invp]\n", ["bad.yaml", "experimants", "experiments"]),
        ("study: s\nexperiments: [smoke-invp]\nseeds: many\n", ["bad.yaml", "seeds"]),
    ],
)
def test_a_wrong_study_fails_before_any_job_in_one_readable_message(new_project, content, words):
    (new_project.folder / "bad.yaml").write_text(content)
    output = new_project.snakemake("all", study="bad.yaml", expect=1)
    assert "Traceback" not in output and len(output.splitlines()) < 12, output
    for word in words:
        assert word in output
    assert not (new_project.folder / "results").exists()


def test_a_missing_data_path_fails_before_any_job(new_project):
    (new_project.folder / "bad.yaml").write_text("study: s\nexperiments: [cifar10-invp]\n")
    output = new_project.snakemake("all", study="bad.yaml", expect=1, INVP_DATA="/nowhere/at/all")
    assert "Traceback" not in output and "/nowhere/at/all" in output, output
    assert not (new_project.folder / "results").exists()


def test_format_and_lint(root):
    subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=root, check=True)
    files = ["Snakefile", "workflow"]
    subprocess.run([sys.executable, "-m", "snakefmt", "--check", *files], cwd=root, check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], cwd=root, capture_output=True, text=True)
    findings = re.findall(r"^ +\* ([^\n:]+)", done.stdout + done.stderr, re.MULTILINE)
    assert set(findings) <= {
        "No conda environment or container defined",
        "Specify a conda environment or container for each rule.",
    }, findings


def test_every_rule_has_log_benchmark_threads_resources_and_names(root):
    for path in (root / "workflow" / "rules").glob("*.smk"):
        for text in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = text.split(":")[0]
            for key in (
                "input" if name != "prepare" else "output",
                "output",
                "log",
                "benchmark",
                "params",
                "threads",
                "resources",
                "shell",
            ):
                assert f"\n    {key}:" in text, f"{name} in {path.name} has no {key}"


@pytest.mark.parametrize("seeds, wanted", [([0], {"pretrain": "4", "features": "2"}), ([0, 1], {"pretrain": "2", "features": "2"})])
def test_the_only_pretraining_of_a_study_has_the_whole_machine(seeds, wanted, new_project):
    study = f"study: alone\nexperiments: [smoke-invp]\nseeds: {seeds}\n"
    (new_project.folder / "config/studies/alone.yaml").write_text(study)
    printed = new_project.snakemake("all", "-n", "-p", "--cores", "4", study="config/studies/alone.yaml")
    for step, threads in wanted.items():
        assert set(re.findall(rf"invp {step} .*--workers (\d+)", printed)) == {threads}


def test_snakemakes_own_report_holds_summary_pages_and_figures(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    project.snakemake("--report", "made.zip")
    with zipfile.ZipFile(project.folder / "made.zip") as archive:
        names = archive.namelist()
    for wanted in ("summary.csv", "report.html", "comparison.html", "explorer.html", "training-curves.png"):
        assert any(name.endswith(wanted) for name in names), wanted


def test_names_with_capitals_and_underscores_make_files_of_these_names(new_project):
    own = "{A_knn: {name: knn, dataset: {name: digits, id: My_Digits}}, linear: false, knn: false}"
    (new_project.folder / "config/experiments/My_Run-1.yaml").write_text(f"extends: smoke-invp\nevaluations: {own}\n")
    (new_project.folder / "config/studies/own.yaml").write_text("study: own\nexperiments: [My_Run-1]\ncolumns: [A_knn.top1]\n")
    printed = new_project.snakemake("all", "-n", "-p", study="config/studies/own.yaml")
    for path in ("My_Run-1/seed-0/evals/A_knn/stage-2/metrics.json", "My_Run-1/seed-0/features/stage-2/My_Digits-test.arrow"):
        assert f"results/{path}" in printed
    assert jobs_in(printed)["prepare"] == 3


def test_the_generic_profile_with_a_shell_as_the_scheduler(new_project):
    """Clusters that are not SLURM: the job's script is run as a scheduler would run it."""
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/generic", "--cluster-generic-submit-cmd", "sh"]
    target = "results/datasets/digits/test/manifest.json"
    new_project.run(*command, "--configfile", STUDY, "--", target)
    assert (new_project.folder / target).exists()
