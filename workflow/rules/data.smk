rule draw_sample:
    output:
        directory(f"{SAMPLE}/{{category}}"),
    log:
        STAGES["sample"].log,
    priority: priority("sample")
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("sample"),
        runtime=runtime("sample"),
    params:
        seed=0,
        code=code("sample"),
    script:
        "../scripts/sample.py"


rule index_category:
    input:
        drawn,
    output:
        manifest=path("index", "manifest"),
    log:
        STAGES["index"].log,
    priority: priority("index")
    conda:
        "../../environment.yml"
    threads: threads("index")
    resources:
        mem_mb=memory("index"),
        runtime=runtime("index"),
    params:
        layout=lambda w: PLAN.dataset(w.dataset).layout,
        root=lambda w: str(PLAN.root(w.dataset)),
        files=files_state,
        code=code("index"),
    script:
        "../scripts/index.py"


rule write_plan:
    output:
        path("plan", "plan"),
    log:
        STAGES["plan"].log,
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("plan"),
        runtime=runtime("plan"),
    params:
        rows=list(PLAN.rows()),
    script:
        "../scripts/plan.py"


rule fetch_weights:
    output:
        path("weights", "weights"),
    log:
        STAGES["weights"].log,
    priority: priority("weights")
    localrule: True  # a cluster's machines often have no network
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("weights"),
        runtime=runtime("weights"),
    params:
        code=code("weights"),
    script:
        "../scripts/weights.py"
