"""The page over all studies of a results folder."""

import argparse
import json

import pytest

from invp.pages.index import studies, write_index
from invp.plumbing.errors import UserError
from invp.tools import index


def study(results, name: str, started: str, **more):
    pages = results / "studies" / name
    pages.mkdir(parents=True)
    said = {"study": name, "title": name.title(), "description": "", "finding": "A is ahead of B.", "evidence": "p = 0.01.", "seeds": 1,
            "experiments": 2, "explorers": [{"folder": "../../a/seed-0", "experiment": "a", "seed": "seed-0"}], **more}  # fmt: skip
    (pages / "report.json").write_text(json.dumps(said))
    (pages / "report.record.json").write_text(json.dumps({"started": started}))
    (pages / "report.html").touch()


def test_studies_are_listed_the_latest_first_with_what_is_there(tmp_path):
    study(tmp_path, "old", "2026-01-02T03:04:05Z")
    study(tmp_path, "new", "2026-02-02T03:04:05Z", finding="")
    assert [(each["study"], each["made"], each["explorers"]) for each in studies(tmp_path)] == [
        ("new", "2026-02-02 03:04 UTC", []), ("old", "2026-01-02 03:04 UTC", [])
    ], "no explorer is there to be opened"  # fmt: skip
    (tmp_path / "a/seed-0").mkdir(parents=True)
    (tmp_path / "a/seed-0/explorer.html").touch()
    (tmp_path / "studies/older").mkdir()
    (tmp_path / "studies/older/report.html").touch()
    page = write_index(tmp_path).read_text()
    assert page.count('href="a/seed-0/explorer.html"') == 2 and page.index("studies/new/report.html") < page.index("studies/old/")
    assert page.count("A is ahead of B.") == 1 and "<h1>2 studies</h1>" in page
    assert "Not listed, since an older version made their reports: older." in page


def test_the_command_writes_it_and_a_folder_without_studies_is_the_users_mistake(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    index.add_arguments(parser)
    with pytest.raises(UserError, match="holds no report"):
        index.run(parser.parse_args([str(tmp_path)]))
    study(tmp_path, "one", "")
    index.run(parser.parse_args([str(tmp_path)]))
    assert capsys.readouterr().out == f"{tmp_path / 'index.html'}\n" and "1 study" in (tmp_path / "index.html").read_text()
