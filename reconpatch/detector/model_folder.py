"""A fitted detector as one folder: weights of its network, memory bank, images it was made from, and a card.

    model.json                  settings, threshold, provenance, and the SHA-256 of the other files and of itself
    backbone.safetensors        the network's weights: nothing is downloaded when the model is used
    memory_bank.safetensors     the coreset with f
    images.csv                  every image: its SHA-256, size, and whether it was fitted on or held out

Nothing in it can run code. A digest that does not fit is refused. There are no signatures: who can write the folder can
make a consistent other one, which `identity`, noted elsewhere, tells.
"""

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from reconpatch.detector.card import BANK, CARD, IMAGES, NETWORK, Card, digest_of, read_card
from reconpatch.detector.detector import Detector
from reconpatch.detector.fit import Fitted, check_machine
from reconpatch.detector.photographs import cell
from reconpatch.device import repeatable, resolve
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.costs import MB, Network, grid, search_memory, sizes_of, width
from reconpatch.experiments.stages import STAGES
from reconpatch.files import sha256_of
from reconpatch.method.backbones import check_levels, count_parameters, load_backbone
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.runtime import machine_mb


def save(fitted: Fitted, rate: float, made: dict[str, Any], folder: Path) -> Card:
    """Fitted detector, false-alarm rate of its threshold, facts of how it was made -> the files in an empty folder."""
    detector, facts, held = fitted.detector, fitted.facts, set(fitted.held_out)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(fitted.state, folder / NETWORK)
    detector.bank.save(folder / BANK)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "sha256", "width", "height", "use"])
    for n, each in enumerate(facts):
        rows.writerow([cell(each.name), each.sha256, each.width, each.height, "held out" if n in held else "fitted"])
    (folder / IMAGES).write_text(text.getvalue(), encoding="utf-8")
    card = Card(
        run=detector.run,
        aspect=detector.aspect,  # type: ignore[arg-type]
        false_alarm_rate=rate,
        scores=fitted.scores,
        peaks=fitted.peaks,
        level=fitted.level,
        images={
            "fitted": len(facts) - len(held),
            "held out": len(held),
            "different": len({each.sha256 for each in facts}),
        },
        seen=fitted.seen,
        bank={"patches": len(detector.bank.patches), "of": detector.bank.training_patches},
        weights=detector.backbone.weights,
        training=[asdict(epoch) for epoch in fitted.epochs],
        files={name: sha256_of(folder / name) for name in (NETWORK, BANK, IMAGES)},
        made=made,
    )
    card.identity = digest_of(card, "made", "identity")
    card.digest = digest_of(card)
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    return card


def check_parts(folder: Path, card: Card) -> None:
    """Folder, its card -> ReconpatchError, naming the file, unless its memory bank is one of the card's run.

    Shapes alone are read: safetensors has them beside the values, and refuses files that are shorter or longer.
    """
    run, file = card.run, folder / BANK  # a Run's features always pool evenly to PatchCore's dim
    try:
        with safe_open(file, "numpy") as content:
            shapes = {key: tuple(content.get_slice(key).get_shape()) for key in content.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises classes of its own
        raise ReconpatchError(f"{file}: not a memory bank ({type(error).__name__}: {error})") from None
    rows = card.bank["patches"]
    wanted: dict[str, tuple[int, ...]] = {"memory_bank": (rows, run.dim), "order": (rows,)}
    if run.method == "reconpatch":
        wanted |= {"f.weight": (run.dim, width(run)), "f.bias": (run.dim,)}
    if shapes != wanted:
        raise ReconpatchError(
            f"{file}: not the memory bank of {CARD}, it holds {_listed(shapes)} instead of {_listed(wanted)}; fit again"
        )
    if not 1 <= run.neighbours <= rows <= card.bank["of"]:
        raise ReconpatchError(
            f"{folder / CARD}: neighbours = {run.neighbours} in a memory bank of {rows} of {card.bank['of']} patches "
            "cannot be; fit it again"
        )


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{quote(key)} {shape}" for key, shape in sorted(shapes.items())) or "nothing"


def check_memory(folder: Path, card: Card, batch: int, threads: int) -> None:
    """Raise ReconpatchError where this machine's memory is too small for what the model is predicted to take, with
    so many images a pass, all of its file of weights included.
    """
    run, rows = card.run, card.bank["patches"]
    stride = check_levels(run.backbone, run.levels)
    side = grid(run.crop, stride)
    if run.patch_size > side:
        raise ReconpatchError(f"{folder / CARD}: patch_size {run.patch_size} is larger than the grid of {side} patches")
    network = Network(stride, count_parameters(run.backbone, run.levels))
    sizes = sizes_of(run, network, (1, batch), ratio=run.coreset, batch_images=batch, threads=threads)
    searched = search_memory(replace(sizes, kept=rows, used=rows), sizes.test_patches).held
    more = max(0, (folder / NETWORK).stat().st_size - 12 * network.parameters) / MB  # than three times its weights
    held = STAGES["features"].memory_of(sizes).held + searched + more
    if held > machine_mb():
        raise ReconpatchError(
            f"{folder}: the model needs about {held / 1000:.1f} GB of memory with {batch} images a pass, there are "
            f"{machine_mb() / 1000:.1f} GB: lower batch_images, or fit with a smaller coreset, size or dim"
        )


def load(
    folder: Path, *, device: str = "auto", threads: int = 1, batch: int = 8, card: Card | None = None
) -> tuple[Detector, Card]:
    """Folder of a saved model -> detector on this machine's device, and its card. No network is needed.

    Raises what `read_card` raises, and ReconpatchError where its parts do not belong together or the memory of this
    machine is too small, before any of it is loaded: whoever writes a folder can make digests fit.
    """
    check_machine(device, threads, batch)
    card, device = card or read_card(folder), resolve(device)
    run = card.run
    check_parts(folder, card)
    check_memory(folder, card, batch, threads)
    repeatable(device, threads)
    backbone = load_backbone(
        run.backbone,
        run.levels,
        "file",
        folder / NETWORK,
        device=device,
        precision=run.precision,
        pinned=card.weights["sha256"],
    )
    bank = MemoryBank.load(folder / BANK)
    return Detector(backbone, bank, run, card.aspect, threads, batch), card
