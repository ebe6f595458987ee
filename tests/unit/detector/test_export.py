"""Exported models against `predict`: as a graph of PyTorch, and in the runtimes that the files are for."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from products import detector, product, write_products
from running import ROOT

from reconpatch.cli import main as cli
from reconpatch.data.images import view
from reconpatch.detector import export
from reconpatch.detector.detector import pixels
from reconpatch.detector.export import (
    FORMATS,
    check_exportable,
    check_format,
    export_detector,
    facts_of,
    graph_of,
)
from reconpatch.detector.model_folder import read_card, thresholds
from reconpatch.detector.settings import exported_view
from reconpatch.errors import ReconpatchError

PHOTOGRAPHS = [product(n, defect=n % 2 == 1) for n in range(100, 105)]
SCORES, MAPS = 1e-4, 1e-3  # relative differences that are allowed


def agrees(detector, runtime, photographs) -> None:
    """One photograph at a time and all together: scores and maps are the detector's."""
    wanted = list(detector(photographs))
    squares = np.stack([pixels(each, detector.run)[0] for each in photographs])
    for batch in (slice(0, 1), slice(0, len(photographs))):
        scores, maps = runtime(squares[batch])
        for score, found, want in zip(scores, maps, wanted[batch], strict=True):
            assert score == pytest.approx(want.score, rel=SCORES)
            np.testing.assert_allclose(found, want.map, rtol=0, atol=MAPS * want.map.max())


def as_runtime(graph):
    def run(images):
        with torch.inference_mode():
            return [each.numpy() for each in graph(torch.from_numpy(images))]

    return run


