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
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json
from safetensors.torch import save_file

from reconpatch.backbones import load_backbone
from reconpatch.config import Run
from reconpatch.detector import Detector
from reconpatch.device import repeatable, resolve
from reconpatch.errors import ReconpatchError
from reconpatch.files import sha256_of
from reconpatch.fitting import Fitted
from reconpatch.memory import MemoryBank

CARD, NETWORK, BANK, IMAGES = "model.json", "backbone.safetensors", "memory_bank.safetensors", "images.csv"
SCHEMA = 1
LARGEST = 2**24  # bytes of a card that is read


class Card(BaseModel):
    """What a saved model says of itself. Scores: higher is more anomalous."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    run: Run  # every parameter of the method, as in the records of the workflow
    aspect: Literal["crop", "stretch", "pad"]
    false_alarm_rate: float  # that the threshold is for, unless another is asked for
    scores: list[float]  # image scores of the held-out good images: thresholds of any rate follow from them
    peaks: list[float]  # the maxima of their maps
    level: float  # the median of their maps
    images: dict[str, int]  # how many were fitted on, held out; how many different ones there were
    seen: float  # smallest share of an image's area that is looked at
    bank: dict[str, int]  # patches kept and offered
    weights: dict[str, str]  # source and digest of the network's weights
    training: list[dict[str, float]]  # every epoch
    files: dict[str, str]  # SHA-256 of the other files
    made: dict[str, Any]  # code, packages, machine, time and memory, as the stages of the workflow tell them
    identity: str = ""  # SHA-256 of all but `made` and itself: the same for the same images, settings, seed and machine
    digest: str = ""  # SHA-256 of everything but itself


def _digest(card: Card, *without: str) -> str:
    text = json.dumps(card.model_dump(mode="json", exclude={*without, "digest"}), sort_keys=True, allow_nan=False)
    return sha256(text.encode()).hexdigest()


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
        rows.writerow([each.name, each.sha256, each.width, each.height, "held out" if n in held else "fitted"])
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
    card.identity = _digest(card, "made", "identity")
    card.digest = _digest(card)
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    return card


def read_card(folder: Path) -> Card:
    """Folder of a saved model -> its Card, once all digests are found to fit.

    Raises ReconpatchError, naming the file, where one is missing, damaged or edited, or of another schema.
    """
    file = folder / CARD
    if not file.is_file():
        raise ReconpatchError(f"{folder}: no model, it has no {CARD}; give the folder that `reconpatch fit --out` made")
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file.stat().st_size} bytes")
        text = file.read_bytes()
        content = from_json(text, allow_inf_nan=False)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if type(version) is int and version != SCHEMA:
            raise ReconpatchError(
                f"{file}: a model of schema {version}, this version of reconpatch reads {SCHEMA}: fit it again"
            )
        card = Card.model_validate_json(text)
    except (OSError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise ReconpatchError(f"{file}: not the card of a model ({what}); fit it again") from None
    if card.digest != _digest(card) or card.identity != _digest(card, "made", "identity"):
        raise ReconpatchError(f"{file}: edited or damaged after it was written, its digest does not fit; fit it again")
    if set(card.files) != {NETWORK, BANK, IMAGES}:
        raise ReconpatchError(f"{file}: speaks of other files than a model has; fit it again")
    for name, digest in card.files.items():
        if not (folder / name).is_file():
            raise ReconpatchError(f"{folder / name}: missing; a model is a whole folder: copy it again")
        if sha256_of(folder / name) != digest:
            raise ReconpatchError(
                f"{folder / name}: edited or damaged, its SHA-256 is not the one {CARD} has; copy or fit it again"
            )
    return card


def load(
    folder: Path, *, device: str = "auto", threads: int = 1, batch: int = 8, card: Card | None = None
) -> tuple[Detector, Card]:
    """Folder of a saved model -> detector on this machine's device, and its card. No network is needed.

    Raises what `read_card` raises.
    """
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
