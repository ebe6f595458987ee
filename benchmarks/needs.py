"""Memory of one job beside its prediction: python benchmarks/needs.py STAGE FOLDER [KEY=VALUE ...].

The stage's own script runs in a process of its own on inputs made up in FOLDER. KEY is one of `baseline` in the
configuration, or train, test (images), side (px of the pictures), kept (ratio of the bank in its file), threads or
batch_images.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from alone import ROOT, peak_mb
from inputs import clustered, maps_and_masks, write_category, write_pictures
from safetensors.numpy import save_file

from reconpatch.data.layouts import Item
from reconpatch.data.manifest import manifest_json
from reconpatch.experiments.config import read_config
from reconpatch.experiments.costs import Network, sizes_of
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.run import Run, fitted, vary
from reconpatch.experiments.stages import STAGES, description
from reconpatch.files import sha256_of
from reconpatch.method.feature_files import write_header
from reconpatch.method.memory_bank import MemoryBank, Representation, coreset_size
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import StageFile, Weights, write_stage

COUNTS: dict[str, Any] = {
    **{"train": 24, "test": 16, "validation": 0, "side": 256, "kept": 0.0},
    **{"threads": 1, "batch_images": 8},
}


class Made:
    """Inputs of jobs, written to a folder where they are not there yet."""

    def __init__(self, folder: Path, run: Run, network: Network, counts: dict[str, Any]) -> None:
        self.folder, self.run, self.counts = folder, run, counts
        self.grid = network.grid
        folder.mkdir(parents=True, exist_ok=True)

    def at(self, name: str) -> str:
        """Path of a file in the folder."""
        return str(self.folder / name)

    def features(self, split: str) -> str:
        """Made-up patch features of a split; noise around few patterns, written in order."""
        side, channels, images = self.grid, self.run.width, self.counts[split]
        file = self.folder / f"{split}_{images}_{side}_{channels}.npy"
        if not file.exists():
            with open(file, "wb") as out:
                write_header(out, (images, side, side, channels), np.dtype(np.float16))
                for image in range(images):
                    out.write(clustered(side * side, channels, image % 8).astype(np.float16).data)
        return str(file)

    def manifest(self) -> str:
        """A manifest of pictures, a few over and over; half of the test images anomalous."""
        side, train, test = (self.counts[key] for key in ("side", "train", "test"))
        pictures = write_pictures(self.folder / f"pictures{side}", 8, side)
        indexed = [
            {"path": p.relative_to(self.folder).as_posix(), "sha256": sha256_of(p), "bytes": p.stat().st_size}
            for p in pictures
        ]
        items = [Item(**indexed[n % 8], split="train", label=0, defect="good") for n in range(train)]
        items += [
            Item(**indexed[n % 8], split="test", label=n % 2, defect="blot" if n % 2 else "good") for n in range(test)
        ]
        (self.folder / "manifest.json").write_text(manifest_json(items))
        return self.at("manifest.json")

    def representation(self) -> tuple[list[str], Representation]:
        """The file of f, none for PatchCore, and f."""
        if self.run.method == "patchcore":
            return [], Representation(self.run.dim)
        rng = np.random.default_rng(0)
        weight = rng.standard_normal((self.run.dim, self.run.width), np.float32) / np.float32(32)
        f = Representation(self.run.dim, weight, np.zeros(self.run.dim, np.float32))
        save_file({f"{self.run.epochs}.weight": weight, f"{self.run.epochs}.bias": f.bias}, self.at("f.safetensors"))
        return [self.at("f.safetensors")], f

    def bank(self) -> str:
        """Any bank of its size, of the ratio `kept` if that is larger than the run's."""
        patches = self.counts["train"] * self.grid**2
        size = coreset_size(patches, max(self.run.coreset, self.counts["kept"]))
        rows = np.random.default_rng(0).standard_normal((size, self.run.dim), np.float32)
        MemoryBank(rows, np.arange(size), self.representation()[1], patches).save(Path(self.at("bank.safetensors")))
        return self.at("bank.safetensors")

    def masks(self) -> str:
        """Masks of the test images, every other with one or two regions."""
        file = self.folder / f"masks_{self.counts['test']}_{self.run.crop}.npy"
        if not file.exists():
            few = maps_and_masks(8, self.run.crop)[1]
            np.save(file, np.resize(few, (self.counts["test"], *few.shape[1:])))
        return str(file)

    def defects(self) -> str:
        """No defects that are marked one by one."""
        none, side = np.zeros(0, np.int64), self.run.crop
        save_file({"image": none, "mask": np.zeros((0, side, side), bool), "saturation": none}, self.at("defects"))
        return self.at("defects")

    def facts(self, name: str) -> str:
        """What a stage wrote of itself."""
        digests = dict.fromkeys(("train_features", "test_features", "validation_features"), "none")
        stage = stage_facts("none", 1, "cpu", {"wall_s": 0, "cpu_s": 0, "peak_mb": 0})
        weights = Weights(source="none", sha256="none")
        write_stage(self.folder / name, StageFile(stage=stage, features=stage, digests=digests, weights=weights))
        return self.at(name)


