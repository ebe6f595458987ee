rule draw_sample:
    output:
        directory(f"{SAMPLE}/{{category}}"),
    log:
        "logs/draw_sample/{category}.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("draw_sample"),
        runtime=runtime("draw_sample"),
    params:
        seed=0,
        code=code("sample"),
    script:
        "../scripts/sample.py"


rule index_category:
    input:
        drawn,
    output:
        manifest="results/index/{dataset}/{category}.json",
    log:
        "logs/index_category/{dataset}/{category}.log",
    priority: BY_RULE["index_category"].priority
    conda:
        "../../environment.yml"
    threads: BY_RULE["index_category"].threads
    resources:
        mem_mb=memory("index_category"),
        runtime=runtime("index_category"),
    params:
        layout=lambda w: PLAN.dataset(w.dataset).layout,
        root=lambda w: str(PLAN.root(w.dataset)),
        files=files_state,
        code=code("index"),
    script:
        "../scripts/index.py"


rule write_plan:
    output:
        "results/plan.csv",
    log:
        "logs/plan.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("write_plan"),
        runtime=runtime("write_plan"),
    params:
        rows=list(PLAN.rows()),
    script:
        "../scripts/plan.py"


rule fetch_weights:
    output:
        "results/weights/{backbone}.json",
    log:
        "logs/fetch_weights/{backbone}.log",
    priority: BY_RULE["fetch_weights"].priority
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("fetch_weights"),
        runtime=runtime("fetch_weights"),
    params:
        code=code("weights"),
    script:
        "../scripts/weights.py"
