"""A training step of ReConPatch: python benchmarks/step.py {train,products} --inputs 1536 --dim 512 --projection 1024.

`products` runs only the matrix products that a step cannot do without, of the same sizes.
"""

import argparse
from typing import Any

import numpy as np
import torch
from inputs import clustered
from measure import emit, measured, repeated, status_mb, threads
from numpy.typing import NDArray

SETTINGS: dict[str, Any] = {
    **{"learning_rate": 1e-5, "weight_decay": 1e-2, "alpha": 0.5, "k": 5, "sigma": 1.0, "margin": 1.0},
    **{"gamma": 0.999, "teacher_norm": False, "seed": 0},
    **{"init": "uniform", "bias": True, "sigma_unit": "one", "batches": "all"},
}


def train(steps: int, batch: int, inputs: int, dim: int, projection: int) -> dict[str, float]:
    """One epoch of so many steps, after one of two."""
    from reconpatch.method.training import train
    from reconpatch.method.training_settings import TrainingSettings

    def epoch(count: int) -> None:
        sizes = {"dim": dim, "projection_dim": projection, "epochs": 1, "batch": batch}
        train(patches[: count * batch], TrainingSettings(**sizes, **SETTINGS), threads=threads())

    patches = clustered(steps * batch, inputs).astype("float16")
    base = status_mb("VmRSS")
    epoch(2)
    _, costs = measured(lambda: epoch(steps), base)
    return costs | {cost: costs[cost] / steps for cost in ("wall_s", "cpu_s")}


def products(steps: int, batch: int, inputs: int, dim: int, projection: int) -> dict[str, float]:
    """The products of a step, in its order, on matrices that are there already."""

    def drawn(*shape: int) -> NDArray[np.float32]:
        return np.random.default_rng(0).random(shape, np.float32)

    f, g = drawn(dim, inputs), drawn(projection, dim)
    p, z, again, square = drawn(batch, inputs), drawn(batch, projection), drawn(batch, projection), drawn(batch, batch)
    both, dz = drawn(projection, inputs), drawn(projection, batch)
    rest = drawn(batch, projection), drawn(projection, dim), drawn(dim, inputs)

    def step() -> None:
        for _ in ("teacher", "student"):
            np.matmul(g, f, out=both)  # f and g as one layer
            np.matmul(p, both.T, out=z)  # projections
            np.matmul(z, again.T, out=square)  # distances
        np.matmul(square, z, out=rest[0])  # gradient of the projections
        np.matmul(dz, p, out=both)  # gradient of the layer
        np.matmul(both, f.T, out=rest[1])  # gradient of g
        np.matmul(g.T, both, out=rest[2])  # gradient of f

    flops = 3 * batch**2 * projection + 3 * batch * inputs * projection + 4 * projection * dim * inputs
    costs = repeated(step, steps)
    return costs | {"gflop": 2e-9 * flops, "gflop_per_s": 2e-9 * flops / costs["wall_s"]}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", choices=("train", "products"))
    for name, default in (("steps", 12), ("batch", 2048), ("inputs", 1536), ("dim", 512), ("projection", 1024)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(threads())
    run = train if given.variant == "train" else products
    values = run(given.steps, given.batch, given.inputs, given.dim, given.projection)
    steps = 120 * round(250_000 / given.batch)
    emit(**values, predicted_h=steps * values["wall_s"] / 3600)


if __name__ == "__main__":
    main()
