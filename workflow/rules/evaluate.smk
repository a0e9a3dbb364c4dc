def evaluate_inputs(w):
    experiment = EXPERIMENTS[w.experiment]
    dataset = experiment["evaluation_datasets"][w.eval]
    needs = load_plugin("evals", experiment["evaluations"][w.eval]["name"]).NEEDS
    files = {}
    if needs == "encoder":
        files["checkpoint"] = f"{RUN}/pretrain/stage-{{stage}}/checkpoint.pt".format(**w)
    if needs == "graph":
        files["graph"] = f"{RUN}/graph/stage-{{stage}}/knn.arrow".format(**w)
    for split in ("train", "test"):
        if needs == "features":
            files[split] = f"{RUN}/features/stage-{{stage}}/{dataset}-{split}.arrow".format(**w)
        files[f"{split}_data"] = manifest(dataset, split)
    return files


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
    params:
        section=section("evaluate"),
        code=code("evaluate"),
        words=words,
    threads: 1
    resources:
        runtime=720,
        mem_mb=8000,
        gpu=0,
    shell:
        "{PYTHON} evaluate --section {params.section:q} --code {params.code} --input {params.words} --workers {threads}"
        " --output metrics={output.metrics} record={output.record} > {log} 2>&1"
