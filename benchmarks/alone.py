"""A stage's own script in a process of its own, without Snakemake: its high-water mark."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
GIVEN: dict[str, Any] = {
    "config": yaml.safe_load((ROOT / "configs/default.yaml").read_text("utf-8")) | {"device": "cpu"},
    "threads": 1,
    "wildcards": {"dataset": "made", "category": "up", "run": "run", "stage": "stage"},
    "params": {"code": "none", "layout": "mvtec_ad"},
}


def peak_mb(stage: str, folder: Path, **given: Any) -> float:
    """(stage, folder for its log; its input, output, params, threads, config) -> MB its process held at most.

    What is given goes over `GIVEN`. Ends the program with the job's log if the job fails.
    """
    log = folder / "logs" / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    merged = GIVEN | given | {"log": {"log": str(log)}, "script": str(ROOT / f"workflow/scripts/{stage}.py")}
    merged["params"], merged["config"] = (GIVEN[key] | given.get(key, {}) for key in ("params", "config"))
    done = subprocess.run([sys.executable, __file__, json.dumps(merged)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(log.read_text() + done.stderr)
    return float(done.stdout.split()[-1])


def main(given: dict[str, Any]) -> None:
    """Run the script with what Snakemake would hand it."""
    from snakemake.iocontainers import Namedlist

    from reconpatch.runtime import peak_bytes

    named = {key: Namedlist(fromdict=given[key]) for key in ("input", "output", "params", "wildcards", "log")}
    runpy.run_path(
        given["script"],
        {"snakemake": SimpleNamespace(**named, config=given["config"], threads=given["threads"], rule="alone")},
    )
    print(peak_bytes() / 1e6)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
