# With a cluster these run where Snakemake was called: each takes seconds, less than to submit it.


rule make_table:
    input:
        records=lambda w: results_of(w.experiment, "record"),
        scores=lambda w: results_of(w.experiment, "scores"),
        manifests=lambda w: outputs.manifests_of(PLAN, w.experiment),
        paper=lambda w: [str(f) for f in [paper_file(w.experiment)] if f],
    output:
        cells=shown("table", "cells", "cells (CSV)"),
        summary=shown("table", "summary", "summary over categories (CSV)"),
        defects=shown("table", "defects", "types of defect (CSV)"),
        parquet=shown("table", "parquet", "cells (Parquet)"),
        md=shown("table", "md", "table (Markdown)"),
        tex=shown("table", "tex", "table (LaTeX)"),
        more_tex=shown("table", "more_tex", "summaries (LaTeX)"),
        html=shown("table", "html", "table"),
        settings=path("table", "settings"),
    log:
        STAGES["table"].log,
    priority: priority("table")
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("table"),
        runtime=runtime("table"),
    params:
        settings=lambda w: outputs.table_settings(PLAN, w.experiment),
        code=code("table"),
    script:
        "../scripts/table.py"


# One rule for each kind of figure.
for figure in FIGURES.values():
    name = figure.rule

    rule:
        name:
            name
        input:
            figure_photographs(figure),
            unpack(figure_files(figure)),
        output:
            **{
                file: (
                    path(figure.name, file)
                    if file in ("caption", "caption_tex")
                    else shown(figure.name, file, f"{figure.name} ({file})")
                )
                for file in figure.files
            },
        log:
            figure.log,
        priority: priority(figure.name)
        localrule: True
        conda:
            "../../environment.yml"
        resources:
            mem_mb=memory(figure.name),
            runtime=runtime(figure.name),
        params:
            folders=figure_folders(figure),
            labels=figure_labels(figure),
            departures=figure_departures(figure),
            caption=figure.caption,  # for Snakemake's own report
            script=figure.script,
            code=code(figure.name),
        script:
            "../scripts/{params.script}.py"


rule make_thumbnails:
    input:
        drawn,
        unpack(lambda w: outputs.files_of_thumbnails(PLAN, w)),
    output:
        thumbnails=path("thumbnails", "thumbnails"),
    log:
        STAGES["thumbnails"].log,
    priority: priority("thumbnails")
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("thumbnails"),
        runtime=runtime("thumbnails"),
    params:
        folder=folder,
        keep=PLAN.config.report_images,
        departures=lambda w: outputs.departures_of(PLAN, PLAN.experiments, [w.run]),
        code=code("thumbnails"),
    script:
        "../scripts/thumbnails.py"


# One target per experiment: `snakemake table_mvtec` makes its table and figures.
for name in PLAN.experiments:
    if name not in ("smoke", "all"):

        rule:
            name:
                name
            input:
                lambda w, name=name: [*outputs.outputs_of(PLAN, [name]), *lost(name)],
            localrule: True
