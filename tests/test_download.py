"""Downloads: what is asked for by name, and clear words where there is no network. No test needs one."""

import os
from argparse import Namespace

import pytest

from invp.plumbing.errors import UserError
from invp.plumbing.plugins import plugin_names
from invp.tools.download import fetchers, run


def test_every_name_is_a_data_set():
    assert set(fetchers()) <= set(plugin_names("datasets"))


def test_other_names_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="imagenet cannot be downloaded.*cifar10, cifar100"):
        run(Namespace(name="imagenet", root=tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "voc2007", "flowers102"])
def test_without_a_network_it_says_so_and_where_to_put_the_files(name, tmp_path, run_invp):
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = run_invp(
        "download", name, "--root", tmp_path / "data", env={**nowhere, "HTTPS_PROXY": nowhere["https_proxy"], "no_proxy": ""}
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"{name} could not be downloaded" in done.stderr and "docs/data.md" in done.stderr
    assert os.path.isdir(tmp_path / "data")
