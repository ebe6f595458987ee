import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawing import write_image, write_mask
from PIL import Image

from reconpatch.data.index import index
from reconpatch.data.manifest import check_unchanged, listing, manifest_json, read_manifest
from reconpatch.errors import ReconpatchError


def test_a_manifest_is_the_same_wherever_the_data_lie_and_read_as_written(mvtec, tmp_path, monkeypatch) -> None:
    (mvtec / "nut/train/good/000.png").rename(mvtec / "nut/train/good/ü\n .png")
    (mvtec / "nut/train/good/001.png").rename(mvtec / "nut/train/good" / os.fsdecode(b"\xff.png"))
    items = index("mvtec_ad", mvtec, "nut")
    check_unchanged(mvtec / "nut", items)
    shutil.copytree(mvtec, tmp_path / "moved")
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    assert manifest_json(items) == manifest_json(index("mvtec_ad", tmp_path / "moved", "nut", threads=3))
    file = tmp_path / "m.json"
    file.write_text(manifest_json(items))
    assert read_manifest(file) == (items, json.loads(file.read_text())["digest"])


def test_only_copies_have_a_digest_of_their_pixels_in_the_manifest(mvtec, tmp_path) -> None:
    """Without copies the manifest, and what follows from its digest, is as before there was such a digest."""
    assert "pixels_sha256" not in manifest_json(index("mvtec_ad", mvtec, "nut"))
    Image.open(mvtec / "nut/test/good/000.png").save(mvtec / "nut/test/good/again.bmp")
    items = index("mvtec_ad", mvtec, "nut")
    (tmp_path / "m.json").write_text(manifest_json(items))
    read, _ = read_manifest(tmp_path / "m.json")
    assert read == items
    assert [item.path for item in read if item.pixels_sha256] == ["test/good/000.png", "test/good/again.bmp"]


def sealed(row: dict[str, Any]) -> str:
    """A manifest of one image whose digest fits."""
    return json.dumps(
        {"digest": hashlib.sha256(json.dumps([row], sort_keys=True).encode()).hexdigest(), "images": [row]}
    )


def without(row: dict[str, Any], left_out: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != left_out}


def test_damaged_edited_and_older_manifests_are_refused(mvtec, tmp_path) -> None:
    text = manifest_json(index("mvtec_ad", mvtec, "nut"))
    row = next(row for row in json.loads(text)["images"] if "masks" in row)
    (mask,) = row["masks"]
    # Written by another version, its digest right: a missing field must not become a default.
    others = [
        {"path": "a.png", "split": "test", "label": 1, "defect": "x"},
        without(row, "masks") | {"mask": mask["path"], "mask_sha256": mask["sha256"], "mask_bytes": mask["bytes"]},
        *(without(row, key) for key in row if key != "masks"),
        *(row | {"masks": [without(mask, key)]} for key in mask),
        *(row | {"masks": masks} for masks in ([mask, mask | {"more": 1}], [mask["path"]], mask["path"], 3)),
    ]
    (tmp_path / "m.json").write_text(sealed(row))
    assert [item.path for item in read_manifest(tmp_path / "m.json")[0]] == [row["path"]]
    for content in (
        *map(sealed, others),
        *("", text[: len(text) // 2], "[]", "[" * 100_000, '{"digest": "", "images": ["abc"]}'),
        *('{"digest": "", "images": 3}', "\udcff\udcfe"),
        *(text.replace('"label": 0', '"label": 1', 1), text.replace('"digest": "', '"digest": "0', 1)),
        *(text.replace('"mode"', '"mood"', 1), text.replace("{", '{"more": 1,', 1)),
    ):
        (tmp_path / "m.json").write_bytes(os.fsencode(content))
        with pytest.raises(ReconpatchError, match="not a manifest") as caught:
            read_manifest(tmp_path / "m.json")
        assert caught.value.where == str(tmp_path / "m.json") and "delete it" in caught.value.fix


def test_notes_are_read_as_they_were_written_and_left_out_where_there_are_none(mvtec, tmp_path) -> None:
    plain = index("mvtec_ad", mvtec, "nut")
    text = manifest_json(plain)
    assert not any(f'"{key}"' in text for key in ("notes", "classes", "saturation"))
    assert text.count('"masks"') == sum(item.label for item in plain)
    *others, masked = plain
    more = (replace(masked.masks[0], notes=("a", "b")), replace(masked.masks[0], classes=True, saturation=5))
    noted = [replace(others[0], notes=("of a single colour",)), *others[1:], replace(masked, masks=more)]
    for items in (plain, noted):
        (tmp_path / "m.json").write_text(manifest_json(items))
        assert read_manifest(tmp_path / "m.json")[0] == items


def test_what_is_extracted_is_what_was_indexed(mvtec, rng) -> None:
    nut, items = mvtec / "nut", index("mvtec_ad", mvtec, "nut")
    check_unchanged(nut, items, "images", threads=2)
    check_unchanged(nut, items, "masks")
    write_image(nut / "train/good/001.png", rng, (50, 40))
    content = bytearray((nut / "train/good/002.png").read_bytes())
    content[-20] ^= 1
    (nut / "train/good/002.png").write_bytes(content)
    (nut / "test/good/000.png").unlink()
    with pytest.raises(ReconpatchError) as caught:
        check_unchanged(nut, items, "images", threads=2)
    first, *rest = str(caught.value).split("\n  ")
    assert first.startswith("3 of 11 images changed since they were indexed; put them back, or run again with")
    assert [line.removeprefix(f"{nut}/") for line in rest] == [
        f"train/good/001.png: {(nut / 'train/good/001.png').stat().st_size} bytes, were {items[1].bytes}",
        "train/good/002.png: other bytes",
        "test/good/000.png: gone",
    ]
    check_unchanged(nut, items, "masks")
    write_mask(nut / "ground_truth/bent/001_mask.png", box=(0, 0, 9, 9))
    with pytest.raises(ReconpatchError, match=r"1 of 5 masks changed(?s:.*)bent/001_mask\.png"):
        check_unchanged(nut, items, "masks")


def test_listing_sees_broken_links_and_linked_folders(mvtec, rng) -> None:
    """A category whose images lie elsewhere, as on a shared disk."""
    nut, elsewhere = mvtec / "nut", mvtec.parent / "elsewhere"
    shutil.move(nut / "train/good", elsewhere)
    (nut / "train/good").symlink_to(elsewhere)
    before = listing("mvtec_ad", mvtec, "nut")
    write_image(elsewhere / "000.png", rng)
    between = listing("mvtec_ad", mvtec, "nut")
    (elsewhere / "009.png").symlink_to("away.png")
    assert len({before, between, listing("mvtec_ad", mvtec, "nut")}) == 3
