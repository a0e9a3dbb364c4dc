rule features:
    input:
        checkpoint=f"{RUN}/pretrain/stage-{{stage}}/checkpoint.pt",
        dataset="results/datasets/{dataset}/{split}/manifest.json",
    output:
        features=f"{RUN}/features/stage-{{stage}}/{{dataset}}-{{split}}.arrow",
        record=f"{RUN}/features/stage-{{stage}}/{{dataset}}-{{split}}.record.json",
    log:
        "results/logs/features/{experiment}-seed-{seed}-stage-{stage}-{dataset}-{split}.log",
    benchmark:
        "results/benchmarks/features/{experiment}-seed-{seed}-stage-{stage}-{dataset}-{split}.tsv"
    priority: 1
    threads: share_of_machine
    resources:
        attempt=attempt_of,
        runtime=240,
        mem_mb=8000,
        gpu=0,
    params:
        section=section("features"),
        code=code("features"),
        inputs=inputs,
    shell:
        "python -m invp features --section {params.section:q} --code {params.code} --input {params.inputs} --workers {threads}"
        " --output features={output.features} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"
