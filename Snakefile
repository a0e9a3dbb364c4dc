# `snakemake` from the root: the workflow itself is under workflow/.


include: "workflow/Snakefile"


rule default:
    default_target: True
    input:
        rules.all.input,
