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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from reconpatch.backbones import load_backbone
from reconpatch.card import BANK, CARD, IMAGES, NETWORK, Card, digest_of, read_card
from reconpatch.detector import Detector
from reconpatch.device import repeatable, resolve
from reconpatch.files import sha256_of
from reconpatch.fitting import Fitted, check_machine
from reconpatch.memory import MemoryBank
from reconpatch.photographs import cell


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


def load(
    folder: Path, *, device: str = "auto", threads: int = 1, batch: int = 8, card: Card | None = None
) -> tuple[Detector, Card]:
    """Folder of a saved model -> detector on this machine's device, and its card. No network is needed.

    Raises what `read_card` raises.
    """
    check_machine(device, threads, batch)
    card, device = card or read_card(folder), resolve(device)
    run = card.run
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
