"""Where the package and its own configuration lie, from whatever folder the workflow is run; no rule."""

import os
import sys
from pathlib import Path

from snakemake.sourcecache import LocalSourceFile

# In a clone the folder `invp` lies beside `workflow`. In an installed package, and where Snakemake fetches the rules from a
# repository, Python finds the package by itself.
if isinstance(workflow.current_basedir, LocalSourceFile):
    CLONE = Path(workflow.current_basedir.path).parent.parent
    if (CLONE / "invp" / "__main__.py").exists():
        sys.path.insert(0, str(CLONE))
        # For the jobs, which run in the working folder, and for the Snakemake inside a cluster's job.
        paths = [str(CLONE), *filter(None, os.getenv("PYTHONPATH", "").split(os.pathsep))]
        os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys(paths)))

from invp.plumbing.folders import in_folder_or_package
