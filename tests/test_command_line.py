"""`invp` as a user types it: studies by name, an estimate before the jobs, colours, completion, and a reader that leaves early."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from invp.__main__ import _parsed, main
from invp.plumbing import terminal
from invp.plumbing.commands import command_names
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load_study
from invp.plumbing.studies import configuration_of, study_file
from invp.tools import completion, progress
from invp.tools import open as opened
from invp.tools import run as running
from invp.tools._estimates import Job, Machine
from invp.tools.plan import Plan, parsed
from tests.conftest import ROOT, environment


def printed_by(monkeypatch, capsys, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["invp", *words])
    assert main() == 0
    return capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    """A line is still in the buffer when the reader has left: that is noticed where the buffer is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "invp", "init", str(tmp_path / "new")]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "") and (tmp_path / "new/Snakefile").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_a_terminal_and_its_user_may_refuse_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.styled("word", terminal.RED, Terminal()) == "\033[1;31mword\033[0m"
    assert terminal.styled("word", terminal.RED, io.StringIO()) == "word"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert terminal.styled("word", terminal.RED, Terminal()) == "word", name


@pytest.mark.parametrize("styles", [True, False])
def test_headings_of_help_and_errors_are_styled_on_a_terminal(monkeypatch, capsys, styles):
    monkeypatch.setattr(terminal, "is_styled", lambda stream: styles)
    for words in ([], ["plan", "--help"], ["pln"]):
        monkeypatch.setattr(sys, "argv", ["invp", *words])
        try:
            main()
        except SystemExit:
            pass
        said = "".join(capsys.readouterr())
        assert ("\033[" in said) == styles, words


