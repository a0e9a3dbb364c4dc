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
    priority: 1
    threads: 1
    resources:
        attempt=attempt_of,
        runtime=60,
        mem_mb=4000,
    params:
        section=section("figure"),
        code=code("figure"),
        inputs=inputs,
    shell:
        "python -m invp figure --section {params.section:q} --code {params.code} --input {params.inputs}"
        " --output figure={output.figure} data={output.data} record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"


rule summary:
    input:
        published=in_folder_or_package("config/published.yaml"),
        metrics=evaluation_metrics(),
        figure_data=figure_data(),
        graphs=graph_summaries(),
        curves=curves(),
    output:
        csv=report(f"{PAGES}/summary.csv", caption="../report/summary.rst", category="Summary"),
        table=f"{PAGES}/summary.txt",
        markdown=f"{PAGES}/summary.md",
        latex=f"{PAGES}/summary.tex",
        tables=f"{PAGES}/tables.csv",
        record=f"{PAGES}/summary.record.json",
    log:
        f"results/logs/summary/{STUDY['study']}.log",
    benchmark:
        f"results/benchmarks/summary/{STUDY['study']}.tsv"
    priority: 1
    threads: 1
    resources:
        attempt=attempt_of,
        runtime=30,
        mem_mb=2000,
    params:
        section=section("summary"),
        code=code("summary"),
        inputs=inputs,
    shell:
        "python -m invp summary --section {params.section:q} --code {params.code} --input {params.inputs}"
        " --output csv={output.csv} table={output.table} markdown={output.markdown} latex={output.latex} tables={output.tables}"
        " record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"


rule report:
    input:
        **pictured(),
        published=in_folder_or_package("config/published.yaml"),
        csv=rules.summary.output.csv,
        markdown=rules.summary.output.markdown,
        metrics=evaluation_metrics(),
        figure_data=figure_data(),
        graphs=graph_summaries(),
        curves=curves(),
        checkpoints=[f"{path.rsplit('/', 1)[0]}/record.json" for path in checkpoints()],
        figures=figure_files(),
    output:
        page=report(f"{PAGES}/report.html", caption="../report/report.rst", category="Pages", labels={"page": "report"}),
        comparison=report(
            f"{PAGES}/comparison.html", caption="../report/comparison.rst", category="Pages", labels={"page": "comparison"}
        ),
        overview=f"{PAGES}/report.json",
        record=f"{PAGES}/report.record.json",
    log:
        f"results/logs/report/{STUDY['study']}.log",
    benchmark:
        f"results/benchmarks/report/{STUDY['study']}.tsv"
    priority: 1
    threads: 1
    resources:
        attempt=attempt_of,
        runtime=30,
        mem_mb=2000,
    params:
        section=section("report"),
        code=code("report"),
        inputs=inputs,
    shell:
        "python -m invp report --section {params.section:q} --code {params.code} --input {params.inputs}"
        " --output page={output.page} comparison={output.comparison} overview={output.overview}"
        " record={output.record}"
        " --keep-log {log} --attempt {resources.attempt} > {log} 2>&1"