@pytest.mark.filterwarnings("ignore:.*surroundings unaveraged")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "patchcore"},
        {"method": "patchcore", "dim": 32, "settings": {"distance": "squared", "blur": 0}},
        {"settings": {"neighbours": 3}},
        {"settings": {"neighbours": 3, "reweight": "image", "distance": "squared"}},
        {"method": "untrained", "settings": {"embedding": "concat", "levels": (1, 2, 3), "batch_norm": "probed"}},
        {"settings": {"levels": (1, 2, 3), "level_dim": 24, "feature_dim": 22}, "dim": 11},
        {"aspect": "pad"},
        {"aspect": "pad", "settings": {"neighbours": 2}},
        {"aspect": "keep"},
    ],
    ids=str,
)
def test_the_graph_computes_what_predict_does(changes, good, monkeypatch) -> None:
    monkeypatch.setattr(export, "BLOCK", 10)  # rows: the bank needs several blocks
    small = {"coreset_dim": 8, "batch": 64, "projection_dim": 8}
    wide = {} if "level_dim" in changes.get("settings", {}) else {"level_dim": 32, "feature_dim": 32}
    if changes.get("settings", {}).get("embedding") == "concat":
        wide = {}
    model = detector(**changes | {"settings": small | wide | changes.get("settings", {})}).fit(good)
    made = model.detector_
    seen = exported_view(made.run, PHOTOGRAPHS[0].size if made.run.aspect in ("pad", "keep") else None)
    agrees(made, as_runtime(graph_of(made, seen)), PHOTOGRAPHS)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (
            "onnx",
            {"method": "reconpatch", "backbone": "tf_efficientnet_lite0", "weights": "embedded", "size": 160},
        ),
        ("onnx", {"method": "patchcore", "backbone": "resnet18", "weights": "random", "size": 224}),
        ("openvino", {"method": "patchcore"}),
        ("openvino", {"method": "reconpatch"}),
        ("torchscript", {"method": "reconpatch"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_runtimes_compute_what_predict_does(kind, options, tmp_path) -> None:
    folder = write_products(tmp_path / "good", 8, size=(150, 130))
    small = {"coreset_dim": 8, "batch": 64, "projection_dim": 8}
    model = detector(**{"aspect": "stretch", "epochs": 1, "dim": "1/2", "settings": small} | options).fit(folder)
    model.save(tmp_path / "model")
    card, file = read_card(tmp_path / "model"), tmp_path / f"out{FORMATS[kind].suffix}"
    parity = export_detector(model.detector_, card, file, kind)
    assert parity.made_up and parity.score <= SCORES and parity.map <= MAPS
    agrees(model.detector_, FORMATS[kind].open(file, 1), PHOTOGRAPHS)
    assert str(ROOT).encode() not in file.read_bytes()


def documented() -> str:
    """The program in the documents that reads an exported model."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/product.md").read_text(), re.DOTALL)
    (program,) = [block for block in blocks if "InferenceSession" in block]
    return program


def test_a_program_without_this_package_gives_the_labels_of_predict(model, saved, tmp_path) -> None:
    """The documented one, in a process of its own; and the file is the same when it is written again."""
    for n, photograph in enumerate(PHOTOGRAPHS):
        (tmp_path / "photos").mkdir(exist_ok=True)
        photograph.save(tmp_path / f"photos/{n}.png")
    labels = model.predict(tmp_path / "photos")
    assert set(labels) == {1, -1}
    card = read_card(saved)
    files = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    threshold, map_threshold = thresholds(card)
    for file in files:
        export_detector(model.detector_, card, file, threshold=threshold, map_threshold=map_threshold)
    assert files[0].read_bytes() == files[1].read_bytes()
    program = documented().replace("demo/model.onnx", "one.onnx").replace("demo/brick/test/good", "photos")
    program += "import sys\nassert not {'torch', 'reconpatch', 'onnx'} & set(sys.modules)\n"
    program += "print(json.dumps(facts))\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    *lines, facts = done.stdout.splitlines()
    assert [-1 if line.endswith("anomalous") else 1 for line in lines] == labels.tolist()
    facts = json.loads(facts)
    assert facts["model"] == card.identity and facts["false_alarms"]["images"] == len(card.scores)
    assert "not trained" in facts["remark"]  # the weights of this model are random


@pytest.mark.parametrize("aspect", ["crop", "stretch", "pad", "keep"])
@pytest.mark.parametrize("size", [(52, 40), (40, 57), (301, 200), (32, 32)])
def test_the_documented_program_sees_the_pixels_of_predict(aspect, size, model, saved, tmp_path) -> None:
    product(1, size=size).save(tmp_path / "photo.png")
    card = read_card(saved)
    card = card.model_copy(update={"run": card.run.model_copy(update={"aspect": aspect})})
    photograph = size if aspect in ("pad", "keep") else None
    facts = facts_of(card, exported_view(card.run, photograph), photograph, None, None)
    names: dict = {}
    exec(documented().partition("session =")[0], names)
    found = names["prepare"](tmp_path / "photo.png", json.loads(json.dumps(facts)))
    wanted = view(*size, size=card.run.crop, resize=card.run.resize, aspect=aspect)
    with Image.open(tmp_path / "photo.png") as image:
        np.testing.assert_array_equal(found, wanted.framed(image, card.run.interpolation))


def call(monkeypatch, *words: object) -> object:
    """Exit status of `reconpatch export`."""
    monkeypatch.setattr(sys, "argv", ["reconpatch", "export", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_the_command_says_what_it_wrote_and_how_far_it_agrees(saved, good, tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "model.pt"
    words = (saved, "--format", "torchscript", "--out", file, "--check", good, "--json")
    assert not call(monkeypatch, *words)
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [str(file)] and said["parity"]["images"] == 24 and not said["parity"]["made_up"]
    facts = {"reconpatch": ""}
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.load(file, _extra_files=facts)
    assert json.loads(facts["reconpatch"])["model"] == said["model"]
    assert call(monkeypatch, *words) == 1 and "exists already" in capsys.readouterr().err


def test_a_file_that_gives_other_results_is_not_left(model, saved, tmp_path, monkeypatch) -> None:
    other = replace(FORMATS["torchscript"], open=lambda file, threads: lambda x: (np.ones(len(x)), x[..., 0] * 0.0))
    monkeypatch.setitem(FORMATS, "torchscript", other)
    with pytest.raises(ReconpatchError, match="differ"):
        export_detector(model.detector_, read_card(saved), tmp_path / "model.pt", "torchscript")
    assert not list(tmp_path.iterdir())


def test_a_network_that_an_exporter_refuses_is_named(model, saved, tmp_path, monkeypatch) -> None:
    def refuse(*given: object) -> None:
        raise RuntimeError("operator not known")

    monkeypatch.setitem(FORMATS, "torchscript", replace(FORMATS["torchscript"], write=refuse))
    with pytest.raises(ReconpatchError, match=r"resnet10t: cannot be exported to torchscript .*operator not known"):
        export_detector(model.detector_, read_card(saved), tmp_path / "model.pt", "torchscript")


def test_the_estimator_exports_what_the_command_does(model, saved, tmp_path, monkeypatch) -> None:
    with pytest.raises(ReconpatchError, match="not saved"):
        detector(method="patchcore").fit([product(n) for n in range(6)]).export(tmp_path / "a.onnx")
    loaded = type(model).load(saved, device="cpu", threads=1)
    with pytest.raises(ReconpatchError, match="format caffe: none of onnx"):
        loaded.export(tmp_path / "a.caffe", format="caffe")
    assert not list(tmp_path.iterdir())
    parity = loaded.export(tmp_path / "python.onnx", check=PHOTOGRAPHS)
    assert parity.images == len(PHOTOGRAPHS) and parity.score <= SCORES and not parity.made_up
    assert not call(monkeypatch, saved, "--out", tmp_path / "command.onnx", "--threads", 1)
    assert (tmp_path / "python.onnx").read_bytes() == (tmp_path / "command.onnx").read_bytes()


def test_a_bank_that_is_too_large_and_bfloat16_are_refused(model) -> None:
    made = model.detector_
    rows = np.broadcast_to(np.zeros((1, 16), np.float32), (20_000_000, 16))
    with pytest.raises(ReconpatchError, match="20000000 rows of 16 values"):
        check_exportable(made.run, replace(made.bank, patches=rows))
    with pytest.raises(ReconpatchError, match="bfloat16"):
        check_exportable(made.run.model_copy(update={"precision": "bfloat16"}), made.bank)


@pytest.mark.filterwarnings("ignore")  # of exporters
@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript"])
@pytest.mark.parametrize("large", [1e9, 1e30])  # features that float16 does not hold; that float32 does not
def test_features_that_predict_refuses_have_an_infinite_score(model, kind, large, tmp_path) -> None:
    made = model.detector_
    broken = replace(
        made, state=made.state | {key: made.state[key] * large for key in ["layer3.0.downsample.2.weight"]}
    )
    file = tmp_path / f"model{FORMATS[kind].suffix}"
    seen = exported_view(made.run, None)
    with torch.no_grad():
        FORMATS[kind].write(graph_of(broken, seen), "{}", file)
    scores, _ = FORMATS[kind].open(file, 1)(np.stack([pixels(each, made.run)[0] for each in PHOTOGRAPHS]))
    assert np.isposinf(scores).all()


def test_the_size_of_photographs_is_asked_for_where_it_matters(padded, saved, tmp_path) -> None:
    run = padded.detector.run
    with pytest.raises(ReconpatchError, match="needed for a model of aspect pad"):
        exported_view(run, None)
    with pytest.raises(ReconpatchError, match="not needed for a model of aspect crop"):
        exported_view(read_card(saved).run, (52, 40))
    with pytest.raises(ReconpatchError, match="has 40 x 52 px, the file is for 52 x 40"):
        photographs = [product(1), product(1, size=(40, 52))]
        card = read_card(saved).model_copy(update={"run": run})
        export_detector(padded.detector, card, tmp_path / "a.pt", "torchscript", photograph=(52, 40), check=photographs)
    assert not list(tmp_path.iterdir())


def test_formats_need_their_suffix_and_their_packages(tmp_path, monkeypatch) -> None:
    with pytest.raises(ReconpatchError, match=r"must end in \.xml"):
        check_format("openvino", tmp_path / "model.onnx")
    (tmp_path / "model.bin").touch()
    with pytest.raises(ReconpatchError, match=r"model\.bin: exists already"):
        check_format("openvino", tmp_path / "model.xml")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ReconpatchError, match=r"onnxscript, which is not installed; pip install 'reconpatch\[export\]'"
    ):
        check_format("onnx", tmp_path / "model.onnx")
