"""A study through the profile on a real SLURM, and what clusters do to jobs: the same command ends with an undisturbed run's results."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from invp.training.distributed import Group
from invp.training.loop import Stage
from tests.conftest import Project, fresh
from tests.slurm.conftest import SlurmProject, adapt, wait_until

ONE, DEFAULT = "config/studies/one.yaml", "config/config.yaml"
RULES = ("prepare", "pretrain", "graph", "features", "evaluate", "evaluate_on_cpu", "small")
TRAININGS = {ONE: 2, DEFAULT: 8}  # stages of all experiments
EPOCHS = 120  # a quarter of a minute on a fast machine, so that a job is still there to be cancelled
STUDY = "config/studies/long.yaml"
LONG, BRIEF = ("long-invp", EPOCHS), ("brief-invp", 1)
EXPERIMENT = f"""\
extends: smoke-invp
title: InvP for some seconds
training: {{epochs: {EPOCHS}}}
stages: [{EPOCHS}]
"""


# Without batch statistics; an epoch of small steps, since four processes add up in another order than one, and steps carry that on.
BRIEF_EXPERIMENT = """\
extends: smoke-invp
title: InvP for an epoch
encoder: {norm: group}
training: {epochs: 4, learning_rate: 0.001}
stages: [1]
"""


def results(folder: Path) -> dict[str, object]:
    """Every number of a finished study: losses, graphs and metrics, without times and records."""
    found = {}
    for path in sorted((folder / "results").rglob("metrics.json")) + sorted((folder / "results").rglob("graph/*/summary.json")):
        content = json.loads(path.read_text())
        found[str(path.relative_to(folder))] = {key: content[key] for key in ("metrics", "measures") if key in content}
    for path in sorted((folder / "results").rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(folder))] = [{k: row[k] for k in ("epoch", "loss", "views")} for row in rows]
    return found


@pytest.mark.parametrize("study", [ONE, pytest.param(DEFAULT, marks=pytest.mark.slow)])
def test_a_study_equals_the_local_one_and_its_jobs_asked_for_what_the_profile_says(study, slurm_project, finished, new_project):
    (slurm_project.folder / ONE).write_text("study: one\nexperiments: [smoke-invp]\n")
    if study == DEFAULT:
        new_project.snakemake("all", study=study)
    local = results((new_project if study == DEFAULT else finished).folder)
    slurm_project.slurm("all", study=study)
    found = results(slurm_project.folder)
    assert found == {path: numbers for path, numbers in local.items() if study == DEFAULT or "smoke-invp" in path}
    assert len(found) == 3 * TRAININGS[study]
    jobs = slurm_project.jobs()
    assert {job["State"] for job in jobs} == {"COMPLETED"} and {job["Account"] for job in jobs} == {"lab"}
    counts = {rule: len(slurm_project.jobs(rule)) for rule in RULES}
    on_either = TRAININGS[study] // 2  # of the two evaluations one uses a GPU
    assert counts == {
        **dict.fromkeys(counts, TRAININGS[study]), "prepare": 2, "small": 1, "evaluate": on_either, "evaluate_on_cpu": on_either,
    }, counts  # fmt: skip
    assert len(jobs) == sum(counts.values())
    asked = {rule: {(j["Partition"], j["TimelimitRaw"], j["ReqTRES"]) for j in slurm_project.jobs(rule)} for rule in counts}
    gpu = "billing=1,cpu=1,gres/gpu=1,mem={},node=1"
    assert asked["prepare"] == {("cpu", "720", "billing=1,cpu=1,mem=4000M,node=1")}
    assert asked["pretrain"] == {("gpu", "1440", gpu.format("16000M"))}
    assert asked["features"] == {("gpu", "240", gpu.format("8000M"))}
    assert asked["evaluate"] == {("gpu", "1440", gpu.format("16000M"))}
    assert asked["evaluate_on_cpu"] == {("cpu", "720", "billing=1,cpu=1,mem=16000M,node=1")}
    assert next(iter(asked["small"]))[0] == "cpu"
    # A user looks for a job's words under results/logs/RULE, and for SLURM's beside them.
    logs = slurm_project.folder / "results" / "logs"
    assert len(list(logs.glob("pretrain/*-invp-seed-0-stage-*.log"))) >= 2
    assert len(list(logs.glob("slurm/rule_pretrain/*/*.log"))) == TRAININGS[study]
    assert "Nothing to be done" in slurm_project.slurm("all", study=study)


def folder_of(run: tuple[str, int], what: str = "stage") -> str:
    return f"results/{run[0]}/seed-0/pretrain/{what}-{run[1]}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Project:
    """A project whose data is prepared; beside it, in `expected`, undisturbed runs of both stages."""
    project = fresh(tmp_path_factory.mktemp("undisturbed") / "project")
    (project.folder / "config/experiments/long-invp.yaml").write_text(EXPERIMENT)
    (project.folder / "config/experiments/brief-invp.yaml").write_text(BRIEF_EXPERIMENT)
    (project.folder / STUDY).write_text("study: long\nexperiments: [long-invp, brief-invp]\n")
    adapt(project)
    project.snakemake("results/datasets/digits/train/manifest.json", study=STUDY)
    other = project.copy(project.folder.parent / "expected")
    other.snakemake("pretrain_all", study=STUDY)
    return project


@pytest.fixture
def project(undisturbed, cluster, tmp_path) -> SlurmProject:
    return SlurmProject(undisturbed.copy(tmp_path / "project").folder, cluster)


def target(run: tuple[str, int] = LONG) -> str:
    return f"{folder_of(run)}/checkpoint.pt"


def start(project: SlurmProject, run: tuple[str, int] = LONG):
    """Starts the command, and waits until the training runs."""
    process = project.start(target(run), study=STUDY)
    wait_until(lambda: training(project, run) or process.poll() is not None, "the training runs")
    assert process.poll() is None, (project.folder / "words.txt").read_text()
    return process


def training(project: SlurmProject, run: tuple[str, int] = LONG) -> int | None:
    """The process that trains, once it has begun."""
    lock = project.folder / folder_of(run, "scratch-stage") / "lock"
    if not lock.exists() or not lock.read_text() or (run is LONG and "epoch" not in log(project)):
        return None
    pid = int(lock.read_text().split()[0])
    return pid if Path(f"/proc/{pid}").exists() else None


def log(project: SlurmProject, run: tuple[str, int] = LONG, of: str = "") -> str:
    """The log of the try that runs, or `of` one before it."""
    path = project.folder / f"results/logs/pretrain/{run[0]}-seed-0-stage-{run[1]}.log{of}"
    return path.read_text() if path.exists() else ""


def assert_right(project: SlurmProject, undisturbed: Project, run: tuple[str, int] = LONG, same_order: bool = True) -> None:
    """The results are those of the undisturbed run, the scratch folder holds no more than its lock, and nothing is left to do.

    Equal to the bit; with sums in another order, what training changed differs by less than a twentieth (float32).
    """
    folders = [folder / folder_of(run) for folder in (undisturbed.folder.parent / "expected", project.folder)]
    expected, found = (torch.load(folder / "checkpoint.pt", weights_only=True)["objective"] for folder in folders)
    if same_order:
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True)
    else:
        section = json.loads((folders[0] / "record.json").read_text())["section"]
        group = Group(0, 1, torch.device("cpu"))
        start = Stage(section, project.folder / "results/datasets/digits/train", None, group, "test").objective.state_dict()
        names = [name for name in expected if name.startswith(("encoder.", "head.")) and expected[name].is_floating_point()]
        before, one, other = (torch.cat([state[n].double().flatten() for n in names]) for state in (start, expected, found))
        assert (other - one).norm() < 0.05 * (one - before).norm()
        assert (found["bank"] - expected["bank"]).norm() < 1e-3 * expected["bank"].norm()
    rows = [[json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders]
    assert rows[1] == pytest.approx(rows[0], rel=0 if same_order else 1e-4)
    assert {path.name for path in (project.folder / folder_of(run, "scratch-stage")).iterdir()} == {"lock"}
    assert "Nothing to be done" in project.slurm(target(run), study=STUDY)


def test_a_cancelled_job_saves_and_the_retry_continues_and_asks_for_what_is_left_and_a_preempted_one_too(project, undisturbed):
    process = start(project)
    project.cluster.call("scancel", project.jobs("pretrain")[0]["JobID"])
    wait_until(lambda: len(project.jobs("pretrain")) == 2, "the retry is submitted")
    # The retry may have begun, and with it a log of its own.
    assert "stopped (SIGTERM): saved" in log(project) + log(project, of=".try-1")
    wait_until(lambda: "continuing in epoch" in log(project) and training(project), "the retry continues")
    first, second = project.jobs("pretrain")
    assert first["State"].startswith("CANCELLED")
    assert first["TimelimitRaw"] == "1440" and 6 <= int(second["TimelimitRaw"]) < 60
    # A job of a partition with more priority takes the whole node; SLURM starts the preempted one again when it is over.
    node = second["NodeList"]
    urgent = ["sbatch", "--parsable", "-p", "urgent", "-w", node, "--exclusive", "-t", "5", "-o", "/dev/null", "--wrap", "sleep 1"]
    project.cluster.call(*urgent)
    pid = training(project)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the job is preempted")
    release(project, second["JobID"])
    project.finish(process)
    assert "continuing in epoch" in log(project)
    assert len(project.jobs("pretrain")) == 2, "SLURM starts the same job again"
    assert_right(project, undisturbed)


def release(project: SlurmProject, job: str) -> None:
    """Spares the two minutes that SLURM lets pass before it starts a job again."""
    wait_until(
        lambda: "PENDING" in project.cluster.call("squeue", "-h", "-j", job, "-o", "%T"), "the job waits to be started again"
    )
    project.cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now")


@pytest.mark.slow  # SLURM counts limits in minutes; what follows a signal is tried above
def test_a_job_leaves_before_its_time_limit_and_the_retry_continues(project, undisturbed):
    project.edit("profiles/slurm/config.yaml", "max_runtime: 1440", "max_runtime: 2")
    process = start(project)
    job = project.jobs("pretrain")[0]["JobID"]
    pid = training(project)
    os.kill(pid, signal.SIGSTOP)  # a slow machine: the limit comes before the end
    wait_until(
        lambda: re.fullmatch(r"0:0\d", project.cluster.call("squeue", "-h", "-j", job, "-o", "%L").strip()), "the limit is near"
    )
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: len(project.jobs("pretrain")) == 2, "the retry is submitted")
    # On a busy machine two minutes may not do for a start and all that is left.
    project.cluster.call("scontrol", "update", f"JobId={project.jobs('pretrain')[1]['JobID']}", "TimeLimit=30")
    project.finish(process)
    jobs = project.jobs("pretrain")
    assert len(jobs) == 2 and jobs[0]["State"] in ("FAILED", "TIMEOUT") and jobs[1]["State"] == "COMPLETED", jobs
    assert "continuing in epoch" in log(project)
    assert_right(project, undisturbed)


@pytest.mark.slow  # half a minute until SLURM misses a node
def test_a_node_dies_and_comes_back(project, undisturbed):
    process = start(project)
    job = project.jobs("pretrain")[0]
    node = job["NodeList"]
    try:
        project.cluster.crash_node(node)
        wait_until(lambda: "down" in project.cluster.call("sinfo", "-h", "-n", node, "-o", "%T"), "SLURM misses the node")
        release(project, job["JobID"])
        project.finish(process)
    finally:
        project.cluster.start_node(node)
    wait_until(lambda: "idle" in project.cluster.call("sinfo", "-h", "-n", node, "-o", "%T"), "the node is back")
    assert project.jobs("pretrain")[-1]["NodeList"] != node
    assert_right(project, undisturbed)


def test_a_killed_submitter_started_again_runs_nothing_twice_at_once(project, undisturbed):
    process = start(project)
    pid = training(project)
    os.kill(pid, signal.SIGSTOP)  # so that it does not end meanwhile
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    job = project.jobs("pretrain")[0]["JobID"]
    assert "unlock" in project.slurm(target(), study=STUDY, expect=1)
    project.slurm(target(), "--unlock", study=STUDY)
    words = project.slurm(target(), study=STUDY, expect=1)
    assert f"scancel {job}" in words and "Traceback" not in words
    assert len(project.jobs("pretrain")) == 1, "the second start submitted nothing"
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: project.jobs("pretrain")[0]["State"] == "COMPLETED", "the job of the killed submitter ends")
    project.slurm(target(), study=STUDY)
    assert_right(project, undisturbed)


def test_a_job_out_of_memory_is_tried_again_with_more(project, undisturbed):
    # PyTorch alone takes more than 300 MB.
    project.edit("profiles/slurm/config.yaml", "16000 * (1 + attempt) // 2\n    # qos", "300 * (24 * attempt - 23)\n    # qos")
    project.slurm(target(), study=STUDY)
    jobs = project.jobs("pretrain")
    assert len(jobs) == 2 and jobs[0]["State"] != "COMPLETED" and jobs[1]["State"] == "COMPLETED", jobs
    assert "mem=300M" in jobs[0]["ReqTRES"] and "mem=7500M" in jobs[1]["ReqTRES"]
    assert_right(project, undisturbed)


def test_two_nodes_with_two_processes_each_equal_one_process_and_a_killed_rank_ends_the_job(project, undisturbed):
    """Four processes add up in another order than one: see assert_right."""
    profile = "profiles/slurm/config.yaml"
    project.edit(profile, "    gpu: 1                            # (5)", "    #")
    project.edit(profile, "    processes: 1  ", "    #")
    for line in ("nodes: 2", "tasks: 2  ", "tasks_per_gpu: 0", "mpi: srun", "gres:", "slurm_extra:", "processes: 4"):
        project.edit(profile, f"    # {line}", f"    {line}")
    project.edit(profile, "gpu:4", "gpu:2")
    project.edit(profile, "processes: 4", "processes: 2")
    process = start(project, BRIEF)
    os.kill(training(project, BRIEF), signal.SIGKILL)
    project.finish(process)
    first, second = project.jobs("pretrain")
    assert first["State"] == "FAILED" and second["State"] == "COMPLETED"
    assert "node=2" in second["ReqTRES"] and "gres/gpu=4" in second["ReqTRES"] and second["NodeList"] == "n[1-2]"
    record = json.loads((project.folder / folder_of(BRIEF) / "record.json").read_text())
    assert "--nodes 2" in record["command"] and "--processes 2" in record["command"]
    assert_right(project, undisturbed, BRIEF, same_order=False)
