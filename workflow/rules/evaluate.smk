rule evaluate:
    input:
        unpack(evaluate_inputs),
    output:
        metrics=f"{RUN}/evals/{{eval}}/stage-{{stage}}/metrics.json",
        record=f"{RUN}/evals/{{eval}}/stage-{{stage}}/record.json",
    log:
        "results/logs/evaluate/{experiment}-seed-{seed}-{eval}-stage-{stage}.log",
    benchmark:
        "results/benchmarks/evaluate/{experiment}-seed-{seed}-{eval}-stage-{stage}.tsv"
    threads: share_of_machine
    resources:
        attempt=attempt_of,
        runtime=720,
        mem_mb=8000,
        gpu=0,
    params:
        section=section("evaluate"),
        code=code("evaluate"),
        inputs=inputs,
    shell:
        "python -m invp evaluate --section {params.section:q} --code {params.code} --input {params.inputs} --workers {threads}"
        " --output metrics={output.metrics} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"
