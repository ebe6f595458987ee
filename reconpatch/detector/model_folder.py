"""A fitted detector as one folder.

    model.json                  the card: settings, scores of left-out images, how it was made, the SHA-256 of the files
    backbone.safetensors        the weights of the network, so that nothing is downloaded when the model is used
    memory_bank.safetensors     the memory bank with f
    images.csv                  every image: its SHA-256, its size, whether it was fitted on or held out, and its fold

No file in it can run code. A file whose digest differs from the card is refused. There are no signatures: someone who
can write to the folder can make another consistent model, but not one with the same `identity`.

Reading a card imports nothing heavy; saving and loading import PyTorch.
"""

import csv
import io
import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from reconpatch.detector.photographs import csv_safe
from reconpatch.detector.settings import Machine
from reconpatch.detector.threshold import HELD_OUT, Calibration, Threshold, choose_threshold
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.run import SavedRun
from reconpatch.files import sha256_of
from reconpatch.runtime import MB, machine_mb, openmp_threads

if TYPE_CHECKING:
    from reconpatch.detector.detector import Detector
    from reconpatch.detector.fit import Fitted

CARD, NETWORK, BANK, IMAGES = "model.json", "backbone.safetensors", "memory_bank.safetensors", "images.csv"
SCHEMA = 3
# In the first, the names of files counted in the identity. In the first two, the aspect stood beside the run.
READ_SCHEMAS = (1, 2, 3)
LATER = ("modes", "calibration")  # fields of a card that older ones of the same schema do not have
LARGEST_CARD = 2**24  # bytes
MADE_IN_BRIEF = ("commit", "changed", "device", "threads", "wall_s", "cpu_s", "peak_mb")
TensorShapes = dict[str, tuple[int, ...]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


class ImageCounts(_Part):
    """Numbers of images."""

    fitted: int
    held_out: int = Field(alias="held out")
    different: int  # images that are not copies of another one


class BankSize(_Part):
    """Numbers of patches."""

    patches: int  # in the memory bank
    of: int  # in the images it was selected from


class WeightsSource(_Part):
    """Where the weights of the network are from."""

    source: str
    sha256: str


class Card(_Part):
    """What a saved model says about itself. Higher scores are more anomalous."""

    schema_version: int = SCHEMA
    run: SavedRun  # every parameter of the method
    false_alarm_rate: float  # of the threshold, unless the user asks for another
    scores: list[float]  # of good images that were left out; the threshold for any rate follows from them
    peaks: list[float]  # the maxima of their anomaly maps
    level: float  # the median of their anomaly maps
    images: ImageCounts
    seen: float  # smallest share of an image's area that lies in what the network sees
    bank: BankSize
    weights: WeightsSource
    training: list[dict[str, float]]  # one entry per epoch
    files: dict[str, str]  # name -> SHA-256
    images_sha256: str = ""  # of images.csv without the names of the images
    modes: list[str] = []  # Pillow's, of the images; older models do not say
    calibration: Calibration = HELD_OUT  # how the images of the scores were kept from the memory bank
    made: dict[str, Any]  # code, packages, machine, time and memory, as in the records of the workflow
    identity: str = ""  # of `identity_of`: equal for equal images in the same order, settings, seed and machine
    digest: str = ""  # SHA-256 of everything but itself

    @model_validator(mode="before")
    @classmethod
    def _as_today(cls, content: Any) -> Any:
        if (
            isinstance(content, dict)
            and content.get("schema_version") in (1, 2)
            and isinstance(content.get("run"), dict)
        ):
            content = content | {"run": content["run"] | {"aspect": content.get("aspect")}}
            content.pop("aspect", None)
        return content

    @model_validator(mode="after")
    def _is_complete(self) -> "Card":
        if self.files.keys() != {NETWORK, BANK, IMAGES}:
            raise ValueError(f"files must hold {NETWORK}, {BANK} and {IMAGES}")
        if len(self.calibration.group_of) not in (0, len(self.scores)):
            raise ValueError(f"groups of {len(self.calibration.group_of)} images, scores of {len(self.scores)}")
        if len(self.scores) != len(self.peaks):
            raise ValueError(f"{len(self.scores)} scores and {len(self.peaks)} peaks of the same images")
        return self


def digest_of(card: Card) -> str:
    """Card -> SHA-256 of its canonical JSON without `digest`. Raises ValueError if JSON cannot express it."""
    return _digest(card, {"digest": True})


def identity_of(card: Card) -> str:
    """Card -> SHA-256 of what the model is: of its canonical JSON without how it was made, and without names of files:
    that of the network's weights, and those of the images. Raises ValueError if JSON cannot express it.
    """
    without: dict[str, Any] = dict.fromkeys(("made", "modes", "identity", "digest"), True)
    names: dict[str, Any] = {"weights": {"source"}, "files": {IMAGES}}
    return _digest(card, without if card.schema_version == 1 else without | names)


def _digest(card: Card, without: dict[str, Any]) -> str:
    if card.schema_version == 1:
        without = without | {"images_sha256": True}
    for name in LATER:  # of a model that was made before there were any
        if name not in card.model_fields_set:
            without = without | {name: True}
    content = card.model_dump(mode="json", exclude=without)
    if card.schema_version < 3:
        content["aspect"] = content["run"].pop("aspect")
    return sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def seal(card: Card) -> None:
    """Set `identity` and `digest` of a card whose other fields are complete."""
    card.identity = identity_of(card)
    card.digest = digest_of(card)


def nameless_digest(images: str) -> str:
    """Text of images.csv -> SHA-256 of its rows without their first value, the name of the image."""
    rows = csv.reader(io.StringIO(images, newline=""))
    return sha256("".join(f"{','.join(row[1:])}\n" for row in rows).encode()).hexdigest()


def read_card(folder: Path) -> Card:
    """Folder of a saved model -> its Card, after all digests were checked.

    Raises ReconpatchError that names the file which is missing, damaged, edited or of another schema.
    """
    file = folder / CARD
    if not file.is_file():
        raise ReconpatchError(
            f"no model, it has no {CARD}", where=folder, fix="give the folder that `reconpatch fit --out` made"
        )
    try:
        if file.stat().st_size > LARGEST_CARD:
            raise ValueError(f"{file.stat().st_size} bytes")
        text = file.read_bytes()
        content = from_json(text, allow_inf_nan=False)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if type(version) is int and version not in READ_SCHEMAS:
            raise ReconpatchError(
                f"a model of schema {version}, this version of reconpatch reads {' and '.join(map(str, READ_SCHEMAS))}",
                where=file,
                fix="fit it again",
            )
        card = Card.model_validate_json(text)
        intact = card.digest == digest_of(card) and card.identity == identity_of(card)
    except ReconpatchError:
        raise
    except (OSError, ValueError) as error:
        raise ReconpatchError(f"not the card of a model ({_reason(error)})", where=file, fix="fit it again") from None
    if not intact:
        raise ReconpatchError("edited or damaged, its digest is wrong", where=file, fix="fit the model again")
    for name, digest in card.files.items():
        if not (folder / name).is_file():
            raise ReconpatchError("missing", where=folder / name, fix="copy the whole folder of the model again")
        if sha256_of(folder / name) != digest:
            raise ReconpatchError(
                f"edited or damaged, its SHA-256 differs from {CARD}",
                where=folder / name,
                fix="copy the model again, or fit it again",
            )
    try:
        found = nameless_digest((folder / IMAGES).read_bytes().decode(errors="replace"))
    except csv.Error:
        found = ""
    if card.schema_version > 1 and found != card.images_sha256:
        raise ReconpatchError(f"lists other images than {CARD} says", where=folder / IMAGES, fix="fit the model again")
    return card


def _reason(error: OSError | ValueError) -> str:
    """The first thing that is wrong with a card."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'card'}: {first['msg']}"
    return str(error)


def thresholds(card: Card, rate: float | None = None) -> tuple[Threshold | None, float | None]:
    """Card, false-alarm rate (None: the model's own) -> (threshold of image scores, threshold of anomaly maps).

    Both are None if no images were held out. The share of good images whose map is above its threshold anywhere has
    the same distribution as the share of image scores above theirs. Raises ReconpatchError for a rate that
    `check_rate` refuses.
    """
    if not card.scores:
        if rate is not None:
            raise ReconpatchError(
                "the model has no scores of held-out images",
                where="--false-alarms",
                fix="give --threshold, or fit the model again without --hold-out 0",
            )
        return None, None
    rate = card.false_alarm_rate if rate is None else rate
    scores, peaks = (choose_threshold(values, rate, card.calibration) for values in (card.scores, card.peaks))
    return scores, peaks.value


def card_lines(card: Card) -> list[str]:
    """Card -> lines of text: what the model is, how it was made, and how far its threshold can be trusted."""
    run, made, images = card.run, card.made, card.images
    threshold, map_threshold = thresholds(card)
    epochs = f", {run.epochs} epochs" if run.method == "reconpatch" else ""
    resized = f", shorter side to {run.resize} px first" if run.aspect == "crop" else ""
    size = f"{run.crop} px{' for the shorter side' if run.aspect == 'keep' else ''}"
    has_copies = len(card.scores) < images.held_out
    held_out = f"{images.held_out} held out{f' ({len(card.scores)} different)' if has_copies else ''}"
    if card.calibration.folds:
        held_out = f"each left out once in {card.calibration.folds} folds"
    lines = [
        f"method: {run.method}{epochs}, {run.dim} dimensions, coreset {run.coreset:g}, seed {run.seed}",
        f"network: {run.backbone}, levels {run.levels}, weights: {card.weights.source}, "
        f"SHA-256 {card.weights.sha256[:16]}...",
        f"images: {images.fitted} fitted, {held_out}, {images.different} different in all",
        f"view: {size}, aspect {run.aspect}{resized}; at least {card.seen:.0%} of every image is seen",
        f"memory bank: {card.bank.patches} of {card.bank.of} patches",
        f"threshold: {threshold.sentence() if threshold else 'none, as no images were held out'}",
    ]
    if threshold is not None and map_threshold is not None:
        share = f"of good images {threshold.expected:.1%} are expected to have a pixel above it"
        lines.append(f"threshold of maps: {map_threshold:.4g}: {share}")
    if run.weights == "random":
        lines.append("REMARK: the network's weights are random, not trained: for tests only")
    if card.seen < 0.99:
        lines.append("remark: defects outside are not seen; fit with --aspect keep, stretch or pad to see everything")
    commit = f"commit {made.get('commit') or 'unknown'}{' with changes' if made.get('changed') else ''}"
    cost = f"{made.get('wall_s', 0):.0f} s, {made.get('peak_mb', 0):.0f} MB"
    lines.append(f"made: {commit}, {made.get('device')}, {made.get('threads')} threads, {cost}")
    return [*lines, f"identity: {card.identity}"]


def card_json(card: Card) -> dict[str, object]:
    """Card -> what `--json` prints about a model."""
    threshold, map_threshold = thresholds(card)
    return card.model_dump(mode="json", exclude={"training"}) | {
        "threshold": None if threshold is None else asdict(threshold) | {"sentence": threshold.sentence()},
        "map_threshold": map_threshold,
        "made": {key: card.made.get(key) for key in MADE_IN_BRIEF},
    }


def save(fitted: "Fitted", rate: float, made: dict[str, Any], folder: Path) -> Card:
    """Fitted detector, false-alarm rate of its threshold, facts of how it was made, empty folder -> the card, after
    all files were written.
    """
    from safetensors.torch import save_file

    detector, held_out, scored = fitted.detector, fitted.parting.held_out, fitted.scored
    folder.mkdir(parents=True, exist_ok=True)
    save_file(detector.state, folder / NETWORK)
    detector.bank.save(folder / BANK)
    images = _images_csv(fitted)
    (folder / IMAGES).write_text(images, encoding="utf-8")
    card = Card(
        run=detector.run,
        false_alarm_rate=rate,
        scores=scored.scores,
        peaks=scored.peaks,
        level=scored.level,
        calibration=fitted.parting.calibration,
        images=ImageCounts.model_validate(
            {
                "fitted": len(fitted.facts) - len(held_out),
                "held out": len(held_out),
                "different": len({each.pixels_sha256 for each in fitted.facts}),
            }
        ),
        seen=fitted.seen,
        bank=BankSize(patches=len(detector.bank.patches), of=detector.bank.training_patches),
        weights=WeightsSource(**detector.backbone.weights),
        training=[asdict(epoch) for epoch in fitted.epochs],
        files={name: sha256_of(folder / name) for name in (NETWORK, BANK, IMAGES)},
        images_sha256=nameless_digest(images),
        modes=list(detector.modes),
        made=made,
    )
    seal(card)
    (folder / CARD).write_text(json.dumps(card.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    return card


def _images_csv(fitted: "Fitted") -> str:
    """One row per image."""
    uses = dict.fromkeys(fitted.parting.held_out, "held out")
    for number, fold in enumerate(fitted.parting.folds, 1):
        uses |= dict.fromkeys(fold, f"fold {number}")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "sha256", "width", "height", "use"])
    for n, each in enumerate(fitted.facts):
        rows.writerow([csv_safe(each.name), each.sha256, each.width, each.height, uses.get(n, "fitted")])
    return text.getvalue()


def load(folder: Path, machine: Machine, card: Card | None = None) -> "tuple[Detector, Card]":
    """Folder of a saved model, options, its card if it was read already -> (detector on this machine's device, card).

    Nothing is downloaded. Raises what `read_card` raises, and ReconpatchError, before anything is loaded, if the parts
    do not belong together or the memory of this machine is too small. Digests cannot show this: someone who can write
    to the folder can make them fit.
    """
    from reconpatch.detector.detector import Detector, backbone_of
    from reconpatch.device import repeating, resolve
    from reconpatch.method.backbones import load_network, state_of
    from reconpatch.method.memory_bank import MemoryBank

    card, device = card or read_card(folder), resolve(machine.device)
    threads, batch, run = machine.threads, machine.batch_images, card.run
    check_parts(folder, card)
    check_model_memory(folder, card, batch, threads)
    with repeating(device, openmp_threads(threads)):
        network, weights = load_network(run.backbone, run.levels, "file", folder / NETWORK, pinned=card.weights.sha256)
        state = state_of(network)
        backbone = backbone_of(network, weights, run, device)
        bank = MemoryBank.load(folder / BANK)
        return Detector(backbone, state, bank, run, threads, batch, card.modes), card


def check_parts(folder: Path, card: Card) -> None:
    """Raise ReconpatchError that names the file unless the memory bank is one of the card's run.

    Only shapes are read. safetensors keeps them in front of the values and refuses shorter and longer files.
    """
    from safetensors import safe_open

    run, file, rows = card.run, folder / BANK, card.bank.patches
    try:
        with safe_open(file, "numpy") as content:
            keys = content.keys()
            shapes: TensorShapes = {key: tuple(content.get_slice(key).get_shape()) for key in keys}
    except Exception as error:  # safetensors has its own classes of errors
        raise ReconpatchError(f"not a memory bank ({type(error).__name__}: {error})", where=file) from None
    wanted: TensorShapes = {"memory_bank": (rows, run.dim), "order": (rows,)}
    if run.method != "patchcore":
        wanted |= {"f.weight": (run.dim, run.width), "f.bias": (run.dim,)}
    if shapes != wanted:
        raise ReconpatchError(
            f"not the memory bank of {CARD}, it holds {_described(shapes)} instead of {_described(wanted)}",
            where=file,
            fix="fit the model again",
        )
    if not 1 <= run.neighbours <= rows <= card.bank.of:
        raise ReconpatchError(
            f"neighbours = {run.neighbours} in a memory bank of {rows} of {card.bank.of} patches is impossible",
            where=folder / CARD,
            fix="fit the model again",
        )


def _described(shapes: TensorShapes) -> str:
    return ", ".join(f"{quote(key)} {shape}" for key, shape in sorted(shapes.items())) or "nothing"


def check_model_memory(folder: Path, card: Card, batch: int, threads: int) -> None:
    """Raise ReconpatchError if the model, with `batch` images a pass, is predicted to need more memory than this
    machine has.
    """
    from reconpatch.experiments.costs import search_memory, sizes_of
    from reconpatch.experiments.networks import Networks
    from reconpatch.experiments.stages import STAGES

    run, rows = card.run, card.bank.patches
    network = Networks()(run.backbone, run.levels, run.crop)
    if run.patch_size > network.grid:
        raise ReconpatchError(
            f"patch_size {run.patch_size} is larger than the grid of {network.grid} patches", where=folder / CARD
        )
    sizes = sizes_of(run, network, (1, batch), ratio=run.coreset, batch_images=batch, threads=threads)
    search = search_memory(replace(sizes, kept=rows, used=rows), sizes.test_patches)
    # The prediction holds three times the network's weights; the file may be larger.
    larger_file = max(0, (folder / NETWORK).stat().st_size - 12 * network.parameters) / MB
    needed = STAGES["features"].memory_of(sizes).held + search.held + larger_file
    if needed > machine_mb():
        raise ReconpatchError(
            f"the model needs about {needed / 1000:.1f} GB of memory with {batch} images a pass, there are "
            f"{machine_mb() / 1000:.1f} GB",
            where=folder,
            fix="lower batch_images, or fit with a smaller coreset, size or dim",
        )
