"""What decides a training besides its patches."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training besides its patches. The names and symbols are those of the paper."""

    dim: int  # of the representation f
    projection_dim: int  # of the projection g
    epochs: int
    init: str  # how f begins: uniform, orthogonal or pca, as `first_layer`
    bias: bool  # whether f and g have one
    batch: int  # patches a batch, about
    batches: str  # all: of patches of all images; image: of one image each
    learning_rate: float  # of the first epoch; falls to 0 along a cosine
    weight_decay: float
    alpha: float  # share of the pairwise similarity
    k: int  # nearest neighbours of a patch
    sigma: float  # bandwidth of the pairwise similarity
    sigma_unit: str  # what sigma is measured in: one, or the median of the squared distances, as `median_of_pairs`
    margin: float  # distance up to which patches repel each other, in mean distances
    gamma: float  # share of the teacher that each update keeps
    teacher_norm: bool  # whether the teacher's projections are scaled to length 1
    seed: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TrainingSettings":
        """Values by name, among them those of a training -> TrainingSettings."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})
