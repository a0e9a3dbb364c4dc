rule graph:
    input:
        unpack(graph_inputs),
    output:
        knn=f"{RUN}/graph/stage-{{stage}}/knn.arrow",
        positives=f"{RUN}/graph/stage-{{stage}}/positives.arrow",
        summary=f"{RUN}/graph/stage-{{stage}}/summary.json",
        record=f"{RUN}/graph/stage-{{stage}}/record.json",
    log:
        "results/logs/graph/{experiment}-seed-{seed}-stage-{stage}.log",
    benchmark:
        "results/benchmarks/graph/{experiment}-seed-{seed}-stage-{stage}.tsv"
    priority: 1
    threads: 1
    resources:
        attempt=attempt_of,
        runtime=120,
        mem_mb=8000,
        gpu=0,
    params:
        section=section("graph"),
        code=code("graph"),
        inputs=inputs,
    shell:
        "python -m invp graph --section {params.section:q} --code {params.code} --input {params.inputs}"
        " --output knn={output.knn} positives={output.positives} summary={output.summary} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"


rule explorer:
    input:
        unpack(explorer_inputs),
    output:
        page=report(
            f"{RUN}/explorer.html",
            caption="../report/explorer.rst",
            category="{experiment}",
            labels={"seed": "{seed}", "figure": "neighbour graphs to look at"},
        ),
        map=f"{RUN}/map.arrow",
        record=f"{RUN}/explorer.record.json",
    log:
        "results/logs/explorer/{experiment}-seed-{seed}.log",
    benchmark:
        "results/benchmarks/explorer/{experiment}-seed-{seed}.tsv"
    priority: 1
    threads: 1
    resources:
        attempt=attempt_of,
        runtime=60,
        mem_mb=8000,
    params:
        section=section("explorer"),
        code=code("explorer"),
        inputs=inputs,
    shell:
        "python -m invp explorer --section {params.section:q} --code {params.code} --input {params.inputs}"
        " --output page={output.page} map={output.map} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"
