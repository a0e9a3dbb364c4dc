"""Paths, loading and checking of experiments, and what a rule tracks; no rule."""

import atexit
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# On a CPU, memory that a step freed is kept for the next one: augmentation is a third faster. It changes no result.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 25))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
# Jobs run the Python that runs Snakemake, activated or not, on this machine and on a cluster's nodes.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", os.defpath)]))

from invp.pages.index import write_index
from invp.plumbing.config import data_root
from invp.plumbing.experiments import experiment_names, load_study
from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json
from invp.plumbing.folders import EXPERIMENTS as EXPERIMENTS_OF_PACKAGE, HOME
from invp.plumbing.memo import Memo
from invp.plumbing.needs import check, leave_out_what_needs_labels, manifest
from invp.plumbing.plugins import load_plugin, uses_gpu
from invp.plumbing.provenance import code_digest, step_modules
from invp.plumbing.records import made_with_other_versions
from invp.steps import _evaluation

# For the jobs' shells too: where the raw data lies is no param, since it changes no result.
os.environ.update(INVP_DATA=config.pop("data_root", None) or str(data_root()))
OWN_EXPERIMENTS = Path("config/experiments")
RUN = "results/{experiment}/seed-{seed}"
SCRATCH = f"{RUN}/pretrain/scratch-stage-{{stage}}"
# Files of experiments and the configuration are all that a study is made of, besides this package and these rules.
MADE_OF = [path for folder in (OWN_EXPERIMENTS, EXPERIMENTS_OF_PACKAGE) for path in sorted(folder.glob("*.yaml"))]
MADE_OF += sorted((HOME / "workflow").rglob("*.smk"))
MEMO = Memo(Path(".snakemake/invp"), MADE_OF, config)
atexit.register(MEMO.save)
EVALUATION = f"{RUN}/evals/{{eval}}/stage-{{stage}}"


def load_or_explain():
    where = ", ".join(map(str, workflow.configfiles)) or "config/config.yaml"
    try:
        study = MEMO("study", lambda: load_study(config, where, OWN_EXPERIMENTS))
        lines = leave_out_what_needs_labels(study)
        check(study)
    except UserError as error:
        # A traceback would hide the one line that helps; Snakemake prints this as it is.
        raise WorkflowError(str(error))
    if workflow.is_main_process:
        print(*(f"warning: {line}" for line in lines), sep="\n", end="\n" if lines else "", file=sys.stderr)
    return study


def warn_of_other_versions():
    """Says at the start which libraries changed since results were made: that alone reruns nothing."""
    if not Path("results").is_dir():
        return
    found = made_with_other_versions(Path("results"))
    if found:
        changes = sorted({f"{name} {then} -> {now}" for each in found.values() for name, (then, now) in each.items()})
        print(
            f"warning: {len(found)} results were made with other versions ({', '.join(changes)}) and are kept. "
            "To make them again: snakemake ... all $(python -m invp outdated)",
            file=sys.stderr,
        )


def warn_of_results_without_experiment():
    """Says which results no experiment can make again: after an experiment was renamed or removed."""
    known = {"studies", *experiment_names(OWN_EXPERIMENTS), *experiment_names(EXPERIMENTS_OF_PACKAGE)}
    lost = sorted(path.parent.name for path in Path("results").glob("*/seed-*") if path.parent.name not in known)
    if lost:
        names = ", ".join(dict.fromkeys(lost))
        print(
            f"warning: results of {names} are kept, but there is no such experiment in config/experiments. If it was renamed, rename its "
            "folder under results too; if what it added is now in the study's own 'evaluations' and 'figures', rename the folder to the "
            "experiment that trains the same network; else delete it",
            file=sys.stderr,
        )


def warn_of_an_older_versions_pages():
    """Says which tables and pages lie where an older version had those of all studies: nothing makes them again."""
    patterns = ("summary.*", "tables.csv", "report.html", "report.record.json", "comparison.html")
    old = [str(path) for pattern in patterns for path in sorted(Path("results").glob(pattern))]
    if old:
        print(
            f"warning: {', '.join(old)} are of an older version and may be deleted: this study's tables and pages lie in {PAGES}",
            file=sys.stderr,
        )


STUDY = load_or_explain()
PAGES = f"results/studies/{STUDY['study']}"
os.environ.update(INVP_ON_ERROR=STUDY["on_error"])  # no param: it changes nothing that is made
if workflow.is_main_process:
    warn_of_other_versions()
    warn_of_results_without_experiment()
    warn_of_an_older_versions_pages()
STUDY_DIGEST = hashlib.sha256(canonical_json(STUDY).encode()).hexdigest()  # after what has no labels was left out
EXPERIMENTS = STUDY["loaded"]
SEEDS = STUDY["seeds"]
ALL_EVALS = sorted({name for e in EXPERIMENTS.values() for name in e["evaluations"]}) or ["none"]
ALL_FIGURES = sorted({name for e in EXPERIMENTS.values() for name in e["figures"]}) or ["none"]


def parts_of(options):
    """The names of the parts of an evaluation that are jobs of their own."""
    return MEMO(canonical_json(["parts", options]), lambda: list(_evaluation.parts_of(options)))


def on_gpu(options):
    """Whether the job `evaluate` of an evaluation uses a GPU."""
    step = load_plugin("steps", "evaluate")
    return MEMO(canonical_json(["gpu", options]), lambda: uses_gpu(step, {"evaluation": options}))


PARTS_OF = {(name, entry): parts_of(options) for name, e in EXPERIMENTS.items() for entry, options in e["evaluations"].items()}
ALL_PARTS = sorted({part for parts in PARTS_OF.values() for part in parts})
WANTED = []  # what `all` makes besides: the file of a new rule adds its results (docs/extending.md)


