"""Raw data at the start: is it what was prepared? No rule."""

from invp.plumbing.raw_data import fingerprint, keep, listed, state_of


def raw_data_as_it_was(wildcards):
    """An input function that adds no file, but has a split prepared again whose raw data changed.

    Only the workflow's main process looks, once for each split that a job needs: a job on a cluster does as it is told. The result
    is no param: a job that runs hours later may find newer data than was listed here, and keeps what it finds.
    """
    if not workflow.is_main_process or STUDY["raw_data"] == "trust":
        return []
    dataset_id, split = wildcards.dataset, wildcards.split
    folder = Path(manifest(dataset_id, split)).parent
    state = state_of(folder, STUDY["datasets"][dataset_id], split, data_root())
    if state.text:
        then = {
            "changed": "it is prepared again",
            "unfinished": "it is prepared again",
            "touched": "nothing runs again for that",
            "gone": "what was prepared of it is used",
            "unlisted": "it is compared from now on",
        }
        print(f"raw data of {dataset_id}, split {split}, {state.text}: {then[state.kind]}", file=sys.stderr)
    if state.prepares:
        workflow.dag.forcefiles.add(manifest(dataset_id, split))
    elif state.listing is not None and workflow.executor_plugin is not None and not workflow.dryrun:
        keep(folder, STUDY["datasets"][dataset_id], split, state.listing)
    return []


def fingerprint_of_raw_data(wildcards, output):
    """A params function that Snakemake's cache of shards looks at and its tracking does not, since it takes `output`."""
    return fingerprint(listed(STUDY["datasets"][wildcards.dataset], data_root(), wildcards.split))


if workflow.is_main_process and STUDY["raw_data"] == "trust":
    print("raw data is not compared with what was prepared of it (raw_data: trust)", file=sys.stderr)
