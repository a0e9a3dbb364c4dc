rule evaluate:
    input:
        unpack(evaluate_inputs),
    output:
        metrics=f"{EVALUATION}/metrics.json",
        record=f"{EVALUATION}/record.json",
    log:
        "results/logs/evaluate/{experiment}-seed-{seed}-{eval}-stage-{stage}.log",
    benchmark:
        "results/benchmarks/evaluate/{experiment}-seed-{seed}-{eval}-stage-{stage}.tsv"
    wildcard_constraints:
        eval=one_of(EVALS_ON_GPU),
    priority: 1
    threads: share_of_machine
    resources:
        attempt=attempt_of,
        runtime=1440,
        mem_mb=8000,
        gpu=0,
    params:
        section=section("evaluate"),
        code=code("evaluate"),
        inputs=inputs,
        scratch=f"{EVALUATION}/scratch",
    shell:
        "exec python -m invp evaluate --section {params.section:q} --code {params.code} --input {params.inputs} --scratch {params.scratch}"
        " --workers {threads} --output metrics={output.metrics} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"


# The same for evaluations that use no GPU, so that a profile can ask for none.
use rule evaluate as evaluate_on_cpu with:
    wildcard_constraints:
        eval=one_of(EVALS_ON_CPU),
    resources:
        attempt=attempt_of,
        runtime=720,
        mem_mb=8000,
        gpu=0,


rule evaluate_part:
    input:
        unpack(part_inputs),
    output:
        part=f"{EVALUATION}/parts/{{part}}.json",
        record=f"{EVALUATION}/parts/{{part}}.record.json",
    log:
        "results/logs/evaluate_part/{experiment}-seed-{seed}-{eval}-stage-{stage}-{part}.log",
    benchmark:
        "results/benchmarks/evaluate_part/{experiment}-seed-{seed}-{eval}-stage-{stage}-{part}.tsv"
    priority: 1
    threads: share_of_machine
    resources:
        attempt=attempt_of,
        runtime=720,
        mem_mb=8000,
        gpu=0,
    params:
        section=section("evaluate_part"),
        code=code("evaluate_part"),
        inputs=inputs,
        scratch=f"{EVALUATION}/parts/scratch-{{part}}",
    shell:
        "exec python -m invp evaluate_part --section {params.section:q} --code {params.code} --input {params.inputs}"
        " --scratch {params.scratch} --workers {threads} --output part={output.part} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"