def job(stage: str, m: Made) -> float:
    """A stage and its inputs -> the peak of its job in MB."""
    run, folder, threads = m.run, m.folder, m.counts["threads"]
    given: dict[str, Any] = {"input": {}, "params": {}}
    test_facts = {"features": m.facts("features.json"), "bank_facts": m.facts("bank.json")}
    if stage in ("index", "masks"):
        write_category(folder / "up", m.counts["train"], m.counts["test"], m.counts["side"])
        given["params"] = {"root": str(folder), "folder": m.at("up"), "run": description(run, "masks")}
        given["output"] = {"manifest": m.at("manifest.json")}
        if stage == "masks":
            job("index", m)
            given["output"] = {"masks": m.at("out.npy"), "defects": m.at("out.safetensors")}
            given["input"] = {"manifest": m.at("manifest.json")}
    elif stage == "features":
        given["input"] = {"manifest": m.manifest(), "weights": []}
        given["params"] = {"folder": str(folder), "run": description(run, "features")}
        given["output"] = {"train": m.at("a.npy"), "test": m.at("b.npy"), "validation": m.at("c.npy")}
        given["output"] |= {"facts": m.at("a.json")}
        given["config"] = {"batch_images": m.counts["batch_images"]}
    elif stage == "training":
        given["input"] = {"train": [m.features("train")]}
        given["params"] = {"run": description(run, "training"), "checkpoints": []}
        given["output"] = {"f": m.at("f.out"), "facts": m.at("f.json")}
    elif stage == "bank":
        facts = [m.facts("features.json")]
        given["input"] = {"train": [m.features("train")], "f": m.representation()[0], "features": facts}
        given["params"] = {"run": description(run, "bank"), "ratio": max(run.coreset, m.counts["kept"])}
        given["output"] = {"bank": m.at("bank.out"), "facts": m.at("bank.json")}
    elif stage == "score":
        trained = [m.facts("training.json")] if run.method == "reconpatch" else []
        files = {"manifest": m.manifest(), "masks": [m.masks()], "defects": [m.defects()], "bank": [m.bank()]}
        files |= {split: [m.features(split)] for split in ("test", "validation")}
        given["input"] = files | {"training": trained} | {k: [v] for k, v in test_facts.items()}
        given["params"] = {"run": description(run, "score")}
        given["output"] = {"record": m.at("record.json"), "scores": m.at("scores.safetensors")}
    elif stage == "training_scores":
        given["input"] = {"train": [m.features("train")], "bank": [m.bank()]}
        given["params"] = {"run": description(run, "score")}
        given["output"] = {"scores": m.at("training.safetensors")}
    else:
        job("score", m)
        job("training_scores", m)
        given["input"] = {"manifest": m.manifest(), "masks": [m.masks()], "defects": [m.defects()]}
        for name in ("record.json", "scores.safetensors", "training.safetensors"):
            names = {"record.json": "records", "scores.safetensors": "scores_of_members"}
            given["input"][names.get(name, "training")] = [m.at(name)] * 2
        given["params"] = {"combine": "zscore"}
        given["output"] = {"record": m.at("both.json"), "scores": m.at("both.safetensors")}
    return peak_mb(stage, folder, threads=threads, **given)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=[name for name, stage in STAGES.items() if stage.advice])
    parser.add_argument("folder", type=Path)
    parser.add_argument("change", nargs="*", help="KEY=VALUE")
    given = parser.parse_args()
    changes = {key: yaml.safe_load(value) for key, value in (text.split("=", 1) for text in given.change)}
    counts = COUNTS | {key: changes.pop(key) for key in COUNTS if key in changes}
    default = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
    settings = vary(read_config(default).baseline, {"weights": "random"} | changes, "the command line")
    run = fitted(settings, Networks().channels, "the command line")
    images, ratio = (counts["train"], counts["test"]), max(run.coreset, counts["kept"])
    network = Networks()(run.backbone, run.levels, run.crop)
    pixels, threads = counts["side"] ** 2, counts["threads"]
    batch = counts["batch_images"]
    sizes = sizes_of(run, network, images, ratio=ratio, batch_images=batch, pixels=pixels, threads=threads)
    found = job(given.stage, Made(given.folder, run, network, counts))
    mb = STAGES[given.stage].memory_of(sizes).mb
    print(json.dumps({"stage": given.stage, "changes": given.change, "predicted_mb": mb, "measured_mb": round(found)}))


if __name__ == "__main__":
    main()
