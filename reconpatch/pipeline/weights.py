"""The step that downloads one backbone's pretrained weights, once for all categories."""

import json
from pathlib import Path

from reconpatch.files import write_text
from reconpatch.method.backbones import download_pretrained


def fetch_weights(backbone: str, destination: Path) -> None:
    """Name of a backbone -> its weights in the cache, their source and digest at `destination`."""
    write_text(destination, json.dumps(download_pretrained(backbone)) + "\n")
