"""A user's mistake on the command line: one line that says what is wrong, exit code 2, and no traceback."""

import sys

import pytest
import torch

import invp
from invp.__main__ import main
from invp.plumbing.errors import UserError

# What is given, and what the message says. The files are those of the fixture `folder`.
MISTAKES = [
    ("pln", "there is no command pln: did you mean plan?"),
    ("inspect grpah", "there is no command inspect grpah: did you mean inspect checkpoint or inspect data or inspect graph?"),
    ("everything", "--help` lists them"),
    ("why nowhere", "nowhere does not exist"),
    ("why empty", "no record describes empty"),
    ("why empty.json", "no record describes empty.json"),
    ("why list/record.json", "list/record.json is not a record"),
    ("why list", "list/record.json is not a record"),
    ("outdated list", "list/record.json is not a record"),
    ("verify nowhere", "nowhere does not exist"),
    ("verify empty", "empty holds no records"),
    ("verify empty.json", "empty.json holds no records"),
    ("verify list", "list holds no records"),
    ("export nowhere --to onnx --out x", "nowhere does not exist"),
    ("export empty --to onnx --out x", "empty cannot be read (Is a directory)"),
    ("export words.pt --to timm --out x", "words.pt is damaged"),
    ("export tensors.pt --to safetensors --out x", "tensors.pt is no checkpoint of this workflow"),
    ("export list.pt --to safetensors --out x", "list.pt is no checkpoint of this workflow"),
    ("inspect checkpoint tensors.pt", "tensors.pt is no checkpoint of this workflow"),
    ("inspect data empty", "empty/manifest.json does not exist"),
    ("inspect data list", "list/manifest.json is no manifest"),
    ("inspect data empty.json", "a file stands where the path has a folder"),
    ("inspect graph empty", "empty/record.json does not exist"),
    ("inspect graph list", "list/record.json is not a record"),
    ("inspect graph other", "other/record.json is not of a graph"),
    ("inspect graph empty.json", "a file stands where the path has a folder"),
    ("plan nowhere.yaml", "nowhere.yaml does not exist"),
    ("plan empty", "empty: "),
    ("plan broken.yaml", "broken.yaml is not valid YAML"),
    ("plan broken.yaml", "line 2"),
    ("plan list.yaml", "list.yaml must hold keys and values"),
    ("plan smoek", "there is no study 'smoek' in config/studies; did you mean 'smoke'?"),
    ("run smoke", "here is no Snakefile"),
    ("open smoke", "results/studies/smoke/report.html was not made yet: invp run smoke makes it"),
    ("open smoek", "did you mean 'smoke'?"),
    ("progress list.yaml", "list.yaml must hold keys and values"),
    ("init empty.json", "is not an empty folder"),
    ("init empty.json/inside", "a file stands where the path has a folder"),
    ("prepare --section [] --output record=r", "--section must map options to values"),
    ("prepare --section { --output record=r", "--section is not valid JSON"),
    ("prepare --section {} --output record=r", "--section lacks 'dataset'"),
    ("features --section {} --output record=r", "--input lacks 'dataset'"),
    ("features --section {} --input dataset=nowhere --output record=r", "--input dataset=nowhere does not exist"),
    ("features --section {} --output features=f", "--output lacks 'record'"),
    ("evaluate --section {} --output record=r", "--section lacks 'evaluation'"),
    ("graph --section {} --output record=r", "--section lacks 'objective'"),
    ("explorer --section {} --output record=r", "--input lacks 'dataset'"),
    ("figure --section {} --output record=r", "--section lacks 'figure'"),
    ("pretrain --section {} --scratch s --output record=r", "--section lacks 'objective'"),
    ("report --section {} --output record=r", "--section lacks 'experiments'"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("empty", "list", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty.json").write_text("{}")
    for name in ("list/record.json", "list/manifest.json"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "other/record.json").write_text('{"step": "report", "section": {}, "code": "", "inputs": {}, "outputs": {}}')
    (tmp_path / "words.pt").write_text("no tensors")
    torch.save({"layer": torch.zeros(2)}, tmp_path / "tensors.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    (tmp_path / "broken.yaml").write_text("experiments: [a\nseeds: [0]\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_a_mistake_is_one_error_and_no_traceback(folder, monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["invp", *words.split()])
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and "Traceback" not in error


@pytest.mark.parametrize("name", ["nowhere", "empty", "words.pt", "tensors.pt", "list.pt", "broken.yaml"])
def test_load_encoder_of_what_is_no_checkpoint(folder, name):
    with pytest.raises(UserError, match=name):
        invp.load_encoder(name)


def test_without_a_command_there_is_help_with_the_workflows_steps_apart(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/bin/invp"])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr().out
    assert end.value.code == 0 and printed.startswith("usage: invp ")
    commands, steps = printed.split("which Snakemake calls:")
    assert "    plan  " in commands and "pretrain" not in commands.split("commands:")[1] and "  pretrain  " in steps
    monkeypatch.setattr(sys, "argv", ["/bin/invp", "--version"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0 and capsys.readouterr().out == f"invp {invp.__version__}\n"