def one_of(names):
    """The pattern of a wildcard that is one of the names; without any, one that nothing fits."""
    return "|".join(map(re.escape, names)) or "(?!)"


# A name is on the CPU if it uses no GPU in any experiment of the study.
EVALS_ON_GPU = sorted({entry for e in EXPERIMENTS.values() for entry, options in e["evaluations"].items() if on_gpu(options)})
EVALS_ON_CPU = [name for name in ALL_EVALS if name not in EVALS_ON_GPU]


wildcard_constraints:
    experiment="|".join(EXPERIMENTS),
    seed=r"\d+",
    stage=r"\d+",
    dataset="|".join(STUDY["datasets"]),
    split="train|test|val|unlabelled",
    eval="|".join(ALL_EVALS),
    figure="|".join(ALL_FIGURES),
    part=one_of(ALL_PARTS),


# What is tracked of a job: its section as one string, and the digest of the code that it runs.
def section_of(step, wildcards):
    names = {name: int(value) if name in ("seed", "stage") else value for name, value in wildcards.items()}
    make = lambda: load_plugin("steps", step).section(STUDY, **names)
    return MEMO(canonical_json(["section", STUDY_DIGEST, step, names]), make)


def section(step):
    """A params function: the canonical JSON of what `step` sees."""
    return lambda wildcards: canonical_json(section_of(step, wildcards))


def digest_of(step, section):
    return MEMO(canonical_json(["code", step, section]), lambda: code_digest(step_modules(step, section)))


def code(step):
    """A params function: the digest of the code that `step` runs for these wildcards."""
    return lambda wildcards: digest_of(step, section_of(step, wildcards))


def inputs(wildcards, input):
    """A params function: the arguments of `--input`, NAME=PATH for every file of a job."""
    lists = ((name, [paths] if isinstance(paths, str) else paths) for name, paths in input.items())
    return [f"{name}={path}" for name, paths in lists for path in paths]


def stages_of(experiment):
    return EXPERIMENTS[experiment]["stages"]


def evaluated_stages(experiment):
    return stages_of(experiment) if EXPERIMENTS[experiment]["evaluate_stages"] == "all" else stages_of(experiment)[-1:]


def runs():
    """The path of every experiment and seed of the study, with the experiment's name."""
    return [(name, RUN.format(experiment=name, seed=seed)) for name in EXPERIMENTS for seed in SEEDS]


def has_graph(experiment):
    return EXPERIMENTS[experiment]["graph"]["snapshot"]


def checkpoints():
    return [f"{run}/pretrain/stage-{s}/checkpoint.pt" for name, run in runs() for s in stages_of(name)]


def curves():
    return [f"{run}/pretrain/stage-{s}/metrics.jsonl" for name, run in runs() for s in stages_of(name)]


def graph_summaries():
    return [f"{run}/graph/stage-{s}/summary.json" for name, run in runs() if has_graph(name) for s in stages_of(name)]


def explorers():
    return [f"{run}/explorer.html" for name, run in runs() if has_graph(name)]


def evaluation_metrics():
    return [
        f"{run}/evals/{evaluation}/stage-{s}/metrics.json"
        for name, run in runs()
        for evaluation in EXPERIMENTS[name]["evaluations"]
        for s in evaluated_stages(name)
    ]


def figure_files():
    return [f"{run}/figures/{figure}.png" for name, run in runs() for figure in EXPERIMENTS[name]["figures"]]


def figure_data():
    """The data of all figures, where a figure that was not made is listed: its data says why."""
    return [f"{path[:-4]}.json" for path in figure_files()] if STUDY["on_error"] == "report" else []


def is_up_to_date(path):
    """Whether the run that ends made a file, or found nothing that would change it."""
    return any(path in job.output and workflow.dag.noneedrun_finished(job) for job in workflow.dag.jobs)


def show_summary():
    """Prints the study's table and where its report is: neither after a run that was to make something else, as `--until prepare`."""
    if is_up_to_date(f"{PAGES}/summary.txt"):
        print(Path(f"{PAGES}/summary.txt").read_text(), end="")
    if is_up_to_date(f"{PAGES}/report.html"):
        print(f"report: {PAGES}/report.html")


def renew_index():
    """Writes the page over all studies anew after every run, since it is no rule's: no run is asked for by it, and none makes it stale."""
    if any(Path("results").glob("studies/*/report.json")):
        print(f"all studies: {write_index(Path('results'))}")


def show_summary_if_nothing_ran():
    """The same after a start that found nothing to run: Snakemake calls `onsuccess` only after jobs."""
    asked = workflow.is_main_process and workflow.executor_plugin is not None and not workflow.dryrun
    if asked and getattr(workflow, "scheduler", None) is not None and not len(workflow.dag):
        show_summary()


atexit.register(show_summary_if_nothing_ran)


def refuse_double_start():
    """Ends this start if SLURM jobs of an earlier one still wait or run in this folder: nothing may run twice on one output."""
    try:
        listed = subprocess.run(["squeue", "--me", "--noheader", "--format=%i|%Z|%k"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return  # no SLURM here
    jobs = [line.split("|", 2) for line in listed.splitlines()]
    running = [number for number, folder, comment in jobs if folder == os.getcwd() and comment.startswith("rule_")]
    if running:
        raise WorkflowError(
            f"SLURM jobs of an earlier start still wait or run in this folder: {' '.join(running)}. "
            f"Let them end, or cancel them (scancel {' '.join(running)}), and start again"
        )
