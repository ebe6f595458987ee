import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from drawing import write_image, write_mask

from reconpatch.data.index import index
from reconpatch.data.layouts import categories, category_folder, count_images
from reconpatch.data.manifest import check_unchanged, listing, manifest_json, read_manifest
from reconpatch.errors import ReconpatchError


def test_mvtec_layout(mvtec) -> None:
    items = index("mvtec_ad", mvtec, "nut")
    assert [i.path for i in items] == sorted(i.path for i in items if i.split == "train") + sorted(
        i.path for i in items if i.split == "test"
    )
    assert [(i.defect, i.label, i.mask) for i in items if i.split == "test"][:3] == [
        ("bent", 1, "ground_truth/bent/000_mask.png"),
        ("bent", 1, "ground_truth/bent/001_mask.png"),
        ("good", 0, None),
    ]
    assert {(i.width, i.height, i.mode) for i in items} == {(48, 40, "RGB")}
    assert all(len(i.sha256) == 64 and i.bytes for i in items)


def test_btad_pairs_masks_by_folder_not_by_stem(btad) -> None:
    for product, suffix in (("01", "png"), ("03", "bmp")):
        items = index("btad", btad, product)
        assert all(i.mask is None for i in items if not i.label)
        assert [i.mask for i in items if i.label] == [f"ground_truth/ko/{n:04}.{suffix}" for n in range(3)]
        assert {i.defect for i in items} == {"good", "ko"}


def test_btad_mask_may_have_another_suffix(btad) -> None:
    for mask in (btad / "01/ground_truth/ko").iterdir():
        write_mask(mask.with_suffix(".bmp"), (40, 40))
        mask.unlink()
    assert next(i.mask for i in index("btad", btad, "01") if i.label) == "ground_truth/ko/0000.bmp"


def test_folder_without_masks(own) -> None:
    assert categories("folder", own) == ["own"]
    assert category_folder("folder", own, "own") == own
    items = index("folder", own, "own")
    assert [i.split for i in items].count("train") == 5
    assert {(i.defect, i.label, i.mask) for i in items if i.split == "test"} == {("good", 0, None), ("broken", 1, None)}


def test_folder_masks_are_all_or_none(own) -> None:
    write_mask(own / "ground_truth/broken/0.png")
    with pytest.raises(ReconpatchError, match=r"all or none"):
        index("folder", own, "own")
    for i in range(1, 5):
        write_mask(own / f"ground_truth/broken/{i}_mask.png")
    assert all(i.mask for i in index("folder", own, "own") if i.label)


def test_categories_in_the_papers_order(tmp_path) -> None:
    for name in ("wood", "cable", "bottle", "zzz", "carpet"):
        (tmp_path / name / "train").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert categories("mvtec_ad", tmp_path) == ["bottle", "cable", "carpet", "wood", "zzz"]


def test_missing_root_and_category_are_named(tmp_path, mvtec) -> None:
    with pytest.raises(ReconpatchError, match="absent: no such folder"):
        categories("mvtec_ad", tmp_path / "absent")
    with pytest.raises(ReconpatchError, match="no mvtec_ad category"):
        categories("mvtec_ad", mvtec / "nut" / "train")
    with pytest.raises(ReconpatchError, match="bolt"):
        index("mvtec_ad", mvtec, "bolt")


def test_all_problems_are_listed_at_once(mvtec, rng, damage) -> None:
    nut = mvtec / "nut"
    damage(nut / "train/good/001.png")
    write_mask(nut / "ground_truth/bent/000_mask.png", size=(40, 40))
    (nut / "ground_truth/bent/001_mask.png").unlink()
    write_mask(nut / "ground_truth/scratch/009_mask.png")
    write_mask(nut / "ground_truth/scratch/000_mask.png", box=(0, 0, 0, 0))
    with pytest.raises(ReconpatchError) as caught:
        index("mvtec_ad", mvtec, "nut", threads=2)
    message = str(caught.value)
    assert "5 problem(s)" in message
    for part in (
        "train/good/001.png",
        "000_mask.png: mask is 40x40 px",
        "bent/001.png: no mask",
        "009_mask.png: mask without a defective image",
        "scratch/000_mask.png: mask of a defective image is empty",
    ):
        assert part in message


def test_empty_splits_are_errors(mvtec) -> None:
    shutil.rmtree(mvtec / "nut/train/good")
    with pytest.raises(ReconpatchError, match="train/good: no images"):
        index("mvtec_ad", mvtec, "nut")


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


def test_masks_in_a_misnamed_folder_are_not_ignored(own) -> None:
    write_mask(own / "ground_truth/brokne/0.png")
    with pytest.raises(ReconpatchError, match=r"brokne: masks for a folder .*broken|brokne: masks for a folder"):
        index("folder", own, "own")


def test_a_mac_archives_second_tree_is_no_category(mvtec) -> None:
    for name in ("__MACOSX", ".trash"):
        (mvtec / name / "train").mkdir(parents=True)
    assert categories("mvtec_ad", mvtec) == ["nut"]


def test_roots_that_may_not_be_listed_are_named(mvtec, monkeypatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ReconpatchError, match=r"data root .*: Permission denied"):
        categories("mvtec_ad", mvtec)


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


def test_category_names_that_cannot_be_folders_of_results(tmp_path) -> None:
    (tmp_path / "a b" / "train").mkdir(parents=True)
    with pytest.raises(ReconpatchError, match=r"'a b'.*rename it"):
        categories("mvtec_ad", tmp_path)


def test_listing_ignores_what_is_no_image(mvtec) -> None:
    before = listing("mvtec_ad", mvtec, "nut")
    (mvtec / "nut/.DS_Store").touch()
    (mvtec / "nut/test/readme.txt").touch()
    assert listing("mvtec_ad", mvtec, "nut") == before


def test_images_are_counted_as_they_are_indexed(mvtec, btad, own) -> None:
    assert count_images("mvtec_ad", mvtec / "nut") == (4, 7)  # as drawn in conftest.py
    assert count_images("btad", btad / "01") == count_images("btad", btad / "03") == (4, 6)
    assert count_images("folder", own) == (5, 10)
    for layout, root, category in (("mvtec_ad", mvtec, "nut"), ("btad", btad, "03"), ("folder", own, "own")):
        splits = [item.split for item in index(layout, root, category)]
        assert count_images(layout, category_folder(layout, root, category)) == (
            splits.count("train"),
            splits.count("test"),
        )


def test_counting_opens_nothing_and_minds_no_problems(mvtec) -> None:
    nut = mvtec / "nut"
    for file in nut.rglob("*.png"):
        file.write_bytes(b"")
    shutil.rmtree(nut / "ground_truth/bent")
    (nut / "test/good/readme.txt").touch()
    (nut / "train/good/004.JPG").touch()
    assert count_images("mvtec_ad", nut) == (5, 7)
    assert count_images("mvtec_ad", mvtec / "absent") == (0, 0)
