from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake.iocontainers import Namedlist

from reconpatch.pipeline.from_snakemake import files_of, job_of


@dataclass(frozen=True)
class Files:
    manifest: Path
    weights: Path | None
    runs: list[Path]
    folder: Path
    record: Path


def script(tmp_path: Path, **given: Any) -> SimpleNamespace:
    """The object of a script, as Snakemake makes it."""
    given = {"manifest": "m.json", "weights": [], "runs": ["a", "b"]} | given
    return SimpleNamespace(
        input=Namedlist(fromdict=given),
        output=Namedlist(fromdict={"record": "r.json"}),
        params=Namedlist(fromdict={"folder": "images", "code": "abc"}),
        wildcards=Namedlist(fromdict={"dataset": "mine", "category": "nut"}),
        log=Namedlist([str(tmp_path / "log")]),
        config={"device": "auto", "cuda_graph": True, "gpu_coreset": False},
        threads=3,
        rule="score_run",
    )


def test_files_are_the_inputs_outputs_and_parameters_of_their_names(tmp_path) -> None:
    expected = Files(Path("m.json"), None, [Path("a"), Path("b")], Path("images"), Path("r.json"))
    assert files_of(Files, script(tmp_path)) == expected
    assert files_of(Files, script(tmp_path, manifest=["m.json"])) == expected
    assert files_of(Files, script(tmp_path, weights=["w"], runs=[])) == Files(
        Path("m.json"), Path("w"), [], Path("images"), Path("r.json")
    )


def test_a_job_has_what_its_rule_gives_it(tmp_path) -> None:
    with job_of(script(tmp_path)) as job:
        assert (job.threads, job.device, job.code, job.cuda_graph) == (3, "auto", "abc", True)
    assert "score_run mine/nut" in (tmp_path / "log").read_text()
