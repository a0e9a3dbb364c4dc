"""What reruns after an edit, and what does not: the jobs that Snakemake plans, against those it should."""

import re
import shutil

import pytest

INVP, INSTANCE = "invp/objectives/invp.py", "invp/objectives/instance_discrimination.py"
# After a change of one experiment: two stages, two graphs, features of train and test, two evaluations, and what sums up.
ONE_EXPERIMENT = {"pretrain": 2, "graph": 2, "features": 2, "evaluate": 2, "explorer": 1, "summary": 1, "report": 1}
PAGES = {"summary", "report", "explorer"}


@pytest.fixture
def project(finished, tmp_path):
    return finished.copy(tmp_path / "project")


def append(project, path, text):
    with open(project.folder / path, "a") as file:
        file.write(text)


def codes(project) -> dict[str, str]:
    """The code digest of every job of the study, by the name of its log."""
    printed = project.snakemake("all", "-n", "-p", "--forceall")
    return {log: code for code, log in re.findall(r"--code (\w+).* > results/logs/(\S+)\.log", printed)}


def test_a_comment_a_docstring_formatting_or_a_touch_rerun_nothing(project):
    append(project, INVP, "\n# a comment\n")
    append(project, "invp/evals/knn.py", "\n\n\n# another\n")
    project.edit(INVP, '"""', '"""Other words. ')
    (project.folder / "invp/data/batches.py").touch()
    (project.folder / "config/experiments/smoke-invp.yaml").touch()
    (project.folder / "results/smoke-invp/seed-0/pretrain/stage-1/checkpoint.pt").touch()
    assert project.planned() == {}


def test_the_formula_of_invp_reruns_invp_alone(project):
    append(project, INVP, "\nCHANGED = 1\n")
    planned = project.planned()
    assert {k: planned.get(k) for k in ONE_EXPERIMENT} == ONE_EXPERIMENT
    printed = project.snakemake("all", "-n")
    assert "experiment=smoke-invp," in printed and "experiment=smoke-instance-discrimination," not in printed


def test_a_formula_of_core_changes_the_code_of_what_imports_it(project):
    """The walk on the graph: of both trainings on a bank, which share a loss, and of the graph; not of SimCLR, nor of an evaluation."""
    (project.folder / "config/experiments/smoke-simclr.yaml").write_text(
        "extends: smoke-invp\nobjective: {name: simclr}\ngraph: {of: features}\n"
    )
    project.edit("config/studies/smoke.yaml", "[smoke-invp,", "[smoke-invp, smoke-simclr,")
    before = codes(project)
    assert len(before) == 35 and len({log.split("/")[0] for log in before}) == 9, "every job of every step"
    append(project, "invp/core/propagation.py", "\nCHANGED = 1\n")
    after = codes(project)
    changed = {log for log, code in after.items() if code != before[log]}
    assert {log.split("/")[0] for log in changed} == {"pretrain", "graph"}
    assert {log for log in after if log.startswith("pretrain")} - changed == {
        f"pretrain/smoke-simclr-seed-0-stage-{s}" for s in (1, 2)
    }


def test_augmentation_changes_the_code_of_pretraining_and_of_no_knn(project):
    before = codes(project)
    append(project, "invp/data/augment.py", "\nCHANGED = 1\n")
    after = codes(project)
    changed = {log.split("/")[0] for log, code in after.items() if code != before[log]}
    assert "pretrain" in changed and not changed & {"prepare", "evaluate", "graph", "figure", *PAGES}
    assert project.planned()["pretrain"] == 4


def test_a_module_that_moves_with_its_imports_renamed_reruns_nothing(project):
    """And one of another folder, with a plug-in of another name that nobody uses beside them."""
    package = project.folder / "invp"
    for old, new in (("core/metrics", "core/scores"), ("core/propagation", "core/graphs/walks"), ("data/augment", "core/views")):
        (package / new).parent.mkdir(exist_ok=True)
        (package / f"{old}.py").rename(package / f"{new}.py")
        (before, name), (after, renamed) = (path.replace("/", ".").rsplit(".", 1) for path in (old, new))
        for path in package.rglob("*.py"):
            text = path.read_text().replace(f"invp.{before}.{name} import", f"invp.{after}.{renamed} import")
            path.write_text(text)
    assert not list(package.glob("core/metrics.py")) and "invp.core.scores import" in (package / "evals/knn.py").read_text()
    assert project.planned() == {}


def test_an_edit_of_plumbing_or_of_tools_reruns_nothing(project):
    edited = [path for folder in ("plumbing", "tools") for path in (project.folder / "invp" / folder).glob("*.py")]
    for path in edited:
        append(project, path, "\nCHANGED = 1\n")
    assert len(edited) > 15 and project.planned() == {}


@pytest.mark.parametrize(
    ("path", "page", "text"),
    [
        ("html.py", "report", "\nCHANGED = 1\n"),
        ("published.py", "report", "\nCHANGED = 1\n"),
        ("templates/report.css", "report", "\n.changed { color: red; }\n"),
        ("templates/explorer.html", "explorer", "\n<p>changed</p>\n"),
    ],
)
def test_an_edit_of_pages_or_of_a_template_reruns_pages_only(path, page, text, project):
    append(project, f"invp/pages/{path}", text)
    planned = project.planned()
    assert page in planned and set(planned) <= PAGES


