"""What Snakemake's catalogue of workflows reads of this repository."""

import re
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent


def test_the_catalogue_of_workflows_finds_what_it_wants():
    """Its "standardized usage": workflow/Snakefile, config/README.md, and a file that says the flags and how software is deployed."""
    usage = OmegaConf.to_container(OmegaConf.load(ROOT / ".snakemake-workflow-catalog.yml"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"} and set(usage["mandatory-flags"]) == {"desc", "flags"}
    deployed = usage["software-stack-deployment"]
    assert set(deployed) == {"conda", "apptainer", "apptainer+conda", "report"}
    assert all(isinstance(each, bool) for each in deployed.values())
    flag, profile = usage["mandatory-flags"]["flags"].split()
    assert flag == "--profile" and (ROOT / profile / "config.yaml").exists() and (ROOT / "workflow/Snakefile").exists()
    assert deployed["conda"] == any("conda:" in path.read_text() for path in ROOT.glob("workflow/rules/*.smk"))
    text = (ROOT / "config/README.md").read_text()
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?`) \|", text, re.M))))
    known = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/options.md").read_text().split("\n## ")[1], re.M))
    assert named == known | {"evaluations", "figures"}, "every key of a study and no other"
