def parent_of(w):
    stages = stages_of(w.experiment)
    position = stages.index(int(w.stage))
    if position == 0:
        return {}
    return {"parent": f"{RUN}/pretrain/stage-{stages[position - 1]}/checkpoint.pt".format(**w)}


def pretrain_inputs(w):
    if int(w.stage) not in stages_of(w.experiment):
        raise ValueError(f"{w.experiment} has no stage {w.stage}; its stages: {stages_of(w.experiment)}")
    return {"dataset": training_manifest(w), **parent_of(w)}


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
    params:
        section=section("pretrain"),
        code=code("pretrain"),
        words=words,
        scratch=f"{RUN}/pretrain/scratch-stage-{{stage}}",
    threads: 1
    resources:
        runtime=1440,
        mem_mb=8000,
        gpu=0,
        processes=1,
    shell:
        "{PYTHON} pretrain --section {params.section:q} --code {params.code} --input {params.words} --scratch {params.scratch}"
        " --processes {resources.processes} --workers {threads}"
        " --output checkpoint={output.checkpoint} metrics={output.metrics} record={output.record} > {log} 2>&1"