def test_git_checking_the_same_content_out_again_reruns_nothing(project):
    """Git gives every file that it writes the present date."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    project.run(*git, "init", "-q")
    project.run(*git, "add", "Snakefile", "workflow", "invp", "config", "profiles")
    project.run(*git, "commit", "-q", "-m", "one")
    for part in ("invp", "config", "workflow"):
        shutil.rmtree(project.folder / part)
    project.run(*git, "checkout", "-q", "--", ".")
    assert project.planned() == {}


def test_one_more_experiment_runs_it_and_what_sums_up(project):
    experiment = "extends: smoke-invp\ntitle: Another\nobjective: {temperature: 0.1}\n"
    (project.folder / "config/experiments/smoke-another.yaml").write_text(experiment)
    project.edit("config/studies/smoke.yaml", "smoke-invp", "smoke-invp, smoke-another")
    assert project.planned() == {**ONE_EXPERIMENT, "figure": 1}
    assert "experiment=smoke-invp," not in project.snakemake("all", "-n")


def test_an_evaluations_code_or_option_reruns_it_alone(project):
    append(project, "invp/evals/knn.py", "\nCHANGED = 1\n")
    assert project.planned() == {"evaluate": 2, "summary": 1, "report": 1}


def test_an_evaluations_option(project):
    project.edit("config/experiments/digits-invp.yaml", "knn: {}", "knn: {k: [100]}")
    assert project.planned() == {"evaluate": 2, "summary": 1, "report": 1}


def test_a_data_sets_code_reruns_its_shards_and_what_uses_them(project):
    append(project, "invp/datasets/digits.py", "\nCHANGED = 1\n")
    planned = project.planned()
    assert planned["prepare"] == 2 and planned["pretrain"] == 4


def test_another_data_sets_code_reruns_nothing(project):
    append(project, "invp/datasets/cifar10.py", "\nCHANGED = 1\n")
    assert project.planned() == {}


def test_a_default_value_reruns_those_that_use_it(project):
    project.edit(INVP, 'ramp: str = option("binary"', 'ramp: str = option("constant"')
    assert project.planned()["pretrain"] == 2


def test_one_more_stage_runs_one_more_stage(project):
    project.edit("config/experiments/smoke-invp.yaml", "epochs: 2", "epochs: 3")
    before = project.planned()
    assert before["pretrain"] == 4  # the schedule's horizon changes a result
    project.edit("config/experiments/smoke-invp.yaml", "epochs: 3", "epochs: 2")
    project.edit("config/experiments/smoke-invp.yaml", "stages: [1, 2]", "stages: [1]")
    assert "pretrain" not in project.planned()


def test_a_stage_put_before_another_runs_that_one_again(project):
    """It begins from the new one's checkpoint; what it gives is equal to the bit, which only a run can tell."""
    project.edit("config/experiments/smoke-invp.yaml", "stages: [1, 2]", "stages: [2]")
    project.snakemake("all", "--touch")  # as if it had run with one stage
    assert project.planned() == {}
    project.edit("config/experiments/smoke-invp.yaml", "stages: [2]", "stages: [1, 2]")
    planned = project.planned()
    assert planned["pretrain"] == 2 and planned["graph"] == 2 and planned["evaluate"] == 4  # of two experiments


def test_one_more_seed_runs_only_the_new_one(project):
    project.edit("config/studies/smoke.yaml", "seeds: [0]", "seeds: [0, 1]")
    planned = project.planned()
    assert planned == {
        "pretrain": 4,
        "graph": 4,
        "features": 4,
        "evaluate": 4,
        "explorer": 2,
        "figure": 2,
        "summary": 1,
        "report": 1,
    }


def test_one_more_evaluation_runs_only_that(project):
    project.edit("config/experiments/digits-invp.yaml", "  knn: {}", "  knn: {}\n  knn-features: {name: knn, features: feature}")
    assert project.planned() == {"evaluate": 2, "summary": 1, "report": 1}


def test_two_options_that_swap_their_values_are_seen(project):
    project.edit("config/experiments/smoke-invp.yaml", "ramp_epoch: 1", "ramp_epoch: 1, k: 3, steps: 4")
    project.snakemake("all", "--touch")  # as if it had run with k = 3 and l = 4
    project.edit("config/experiments/smoke-invp.yaml", "k: 3, steps: 4", "k: 4, steps: 3")
    assert project.planned() != {}


def test_a_profile_reruns_nothing(project):
    append(project, "profiles/local/config.yaml", "\nset-threads: [pretrain=2]\nset-resources: [pretrain:mem_mb=9000]\n")
    assert project.planned() == {}


def test_a_deleted_intermediate_is_not_missed_and_a_deleted_result_is(project):
    (project.folder / "results/smoke-invp/seed-0/pretrain/stage-1/checkpoint.pt").unlink()
    assert project.planned() == {}
    (project.folder / "results/smoke-invp/seed-0/evals/knn/stage-2/metrics.json").unlink()
    assert project.planned() == {"evaluate": 1, "summary": 1, "report": 1}
