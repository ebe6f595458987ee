import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from products import SETTINGS, product, write_products
from running import ROOT
from sklearn.metrics import roc_auc_score

from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.model_folder import read_card
from reconpatch.errors import ReconpatchError

OPTIONS = ["--backbone", "resnet10t", "--weights", "random", "--size", "32", "--dim", "16", "--coreset", "0.1"]
HOLD_OUT = ["--hold-out", "0.2"]
OPTIONS += ["--aspect", "crop", "--epochs", "2", "--device", "cpu", "--threads", "1"]
OPTIONS += [f"--set={k}={v}" for k, v in SETTINGS.items()]
HERE = ["--device", "cpu", "--threads", "1"]


def table(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_fit_and_show(good, saved, look, call, tmp_path) -> None:
    """The estimator's model; every option arrives; JSON is all there is on standard output."""
    status, out, err = call(
        "fit", good, "--out", tmp_path / "a", *OPTIONS, *HOLD_OUT, "--false-alarms", "0.2", "--profile"
    )
    assert status == 0 and out.startswith(f"saved in {tmp_path / 'a'}\nmethod: reconpatch") and "seconds:\n" in out
    steps = [line.split(":")[0] for line in err.splitlines()]
    assert steps == ["reading images", "patch features", "training", "coreset", "held-out images"]
    assert read_card(tmp_path / "a").identity == read_card(saved).identity
    more = ["--calibrate", look / "good", "--false-alarms", "0.25", "--aspect", "pad", "--method", "patchcore"]
    status, out, _ = call("fit", good, "--out", tmp_path / "c", *OPTIONS, *more, "--json")
    content = json.loads(out)
    assert status == 0 and content["images"] == {"fitted": 24, "held out": 4, "different": 28}
    assert content["threshold"]["wanted"] == 0.25 and content["run"]["aspect"] == "pad"
    assert content["run"]["method"] == "patchcore" and content.pop("seconds").keys() >= {"reading images", "coreset"}
    assert json.loads(call("show", tmp_path / "c", "--json")[1]) == content
    status, out, err = call("show", tmp_path / "c")
    assert status == 0 and err == "" and "threshold: " in out
    maps = re.search(r"threshold of maps: \S+: of good images (\S+) are expected to have a pixel above it\n", out)
    assert maps and maps[1] == "20.0%"  # above the highest of four is the fifth, on average


def test_fit_says_once_what_it_takes_and_counts_copies_once(call, tmp_path) -> None:
    """The same pictures in two folders, saved as png and as bmp, and one beside its twin."""
    for n, photograph in enumerate(sorted(write_products(tmp_path / "in/png", 6).iterdir())):
        (tmp_path / "in/bmp").mkdir(exist_ok=True)
        Image.open(photograph).save(tmp_path / f"in/bmp/{n}.bmp")
    Image.open(tmp_path / "in/bmp/0.bmp").save(tmp_path / "in/bmp/0.tif")
    status, out, err = call("fit", tmp_path / "in", "--out", tmp_path / "model", *OPTIONS, "--json")
    first, second, *rest = err.splitlines()
    (copies,) = (line for line in rest if "remark" in line)
    assert status == 0 and "repeat others pixel for pixel: 7" in copies
    assert json.loads(out)["images"]["different"] == 6
    assert first.startswith("remark: ") and "bmp (7), png (6)" in first and second.startswith("remark: 2 images differ")


def test_predict(saved, look, call, tmp_path) -> None:
    status, out, _ = call("predict", saved, look, "--out", tmp_path, "--masks", *HERE, "--profile")
    rows, model = table(tmp_path / "scores.csv"), ReConPatch.load(saved, device="cpu", threads=1)
    verdicts = [-1 if row["anomalous"] == "1" else 1 for row in rows]
    assert status == 0 and verdicts == model.predict(look).tolist() and verdicts[4:] == [-1] * 3
    np.testing.assert_allclose([float(r["score"]) for r in rows], model.anomaly_scores(look), rtol=1e-5)
    for row in rows[4:]:  # the defect is found where it is
        assert 20 <= int(row["peak_x"]) <= 39 and 14 <= int(row["peak_y"]) <= 33
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == len(list((tmp_path / "masks").rglob("*.png"))) == 7
    assert f"7 images, {verdicts.count(-1)} anomalous: {tmp_path / 'scores.csv'}\nthreshold " in out
    assert "throughput: " in out and "latency" in out


def test_thresholds_of_predict_in_json(saved, look, call, tmp_path) -> None:
    def predicted(*options: object, name: str) -> dict:
        base = ["predict", saved, look, "--out", tmp_path / name, "--no-overlays", "--json", *HERE]
        return json.loads(call(*base, *options)[1])

    usual = predicted("--profile", name="usual")
    assert usual.keys() == {
        *("model", "threshold", "map_threshold", "uncertainty", "anomalous", "images", "unreadable", "remarks"),
        "profile",
    }
    assert usual["uncertainty"]["value"] == usual["threshold"] and usual["profile"]["images"] == 7
    assert [row["image"] for row in usual["images"]] == [row["image"] for row in table(tmp_path / "usual/scores.csv")]
    own = predicted("--threshold=-1", "--masks", "--map-threshold", "1e9", name="own")
    assert own["anomalous"] == 7 and own["threshold"] == -1 and own["uncertainty"] is None
    with Image.open(tmp_path / "own/masks/good/100.png.png") as mask:
        assert np.asarray(mask).max() == 0
    strict = predicted("--false-alarms", 0.6, name="strict")
    assert strict["threshold"] < usual["threshold"] and strict["uncertainty"]["wanted"] == 0.6


def test_a_model_without_threshold(blind, look, call, tmp_path) -> None:
    blind.save(tmp_path / "blind")
    base = ["predict", tmp_path / "blind", look, "--no-overlays", *HERE, "--out"]
    status, out, _ = call(*base, tmp_path / "a")
    assert status == 0 and "7 images, no threshold" in out
    status, _, error = call(*base, tmp_path / "b", "--masks")
    assert status == 1 and "--map-threshold" in error and not (tmp_path / "b").exists()
    assert call(*base, tmp_path / "b", "--masks", "--map-threshold", "0")[0] == 0
    assert "no images were held out" in call("show", tmp_path / "blind")[1]


def test_some_unreadable_is_3(saved, look, call, tmp_path) -> None:
    shutil.copytree(look, tmp_path / "in")
    (tmp_path / "in/notes.txt").write_text("")
    (tmp_path / "in/good/100.png").write_bytes(b"")
    more = ["--out", tmp_path / "out", "--no-overlays", *HERE, "--json"]
    status, out, err = call("predict", saved, tmp_path / "in", *more)
    assert status == 3 and [each["image"] for each in json.loads(out)["unreadable"]] == ["good/100.png"]
    assert "remark: 1 files ending in .txt" in err and "1 images could not be read" in err
    status, _, error = call("fit", tmp_path / "in/good", "--out", tmp_path / "model", *OPTIONS)
    assert status == 1 and "100.png" in error and not (tmp_path / "model").exists()


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize(
    "arguments", [["show"], ["show", "--json"], ["--help"], ["fit", "--help"], ["show", "absent"]], ids=" ".join
)
def test_output_whose_reader_has_gone_ends_quietly(arguments, unbuffered, saved) -> None:
    model = [str(saved)] if arguments[0] == "show" and "absent" not in arguments else []
    code = "from reconpatch.cli.main import main; main()"
    reads, writes = os.pipe()
    os.close(reads)
    into = "stderr" if "absent" in arguments else "stdout"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {into: writes}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *model], env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, **streams
    )
    os.close(writes)
    assert not done.stdout and not done.stderr
    assert done.returncode == 141 or (done.returncode == 0 and "--help" in arguments)  # argparse looks away itself


