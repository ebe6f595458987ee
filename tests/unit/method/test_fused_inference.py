import logging

import pytest
import timm
import torch
from torch import nn

from reconpatch.method.backbones import load_backbone
from reconpatch.method.fused_inference import JoinedConvolution, prepare


def network(name: str, seed: int = 0) -> nn.Module:
    """A frozen network whose batch norms do something: statistics and scales as after training."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=(1, 2, 3))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (("running_mean", -0.1, 0.1), ("running_var", 0.5, 1.5)):
                getattr(module, value).uniform_(low, high, generator=rng)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1, generator=rng)
                module.bias.uniform_(-0.2, 0.2, generator=rng)
    return net.requires_grad_(False).eval().to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t",
        "resnext50_32x4d",
        "densenet121",  # norms before convolutions stay
        "tf_efficientnet_lite0",  # four convolutions pad as TensorFlow does and are left alone
        "resnext26ts",  # oneDNN joins no SiLU after a sum
    ],
)
def test_a_prepared_network_gives_the_same_maps(name: str) -> None:
    net = network(name)
    images = torch.randn(3, 3, 80, 96, generator=torch.Generator().manual_seed(1))
    images = images.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = net(images)
        prepared = prepare(net)
        for batch in (3, 1, 2):  # weights are laid out for the first batch and serve every other
            for got, want in zip(prepared(images[:batch]), expected, strict=True):
                scale = float(want.abs().max())
                torch.testing.assert_close(got, want[:batch], rtol=1e-4, atol=3e-6 * scale)
    joined = [module for module in prepared.modules() if isinstance(module, JoinedConvolution)]
    assert len(joined) == sum(type(module) is nn.Conv2d for module in net.modules())


class Awkward(nn.Module):
    """What must not be joined or folded: a map used twice, a broadcast sum, a convolution called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.again, self.shared_act = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.gate = nn.Conv2d(8, 8, 1)
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.late, self.in_place = nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raw = self.first(x)
        x = self.act(self.norm(raw)) + raw  # raw is used by both: no folding
        x = self.shared_act(self.again(self.shared_act(self.again(x))))
        pooled = self.gate(x.mean((2, 3), keepdim=True))
        x = torch.relu(self.same(pooled + x) + self.gate.bias[:, None, None])
        x = torch.add(self.mirrored(x), x, alpha=0.5) - 1
        before = self.late(x)
        return before + self.in_place(x)  # the convolution must see x before the rectifier has changed it


def test_what_cannot_be_joined_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    net = Awkward().requires_grad_(False).eval()
    net.norm.running_mean.uniform_(-1, 1)
    x = torch.randn(2, 3, 64, 64)
    expected = net(x)
    with torch.inference_mode():
        torch.testing.assert_close(prepare(net)(x), expected)


class Branches(nn.Conv2d):
    """What cannot be traced: the way depends on the values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 1e9 else x


class Forgetful(nn.Module):
    """What is traced wrongly: the number of calls decides."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Conv2d(3, 3, 1), 0

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        self.calls += 1
        return [self.layer(x) * self.calls]


@pytest.mark.parametrize(("net", "why"), [(nn.Sequential(Branches(3, 3, 1)), ""), (Forgetful(), "maps change by")])
def test_a_network_that_cannot_be_rewritten_comes_back_as_it_was(net, why, caplog, recwarn) -> None:
    net = nn.ModuleList([net.requires_grad_(False).eval()])[0]
    with caplog.at_level(logging.INFO):
        assert prepare(net) is net
    assert why in caplog.text and [record.levelname for record in caplog.records] == ["INFO"] and not recwarn.list


def test_bfloat16_is_close_and_no_more() -> None:
    exact, rough = (load_backbone("resnet10t", [1, 2], "random", precision=p) for p in ("float32", "bfloat16"))
    assert exact.weights == rough.weights
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for a, b in zip(exact(images), rough(images), strict=True):
            assert b.dtype == torch.bfloat16
            error = float((a - b.float()).norm() / a.norm())
            assert 1e-4 < error < 0.03
