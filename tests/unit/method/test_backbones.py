import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data as photographs

from reconpatch.errors import ReconpatchError
from reconpatch.method.backbones import (
    describe,
    download_pretrained,
    embedded_state,
    load_backbone,
    load_network,
    probe,
    read_state,
    state_digest,
)
from reconpatch.method.pretrained import check_hub

CATS = {281, 282, 283, 284, 285}  # ImageNet classes: tabby, tiger, Persian, Siamese, Egyptian cat
SMALL = "resnet10t"  # a small network for tests of loading


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("wide_resnet50_2.tv_in1k", (512, 1024)),
        ("wide_resnet101_2.tv_in1k", (512, 1024)),
        ("resnext101_32x8d.tv_in1k", (512, 1024)),
        ("densenet201.tv_in1k", (512, 1792)),
        ("tf_efficientnet_lite0", (40, 112)),
    ],
)
def test_levels_of_the_papers_networks(name: str, channels: tuple[int, int]) -> None:
    levels = {d["level"]: d for d in describe(name)}
    assert tuple(levels[level]["channels"] for level in (2, 3)) == channels
    assert [levels[level]["stride"] for level in (1, 2, 3, 4)] == [4, 8, 16, 32]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vgg11", "dla34", "xcit_nano_12_p16_224"])
