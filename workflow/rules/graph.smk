def previous_graph(w):
    stages = stages_of(w.experiment)
    position = stages.index(int(w.stage))
    return {"previous": f"{RUN}/graph/stage-{stages[position - 1]}/knn.arrow".format(**w)} if position else {}


def features_for_graph(w):
    """The training set's features, where the objective keeps no bank or the graph is asked of features."""
    experiment = EXPERIMENTS[w.experiment]
    if experiment["graph"]["of"] == "bank" and int(w.stage) > 0:
        return {}
    return {"features": f"{RUN}/features/stage-{{stage}}/{experiment['dataset_id']}-train.arrow".format(**w)}


def graph_inputs(w):
    path = f"{RUN}/pretrain/stage-{{stage}}/checkpoint.pt".format(**w)
    return {"checkpoint": path, "dataset": training_manifest(w), **previous_graph(w), **features_for_graph(w)}


def explorer_inputs(w):
    graphs = [f"{RUN}/graph/stage-{s}/knn.arrow".format(**w) for s in stages_of(w.experiment)]
    return {"graph": graphs, "dataset": training_manifest(w)}


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
    params:
        section=section("graph"),
        code=code("graph"),
        words=words,
    threads: 1
    resources:
        runtime=120,
        mem_mb=8000,
        gpu=0,
    shell:
        "{PYTHON} graph --section {params.section:q} --code {params.code} --input {params.words}"
        " --output knn={output.knn} positives={output.positives} summary={output.summary} record={output.record} > {log} 2>&1"


rule explorer:
    input:
        unpack(explorer_inputs),
    output:
        page=f"{RUN}/explorer.html",
        record=f"{RUN}/explorer.record.json",
    log:
        "results/logs/explorer/{experiment}-seed-{seed}.log",
    benchmark:
        "results/benchmarks/explorer/{experiment}-seed-{seed}.tsv"
    params:
        section=section("explorer"),
        code=code("explorer"),
        words=words,
    threads: 1
    resources:
        runtime=60,
        mem_mb=8000,
    shell:
        "{PYTHON} explorer --section {params.section:q} --code {params.code} --input {params.words}"
        " --output page={output.page} record={output.record} > {log} 2>&1"
