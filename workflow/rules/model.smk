rule extract_features:
    input:
        drawn,
        fetched,
        unpack(reads("features")),
        weights=weight_file,
    output:
        train=path("features", "train"),
        test=path("features", "test"),
        validation=path("features", "validation"),
        facts=path("features", "facts"),
    log:
        STAGES["features"].log,
    priority: priority("features")
    conda:
        "../../environment.yml"
    threads: threads("features")
    resources:
        mem_mb=memory("features"),
        runtime=runtime("features"),
        gpu=gpus("features"),
    params:
        folder=folder,
        run=settings("features"),
        code=code("features"),
    script:
        "../scripts/features.py"


rule read_masks:
    input:
        drawn,
        unpack(reads("masks")),
    output:
        masks=path("masks", "masks"),
        defects=path("masks", "defects"),
    log:
        STAGES["masks"].log,
    priority: priority("masks")
    conda:
        "../../environment.yml"
    threads: threads("masks")
    resources:
        mem_mb=memory("masks"),
        runtime=runtime("masks"),
    params:
        folder=folder,
        run=settings("masks"),
        code=code("masks"),
    script:
        "../scripts/masks.py"


rule train_representation:
    input:
        unpack(reads("training")),
    output:
        f=path("training", "f"),
        facts=path("training", "facts"),
    log:
        STAGES["training"].log,
    priority: priority("training")
    conda:
        "../../environment.yml"
    threads: threads("training")
    resources:
        mem_mb=memory("training"),
        runtime=runtime("training"),
        gpu=gpus("training"),
    params:
        run=settings("training"),
        checkpoints=lambda w: PLAN.checkpoints(PLAN.stages[w.stage]),
        code=code("training"),
    script:
        "../scripts/training.py"


rule select_coreset:
    input:
        unpack(reads("bank")),
    output:
        bank=path("bank", "bank"),
        facts=path("bank", "facts"),
    log:
        STAGES["bank"].log,
    priority: priority("bank")
    conda:
        "../../environment.yml"
    threads: threads("bank")
    resources:
        mem_mb=memory("bank"),
        runtime=runtime("bank"),
        gpu=gpus("bank"),
    params:
        run=settings("bank"),
        ratio=lambda w: PLAN.ratios[w.dataset, w.category, w.stage],
        code=code("bank"),
    script:
        "../scripts/bank.py"


rule score_run:
    input:
        unpack(reads("score")),
    output:
        record=path("score", "record"),
        scores=path("score", "scores"),
    log:
        STAGES["score"].log,
    priority: priority("score")
    conda:
        "../../environment.yml"
    threads: threads("score")
    resources:
        mem_mb=memory("score"),
        runtime=runtime("score"),
        gpu=gpus("score"),
    params:
        run=lambda w: description(PLAN.runs[w.run], "score"),
        layout=lambda w: PLAN.dataset(w.dataset).layout,
        code=code("score"),
    script:
        "../scripts/score.py"


rule score_training:
    input:
        unpack(reads("training_scores")),
    output:
        scores=path("training_scores", "scores"),
    log:
        STAGES["training_scores"].log,
    priority: priority("training_scores")
    conda:
        "../../environment.yml"
    threads: threads("training_scores")
    resources:
        mem_mb=memory("training_scores"),
        runtime=runtime("training_scores"),
        gpu=gpus("training_scores"),
    params:
        run=lambda w: description(PLAN.runs[w.run], "score"),
        code=code("training_scores"),
    script:
        "../scripts/training_scores.py"


rule write_submission:
    input:
        drawn,
        lambda w: fetched_for(PLAN.runs[w.run]),
        unpack(reads("submission")),
        weights=lambda w: weights_of(PLAN.runs[w.run]),
    output:
        part=path("submission", "part"),
        facts=path("submission", "facts"),
    log:
        STAGES["submission"].log,
    priority: priority("submission")
    conda:
        "../../environment.yml"
    threads: threads("submission")
    resources:
        mem_mb=memory("submission"),
        runtime=runtime("submission"),
        gpu=gpus("submission"),
    params:
        folder=folder,
        layout=lambda w: PLAN.dataset(w.dataset).layout,
        files=files_state,
        run=lambda w: description(PLAN.runs[w.run], "score"),
        code=code("submission"),
    script:
        "../scripts/submission.py"


rule combine_ensemble:
    input:
        unpack(lambda w: outputs.files_of_ensemble(PLAN, w)),
    output:
        record=path("ensemble", "record"),
        scores=path("ensemble", "scores"),
    log:
        STAGES["ensemble"].log,
    priority: priority("ensemble")
    conda:
        "../../environment.yml"
    threads: threads("ensemble")
    resources:
        mem_mb=memory("ensemble"),
        runtime=runtime("ensemble"),
    params:
        combine=lambda w: PLAN.ensembles[w.run].combine,
        code=code("ensemble"),
    script:
        "../scripts/ensemble.py"
