"""What runs cost: time, memory and sizes, as every stage's own facts in the records say."""

from collections.abc import Sequence

from reconpatch.results.comparison import Result
from reconpatch.results.names import METHODS
from reconpatch.results.tables import MISSING, Table

STAGES = {"features": "features", "training": "training", "bank": "coreset", "score": "scores"}


def cost_table(results: Sequence[Result], title: str, notes: Sequence[str]) -> Table:
    """Results -> a row per run: seconds of every stage, the largest process, bank and images per second.

    Images per second counts the features and the scores of a test image, each in the bulk of the test set.
    """
    rows: list[dict[str, str]] = []
    links: list[dict[str, list[str]]] = []
    for r in results:
        row = {"category": r.category.replace("_", " ")} | {k: str(v) for k, v in r.labels.items()}
        row |= {"method": METHODS[r.method], "seed": str(r.seed)}
        row["backbone"] = MISSING if r.record is None else str(r.record.description["backbone"])
        if r.record is None or r.record.members:  # an ensemble's members have rows of their own
            rows.append(row)
            links.append({})
            continue
        stages, bank = r.record.stages, r.record.bank
        for stage, name in STAGES.items():
            row[f"{name}, s"] = f"{stages[stage].wall_s:.1f}" if stage in stages else MISSING
        row["all, s"] = f"{sum(stages[s].wall_s for s in STAGES if s in stages):.1f}"
        row["largest process, MB"] = f"{max(stages[s].peak_mb for s in STAGES if s in stages):.0f}"
        row["bank, patches"] = f"{bank.patches} of {bank.of}"
        row["bank, MB"] = f"{bank.patches * r.record.description['dim'] * 4 / 1e6:.1f}"
        taken = stages["features"].s_per_image["test"] + stages["score"].s_per_image["test"]
        row["images per second"] = f"{1 / taken:.1f}"
        row["on"] = f"{stages['score'].device}, {stages['features'].threads} threads"
        rows.append(row)
        links.append({"all, s": [r.link]})
    machines = {f"{s.processor}, {s.cores} cores" for r in results if r.record for _, _, s in r.record.all_stages()}
    lines = [*notes, *(f"Machine: {machine}." for machine in sorted(machines))]
    return Table(title, rows, lines, links)
