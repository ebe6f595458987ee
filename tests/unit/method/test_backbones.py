from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data as photographs

from reconpatch.errors import ReconpatchError
from reconpatch.method.backbones import describe, embedded_state, load_backbone, load_network, probe, state_digest

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


def test_no_network_is_explained(monkeypatch) -> None:
    create = timm.create_model

    def offline(*args, pretrained=False, **kwargs):
        if pretrained:
            raise ConnectionError("unreachable")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ReconpatchError, match=r"could not be downloaded .*weights: file"):
        load_backbone(SMALL, [2], "pretrained")


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
