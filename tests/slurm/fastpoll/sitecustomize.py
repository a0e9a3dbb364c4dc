"""For tests only: the SLURM plugin asks for its jobs ever more seldom, up to every three minutes; here every second.

Python imports it at its start where this folder is on PYTHONPATH; only the submitting process polls.
"""

import asyncio
import sys

if any(argument.endswith("profiles/slurm") for argument in sys.orig_argv):
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    async def _sleep(self) -> None:
        await asyncio.sleep(1)

    RemoteExecutor.sleep = _sleep
