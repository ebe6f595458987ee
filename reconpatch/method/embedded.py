"""The network whose ImageNet weights are installed with a Python package. Nothing heavy is imported here."""

from reconpatch.errors import ReconpatchError

EMBEDDED = "tf_efficientnet_lite0"


def check_weights(name: str, weights: str) -> None:
    """Raise ReconpatchError if embedded weights are asked for and the network has none."""
    if weights == "embedded" and name.split(".")[0] != EMBEDDED:
        raise ReconpatchError(f"embedded weights exist for {EMBEDDED} only", where=f"backbone {name!r}")
