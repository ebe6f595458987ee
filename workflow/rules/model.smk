rule extract_features:
    input:
        drawn,
        fetched,
        manifest="results/index/{dataset}/{category}.json",
        weights=weight_file,
    output:
        train=kept("results/features/{dataset}/{category}/{stage}/train.npy"),
        test=kept("results/features/{dataset}/{category}/{stage}/test.npy"),
        facts="results/features/{dataset}/{category}/{stage}/features.json",
    log:
        "logs/extract_features/{dataset}/{category}/{stage}.log",
    conda:
        "../../environment.yml"
    threads: BY_RULE["extract_features"].threads
    resources:
        mem_mb=memory("extract_features"),
        runtime=runtime("extract_features"),
        gpu=GPUS,
    params:
        folder=folder,
        run=stage_of("features"),
        code=code("features"),
    script:
        "../scripts/features.py"


rule read_masks:
    input:
        drawn,
        manifest="results/index/{dataset}/{category}.json",
    output:
        masks="results/masks/{dataset}/{category}/{stage}/masks.npy",
    log:
        "logs/read_masks/{dataset}/{category}/{stage}.log",
    priority: BY_RULE["read_masks"].priority
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("read_masks"),
        runtime=runtime("read_masks"),
    params:
        folder=folder,
        run=stage_of("masks"),
        code=code("masks"),
    script:
        "../scripts/masks.py"


rule train_representation:
    input:
        train=train_features,
    output:
        f="results/training/{dataset}/{category}/{stage}/f.safetensors",
        facts="results/training/{dataset}/{category}/{stage}/training.json",
    log:
        "logs/train_representation/{dataset}/{category}/{stage}.log",
    priority: BY_RULE["train_representation"].priority
    conda:
        "../../environment.yml"
    threads: BY_RULE["train_representation"].threads
    resources:
        mem_mb=memory("train_representation"),
        runtime=runtime("train_representation"),
        gpu=GPUS,
    params:
        run=stage_of("training"),
        checkpoints=PLAN.config.checkpoints,
        code=code("training"),
    script:
        "../scripts/training.py"


rule select_coreset:
    input:
        train=train_features,
        features=train_facts,
        f=below("training", "f.safetensors"),
    output:
        bank="results/bank/{dataset}/{category}/{stage}/bank.safetensors",
        facts="results/bank/{dataset}/{category}/{stage}/bank.json",
    log:
        "logs/select_coreset/{dataset}/{category}/{stage}.log",
    priority: BY_RULE["select_coreset"].priority
    conda:
        "../../environment.yml"
    threads: BY_RULE["select_coreset"].threads
    resources:
        mem_mb=memory("select_coreset"),
        runtime=runtime("select_coreset"),
    params:
        run=stage_of("bank"),
        ratio=lambda w: PLAN.ratios[w.dataset, w.category, w.stage],
        code=code("bank"),
    script:
        "../scripts/bank.py"


rule score_run:
    input:
        unpack(scored),
    output:
        record="results/runs/{dataset}/{category}/{run}/record.json",
        scores="results/runs/{dataset}/{category}/{run}/scores.safetensors",
    log:
        "logs/score_run/{dataset}/{category}/{run}.log",
    priority: BY_RULE["score_run"].priority
    conda:
        "../../environment.yml"
    threads: BY_RULE["score_run"].threads
    resources:
        mem_mb=memory("score_run"),
        runtime=runtime("score_run"),
        gpu=GPUS,
    params:
        run=lambda w: description(PLAN.runs[w.run], "score"),
        layout=lambda w: PLAN.dataset(w.dataset).layout,
        code=code("score"),
    script:
        "../scripts/score.py"


rule score_training:
    input:
        train=train_features,
        bank=below("bank", "bank.safetensors"),
    output:
        scores="results/runs/{dataset}/{category}/{run}/training.safetensors",
    log:
        "logs/score_training/{dataset}/{category}/{run}.log",
    priority: BY_RULE["score_training"].priority
    conda:
        "../../environment.yml"
    threads: BY_RULE["score_training"].threads
    resources:
        mem_mb=memory("score_training"),
        runtime=runtime("score_training"),
        gpu=GPUS,
    params:
        run=lambda w: description(PLAN.runs[w.run], "score"),
        code=code("training_scores"),
    script:
        "../scripts/training_scores.py"


rule combine_ensemble:
    input:
        manifest="results/index/{dataset}/{category}.json",
        records=member_files("record.json"),
        scores_of_members=member_files("scores.safetensors"),
        training=training_scores,
        masks=member_masks,
    output:
        record="results/ensembles/{dataset}/{category}/{run}/record.json",
        scores="results/ensembles/{dataset}/{category}/{run}/scores.safetensors",
    log:
        "logs/combine_ensemble/{dataset}/{category}/{run}.log",
    priority: BY_RULE["combine_ensemble"].priority
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory("combine_ensemble"),
        runtime=runtime("combine_ensemble"),
    params:
        combine=lambda w: PLAN.ensembles[w.run].combine,
        code=code("ensemble"),
    script:
        "../scripts/ensemble.py"
