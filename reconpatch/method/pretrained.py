"""Pretrained weights that timm downloads: whether their hub answers."""

from functools import cache
from pathlib import Path

from reconpatch.errors import ReconpatchError
from reconpatch.method.embedded import EMBEDDED

REACHED_WITHIN = 3.0  # s for the hub to answer


def not_there(name: str, reason: str) -> ReconpatchError:
    """timm name, why its pretrained weights cannot be had -> the error that says so."""
    return ReconpatchError(
        reason,
        where=f"backbone {name!r}",
        fix=f"fetch them elsewhere and set weights: file and weight_files: {{{name}: <path>}}, for `reconpatch fit` "
        f"--weight-file FILE; {EMBEDDED} has weights that are installed (weights: embedded)",
    )


def not_downloaded(name: str, error: Exception) -> ReconpatchError:
    """timm name, what a client raised -> the error for the user."""
    return not_there(name, f"its pretrained weights could not be downloaded ({type(error).__name__}: {error})")


def check_hub(name: str, repository: str) -> None:
    """timm name, the repository of its weights on the hub -> ReconpatchError if the hub does not answer and nothing of
    the repository was downloaded before.

    The hub's client itself would try again and again, for most of a minute.
    """
    from huggingface_hub import constants

    folder = f"models--{repository.split('@')[0].replace('/', '--')}"
    if Path(constants.HF_HUB_CACHE, folder, "snapshots").is_dir():
        return
    try:
        _reach(constants.ENDPOINT)
    except Exception as error:  # the client's own classes, or those of the library below it
        raise not_downloaded(name, error) from None


@cache
def _reach(hub: str) -> None:
    """Address -> nothing if it answers, else whatever the client raises. One answer is enough for a process."""
    from huggingface_hub import get_session

    get_session().head(hub, timeout=REACHED_WITHIN)