def test_output_that_finds_no_room_or_no_one_ends_with_one_message(saved) -> None:
    code, rest = "from reconpatch.cli.main import main; main()", {"stderr": subprocess.PIPE, "text": True}
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code, "show", str(saved)], stdout=full, **rest)
    assert done.returncode == 1 and re.fullmatch("error: no space left for the output.*; make room.*\n", done.stderr)
    closed = f"exec >&-; exec {sys.executable} -c '{code}' show {saved}"
    done = subprocess.run(["bash", "-c", closed], **rest)
    assert done.returncode == 0 and not done.stderr


FILE = "with open('/dev/full', 'w') as file: file.write('x')"
OPEN = "raise OSError(28, 'No space left on device', '/there/a.png')"
PIPE = "import os; reads, writes = os.pipe(); os.close(reads); os.write(writes, b'x')"


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (FILE, "error: no space left for the output or for a file; make room, or set TMPDIR\n"),
        (OPEN, "error: no space left for /there/a.png; make room, or set TMPDIR\n"),
        (PIPE, "BrokenPipeError: [Errno 32] Broken pipe\n"),  # a bug that is not to be hidden
    ],
)
@pytest.mark.parametrize("closed", ["", "exec >&-;"])
def test_a_full_disk_and_a_broken_pipe_are_not_taken_for_those_of_the_output(work, says, closed) -> None:
    code = f"from reconpatch.cli import main\ndef run():\n    {work}\nmain.run = run\nmain.main()"
    command = ["bash", "-c", f'{closed} exec "$@"', "-", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith(says) and not done.stdout
    assert ("Traceback" in done.stderr) == (work == PIPE)


def test_without_a_network_it_is_said_before_anything_is_read(good, call, tmp_path, monkeypatch) -> None:
    """No hub is asked where no weights are downloaded."""
    asked: list[str] = []

    def no_answer(name: str, repository: str) -> None:
        asked.append(repository)
        raise ReconpatchError("no answer")

    monkeypatch.setattr("reconpatch.method.backbones.check_hub", no_answer)
    out = tmp_path / "model"
    (tmp_path / "0.png").touch()  # would be refused once it is read
    assert call("fit", tmp_path / "0.png", "--out", out)[::2] == (1, "error: no answer\n")
    assert call("fit", good, "--out", out, "--backbone", "resnet18.a1_in1k")[0] == 1
    assert asked == ["timm/wide_resnet50_2.tv_in1k", "timm/resnet18.a1_in1k"]
    assert call("fit", good, "--out", out, *OPTIONS)[0] == 0 and len(asked) == 2
    absent = call("fit", good, "--out", tmp_path / "b", "--weight-file", tmp_path / "absent")
    assert "absent: no such file" in absent[2] and len(asked) == 2


def test_killed_half_way_what_was_scored_is_there(saved, look, tmp_path) -> None:
    code = (
        "import os, signal, sys\nfrom reconpatch.cli import main, progress\n"
        "def stop(self, step, done, total):\n    done == 3 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "progress.Steps.__call__ = stop\nmain.main()\n"
    )
    arguments = ["predict", saved, look, "--out", tmp_path, "--batch-images", "1", *HERE]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    names = [row["image"] for row in table(tmp_path / "scores.part.csv")]
    assert names[:3] == [f"good/{n}.png" for n in (100, 101, 102)] and not (tmp_path / "scores.csv").exists()


def test_evaluate(saved, look, call, tmp_path) -> None:
    masks = ["--masks", look.parent / "masks", "--out", tmp_path / "found.json"]
    status, out, err = call("evaluate", saved, look, *masks, *HERE)
    assert status == 0 and out.startswith("4 normal and 3 anomalous images, 3 masks\n") and "scoring: 7 in" in err
    content = json.loads((tmp_path / "found.json").read_text())
    assert content.keys() == {
        *("model", "normal", "anomalous", "masks", "metrics", "remarks", "image_auroc_interval", "threshold"),
        *("image_auroc_by_kind", "out_of_view"),
    }
    scores = ReConPatch.load(saved, device="cpu", threads=1).anomaly_scores(look)
    assert content["metrics"]["image_auroc"] == pytest.approx(roc_auc_score([0] * 4 + [1] * 3, scores))
    assert content["metrics"]["pixel_auroc"] > 0.9 and content["threshold"]["found"]["above"] == 3
    rows = [f"good/{n}.png,ok" for n in range(100, 104)] + [f"scratch/{n}.png,dent" for n in range(200, 203)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    base = ["evaluate", saved, look, *HERE, "--json"]
    labelled = json.loads(call(*base, "--labels", tmp_path / "labels.csv", "--threshold", "1e9")[1])
    assert labelled["threshold"]["found_by_kind"]["dent"]["above"] == 0 and labelled["masks"] == 0
    turned = json.loads(call(*base, "--good", "scratch", "--false-alarms", "0.6")[1])
    assert turned["normal"] == 3 and turned["threshold"]["value"] < content["threshold"]["value"]
    status, _, err = call(*base, "--good", "nothing")
    assert status == 0 and "remark: no image is normal" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "GOOD", "--out", "THERE"], "exists already"),
        (["fit", "GOOD", "--out", "NEW", "--set", "sigmma=1"], "sigmma"),
        (["fit", "GOOD", "--out", "NEW", "--resize", "16"], "size 32 is larger than resize 16"),
        (["fit", "DATA", "--out", "NEW"], "a whole data set"),
        (["predict", "MODEL", "LOOK", "--out", "THERE"], "scores.csv: exists already"),
        (["predict", "MODEL", "LOOK", "--out", "FILE"], "is no folder"),
        (["predict", "MODEL", "DATA", "--out", "DATA/found"], "overlays would be taken"),
        (["predict", "MODEL", "LOOK", "--out", "MODEL"], "in the folder of a model"),
        (["predict", "MODEL", "LOOK", "--out", "MODEL/found"], "in the folder of a model"),
        (["predict", "MODEL", "LOOK", "--out", "DAMAGED"], "in the folder of a model"),
        (["evaluate", "MODEL", "LOOK", "--out", "MODEL/found.json"], "in the folder of a model"),
        (["predict", "GOOD", "LOOK", "--out", "NEW"], "no model"),
        (["predict", "DAMAGED", "LOOK", "--out", "NEW"], "memory_bank.safetensors: edited or damaged"),
        (["evaluate", "MODEL", "LOOK", "--out", "THERE/scores.csv"], "exists already"),
        (["evaluate", "MODEL", "LOOK", "--masks", "NOTHING"], "no such folder of masks"),
        (["evaluate", "MODEL", "LOOK", "--masks", "GOOD", "--labels", "FILE"], "--labels"),
        (["evaluate", "MODEL", "GOOD"], "lies in no folder"),
        (["evaluate", "MODEL"], "none are given"),
        (["evaluate", "MODEL", "LOOK", "--report", "THERE/scores.csv"], "exists already"),
        (["evaluate", "MODEL", "LOOK", "--report", "MODEL/page.html"], "in the folder of a model"),
        (["evaluate", "MODEL", "LOOK", "--out", "NEW", "--report", "NEW"], "is the file of --report, too"),
        (["evaluate", "MODEL", "MODEL", "LOOK", "--threshold", "1"], "no common scale"),
        (["evaluate", "MODEL", "LOOK", "--threshold-of", "MODEL"], "--threshold-of"),
        (["evaluate", "THERE/scores.csv"], "no columns image and score"),
        (["evaluate", "THERE/scores.csv", "--false-alarms", "0.1"], "--false-alarms"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_any_work(
    arguments, message, good, saved, look, call, tmp_path, monkeypatch
) -> None:
    """With status 1: no photograph is opened, nothing is written."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/scores.csv").write_text("mine")
    (tmp_path / "file").write_text("mine")
    write_products(tmp_path / "data/nut/test/good", 1)
    write_products(tmp_path / "data/nut/train/good", 1)
    shutil.copytree(saved, tmp_path / "damaged")
    with open(tmp_path / "damaged/memory_bank.safetensors", "ab") as stream:
        stream.write(b"0")
    places = {name.upper(): tmp_path / name for name in ("there", "file", "new", "data", "nothing", "damaged")}
    places |= {"GOOD": good, "LOOK": look, "MODEL": saved}
    before = sorted([*tmp_path.rglob("*"), *saved.rglob("*")])
    monkeypatch.setattr("reconpatch.detector.photographs.read_file", lambda _: pytest.fail("a photograph was opened"))
    parts = [argument.split("/", 1) for argument in arguments]
    words = ["/".join([str(places.get(first, first)), *rest]) for first, *rest in parts]
    status, _, error = call(*words, *(OPTIONS if arguments[0] == "fit" else []))
    assert status == 1 and message in error and len(error.splitlines()) <= 2
    assert (
        sorted([*tmp_path.rglob("*"), *saved.rglob("*")]) == before
        and (tmp_path / "there/scores.csv").read_text() == "mine"
    )


def test_a_model_that_cannot_be_saved_is_kept_elsewhere(good, call, tmp_path, monkeypatch) -> None:
    save_whole = ReConPatch.save
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def save(self, folder):
        if Path(folder) == tmp_path / "model":
            raise ReconpatchError("no room")
        return save_whole(self, folder)

    monkeypatch.setattr(ReConPatch, "save", save)
    status, _, error = call("fit", good, "--out", tmp_path / "model", *OPTIONS)
    kept = re.search(r"no room; the model is in (\S+) instead", error)
    assert status == 1 and kept and read_card(Path(kept[1])).images.fitted


def test_remarks_on_images_and_masks_are_printed(saved, look, call, tmp_path) -> None:
    """One line each, by every command, and in the JSON of those that have one; before anything else for fit."""
    folder, masks = tmp_path / "good", tmp_path / "masks"
    folder.mkdir()
    for n in range(5):
        image = product(n).convert("RGBA")
        image.putalpha(Image.new("L", image.size, 0))
        image.save(folder / f"{n}.png")
    words = ("remark: images of mode RGBA (alpha dropped): 5 ", "remark: images with transparent parts")
    status, _, err = call("fit", folder, "--out", tmp_path / "model", *OPTIONS)
    assert status == 0 and all(word in err for word in words) and "UserWarning" not in err
    status, out, err = call("predict", saved, folder, "--out", tmp_path / "found", "--json", *HERE)
    assert status == 0 and all(word in err for word in (*words, "remark: images of other modes"))
    assert len(json.loads(out)["remarks"]) == 3
    shutil.copytree(look.parent / "masks", masks)
    for file in (masks / "scratch").iterdir():
        mask = np.asarray(Image.open(file))
        Image.fromarray(255 - mask).save(file)
        Image.fromarray(mask).save(file.with_name(f"9{file.name}"))
    status, out, err = call("evaluate", saved, look, "--masks", masks, "--json", *HERE)
    assert status == 0 and "remark: masks of no image that was given: 3 (scratch/9200_mask.png" in err
    assert "remark: masks that mark most of the image" in err
    told = json.loads(out)["remarks"]
    assert len(told) == 2 and "the scores part all normal images" in told[1]  # of 7


def test_images_far_smaller_than_what_the_network_sees_are_remarked_on(saved, call, tmp_path) -> None:
    """Of 12 px the shorter side is brought to 37 px, the size that goes with squares of 32 px."""
    write_products(tmp_path / "small", 5, size=(15, 12))
    write_products(tmp_path / "large", 5, size=(26, 20))
    words = "remark: images that are enlarged more than 2 times for the network, up to 3.1 times"
    for folder, remarked in (("small", True), ("large", False)):
        fitting = call("fit", tmp_path / folder, "--out", tmp_path / f"model-{folder}", *OPTIONS)
        seeing = call("predict", saved, tmp_path / folder, "--out", tmp_path / f"found-{folder}", *HERE)
        for status, _, err in (fitting, seeing):
            assert status == 0 and (words in err) == remarked and ("enlarged" in err) == remarked
