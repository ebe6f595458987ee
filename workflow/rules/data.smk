rule draw_sample:
    output:
        directory("results/sample/{category}"),
    params:
        seed=0,
        code=code("sample"),
    log:
        "logs/draw_sample/{category}.log",
    conda:
        "../../environment.yml"
    script:
        "../scripts/sample.py"


rule index_category:
    input:
        drawn,
    output:
        "results/index/{dataset}/{category}.json",
    params:
        layout=lambda w: PLAN.dataset(w.dataset).layout,
        root=lambda w: str(PLAN.root(w.dataset)),
        files=files_state,
        code=code("index"),
    priority: 100  # problems with the data show before any heavy work
    threads: 2
    log:
        "logs/index_category/{dataset}/{category}.log",
    conda:
        "../../environment.yml"
    script:
        "../scripts/index.py"


rule write_plan:
    output:
        "results/plan.csv",
    params:
        rows=list(PLAN.rows()),
    log:
        "logs/plan.log",
    conda:
        "../../environment.yml"
    script:
        "../scripts/plan.py"
