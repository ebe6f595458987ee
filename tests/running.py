"""Running the workflow as a user calls it, in a copy of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from reconpatch.records.record import read_record, repeatable

ROOT = Path(__file__).parents[1]
SNAKEMAKE = [str(Path(sys.executable).parent / "snakemake")]
PARTS = ["Snakefile", "workflow", "configs", "profiles", "environment.yml"]


def snakemake(where: Path, *arguments: str, ok: bool = True, **variables: str) -> str:
    """Run Snakemake and return what it printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")} | variables
    done = subprocess.run(
        [*SNAKEMAKE, *arguments], cwd=where, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (done.returncode == 0) == ok, done.stdout[-6000:]
    return done.stdout


def overlay(where: Path, **content: object) -> list[str]:
    (where / "overlay.yaml").write_text(yaml.safe_dump(content))
    return ["--configfile", "overlay.yaml", "--"]


SMALL: dict[str, object] = {"backbone": "resnet10t", "weights": "random", "resize": 40, "crop": 32, "level_dim": 32}
SMALL |= {"feature_dim": 32, "dim": 16, "coreset_dim": 8, "coreset": 0.1, "epochs": 2, "batch": 32, "projection_dim": 8}


def tiny(
    where: Path, layout: str, root: Path, axes: dict[str, list], config: dict | None = None, **more: object
) -> list[str]:
    """Arguments for an experiment `tiny` on a data set `mine` with a small untrained network."""
    small = {key: value for key, value in SMALL.items() if key not in axes}
    (where / "tiny.yaml").write_text(
        yaml.safe_dump({"title": "Tiny", "datasets": {"mine": "all"}, "set": small, "axes": axes, **more})
    )
    data = {"mine": {"layout": layout, "root": str(root)}}
    return overlay(where, datasets=data, experiments={"tiny": "tiny.yaml"}, **(config or {}))


def read(where: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((where / "results/runs").rglob("record.json"))]


LEFT_OUT = {"features.json", "bank.json", "training.json"}  # times and memory of the machine
LEFT_OUT |= {"report.html"}  # made by the targets `all` and `smoke`, and by failed runs


def results(where: Path) -> dict[str, bytes]:
    """Every result file of a run, without what says how long it took and on what."""
    found = {}
    for file in sorted((where / "results").rglob("*")):
        if file.is_dir() or file.name in LEFT_OUT:
            continue
        content = file.read_bytes()
        if file.name == "record.json":
            content = json.dumps(repeatable(read_record(file)), sort_keys=True).encode()
        found[str(file.relative_to(where))] = content
    return found
