import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from drawing import write_image, write_mask

from reconpatch.data.index import index
from reconpatch.data.manifest import check_unchanged, listing, manifest_json, read_manifest
from reconpatch.errors import ReconpatchError


def test_manifest_round_trip_and_place_independence(mvtec, tmp_path) -> None:
    items = index("mvtec_ad", mvtec, "nut")
    shutil.copytree(mvtec, tmp_path / "moved")
    assert manifest_json(items) == manifest_json(index("mvtec_ad", tmp_path / "moved", "nut"))
    file = tmp_path / "m.json"
    file.write_text(manifest_json(items))
    again, digest = read_manifest(file)
    assert again == items and digest == json.loads(file.read_text())["digest"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"label": 0', '"label": 1', 1),
        lambda text: text.replace('"width": 48', '"width": 49', 1),
        lambda text: text.replace('"digest": "', '"digest": "0', 1),
        lambda text: text.replace('"mode"', '"mood"', 1),
        lambda text: text.replace('"images"', '"image"', 1),
        lambda text: text.replace("{", '{"more": 1,', 1),
        lambda text: "[]",
        lambda text: '{"digest": "", "images": ["abc"]}',
        lambda text: '{"digest": "", "images": 3}',
        lambda text: "[" * 100_000,
    ],
)
def test_spoilt_manifests_are_refused(spoil, mvtec, tmp_path) -> None:
    file = tmp_path / "m.json"
    text = manifest_json(index("mvtec_ad", mvtec, "nut"))
    file.write_text(spoil(text))
    assert file.read_text() != text
    with pytest.raises(ReconpatchError, match=r"m\.json: not a manifest as the index wrote it .*delete it"):
        read_manifest(file)


def test_manifests_of_other_fields_or_no_text_are_refused(tmp_path) -> None:
    """Written by another version, its digest right: a missing field must not become a default."""
    row = {"path": "a.png", "split": "test", "label": 1, "defect": "x", "mask": None}
    digest = hashlib.sha256(json.dumps([row], sort_keys=True).encode()).hexdigest()
    (tmp_path / "old.json").write_text(json.dumps({"digest": digest, "images": [row]}))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    for name in ("old.json", "bytes.json", "absent.json"):
        with pytest.raises(ReconpatchError, match=name):
            read_manifest(tmp_path / name)


def test_digest_does_not_depend_on_the_order_of_the_file_system(mvtec, tmp_path, monkeypatch) -> None:
    before = manifest_json(index("mvtec_ad", mvtec, "nut"))
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    assert manifest_json(index("mvtec_ad", mvtec, "nut", threads=3)) == before


def test_odd_names_survive_the_manifest(mvtec, tmp_path) -> None:
    (mvtec / "nut/train/good/000.png").rename(mvtec / "nut/train/good/ü\n .png")
    (mvtec / "nut/train/good/001.png").rename(mvtec / "nut/train/good" / os.fsdecode(b"\xff.png"))
    items = index("mvtec_ad", mvtec, "nut")
    (tmp_path / "m.json").write_text(manifest_json(items))
    assert read_manifest(tmp_path / "m.json")[0] == items
    check_unchanged(mvtec / "nut", items)


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


def test_listing_changes_with_a_file(mvtec, rng) -> None:
    before = listing("mvtec_ad", mvtec, "nut")
    assert before == listing("mvtec_ad", mvtec, "nut")
    write_image(mvtec / "nut/train/good/000.png", rng)
    assert before != listing("mvtec_ad", mvtec, "nut")


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
