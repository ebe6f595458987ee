"""The command evaluate: tables of scores, labels that list the images, two models, and the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from products import detector
from sklearn.metrics import roc_auc_score

from reconpatch.detector.estimator import ReConPatch

HERE = ["--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def other(good, tmp_path_factory) -> Path:
    """A second model, which sees whole photographs."""
    folder = tmp_path_factory.mktemp("other") / "model"
    detector(false_alarm_rate=0.2, aspect="stretch").fit(good).save(folder)
    return folder


def without_source(content: dict) -> dict:
    """An evaluation without what says where scores and threshold are from."""
    kept = {name: content[name] for name in ("normal", "anomalous", "metrics", "image_auroc_by_kind")}
    return kept | {"threshold": content["threshold"] | {"source": ""}}


def test_a_table_is_evaluated_as_its_model_is(saved, look, call, tmp_path, monkeypatch) -> None:
    """Without any photograph and network: both may be gone."""
    scored = json.loads(call("evaluate", saved, look, "--json", *HERE)[1])
    assert call("predict", saved, look, "--out", tmp_path / "found", "--no-overlays", *HERE)[0] == 0
    table = tmp_path / "found/scores.csv"
    monkeypatch.setattr("reconpatch.detector.photographs.read_file", lambda _: pytest.fail("a photograph was opened"))
    again = json.loads(call("evaluate", table, "--json", *HERE)[1])
    wanted = without_source(scored)
    assert without_source(again) == wanted | {"metrics": pytest.approx(wanted["metrics"], rel=1e-5)}
    assert scored["model"].startswith(again["model"]) and len(again["model"]) >= 8
    status, out, _ = call("evaluate", table)
    assert status == 0 and "of the column anomalous of scores.csv:" in out
    stricter = json.loads(call("evaluate", table, "--threshold-of", saved, "--false-alarms", 0.6, "--json")[1])
    assert stricter["threshold"]["value"] < again["threshold"]["value"]
    none = json.loads(call("evaluate", table, "--threshold", "1e9", "--json")[1])
    assert none["threshold"]["found"]["above"] == 0 and none["threshold"]["source"] == "as given"


def test_the_threshold_of_another_model_is_refused(saved, other, look, call, tmp_path) -> None:
    call("predict", saved, look, "--out", tmp_path / "found", "--no-overlays", *HERE)
    status, _, error = call("evaluate", tmp_path / "found/scores.csv", "--threshold-of", other)
    assert status == 1 and "was made with" in error


def test_labels_define_the_list_of_images(saved, look, call, tmp_path) -> None:
    """Paths from the folder of the file; a table is evaluated on the images that are listed."""
    shutil.copytree(look, tmp_path / "there/photos")
    shutil.copytree(look.parent / "masks", tmp_path / "there/masks")
    rows = [f"photos/good/{n}.png,ok," for n in range(100, 104)]
    rows += [f"photos/scratch/{n}.png,dent,masks/scratch/{n}_mask.png" for n in (200, 201)]
    (tmp_path / "there/labels.csv").write_text("\n".join(["image,label,mask", *rows]) + "\n")
    status, out, _ = call("evaluate", saved, "--labels", tmp_path / "there/labels.csv", "--json", *HERE)
    told = json.loads(out)
    assert status == 0 and (told["normal"], told["anomalous"], told["masks"]) == (4, 2, 2)
    scores = ReConPatch.load(saved, device="cpu", threads=1).anomaly_scores(look)
    assert told["metrics"]["image_auroc"] == pytest.approx(roc_auc_score([0] * 4 + [1] * 2, scores[:6]))

    call("predict", saved, tmp_path / "there/photos", "--out", tmp_path / "found", "--no-overlays", *HERE)
    (tmp_path / "l.csv").write_text("image,label\ngood/100.png,ok\ngood/101.png,ok\nscratch/200.png,dent\n")
    status, out, err = call("evaluate", tmp_path / "found/scores.csv", "--labels", tmp_path / "l.csv")
    assert status == 0 and out.startswith("2 normal and 1 anomalous images") and "remark: 4 images of" in err
    assert "labels exchanged" not in err and "remark: the scores part all" in err
    turned = [f"good/{n}.png,pass" for n in range(100, 104)] + [f"scratch/{n}.png,good" for n in range(200, 203)]
    (tmp_path / "l.csv").write_text("\n".join(["image,label", *turned]))
    _, _, err = call("evaluate", tmp_path / "found/scores.csv", "--labels", tmp_path / "l.csv")
    assert "labels exchanged?" in err and "pass counts as a type of defect; if it means good" in err

    (tmp_path / "l.csv").write_text("image,label\nphotos/good/100.png,ok\nno/1.png,ok\n")
    status, _, error = call("evaluate", saved, "--labels", tmp_path / "l.csv", *HERE)
    assert status == 1 and "2 of 2 images do not exist" in error and "photos/good/100.png, no/1.png" in error
    status, _, error = call("evaluate", tmp_path / "found/scores.csv", "--labels", tmp_path / "l.csv")
    assert status == 1 and "no line for 2 of 2 images" in error


def test_two_models_and_two_tables_are_compared(saved, other, look, call, tmp_path, monkeypatch) -> None:
    masks = ["--masks", look.parent / "masks"]
    status, out, _ = call("evaluate", saved, other, look, *masks, "--json", *HERE)
    told = json.loads(out)
    aurocs = [each["metrics"]["image_auroc"] for each in told["evaluations"]]
    alone = [json.loads(call("evaluate", model, look, *masks, "--json", *HERE)[1]) for model in (saved, other)]
    assert status == 0 and aurocs == [each["metrics"]["image_auroc"] for each in alone]
    difference = told["differences"]["image_auroc"]
    assert difference["value"] == aurocs[1] - aurocs[0]
    assert difference["interval"][0] <= difference["value"] <= difference["interval"][1]
    assert "pixel_auroc" not in told["differences"]  # one sees a crop
    assert (
        sum(told["verdicts"]["found_by_kind"]["scratch"][key] for key in ("both", "second_only"))
        == alone[1]["threshold"]["found"]["above"]
    )
    same = json.loads(call("evaluate", saved, saved, look, *masks, "--json", *HERE)[1])["differences"]
    assert same["pixel_auroc"] == {"value": 0, "interval": [0, 0]} and same["aupro_30"] == {
        "value": 0,
        "interval": None,
    }

    for name, model in (("a", saved), ("b", other)):
        call("predict", model, look, "--out", tmp_path / name, "--no-overlays", *HERE)
    tables = [tmp_path / name / "scores.csv" for name in "ab"]
    again = json.loads(call("evaluate", *tables, "--json")[1])
    assert again["verdicts"] == told["verdicts"]
    assert again["differences"]["image_auroc"]["value"] == pytest.approx(difference["value"])
    status, out, _ = call("evaluate", saved, tables[1], look, *HERE)  # a model and a table
    assert status == 0 and f"A: {saved}\n" in out and f"B: {tables[1]}\n" in out
    (tmp_path / "short.csv").write_text("\n".join(tables[1].read_text().splitlines()[:3]))
    monkeypatch.setattr("reconpatch.cli.evaluation.load_detector", lambda *_: pytest.fail("a model was loaded"))
    status, _, error = call("evaluate", saved, tmp_path / "short.csv", look, *HERE)
    assert status == 1 and "no line for 5 of 7 images" in error


def test_the_page_is_written_and_says_that_weights_are_random(saved, look, call, tmp_path) -> None:
    page = tmp_path / "page.html"
    status, out, _ = call("evaluate", saved, look, "--masks", look.parent / "masks", "--report", page, *HERE)
    text = page.read_text()
    assert status == 0 and out.endswith(f"page: {page}\n") and text.count("random weights") >= 3
    before = page.read_bytes()
    page.unlink()
    call("evaluate", saved, look, "--masks", look.parent / "masks", "--report", page, *HERE)
    assert page.read_bytes() == before


def test_the_rule_of_masks_arrives(saved, look, call, tmp_path) -> None:
    shutil.copytree(look.parent / "masks", tmp_path / "masks")
    for file in (tmp_path / "masks/scratch").iterdir():
        mask = np.asarray(Image.open(file)).copy()
        mask[:10, :10] = 60
        Image.fromarray(mask).save(file)
    base = ["evaluate", saved, look, "--json", *HERE]
    plain = json.loads(call(*base, "--masks", look.parent / "masks")[1])["metrics"]
    for rule, same in (("half", True), ("61", True), ("60", False), ("any", False)):
        got = json.loads(call(*base, "--masks", tmp_path / "masks", "--mask-rule", rule)[1])["metrics"]
        assert (got == plain) == same, rule
