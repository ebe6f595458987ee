import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawing import write_image
from PIL import Image
from products import SETTINGS, detector, write_products
from running import ROOT
from sklearn.metrics import roc_auc_score

from reconpatch.cli import main as cli
from reconpatch.cli.photographs import photographs_in
from reconpatch.detector.card import read_card
from reconpatch.detector.estimator import ReConPatch
from reconpatch.errors import ReconpatchError

OPTIONS = ["--backbone", "resnet10t", "--weights", "random", "--size", "32", "--dim", "16", "--coreset", "0.1"]
OPTIONS += ["--epochs", "2", "--device", "cpu", "--threads", "1", *(f"--set={k}={v}" for k, v in SETTINGS.items())]
HERE = ["--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """good/, test/good and test/scratch with masks/, a fitted model, and one without a threshold."""
    folder = tmp_path_factory.mktemp("commands")
    write_products(folder / "good", 24)
    write_products(folder / "look/good", 4, start=100)
    write_products(folder / "look/scratch", 3, start=200, defect=True)
    for n in range(200, 203):
        mask = np.zeros((40, 52), np.uint8)
        mask[20:28, 26:34] = 255
        (folder / "masks/scratch").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(folder / f"masks/scratch/{n}_mask.png")
    detector().fit(folder / "good").save(folder / "model")
    detector(hold_out=0).fit(folder / "good").save(folder / "blind")
    return folder


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """The command line with these arguments -> exit status, what stdout and stderr hold. Errors are one line."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reconpatch", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            status: int | str | None = 0
        except SystemExit as end:
            status = end.code
        told = capsys.readouterr()
        if isinstance(status, str):  # as the interpreter does
            assert status.startswith("error: ") and "Traceback" not in status and told.out == ""
            return 1, told.out, status
        return status or 0, told.out, told.err

    return run


def table(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_fit_is_the_estimators(place, call, tmp_path) -> None:
    status, out, err = call("fit", place / "good", "--out", tmp_path / "model", *OPTIONS, "--profile")
    assert status == 0 and out.startswith(f"saved in {tmp_path / 'model'}\nmethod: reconpatch, 2 epochs")
    assert "REMARK: the network's weights are random" in out and "seconds:\n  reading images:" in out
    assert [line.split(":")[0] for line in err.splitlines()] == [
        *("reading images", "patch features", "training", "coreset", "held-out images")
    ]
    assert ReConPatch.load(tmp_path / "model").card_.identity == ReConPatch.load(place / "model").card_.identity


def test_fit_tells_json_and_nothing_else(place, call, tmp_path) -> None:
    more = ["--calibrate", place / "look/good", "--false-alarms", "0.25", "--aspect", "pad", "--method", "patchcore"]
    status, out, _ = call("fit", place / "good", "--out", tmp_path / "model", *OPTIONS, *more, "--json")
    told = json.loads(out)
    assert status == 0 and told["images"] == {"fitted": 24, "held out": 4, "different": 28}
    assert told["threshold"]["wanted"] == 0.25 and told["threshold"]["reachable"] and told["aspect"] == "pad"
    assert told["run"]["method"] == "patchcore" and told["run"]["resize"] == 32 and told["map_threshold"] > 0
    assert {"reading images", "coreset"} <= told["seconds"].keys() and told["made"]["threads"] == 1
    _, shown, _ = call("show", tmp_path / "model", "--json")
    del told["seconds"]
    assert json.loads(shown) == told


def test_show(place, call) -> None:
    status, out, err = call("show", place / "model")
    assert status == 0 and out.endswith("all digests fit\n") and err == "" and "threshold: " in out


def test_predict(place, call, tmp_path) -> None:
    status, out, _ = call("predict", place / "model", place / "look", "--out", tmp_path, "--masks", *HERE, "--profile")
    rows = table(tmp_path / "scores.csv")
    model = ReConPatch.load(place / "model", **{"device": "cpu", "threads": 1})
    verdicts = [-1 if row["anomalous"] == "1" else 1 for row in rows]
    assert status == 0 and verdicts == model.predict(place / "look").tolist() and verdicts[4:] == [-1] * 3
    np.testing.assert_allclose([float(r["score"]) for r in rows], model.anomaly_scores(place / "look"), rtol=1e-5)
    for row in rows[4:]:  # the defect is found where it is
        assert 20 <= int(row["peak_x"]) <= 39 and 14 <= int(row["peak_y"]) <= 33
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == len(list((tmp_path / "masks").rglob("*.png"))) == 7
    assert f"7 images, {verdicts.count(-1)} anomalous: {tmp_path / 'scores.csv'}\nthreshold " in out
    assert "throughput: " in out and "latency" in out


def test_predict_tells_json_and_nothing_else(place, call, tmp_path) -> None:
    more = ["--no-overlays", "--json", "--profile", *HERE]
    status, out, _ = call("predict", place / "model", place / "look", "--out", tmp_path, *more)
    told = json.loads(out)
    assert status == 0 and told.keys() == {
        *("model", "threshold", "map_threshold", "uncertainty", "anomalous", "images", "unreadable", "profile")
    }
    assert [row["image"] for row in told["images"]] == [row["image"] for row in table(tmp_path / "scores.csv")]
    assert told["uncertainty"]["value"] == told["threshold"] and told["profile"]["images"] == 7
    assert not (tmp_path / "overlays").exists() and told["unreadable"] == []


def test_thresholds_of_the_users_own(place, call, tmp_path) -> None:
    base = ["predict", place / "model", place / "look", "--no-overlays", "--json", *HERE]
    for name, more, flagged in [("a", "--threshold=-1", 7), ("b", "--threshold=1e9", 0)]:
        told = json.loads(call(*base, "--out", tmp_path / name, more)[1])
        assert told["anomalous"] == flagged and told["threshold"] == float(more[12:]) and told["uncertainty"] is None
    strict, usual = (
        json.loads(call(*base, "--out", tmp_path / f"rate{rate}", "--false-alarms", rate)[1]) for rate in (0.6, 0.05)
    )
    assert strict["threshold"] < usual["threshold"] and strict["map_threshold"] <= usual["map_threshold"]
    assert strict["uncertainty"]["wanted"] == 0.6
    for limit, colour in [("-1", 255), ("1e9", 0)]:
        call(*base, "--out", tmp_path / limit, "--masks", "--map-threshold", limit)
        with Image.open(tmp_path / limit / "masks/good/100.png.png") as mask:
            assert colour in np.unique(np.asarray(mask)) and (colour or np.asarray(mask).max() == 0)


def test_a_model_without_threshold(place, call, tmp_path) -> None:
    status, out, _ = call("predict", place / "blind", place / "look", "--out", tmp_path / "a", *HERE)
    assert status == 0 and "7 images, no threshold" in out
    assert {row["anomalous"] for row in table(tmp_path / "a/scores.csv")} == {""}
    status, _, error = call("predict", place / "blind", place / "look", "--out", tmp_path / "b", "--masks", *HERE)
    assert status == 1 and "--masks: the model has no threshold; give --map-threshold" in error
    assert not (tmp_path / "b").exists()
    own = ["--masks", "--map-threshold", "0", "--no-overlays"]
    assert call("predict", place / "blind", place / "look", "--out", tmp_path / "b", *own, *HERE)[0] == 0
    assert "none, as no images were held out" in call("show", place / "blind")[1]


def test_some_unreadable_is_3(place, call, tmp_path) -> None:
    shutil.copytree(place / "look", tmp_path / "in")
    (tmp_path / "in/good/100.png").write_bytes(b"")
    more = ["--out", tmp_path / "out", "--no-overlays", *HERE]
    status, out, err = call("predict", place / "model", tmp_path / "in", *more, "--json")
    told = json.loads(out)
    assert status == 3 and [each["image"] for each in told["unreadable"]] == ["good/100.png"]
    assert "1 images could not be read" in err and len(table(tmp_path / "out/scores.csv")) == 6
    (tmp_path / "in/good/101.png").write_bytes(b"")
    status, _, error = call("fit", tmp_path / "in/good", "--out", tmp_path / "model", *OPTIONS)
    assert status == 1 and "2 problems of the images" in error and not (tmp_path / "model").exists()
    status, _, error = call("evaluate", place / "model", tmp_path / "in", *HERE)
    assert status == 1 and "100.png" in error


def test_killed_half_way_what_was_scored_is_there(place, tmp_path) -> None:
    code = (
        "import os, signal, sys\nfrom reconpatch.cli import main as cli, progress\n"
        "def stop(self, step, done, total):\n    done == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "progress.Steps.__call__ = stop\ncli.main()\n"
    )
    arguments = ["predict", place / "model", place / "look", "--out", tmp_path, "--batch-images", "1", *HERE]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    names = [row["image"] for row in table(tmp_path / "scores.part.csv")]
    assert names[:3] == [f"good/{n}.png" for n in (100, 101, 102)] and not (tmp_path / "scores.csv").exists()
    assert not (tmp_path / "scores.csv").exists()


def test_evaluate(place, call, tmp_path) -> None:
    masks = ["--masks", place / "masks", "--out", tmp_path / "found.json"]
    status, out, _ = call("evaluate", place / "model", place / "look", *masks, *HERE)
    assert (
        status == 0 and out.startswith("4 normal and 3 anomalous images, 3 masks\n") and "anomalous images found" in out
    )
    told = json.loads((tmp_path / "found.json").read_text())
    scores = ReConPatch.load(place / "model", device="cpu", threads=1).anomaly_scores(place / "look")
    assert told["metrics"]["image_auroc"] == pytest.approx(roc_auc_score([0] * 4 + [1] * 3, scores))
    assert told["metrics"]["pixel_auroc"] > 0.9 and told["threshold"]["found"]["above"] == 3
    status, out, err = call("evaluate", place / "model", place / "look", "--json", "--false-alarms", "0.6", *HERE)
    again = json.loads(out)
    assert status == 0 and again.keys() == {
        *("model", "normal", "anomalous", "masks", "metrics", "image_auroc_interval", "threshold")
    }
    assert again["metrics"] == {k: v for k, v in told["metrics"].items() if k.startswith("image")}
    assert again["threshold"]["value"] < told["threshold"]["value"] and "scoring: 7 in" in err


def test_evaluate_with_labels(place, call, tmp_path) -> None:
    names = [f"good/{n}.png,ok" for n in range(100, 104)] + [f"scratch/{n}.png,dent" for n in range(200, 203)]
    (tmp_path / "labels.csv").write_text("image,label\n" + "\n".join(names) + "\n")
    base = ["evaluate", place / "model", place / "look", *HERE, "--labels", tmp_path / "labels.csv"]
    status, out, _ = call(*base, "--json", "--threshold", "1e9")
    told = json.loads(out)
    assert status == 0 and told["threshold"]["found_by_kind"]["dent"]["above"] == 0 and told["masks"] == 0
    status, _, error = call(*base, "--masks", place / "masks")
    assert status == 1 and "column mask" in error
    turned = call("evaluate", place / "model", place / "look", *HERE, "--good", "scratch", "--json")[1]
    assert json.loads(turned)["normal"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "GOOD", "--out", "THERE"], "is there already"),
        (["fit", "GOOD", "--out", "FILE/model"], "is no folder"),
        (["fit", "GOOD", "--out", "NEW", "--false-alarms", "2"], "false-alarm rate 2"),
        (["fit", "GOOD", "--out", "NEW", "--set", "crop=64"], "settings: crop"),
        (["fit", "GOOD", "--out", "NEW", "--set", "sigmma=1"], "sigmma"),
        (["fit", "DATA", "--out", "NEW"], "a whole data set; give its folder of good images"),
        (["fit", "NOTHING", "--out", "NEW"], "no such file or folder"),
        (["predict", "MODEL", "LOOK", "--out", "THERE"], "scores.csv: is there already"),
        (["predict", "MODEL", "LOOK", "--out", "FILE"], "is no folder"),
        (["predict", "MODEL", "LOOK", "--out", "NEW", "--false-alarms", "0"], "false-alarm rate 0"),
        (["predict", "MODEL", "DATA", "--out", "NEW"], "a whole data set"),
        (["predict", "GOOD", "LOOK", "--out", "NEW"], "no model"),
        (["evaluate", "MODEL", "DATA"], "a whole data set"),
        (["evaluate", "MODEL", "LOOK", "--out", "THERE/scores.csv"], "is there already"),
        (["evaluate", "MODEL", "LOOK", "--out", "FILE/found.json"], "is no folder"),
        (["evaluate", "MODEL", "LOOK", "--masks", "NOTHING"], "no such folder of masks"),
        (["evaluate", "MODEL", "GOOD"], "lies in no folder"),
        (["evaluate", "MODEL", "LOOK", "--labels", "NOTHING"], "cannot be read"),
        (["show", "GOOD"], "no model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_any_work(arguments, said, place, call, tmp_path, monkeypatch) -> None:
    """In one line, with status 1: no photograph is opened, nothing is written."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/scores.csv").write_text("mine")
    (tmp_path / "file").write_text("mine")
    shutil.copytree(place / "look", tmp_path / "data/nut/test")
    shutil.copytree(place / "look/good", tmp_path / "data/nut/train/good")
    places = {"GOOD": place / "good", "LOOK": place / "look", "MODEL": place / "model", "THERE": tmp_path / "there"}
    places |= {"FILE": tmp_path / "file", "NEW": tmp_path / "new", "DATA": tmp_path / "data"}
    places |= {"NOTHING": tmp_path / "nothing"}
    before = sorted(tmp_path.rglob("*"))

    def opened(*_: object) -> None:
        raise AssertionError("a photograph was opened")

    monkeypatch.setattr("reconpatch.detector.photographs.read_file", opened)
    names = [part.split("/", 1) for part in arguments]
    put = [str(places[n[0]] / "/".join(n[1:])) if n[0] in places else "/".join(n) for n in names]
    status, _, error = call(*put, *(OPTIONS if arguments[0] == "fit" else []))
    assert status == 1 and said in error
    assert len(error.splitlines()) == 1 + ("problem of the images" in error)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "there/scores.csv").read_text() == "mine"


def test_folders_called_test_may_be_given_themselves(place, call, tmp_path) -> None:
    """Two of the same inner names too: what was asked for is below the folders, not above."""
    for name in ("a/test", "b/test"):
        write_products(tmp_path / name, 1, start=int(name[0] == "b"))
    shutil.copy(tmp_path / "a/test/000.png", tmp_path / "b/test")
    shutil.move(tmp_path / "b/test", tmp_path / "b/other")
    more = ["--out", tmp_path / "out", "--no-overlays", *HERE]
    assert call("predict", place / "model", tmp_path / "a/test", tmp_path / "b/other", *more)[0] == 0
    assert [row["image"] for row in table(tmp_path / "out/scores.csv")] == [
        "other/000.png",
        "other/001.png",
        "test/000.png",
    ]


def test_what_is_no_image_is_remarked(place, call, tmp_path) -> None:
    shutil.copytree(place / "look/good", tmp_path / "in")
    (tmp_path / "in/notes.txt").write_text("")
    status, _, err = call(
        "predict", place / "model", tmp_path / "in", "--out", tmp_path / "out", "--no-overlays", *HERE
    )
    assert status == 0 and err.startswith("remark: 1 files ending in .txt are no images\n")


def test_a_damaged_model_is_refused_by_every_command(place, call, tmp_path) -> None:
    shutil.copytree(place / "model", tmp_path / "model")
    with open(tmp_path / "model/memory_bank.safetensors", "ab") as stream:
        stream.write(b"0")
    rest = {"show": [], "predict": [place / "look", "--out", tmp_path / "out"], "evaluate": [place / "look"]}
    for command, more in rest.items():
        status, _, error = call(command, tmp_path / "model", *more)
        assert status == 1 and "memory_bank.safetensors: edited or damaged" in error
    assert not (tmp_path / "out").exists()


def test_only_whole_data_sets_are_refused(tmp_path, rng) -> None:
    """A folder may be called train, test or ground_truth, unless what is beside it shows that a data set was meant."""
    for name in ("day/test/a/1.png", "week/train/1.png", "set/x/test/good/1.png", "set/x/ground_truth/bad/1.png"):
        write_image(tmp_path / name, rng)
    assert len(photographs_in([tmp_path / "day", tmp_path / "week"], "another")) == 2
    assert len(photographs_in([tmp_path / "set/x/ground_truth"], "another")) == 1
    with pytest.raises(ReconpatchError, match=r"set/x: holds ground_truth and test, a whole data set; give another"):
        photographs_in([tmp_path / "set"], "another")
    assert len(photographs_in([tmp_path / "set"], "")) == 2  # where a file tells the truth


def test_a_model_that_cannot_be_saved_is_kept_elsewhere(place, call, tmp_path, monkeypatch) -> None:
    whole = ReConPatch.save
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def save(self, folder):
        if Path(folder) == tmp_path / "model":
            raise ReconpatchError("no room")
        return whole(self, folder)

    monkeypatch.setattr(ReConPatch, "save", save)
    status, _, error = call("fit", place / "good", "--out", tmp_path / "model", *OPTIONS)
    kept = re.search(r"no room; the model is in (\S+) instead", error)
    assert status == 1 and kept and read_card(Path(kept[1])).images["fitted"]
