"""Reading the table of scores that `predict` wrote, so that it can be evaluated without scoring again."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reconpatch.detector.measures import Scores
from reconpatch.errors import ReconpatchError, quote


@dataclass(frozen=True)
class ScoresTable:
    """What a table of scores holds."""

    file: Path
    scores: dict[str, float]  # by the name of the image
    alarms: dict[str, bool] | None  # by the name of the image; None without a threshold
    threshold: float | None  # None in tables of older versions, too
    model: str  # beginning of its identity; empty in tables of older versions

    def of(self, names: Sequence[str], threshold: tuple[float, str] | None) -> Scores:
        """N names of images, a threshold and whose it is (None: the verdicts of the table) -> their Scores.

        Raises ReconpatchError for names that the table does not hold.
        """
        if missing := [name for name in names if name not in self.scores]:
            raise ReconpatchError(
                f"no line for {len(missing)} of {len(names)} images, first {quote(missing[0])}",
                where=self.file,
                fix="name images as the table does, or score them with `reconpatch predict`",
            )
        values = np.array([self.scores[name] for name in names], np.float64)
        if threshold is not None:
            return Scores.above(values, *threshold)
        if self.alarms is None:
            return Scores(values)
        alarms = np.array([self.alarms[name] for name in names], bool)
        return Scores(values, alarms, self.threshold, f"of the column anomalous of {self.file.name}")


def read_scores(file: Path) -> ScoresTable:
    """CSV file with the columns image, score and, if it has them, anomalous, threshold and model -> ScoresTable.

    Raises ReconpatchError that names the line and column of what cannot be read.
    """
    scores: dict[str, float] = {}
    verdicts: dict[str, float | None] = {}
    others: dict[str, set[str]] = {"threshold": set(), "model": set()}
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"image", "score"} <= {*(reader.fieldnames or ())}:
                raise ReconpatchError(
                    "no table of scores, it has no columns image and score",
                    where=file,
                    fix="give the scores.csv that `reconpatch predict` wrote, or the folder of a model",
                )
            for row in reader:
                where, name = f"{quote(file)}, line {reader.line_num}", str(row["image"])
                if name in scores:
                    raise ReconpatchError(f"{quote(name)} has two lines", where=where, fix="remove one")
                score = _number(row["score"], where, "score")
                if score is None:
                    raise ReconpatchError("no score", where=where, fix="score the image again")
                scores[name] = score
                verdicts[name] = _number(row.get("anomalous"), where, "anomalous")
                if verdicts[name] not in (0, 1, None):
                    raise ReconpatchError(f"anomalous is {row['anomalous']}", where=where, fix="write 1 or 0")
                for column, values in others.items():
                    values.add((row.get(column) or "").strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReconpatchError(f"cannot be read ({error})", where=file) from None
    if not scores:
        raise ReconpatchError("holds no scores", where=file)
    for column, values in others.items():
        if len(values) > 1:
            raise ReconpatchError(
                f"its column {column} holds {len(values)} values: rows of different runs?",
                where=file,
                fix="evaluate the table of one run of `reconpatch predict`",
            )
    judged = [name for name, verdict in verdicts.items() if verdict is not None]
    if 0 < len(judged) < len(scores):
        lacking = next(name for name in scores if verdicts[name] is None)
        raise ReconpatchError(f"its column anomalous is empty for {quote(lacking)}, but not for all", where=file)
    return ScoresTable(
        file=file,
        scores=scores,
        alarms={name: bool(verdict) for name, verdict in verdicts.items()} if judged else None,
        threshold=_number(others["threshold"].pop(), quote(file), "threshold"),
        model=others["model"].pop(),
    )


def _number(text: str | None, where: str, column: str) -> float | None:
    """Content of a cell -> a finite number, None if it is empty. Raises ReconpatchError for anything else."""
    if not (text or "").strip():
        return None
    try:
        value = float(str(text))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ReconpatchError(f"{column} is {quote(text)}, no finite number", where=where, fix="write a number")
    return value