def completed(script: Path, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    line = " ".join(f"'{word}'" for word in words)
    commands = (
        f"source {script}; COMP_WORDS=(invp {line}); COMP_CWORD={len(words)}; _shtab_invp; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    return subprocess.run(["bash", "-c", commands], cwd=folder, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_and_studies(monkeypatch, capsys, tmp_path):
    script = tmp_path / "invp.bash"
    script.write_text(printed_by(monkeypatch, capsys, "completion", "bash"))
    users = {command.split()[0] for command, (kind, _) in command_names().items() if kind == "tools"}
    assert set(completed(script, ROOT, "")) - {"-h", "--help"} == users, "no step of the workflow is among them"
    assert completed(script, ROOT, "inspect", "gr") == ["graph"]
    assert completed(script, ROOT, "run", "smo") == ["smoke"]
    assert "--profile" in completed(script, ROOT, "run", "--p")
    assert "#compdef invp" in printed_by(monkeypatch, capsys, "completion", "zsh")


def test_every_command_completes_its_own_arguments():
    parser = completion.parser_in_words()
    assert (
        "{bash,zsh}" in parser.parse_args(["completion", "bash"]).__repr__()
        or parser.parse_args(["completion", "bash"]).shell == "bash"
    )
    assert parser.parse_args(["inspect", "graph", "folder", "--anchor", "3"]).anchor == 3
    assert parser.parse_args(["export", "graph", "folder", "--to", "atlas", "--out", "f.parquet"]).to == "atlas"


def test_a_study_is_found_by_name_and_by_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert study_file("smoke") == ROOT / "config/studies/smoke.yaml" and study_file("") == ROOT / "config/config.yaml"
    own = tmp_path / "config/studies/smoke.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("study: mine\n")
    assert study_file("smoke") == Path("config/studies/smoke.yaml"), "one's own comes first"
    assert study_file("config/studies/smoke.yaml") == Path("config/studies/smoke.yaml")
    merged = configuration_of(own)
    assert merged["study"] == "mine" and merged["experiments"][0] == "digits-invp", "the rest is the default study's"
    with pytest.raises(UserError, match="'smoek'.*did you mean 'smoke'"):
        study_file("smoek")
    with pytest.raises(UserError, match="nowhere.yaml does not exist"):
        study_file("nowhere.yaml")


@pytest.mark.parametrize(
    ("words", "study", "cores", "rest"),
    [
        ([], "", None, []),
        (["smoke"], "smoke", None, []),
        (["smoke", "--forcerun", "report", "-n"], "smoke", None, ["--forcerun", "report", "-n"]),
        (["--jobs", "2"], "", None, ["--jobs", "2"]),
        (["--cores", "2", "graphs", "--config", "seeds=[1]"], "", 2, ["graphs", "--config", "seeds=[1]"]),
    ],
)
def test_what_run_does_not_know_goes_to_snakemake_word_for_word(words, study, cores, rest):
    arguments, _, _ = _parsed(["run", *words])
    assert (arguments.study, arguments.cores, arguments.rest) == (study, cores, rest)


def test_the_panel_is_for_a_terminal_that_shows_jobs_of_this_machine(monkeypatch):
    def logger(*rest: str, profile: str = "local") -> bool:
        command = running.command_of(Path("s.yaml"), ROOT / "profiles" / profile, 2, list(rest))
        assert command[1:3] == ["-m", "snakemake"] and command[-2:] == ["--configfile", "s.yaml"] and "--cores" in command
        return "--logger" in command

    monkeypatch.setattr(running, "is_styled", lambda stream: True)
    assert logger() and logger("--forcerun", "report")
    assert not logger("-n") and not logger(profile="slurm")
    monkeypatch.setattr(running, "is_styled", lambda stream: False)
    assert not logger()


def test_the_estimate_names_the_log_of_the_first_training():
    jobs = [
        Job("prepare", {}, ["a"], pending=True, log="results/logs/prepare/a.log", hours=0.01),
        Job("pretrain", {}, ["b"], ["a"], pending=True, log="results/logs/pretrain/b.log", hours=0.02),
    ]
    plan = Plan(jobs, Machine(), cluster=False, gpus=0, cores=1)
    estimate, follow = running.lines_of(plan, "smoke")
    assert estimate == "estimate: 2 jobs, < 1 MB on disk, about 1 min 48 s on this machine (1 core, no GPU). More: invp plan smoke"
    assert follow == "to follow: tail -F results/logs/pretrain/b.log"
    jobs[0].pending = False
    assert plan.sentence().startswith("1 job, ")
    jobs[1].pending = False
    assert running.lines_of(plan, "smoke") == []


def test_a_dry_run_says_where_a_job_prints():
    said = "rule graph:\n    output: a, b\n    log: results/logs/graph/a.log (check log file(s) for error details)\n"
    (job,) = parsed(f"{said}Shell command: python -m invp graph --section '{{\"k\":1}}' --code 1\n")
    assert job.log == "results/logs/graph/a.log"


def test_the_exit_code_is_snakemakes_and_a_signal_reaches_it():
    ends = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(9))\nprint('ready', flush=True)\ntime.sleep(60)"
    script = "import sys\nfrom invp.tools.run import passed_on\nsys.exit(passed_on([sys.executable, '-c', sys.argv[1]]))"
    for code, number in ((7, None), (9, signal.SIGTERM)):
        program = ends if number else "print('ready', flush=True); raise SystemExit(7)"
        command = [sys.executable, "-c", script, program]
        with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            if number:
                process.send_signal(number)
            assert process.wait(60) == code


def test_open_prints_the_report_and_shows_it_where_there_is_a_display(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "results/studies/smoke/report.html"
    page.parent.mkdir(parents=True)
    page.touch()
    shown = []
    monkeypatch.setattr(opened.webbrowser, "open", shown.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert printed_by(monkeypatch, capsys, "open", "smoke") == "results/studies/smoke/report.html\n" and not shown
    monkeypatch.setenv("DISPLAY", ":0")
    printed_by(monkeypatch, capsys, "open", "smoke")
    assert shown == [page.as_uri()]


def write(path: Path, content: dict, record: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    if record:
        path.with_name("record.json").write_text("{}")


def test_progress_has_the_numbers_of_what_is_finished(tmp_path):
    """One experiment has one of two stages, whose kNN is there; of the other a training runs."""
    study = load_study(configuration_of(ROOT / "config/studies/smoke.yaml"), "smoke", ROOT / "config/experiments")
    stages = study["loaded"]["smoke-invp"]["stages"]
    run = tmp_path / "smoke-invp/seed-0"
    write(run / f"pretrain/stage-{stages[0]}/metrics.jsonl", {"epoch": 1, "seconds": 2.0})
    write(run / f"graph/stage-{stages[0]}/summary.json", {"measures": {"same_class_share": 0.25}})
    knn = {
        "eval": "knn",
        "metrics": {"top1": 50.0},
        "units": {"top1": {"unit": "%", "better": "higher"}},
        "protocol": {"data": "digits", "test_images": 360},
    }
    write(run / f"evals/knn/stage-{stages[0]}/metrics.json", knn)
    other = tmp_path / "smoke-instance-discrimination/seed-0"
    write(other / f"pretrain/stage-{stages[0]}/metrics.jsonl", {"epoch": 1, "seconds": 2.0}, record=False)
    header, rows = progress.table_of(study, tmp_path)
    assert header == ["experiment", "stages trained", "evaluations", "epoch", "knn.top1 (n = 360)", "graph.same_class_share"]
    assert rows[0] == ["smoke-invp", "1 of 2", "1 of 2", f"{stages[0]} of {stages[1]}", "50.0", "0.250"]
    assert rows[1] == ["smoke-instance-discrimination", "0 of 2", "0 of 2", "-", "-", "-"]
