def figure_inputs(w):
    """Only what the figure's plug-in needs, so that it reruns for nothing else."""
    experiment = EXPERIMENTS[w.experiment]
    needs = load_plugin("figures", experiment["figures"][w.figure]["name"]).NEEDS
    run, stages = RUN.format(**w), experiment["stages"]
    files = {}
    if "curves" in needs:
        files["curves"] = [f"{run}/pretrain/stage-{s}/metrics.jsonl" for s in stages]
    if "graph" in needs:
        files["graph"] = [f"{run}/graph/stage-{s}/knn.arrow" for s in stages]
    if "features" in needs:
        for split in ("train", "test"):
            files[f"features_{split}"] = f"{run}/features/stage-{stages[-1]}/{experiment['dataset_id']}-{split}.arrow"
    if "metrics" in needs:
        files["metrics"] = [f"{run}/evals/{e}/stage-{stages[-1]}/metrics.json" for e in experiment["evaluations"]]
    for split in ("train", "test"):
        files[f"dataset_{split}"] = manifest(experiment["dataset_id"], split)
    return files


rule figure:
    input:
        unpack(figure_inputs),
    output:
        figure=report(
            f"{RUN}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="{experiment}",
            labels={"seed": "{seed}", "figure": "{figure}"},
        ),
        data=f"{RUN}/figures/{{figure}}.json",
        record=f"{RUN}/figures/{{figure}}.record.json",
    log:
        "results/logs/figure/{experiment}-seed-{seed}-{figure}.log",
    benchmark:
        "results/benchmarks/figure/{experiment}-seed-{seed}-{figure}.tsv"
    params:
        section=section("figure"),
        code=code("figure"),
        words=words,
    threads: 1
    resources:
        runtime=60,
        mem_mb=4000,
    shell:
        "{PYTHON} figure --section {params.section:q} --code {params.code} --input {params.words}"
        " --output figure={output.figure} data={output.data} record={output.record} > {log} 2>&1"


rule summary:
    input:
        metrics=evaluation_metrics(),
        graphs=graph_summaries(),
        curves=curves(),
    output:
        csv=report("results/summary.csv", caption="../report/summary.rst", category="Summary"),
        table="results/summary.txt",
        markdown="results/summary.md",
        latex="results/summary.tex",
        record="results/summary.record.json",
    log:
        "results/logs/summary.log",
    benchmark:
        "results/benchmarks/summary.tsv"
    params:
        section=section("summary"),
        code=code("summary"),
        words=words,
    threads: 1
    resources:
        runtime=30,
        mem_mb=2000,
    shell:
        "{PYTHON} summary --section {params.section:q} --code {params.code} --input {params.words}"
        " --output csv={output.csv} table={output.table} markdown={output.markdown} latex={output.latex}"
        " record={output.record} > {log} 2>&1"


rule report:
    input:
        csv=rules.summary.output.csv,
        markdown=rules.summary.output.markdown,
        metrics=evaluation_metrics(),
        graphs=graph_summaries(),
        curves=curves(),
        checkpoints=[f"{path.rsplit('/', 1)[0]}/record.json" for path in checkpoints()],
        figures=figure_files(),
    output:
        page="results/report.html",
        record="results/report.record.json",
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    params:
        section=section("report"),
        code=code("report"),
        words=words,
    threads: 1
    resources:
        runtime=30,
        mem_mb=2000,
    shell:
        "{PYTHON} report --section {params.section:q} --code {params.code} --input {params.words}"
        " --output page={output.page} record={output.record} > {log} 2>&1"
