rule make_table:
    input:
        lambda w: records_of(w.experiment),
    output:
        csv="results/tables/{experiment}.csv",
        md="results/tables/{experiment}.md",
        tex="results/tables/{experiment}.tex",
        html="results/tables/{experiment}.html",
    log:
        "logs/make_table/{experiment}.log",
    conda:
        "../../environment.yml"
    params:
        title=lambda w: PLAN.experiments[w.experiment].title,
        differences=lambda w: PLAN.differences(w.experiment),
        axes=lambda w: list(PLAN.experiments[w.experiment].axes),
        code=code("table"),
    script:
        "../scripts/table.py"


rule draw_qualitative:
    input:
        drawn,
        runs=drawn_runs("record.json"),
        scores=drawn_runs("scores.safetensors"),
        manifest="results/index/{dataset}/{category}.json",
    output:
        "results/figures/{experiment}/{dataset}/{category}/qualitative.png",
    log:
        "logs/draw_qualitative/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    params:
        folder=folder,
        code=code("qualitative"),
    script:
        "../scripts/qualitative.py"


rule draw_histogram:
    input:
        runs=drawn_runs("record.json"),
        scores=drawn_runs("scores.safetensors"),
        manifest="results/index/{dataset}/{category}.json",
    output:
        "results/figures/{experiment}/{dataset}/{category}/histogram.svg",
    log:
        "logs/draw_histogram/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    params:
        code=code("histogram"),
    script:
        "../scripts/histogram.py"


rule draw_umap:
    input:
        runs=drawn_runs("record.json"),
        features=drawn_stages("features", "test.npy"),
        manifest="results/index/{dataset}/{category}.json",
        masks=drawn_stages("features", "masks.npy"),
        banks=drawn_stages("bank", "bank.safetensors"),
    output:
        "results/figures/{experiment}/{dataset}/{category}/umap.svg",
    log:
        "logs/draw_umap/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    params:
        code=code("draw_umap"),
    script:
        "../scripts/draw_umap.py"


# One target per experiment: `snakemake table_mvtec` makes its table and figures.
for name in PLAN.experiments:
    if name not in ("smoke", "all"):

        rule:
            name:
                name
            input:
                lambda w, name=name: outputs_of(name),
            localrule: True
