rule pretrain:
    input:
        unpack(pretrain_inputs),
    output:
        checkpoint=f"{RUN}/pretrain/stage-{{stage}}/checkpoint.pt",
        metrics=f"{RUN}/pretrain/stage-{{stage}}/metrics.jsonl",
        record=f"{RUN}/pretrain/stage-{{stage}}/record.json",
    log:
        "results/logs/pretrain/{experiment}-seed-{seed}-stage-{stage}.log",
    benchmark:
        "results/benchmarks/pretrain/{experiment}-seed-{seed}-stage-{stage}.tsv"
    priority: 0  # all other rules have 1: what a finished stage gives is made before the next one trains
    threads: share_of_training
    resources:
        attempt=attempt_of,
        runtime=pretrain_minutes,
        max_runtime=1440,
        mem_mb=8000,
        gpu=0,
        processes=1,
        nodes=1,
    params:
        section=section("pretrain"),
        code=code("pretrain"),
        inputs=inputs,
        scratch=SCRATCH,
    shell:
        "exec python -m invp pretrain --section {params.section:q} --code {params.code} --input {params.inputs} --scratch {params.scratch}"
        " --processes {resources.processes} --nodes {resources.nodes} --workers {threads}"
        " --output checkpoint={output.checkpoint} metrics={output.metrics} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"
