"""Patch features without decoding: python benchmarks/extraction.py {ours,forward,timm,patchcore,anomalib} --size 224.

`ours` is the whole path from uint8 images to float16 features, `forward` the pass of the network that `ours` prepared,
`timm` that of the same network as timm makes it. Weights are random: times are real, features are not.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from inputs import batches, normalised
from measure import emit, repeated, threads
from numpy.typing import NDArray

NETWORK = "wide_resnet50_2"
Images = NDArray[np.uint8]


def ours(images: Images, precision: str) -> Callable[[], Any]:
    """Normalise, forward, patch features, float16."""
    from ours import backbone, features

    network = backbone(NETWORK, precision)
    return lambda: features(network, images)


def forward(images: Images, precision: str) -> Callable[[], Any]:
    """The same network, its forward pass alone."""
    from ours import backbone, forward

    return forward(backbone(NETWORK, precision), images)


def plain(images: Images, _: str) -> Callable[[], Any]:
    """Timm's network as it comes: ordinary memory order, batch normalisation apart."""
    import timm

    network, x = timm.create_model(NETWORK, features_only=True, out_indices=(2, 3)).eval(), normalised(images)

    def call() -> Any:
        with torch.inference_mode():
            return network(x)

    return call


def patchcore(images: Images, _: str) -> Callable[[], Any]:
    """patchcore-inspection's `_embed`: 1,024 dimensions, numpy rows."""
    from patchcore_category import model

    network, x = model(images.shape[1], 0.1), normalised(images)
    return lambda: network._embed(x)


def anomalib(images: Images, _: str) -> Callable[[], Any]:
    """anomalib's PatchcoreModel while training: 1,536 dimensions, a tensor."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    network, x = PatchcoreModel(("layer2", "layer3"), NETWORK, pre_trained=False), normalised(images)

    def call() -> None:
        network(x)
        network.embedding_store.clear()  # it keeps what it made; here nothing shall pile up

    return call


def main() -> None:
    """The command line."""
    variants = {"ours": ours, "forward": forward, "timm": plain, "patchcore": patchcore, "anomalib": anomalib}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", choices=variants)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    torch.set_num_threads(threads())
    images = batches(1, given.batch, given.size)[0]
    costs = repeated(variants[given.variant](images, given.precision), given.batches)
    emit(**costs, images_per_s=given.batch / costs["wall_s"], cpu_s_per_image=costs["cpu_s"] / given.batch)


if __name__ == "__main__":
    main()
