"""What an ablation draws: apart from the drawing, so that making its table loads no drawing library."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """One line of an ablation, a value per position of the swept axis; NaN and None: missing."""

    name: str
    values: Sequence[float]
    low: Sequence[float]  # ends of the 95 % interval
    high: Sequence[float]
    paper: Sequence[float | None]