def test_levels_are_all_that_timm_gives(name: str) -> None:
    """Against a network that gives all of them, on an image of zeros."""
    known = describe(name)
    with torch.device("meta"):
        net = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=range(len(known))).eval()
        maps = net(torch.zeros(1, 3, 224, 224))
    assert [d["level"] for d in known] == list(range(len(maps)))
    assert [(d["channels"], 224 // d["stride"]) for d in known] == [(each.shape[1], each.shape[2]) for each in maps]


def test_a_transformer_runs_without_a_word(recwarn, capfd) -> None:
    backbone = load_backbone("vit_tiny_patch16_224", [5, 8], "random")
    maps = backbone(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert [each.shape for each in maps] == [(1, 192, 14, 14)] * 2
    assert not recwarn.list and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_feature_maps_are_those_of_features_only(name: str) -> None:
    """timm's plain features_only network with the same weights gives the same maps."""
    ours = load_backbone(name, [2, 3], "random", seed=3)
    torch.manual_seed(3)
    whole = timm.create_model(name)
    cut = timm.create_model(name, features_only=True, out_indices=(2, 3)).eval()
    flat = {k.replace(".", "_"): v for k, v in whole.state_dict().items()}
    cut.load_state_dict({k: flat[k.replace(".", "_")] for k in cut.state_dict()})
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = ours.mean, ours.std
    with torch.inference_mode():
        expected = cut((images.permute(0, 3, 1, 2) / 255 - mean) / std)
        for got, want in zip(ours(images), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_embedded_network_recognises_a_cat() -> None:
    net = timm.create_model("tf_efficientnet_lite0").eval()
    net.load_state_dict(embedded_state("tf_efficientnet_lite0"), strict=True)
    picture = Image.fromarray(photographs.chelsea()).resize((224, 224), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        probabilities = net(x)[0].softmax(0)
    assert int(probabilities.argmax()) in CATS
    assert float(probabilities[list(CATS)].sum()) > 0.5


def test_embedded_backbone_has_the_original_tensors() -> None:
    backbone = load_backbone("tf_efficientnet_lite0", [2, 3], "embedded")
    state = embedded_state("tf_efficientnet_lite0")
    net = timm.create_model("tf_efficientnet_lite0", features_only=True, feature_cls="getter", out_indices=(2, 3))
    cut = {key: state[key.removeprefix("model.")] for key in net.state_dict()}
    assert backbone.weights["sha256"] == state_digest(cut)
    assert backbone.mean.tolist() == [[[0.5]]] * 3 and backbone.weights["source"] == "embedded"
    with pytest.raises(ReconpatchError, match="embedded weights exist for tf_efficientnet_lite0 only"):
        load_backbone("resnet18", [2], "embedded")


def test_random_weights_come_from_the_seed() -> None:
    a, b, c = (load_backbone(SMALL, [2], "random", seed=s).weights for s in (0, 0, 1))
    assert a == b and a["sha256"] != c["sha256"] and a["source"] == "random"


def test_file_weights_are_strict_but_for_what_lies_behind(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model(SMALL).state_dict()
    needed = {k: v for k, v in state.items() if not k.startswith(("layer4", "fc"))}

    def load(content: dict[str, torch.Tensor]) -> str:
        save_file(content, tmp_path / "w.safetensors")
        return load_backbone(SMALL, [2, 3], "file", tmp_path / "w.safetensors").weights["sha256"]

    assert load(needed) == load(state)
    torch.save(needed, tmp_path / "w.pth")
    assert load_backbone(SMALL, [2, 3], "file", tmp_path / "w.pth").weights["sha256"] == load(needed)
    digest = load(state)
    for pin in (digest.upper(), ["0" * 64, digest]):
        load_backbone(SMALL, [2, 3], "file", tmp_path / "w.pth", pinned=pin)
    with pytest.raises(ReconpatchError, match=digest):
        load_backbone(SMALL, [2, 3], "file", tmp_path / "w.pth", pinned="0" * 64)
    with pytest.raises(ReconpatchError, match=r"absent\.safetensors: no such file"):
        load_backbone(SMALL, [2], "file", tmp_path / "absent.safetensors")


@pytest.mark.parametrize("name", ["w.bin", "w.pth", "w", "w.safetensors"])
@pytest.mark.parametrize("kind", ["safetensors", "torch", "old torch", "checkpoint"])
def test_weights_are_read_by_what_the_file_holds(name, kind, tmp_path: Path) -> None:
    state, file = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(())}, tmp_path / name
    if kind == "safetensors":
        save_file(state, file)
    else:
        content = {"epoch": 3, "model": state, "optimizer": {"state": {}}} if kind == "checkpoint" else state
        torch.save(content, file, _use_new_zipfile_serialization=kind != "old torch")
    read = read_state(file)
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    two = {"model": {"a": torch.ones(1)}, "model_ema": {"a": torch.ones(1)}}
    for content, says in ((two, "several dictionaries of tensors .model, model_ema"), ({"a": 1}, "no such dictionary")):
        torch.save(content, tmp_path / "w")
        with pytest.raises(ReconpatchError, match=says):
            read_state(tmp_path / "w")
    torch.save({"a": Code()}, tmp_path / "w")
    with pytest.raises(ReconpatchError, match="could run code"):
        read_state(tmp_path / "w")
    assert not (tmp_path / "ran").exists()
    page, pointer = b"<!DOCTYPE html><html><body>Not found", b"version https://git-lfs.github.com/spec/v1\noid sha256:"
    for content in (b"", b"{}", page, pointer, b"\x89HDF\r\n\x1a\n" + bytes(99), bytes(99)):
        (tmp_path / "w").write_bytes(content)
        with pytest.raises(ReconpatchError, match="neither safetensors nor written by torch"):
            read_state(tmp_path / "w")
    save_file({"a": torch.ones(9)}, tmp_path / "w")
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:-5])
    with pytest.raises(ReconpatchError, match="cannot be read safely"):
        read_state(tmp_path / "w")


def test_a_prefix_that_all_names_share_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model(SMALL).state_dict()

    def load(content: dict[str, torch.Tensor]) -> str:
        torch.save(content, tmp_path / "w")
        return load_network(SMALL, [2], "file", tmp_path / "w")[1]["sha256"]

    def behind(prefix: str) -> dict[str, torch.Tensor]:
        return {f"{prefix}{key}": value for key, value in state.items()}

    digest = load(state)
    for prefix in ("module.", "model.", "_orig_mod.module.", "backbone.", "layer1."):
        assert load(behind(prefix)) == digest, prefix
    for others in ({"head.weight": torch.ones(1)}, behind("teacher.")):
        with pytest.raises(ReconpatchError, match=r"missing, first 'conv1.0.weight'.* tensors behind student\."):
            load(behind("student.") | others)


def test_no_network_is_explained(monkeypatch) -> None:
    create = timm.create_model

    def offline(*args, pretrained=False, **kwargs):
        if pretrained:
            raise ConnectionError("unreachable")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("reconpatch.method.backbones.check_hub", lambda *_: None)
    with pytest.raises(ReconpatchError, match=r"could not be downloaded .*weights: file"):
        load_backbone(SMALL, [2], "pretrained")


@pytest.mark.skipif("http_proxy" in os.environ, reason="a proxy answers for the hub")
def test_a_hub_that_does_not_answer_is_asked_once(tmp_path, monkeypatch, capfd) -> None:
    """The client is not left to try again; weights that were downloaded before need no hub."""
    describe("resnet18.a1_in1k")  # which timm answers without weights
    with socket.socket() as taken:  # bound, so that nobody else listens there
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("left to timm"))
        with pytest.raises(ReconpatchError, match=r"could not be downloaded .*weights: file"):
            download_pretrained("resnet18.a1_in1k")
        (tmp_path / "models--timm--resnet18.a1_in1k/snapshots").mkdir(parents=True)
        check_hub("resnet18.a1_in1k", "timm/resnet18.a1_in1k")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif("http_proxy" in os.environ, reason="a proxy answers for the hub")
def test_a_hub_that_answered_is_not_asked_again(tmp_path, monkeypatch) -> None:
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with HTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        for name in ("resnet18.a1_in1k", "resnet18.a1_in1k", "resnet34.a1_in1k"):
            check_hub(name, f"timm/{name}")
        hub.shutdown()
    assert asked == ["/"]


def test_a_network_without_pretrained_weights_is_said() -> None:
    with pytest.raises(ReconpatchError, match=r"'test_maxvit': timm has no pretrained weights of it; .*weights: file"):
        load_network("test_maxvit", [2], "pretrained")


def test_real_weights_file(real: Path) -> None:
    file = real / "weights" / "resnet18.tv_in1k.to_layer3.safetensors"
    backbone = load_backbone("resnet18.tv_in1k", [2, 3], "file", file)
    torch.testing.assert_close(backbone.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    with pytest.raises(ReconpatchError, match=r"missing, first 'layer4"):
        load_backbone("resnet18.tv_in1k", [2, 3, 4], "file", file)


def test_a_probe_moves_batch_norms_as_the_official_code_does() -> None:
    """Against the direct form: training mode, one image of ones, then a tenth of its statistics, layer by layer."""
    plain, probed = (load_network("resnet10t", [2], "random", seed=1)[0] for _ in range(2))
    probe(probed, 48)
    assert not any(module.training for module in probed.modules())
    seen = {}
    norms = {name: module for name, module in plain.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    for name, module in norms.items():
        module.register_forward_pre_hook(lambda module, inputs, name=name: seen.update({name: inputs[0]}))
    plain.train()
    with torch.no_grad():
        plain(torch.ones(1, 3, 48, 48))
    assert seen.keys() == norms.keys() and len(norms) > 5
    changed = dict(probed.named_modules())
    for name, x in seen.items():  # zeros and ones before
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=True)
        torch.testing.assert_close(changed[name].running_mean, 0.1 * mean)
        torch.testing.assert_close(changed[name].running_var, 0.9 + 0.1 * variance)
    for (name, a), b in zip(probed.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_probed_backbone_gives_other_maps_and_has_the_same_digest() -> None:
    images = torch.randint(0, 256, (1, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain, probed = (load_backbone("resnet10t", [2], "random", probed_at=side) for side in (None, 48))
    assert plain.weights == probed.weights
    a, b = plain(images)[0], probed(images)[0]
    assert float((a - b).norm() / a.norm()) > 0.05
