# With a cluster these run where Snakemake was called: each takes seconds, less than to submit it.


rule make_table:
    input:
        records=lambda w: results_of(w.experiment, "record"),
        scores=lambda w: results_of(w.experiment, "scores"),
        manifests=lambda w: outputs.manifests_of(PLAN, w.experiment),
        paper=lambda w: [str(f) for f in [outputs.paper_file(w.experiment)] if f],
    output:
        cells=path("table", "cells"),
        summary=path("table", "summary"),
        defects=path("table", "defects"),
        md=path("table", "md"),
        tex=path("table", "tex"),
        html=path("table", "html"),
        settings=path("table", "settings"),
    log:
        STAGES["table"].log,
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
            **{file: path(figure.name, file) for file in figure.files},
        log:
            figure.log,
        localrule: True
        conda:
            "../../environment.yml"
        resources:
            mem_mb=memory(figure.name),
            runtime=runtime(figure.name),
        params:
            folders=figure_folders(figure),
            labels=figure_labels(figure),
            script=figure.script,
            code=code(figure.name),
        script:
            "../scripts/{params.script}.py"


# One target per experiment: `snakemake table_mvtec` makes its table and figures.
for name in PLAN.experiments:
    if name not in ("smoke", "all"):

        rule:
            name:
                name
            input:
                lambda w, name=name: [*outputs.outputs_of(PLAN, [name]), *lost(name)],
            localrule: True
