"""What a saved model says of itself, and whether its folder is still what was written. Nothing heavy is imported."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import SavedRun
from reconpatch.files import sha256_of

CARD, NETWORK, BANK, IMAGES = "model.json", "backbone.safetensors", "memory_bank.safetensors", "images.csv"
SCHEMA = 1
LARGEST = 2**24  # bytes of a card that is read


KEYS = {  # of the card's dictionaries
    "images": {"fitted", "held out", "different"},
    "bank": {"patches", "of"},
    "weights": {"source", "sha256"},
    "files": {NETWORK, BANK, IMAGES},
}


class Card(BaseModel):
    """What a saved model says of itself. Scores: higher is more anomalous."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    run: SavedRun  # every parameter of the method, as in the records of the workflow
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

    @model_validator(mode="after")
    def _whole(self) -> "Card":
        for key, wanted in KEYS.items():
            if getattr(self, key).keys() != wanted:
                raise ValueError(f"{key} must hold {', '.join(sorted(wanted))}")
        if len(self.scores) != len(self.peaks):
            raise ValueError(f"{len(self.scores)} scores and {len(self.peaks)} peaks of the same images")
        return self


def digest_of(card: Card, *without: str) -> str:
    """Card, fields to leave out -> SHA-256 of its canonical JSON without them and without the digest itself.

    Raises ValueError where JSON cannot say what it holds.
    """
    text = json.dumps(card.model_dump(mode="json", exclude={*without, "digest"}), sort_keys=True, allow_nan=False)
    return sha256(text.encode()).hexdigest()


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
        fits = card.digest == digest_of(card) and card.identity == digest_of(card, "made", "identity")
    except (OSError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc'])) or 'card'}: {first['msg']}" if first else str(error)
        raise ReconpatchError(f"{file}: not the card of a model ({what}); fit it again") from None
    if not fits:
        raise ReconpatchError(f"{file}: edited or damaged after it was written, its digest does not fit; fit it again")
    for name, digest in card.files.items():
        if not (folder / name).is_file():
            raise ReconpatchError(f"{folder / name}: missing; a model is a whole folder: copy it again")
        if sha256_of(folder / name) != digest:
            raise ReconpatchError(
                f"{folder / name}: edited or damaged, its SHA-256 is not the one {CARD} has; copy or fit it again"
            )
    return card
