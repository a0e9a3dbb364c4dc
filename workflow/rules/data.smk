rule prepare:
    output:
        manifest="results/datasets/{dataset}/{split}/manifest.json",
        record="results/datasets/{dataset}/{split}/record.json",
    log:
        "results/logs/prepare/{dataset}-{split}.log",
    benchmark:
        "results/benchmarks/prepare/{dataset}-{split}.tsv"
    threads: 1
    resources:
        runtime=240,
        mem_mb=4000,
    params:
        section=section("prepare"),
        code=code("prepare"),
        root=DATA_ROOT,
    shell:
        "python -m invp prepare --section {params.section:q} --code {params.code} --root {params.root:q} --workers {threads}"
        " --output manifest={output.manifest} record={output.record} > {log} 2>&1"
