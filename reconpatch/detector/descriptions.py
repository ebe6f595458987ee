"""What is said of a saved model: its thresholds, lines for people, a dictionary for machines."""

from dataclasses import asdict
from typing import Any

from reconpatch.detector.card import Card
from reconpatch.detector.threshold import Threshold, choose
from reconpatch.errors import ReconpatchError


def thresholds(card: Card, rate: float | None = None) -> tuple[Threshold | None, float | None]:
    """Card, a false-alarm rate in the place of the model's own -> thresholds of image scores and of maps.

    Both None where no images were held out. A map is above its threshold somewhere on as many good images. Raises
    ReconpatchError for a rate that `threshold.check_rate` refuses.
    """
    if not card.scores:
        if rate is not None:
            raise ReconpatchError("--false-alarms: the model has no held-out scores; give --threshold, or fit it again")
        return None, None
    rate = card.false_alarm_rate if rate is None else rate
    return choose(card.scores, rate), choose(card.peaks, rate).value


def described(card: Card) -> list[str]:
    """Card -> lines on what a model is, how it was made, and how far its threshold can be trusted."""
    run, made, images = card.run, card.made, card.images
    image, peaks = thresholds(card)
    trained = f", {run.epochs} epochs" if run.method == "reconpatch" else ""
    shorter = f", shorter side to {run.resize} px first" if card.aspect == "crop" else ""
    copies = len(card.scores) < images["held out"]  # which the threshold counts once
    held_out = f"{images['held out']} held out{f' ({len(card.scores)} different)' if copies else ''}"
    lines = [
        f"method: {run.method}{trained}, {run.dim} dimensions, coreset {run.coreset:g}, seed {run.seed}",
        f"network: {run.backbone}, levels {run.levels}, weights: {card.weights['source']}, "
        f"SHA-256 {card.weights['sha256'][:16]}...",
        f"images: {images['fitted']} fitted, {held_out}, {images['different']} different in all",
        f"view: {run.crop} px, aspect {card.aspect}{shorter}; at least {card.seen:.0%} of every image is seen",
        f"memory bank: {card.bank['patches']} of {card.bank['of']} patches",
        f"threshold: {image.sentence() if image else 'none, as no images were held out'}",
    ]
    if peaks is not None:
        lines.append(f"threshold of maps: {peaks:.4g}, exceeded anywhere by as many good images")
    if run.weights == "random":
        lines.append("REMARK: the network's weights are random, not trained: for tests only")
    if card.seen < 0.99:
        lines.append("remark: defects elsewhere are not seen; fit with --aspect stretch or pad to see all")
    commit = f"commit {made.get('commit') or 'unknown'}{' with changes' if made.get('changed') else ''}"
    taken = f"{made.get('wall_s', 0):.0f} s, {made.get('peak_mb', 0):.0f} MB"
    lines.append(f"made: {commit}, {made.get('device')}, {made.get('threads')} threads, {taken}")
    return [*lines, f"identity: {card.identity}"]


def told(card: Card) -> dict[str, Any]:
    """Card -> what --json says of a model."""
    image, peaks = thresholds(card)
    brief = {
        key: card.made.get(key) for key in ("commit", "changed", "device", "threads", "wall_s", "cpu_s", "peak_mb")
    }
    return card.model_dump(mode="json", exclude={"training"}) | {
        "threshold": None if image is None else asdict(image) | {"sentence": image.sentence()},
        "map_threshold": peaks,
        "made": brief,
    }
