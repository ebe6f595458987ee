rule extract_features:
    input:
        drawn,
        fetched,
        manifest="results/index/{dataset}/{category}.json",
        weights=weight_file,
    output:
        train=kept("results/features/{dataset}/{category}/{stage}/train.npy"),
        test=kept("results/features/{dataset}/{category}/{stage}/test.npy"),
        masks=kept("results/features/{dataset}/{category}/{stage}/masks.npy"),
        facts="results/features/{dataset}/{category}/{stage}/features.json",
    log:
        "logs/extract_features/{dataset}/{category}/{stage}.log",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        gpu=GPUS,
    params:
        folder=folder,
        run=stage_of("features"),
        code=code("features"),
    script:
        "../scripts/features.py"


rule train_representation:
    input:
        train=below("features", "train.npy"),
    output:
        f="results/training/{dataset}/{category}/{stage}/f.safetensors",
        facts="results/training/{dataset}/{category}/{stage}/training.json",
    log:
        "logs/train_representation/{dataset}/{category}/{stage}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPUS,
    params:
        run=stage_of("training"),
        code=code("training"),
    script:
        "../scripts/training.py"


rule select_coreset:
    input:
        train=below("features", "train.npy"),
        f=below("training", "f.safetensors"),
    output:
        bank="results/bank/{dataset}/{category}/{stage}/bank.safetensors",
        facts="results/bank/{dataset}/{category}/{stage}/bank.json",
    log:
        "logs/select_coreset/{dataset}/{category}/{stage}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        run=stage_of("bank"),
        ratio=lambda w: PLAN.ratios[w.stage],
        code=code("bank"),
    script:
        "../scripts/bank.py"


rule score_run:
    input:
        manifest="results/index/{dataset}/{category}.json",
        test=below("features", "test.npy"),
        masks=below("features", "masks.npy"),
        features=below("features", "features.json"),
        training=below("training", "training.json"),
        bank=below("bank", "bank.safetensors"),
        bank_facts=below("bank", "bank.json"),
    output:
        record="results/runs/{dataset}/{category}/{run}/record.json",
        scores="results/runs/{dataset}/{category}/{run}/scores.safetensors",
    log:
        "logs/score_run/{dataset}/{category}/{run}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPUS,
    params:
        run=lambda w: description(PLAN.runs[w.run], "score"),
        layout=lambda w: PLAN.dataset(w.dataset).layout,
        code=code("score"),
    script:
        "../scripts/score.py"
