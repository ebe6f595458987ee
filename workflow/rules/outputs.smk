rule make_table:
    input:
        records=lambda w: results_of(w.experiment, "record.json"),
        scores=lambda w: results_of(w.experiment, "scores.safetensors"),
        paper=lambda w: [str(f) for f in [paper_file(w.experiment)] if f],
    output:
        cells="results/tables/{experiment}.csv",
        md="results/tables/{experiment}.md",
        tex="results/tables/{experiment}.tex",
        html="results/tables/{experiment}.html",
    log:
        "logs/make_table/{experiment}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("make_table"),
        runtime=runtime("make_table"),
    params:
        settings=lambda w: table_settings(PLAN, w.experiment),
        code=code("table"),
    script:
        "../scripts/table.py"


rule draw_qualitative:
    input:
        drawn,
        runs=drawn_runs("qualitative", "record.json"),
        scores=drawn_runs("qualitative", "scores.safetensors"),
        manifest="results/index/{dataset}/{category}.json",
    output:
        figure="results/figures/{experiment}/{dataset}/{category}/qualitative.png",
    log:
        "logs/draw_qualitative/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_qualitative"),
        runtime=runtime("draw_qualitative"),
    params:
        folder=folder,
        code=code("qualitative"),
    script:
        "../scripts/qualitative.py"


rule draw_histogram:
    input:
        runs=drawn_runs("histogram", "record.json"),
        scores=drawn_runs("histogram", "scores.safetensors"),
        manifest="results/index/{dataset}/{category}.json",
    output:
        figure="results/figures/{experiment}/{dataset}/{category}/histogram.svg",
    log:
        "logs/draw_histogram/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_histogram"),
        runtime=runtime("draw_histogram"),
    params:
        code=code("histogram"),
    script:
        "../scripts/histogram.py"


rule draw_umap:
    input:
        runs=drawn_runs("umap", "record.json"),
        features=drawn_stages("umap", "features", "test.npy"),
        manifest="results/index/{dataset}/{category}.json",
        masks=drawn_stages("umap", "masks", "masks.npy"),
        banks=drawn_stages("umap", "bank", "bank.safetensors"),
    output:
        figure="results/figures/{experiment}/{dataset}/{category}/umap.svg",
    log:
        "logs/draw_umap/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_umap"),
        runtime=runtime("draw_umap"),
    params:
        code=code("draw_umap"),
    script:
        "../scripts/draw_umap.py"


rule draw_positions:
    input:
        drawn,
        runs=drawn_runs("positions", "record.json"),
        features=lambda w: [
            path_of("features", of_training(PLAN.runs[run]), w, "train.npy")
            for run in PLAN.drawn(w.experiment, "positions")
        ],
        manifest="results/index/{dataset}/{category}.json",
        banks=drawn_stages("positions", "bank", "bank.safetensors"),
    output:
        figure="results/figures/{experiment}/{dataset}/{category}/positions.svg",
    log:
        "logs/draw_positions/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_positions"),
        runtime=runtime("draw_positions"),
    params:
        folder=folder,
        code=code("draw_positions"),
    script:
        "../scripts/draw_positions.py"


rule draw_curve:
    input:
        runs=drawn_runs("curve", "record.json"),
        training=drawn_stages("curve", "training", "training.json"),
    output:
        figure="results/figures/{experiment}/{dataset}/{category}/curve.svg",
    log:
        "logs/draw_curve/{experiment}/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_curve"),
        runtime=runtime("draw_curve"),
    params:
        code=code("curve"),
    script:
        "../scripts/curve.py"


rule draw_sweep:
    input:
        cells="results/tables/{experiment}.csv",
        records=lambda w: results_of(w.experiment, "record.json"),
    output:
        figure="results/figures/{experiment}/sweep.svg",
    log:
        "logs/draw_sweep/{experiment}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_sweep"),
        runtime=runtime("draw_sweep"),
    params:
        labels=lambda w: labels_of(PLAN, w.experiment),
        code=code("sweep"),
    script:
        "../scripts/sweep.py"


rule draw_gallery:
    input:
        runs=gallery_files("results/runs/{dataset}/{category}/{run}/record.json"),
        scores=gallery_files(
            "results/runs/{dataset}/{category}/{run}/scores.safetensors"
        ),
        manifests=gallery_files("results/index/{dataset}/{category}.json"),
    output:
        figure="results/figures/{experiment}/gallery.png",
    log:
        "logs/draw_gallery/{experiment}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_gallery"),
        runtime=runtime("draw_gallery"),
    params:
        folders=lambda w: [
            str(category_folder(PLAN.dataset(d).layout, PLAN.root(d), c))
            for d, c in PLAN.targets[w.experiment]
        ],
        code=code("gallery"),
    script:
        "../scripts/gallery.py"


# One target per experiment: `snakemake table_mvtec` makes its table and figures.
for name in PLAN.experiments:
    if name not in ("smoke", "all"):

        rule:
            name:
                name
            input:
                lambda w, name=name: [*outputs_of(name), *lost(name)],
            localrule: True
