rule prepare:
    input:
        raw_data_as_it_was,
    output:
        manifest="results/datasets/{dataset}/{split}/manifest.json",
        shards=directory("results/datasets/{dataset}/{split}/shards"),
        record="results/datasets/{dataset}/{split}/record.json",
    log:
        "results/logs/prepare/{dataset}-{split}.log",
    benchmark:
        "results/benchmarks/prepare/{dataset}-{split}.tsv"
    priority: 1
    threads: share_of_machine
    resources:
        attempt=attempt_of,
        runtime=240,
        mem_mb=4000,
    params:
        section=section("prepare"),
        code=code("prepare"),
    shell:
        "python -m invp prepare --section {params.section:q} --code {params.code} --workers {threads}"
        " --output manifest={output.manifest} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"


if workflow.workflow_settings.cache is not None:
    # With `--cache prepare` shards are shared between clones and users; Snakemake caches no rule that has a benchmark. What was made of
    # other raw data is another entry of the cache.
    workflow.get_rule("prepare")._benchmark = None
    workflow.get_rule("prepare").set_params(raw_data=fingerprint_of_raw_data)
