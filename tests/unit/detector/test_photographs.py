import os
from pathlib import Path

import numpy as np
import pytest
from drawing import write_image
from PIL import Image
from tiffs import tiff

from reconpatch.data.images import load_image
from reconpatch.data.layouts import EXTENSIONS
from reconpatch.detector.estimator import sources_of
from reconpatch.detector.photographs import NOT_READ, Photograph, examine, find_photographs, load, name_of
from reconpatch.errors import ReconpatchError, Remark
from reconpatch.files import sha256_of


def quiet(*_: object) -> None:
    """No progress is shown."""


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def names(*sources: Path) -> list[str]:
    return [each.name for each in find_photographs(sources)[0]]


def test_any_depth_any_case_nothing_hidden(tmp_path) -> None:
    kept = ["a.png", "B.JPG", "deep/er/c.TiF", "deep/d.webp", "e.jpeg", "f.bmp", "g.tiff"]
    left = [".hidden.png", "deep/.cache/h.png", "notes.txt", "Thumbs.db", "README"]
    touch(tmp_path, *kept, *left)
    found, remarks = find_photographs([tmp_path])
    assert [each.name for each in found] == sorted(kept)
    assert all(each.path == tmp_path / each.name for each in found)
    assert len(remarks) == 3 and all(remark.startswith("1 files ending in ") for remark in remarks)


def test_folders_of_systems_and_network_drives_are_left_out_with_a_remark(tmp_path) -> None:
    left = ["@eaDir/a.png/SYNOFILE_THUMB_M.jpg", "deep/@eaDir/b.jpg", "#recycle/c.png", "$RECYCLE.BIN/d.png"]
    left += ["System Volume Information/e.png", "lost+found/f.png", "deep/@Recycle/g.png", "__MACOSX/._a.png"]
    left += ["Thumbnails/a.png", "deep/.thumbs/b.png", "THUMBS/a.jpg"]
    touch(tmp_path, "a.png", "deep/b.png", *left)
    found, remarks = find_photographs([tmp_path])
    assert [each.name for each in found] == ["a.png", "deep/b.png"] and len(remarks) == 10
    for name in ("2 folders @eaDir", "#recycle", "$RECYCLE.BIN", "System Volume", "lost+found", "@Recycle", "__MACOSX"):
        assert any(name in remark for remark in remarks)
    for name in ("Thumbnails", ".thumbs", "THUMBS"):
        assert f"1 folders {name} of a system, network drive or program are left out" in remarks
    for folder, image in (("#recycle", "c.png"), ("Thumbnails", "a.png"), ("deep/.thumbs", "b.png")):
        assert names(tmp_path / folder) == names(tmp_path / folder / image) == [image]  # given by the user


MIXED = [  # files, what fit, predict and evaluate say of them: refused, remarked on or nothing
    (["good/0.png", "NG/1.png"], "refused", "", ""),
    (["day 1/Good/0.png", "day 1/scratches/1.png"], "refused", "", ""),
    (["0.png", "bad_parts/1.png"], "refused", "", ""),
    (["line/a/0.png", "line/N.i.O./1.png"], "refused", "", ""),
    (["0.png", "good/1.png"], "refused", "", ""),
    (["gut/0.png", "fehler/1.png"], "remark", "", ""),
    (["0.png", "small/0.png"], "remark", "", ""),
    (["good/monday/0.png", "ok/1.png"], "", "", ""),
    (["no defects/0.png", "no defects/1.png"], "", "", ""),
    (["nut/train/good/0.png", "nut/test/good/0.png"], "refused", "refused", "refused"),
    (["0.png", "Masks/0.png"], "refused", "refused", "refused"),
    (["good/0.png", "bent/0.png", "ground truth/bent/0.png"], "refused", "refused", "refused"),
    (["good/0.png", "good/0_mask.png"], "refused", "remark", "remark"),
    (["bent/0.jpg", "bent/0-GT.PNG"], "refused", "remark", "remark"),
    (["gas_mask.png", "gas_oven.png"], "", "", ""),
    (["0.png", "0.jpg"], "remark", "remark", "remark"),
]


@pytest.mark.parametrize(("files", "fit", "predict", "evaluate"), MIXED, ids=str)
def test_what_may_be_no_photograph_of_a_good_product_is_asked_about(files, fit, predict, evaluate, tmp_path) -> None:
    touch(tmp_path, *files)
    assert find_photographs([tmp_path])[1] == []  # without a purpose, for example with a file of labels
    for purpose, expected in (("fit", fit), ("predict", predict), ("evaluate", evaluate)):
        if expected == "refused":
            with pytest.raises(ReconpatchError) as caught:
                find_photographs([tmp_path], purpose)
            assert caught.value.fix and any(part in str(caught.value) for part in Path(files[-1]).parts)
        else:
            assert len(find_photographs([tmp_path], purpose)[1]) == int(expected == "remark")


def test_folders_that_are_given_one_by_one_are_taken_as_given(tmp_path) -> None:
    touch(tmp_path, "good/0.png", "NG/1.png", "masks/2.png")
    folders = [tmp_path / name for name in ("good", "NG", "masks")]
    for purpose in ("fit", "predict", "evaluate"):
        assert [each.name for each in find_photographs(folders, purpose)[0]] == ["0.png", "1.png", "2.png"]
    assert find_photographs(folders, "fit")[1] == []


def test_files_that_are_given_one_by_one_are_taken_as_given(tmp_path) -> None:
    """Also beside their folder; those that were found in one are not."""
    touch(tmp_path, "can front.png", "can front label.png", "b.png", "b_mask.png")
    front, label, b, mask = (tmp_path / n for n in ("can front.png", "can front label.png", "b.png", "b_mask.png"))
    found, (remark,) = find_photographs([front, label], "fit")
    assert len(found) == 2 and "1 images are called like masks" in remark and "can front label.png" in remark
    for sources, named in (([tmp_path, label], "b_mask.png"), ([tmp_path, mask], "can front label.png")):
        with pytest.raises(ReconpatchError, match=f"1 images are called like masks of others.*{named}"):
            find_photographs(sources, "fit")
    found, remarks = find_photographs([tmp_path, label, mask], "fit")
    assert len(found) == 4 and any("2 images are called like masks" in remark for remark in remarks)
    with pytest.warns(Remark, match="called like masks"):
        assert len(sources_of([str(b), str(mask)], "fit")) == 2


def test_files_beside_folders_are_called_so(tmp_path) -> None:
    touch(tmp_path, "0.png", "good/1.png")
    with pytest.raises(ReconpatchError, match="it holds files of its own, good"):
        find_photographs([tmp_path], "fit")
    (tmp_path / "good").rename(tmp_path / "monday")
    assert r"files of its own (1), monday (1)" in find_photographs([tmp_path], "fit")[1][0]


def test_every_suffix_is_read_or_refused(tmp_path, rng) -> None:
    """Also if a preview in the file could be decoded."""
    touch(tmp_path / "images", *(f"a{suffix}" for suffix in EXTENSIONS))
    assert len(names(tmp_path / "images")) == len(EXTENSIONS)
    touch(tmp_path, *(f"b{suffix}" for suffix in NOT_READ))
    for suffix in NOT_READ:
        write_image(tmp_path / "b.png", rng)
        (tmp_path / "b.png").replace(tmp_path / f"b{suffix}")
        with pytest.raises(ReconpatchError, match=f"b{suffix}: images in this format are not read"):
            load(find_photographs([tmp_path / f"b{suffix}"])[0][0])


def test_links_are_followed_and_end(tmp_path) -> None:
    """A link to a folder outside, one to a folder above, two to each other, and one to nothing."""
    touch(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in/outside").symlink_to(tmp_path / "out")
    (tmp_path / "in/above").symlink_to(tmp_path / "in")
    (tmp_path / "out/back").symlink_to(tmp_path / "in")
    (tmp_path / "in/twin.png").symlink_to(tmp_path / "in/a.png")
    assert names(tmp_path / "in") == ["a.png", "outside/b.png", "twin.png"]
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(ReconpatchError, match="broken link"):
        examine(find_photographs([tmp_path / "in"])[0][1:2], 1, quiet)


def test_folders_tell_equal_names_apart(tmp_path) -> None:
    monday, tuesday = (touch(tmp_path / day, "a.png") for day in ("monday", "tuesday"))
    touch(tuesday, "b.png")
    assert names(monday, tuesday) == names(tuesday, monday) == ["monday/a.png", "tuesday/a.png", "tuesday/b.png"]
    assert names(monday, tuesday / "b.png") == ["a.png", "b.png"]
    with pytest.raises(ReconpatchError, match=r"a\.png: two images would have this name"):
        names(monday / "a.png", tuesday / "a.png")


def test_a_file_below_two_sources_counts_once(tmp_path) -> None:
    """By the file itself: through a link, by another spelling, and named twice; the longer name is kept."""
    touch(tmp_path, "test/good/a.png", "test/stain/b.png", "new/c.png")
    test = tmp_path / "test"
    for sources in ([test, test / "stain"], [test / "stain", test], [test / "stain/b.png", test]):
        found, remarks = find_photographs(sources)
        assert [each.name for each in found] == ["good/a.png", "stain/b.png"]
        assert len(remarks) == 1 and remarks[0].startswith("1 images lie below more than one")
    assert find_photographs([test, test / "stain/../good", tmp_path / "new"])[1][0].startswith("1 images")
    (test / "twin.png").symlink_to(test / "good/a.png")
    assert names(test) == ["good/a.png", "stain/b.png", "twin.png"]  # a link within a source is kept
    (tmp_path / "link").symlink_to(test)
    assert find_photographs([tmp_path / "link", test])[1][0].startswith("3 images")


def test_names_never_lead_out_of_a_folder(tmp_path, monkeypatch) -> None:
    """Names become files in overlays/: `..` and `.` are replaced by the folders they mean."""
    touch(tmp_path, "here/now/a.png", "here/a.png", "other/a.png")
    monkeypatch.chdir(tmp_path / "here/now")
    assert names(Path(), Path("../a.png")) == names(Path(".."), Path()) == ["a.png", "now/a.png"]
    assert names(Path(), Path("../../other")) == ["now/a.png", "other/a.png"]


def test_nothing_to_look_at(tmp_path) -> None:
    touch(tmp_path, "notes.txt")
    for source, message in ((tmp_path, "no images below it"), (tmp_path / "nowhere", "no such file or folder")):
        with pytest.raises(ReconpatchError, match=message):
            find_photographs([source])


def test_odd_names_stay_themselves(tmp_path, rng) -> None:
    odd = ["line\nbreak.png", 'comma, quote".png', "é ü 日本.png", " blank.png", os.fsdecode(b"latin\xe9.png")]
    for name in odd:
        write_image(tmp_path / name, rng)
    found = find_photographs([tmp_path])[0]
    assert [facts.name for facts in examine(found, 2, quiet)] == sorted(odd)
    (tmp_path / "line\nbreak.png").write_bytes(b"")
    with pytest.raises(ReconpatchError) as error:
        examine(found, 2, quiet)
    assert len(str(error.value).splitlines()) == 2 and r"line\nbreak.png" in str(error.value)


MODES = {
    "grey": (Image.new("L", (5, 4), 77), (77, 77, 77)),
    "one pixel": (Image.new("RGB", (1, 1), (1, 2, 3)), (1, 2, 3)),
    "with alpha": (Image.new("RGBA", (5, 4), (10, 20, 30, 0)), (10, 20, 30)),
    "palette": (Image.new("RGB", (5, 4), (200, 100, 50)).convert("P"), None),
    "black and white": (Image.new("1", (5, 4), 1), (255, 255, 255)),
    "16 bits": (Image.fromarray(np.full((4, 5), 257 * 99, np.uint16)), (99, 99, 99)),
    "CMYK": (Image.new("CMYK", (5, 4), (0, 255, 255, 0)), (255, 0, 0)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode, tmp_path) -> None:
    """As the workflow reads it, from a file and from memory."""
    image, colour = MODES[mode]
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    pixels = np.asarray(load(Photograph("a", path)))
    assert pixels.shape == (image.height, image.width, 3) and (colour is None or (pixels == colour).all())
    np.testing.assert_array_equal(pixels, np.asarray(load_image(path)))
    np.testing.assert_array_equal(pixels, np.asarray(load(image)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_exif_says_from_a_file_and_from_memory(orientation, tmp_path) -> None:
    upright = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: np.transpose}
    turns |= {6: lambda a: np.rot90(a, 3), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}  # what a viewer does
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(upright).save(tmp_path / "a.png", exif=exif)
    want = turns[orientation](upright)
    with Image.open(tmp_path / "a.png") as opened:
        for source in (Photograph("a", tmp_path / "a.png"), opened):
            np.testing.assert_array_equal(np.asarray(load(source))[..., 0], want)
    facts = examine([Photograph("a", tmp_path / "a.png")], 1, quiet)[0]
    assert (facts.width, facts.height) == want.shape[::-1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\).*uint8"),
        (np.zeros((4, 4, 4), np.uint8), "3 colours"),
        (np.zeros(4, np.uint8), r"uint8 \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        ("a.png", "an image is str"),
        (None, "NoneType"),
        (Image.new("F", (4, 4)), "floating-point"),
        (Image.new("LAB", (4, 4)), "mode LAB"),
    ],
)
def test_what_is_no_image(source, message) -> None:
    with pytest.raises(ReconpatchError, match=message):
        load(source)
    with pytest.raises(ReconpatchError, match=f"image 1: .*{message}"):
        examine([np.zeros((2, 2), np.uint8), source], 1, quiet)


def test_facts_and_all_problems_at_once(tmp_path, rng, damage) -> None:
    for i, size in enumerate([(7, 5), (5, 7), (3, 3), (9, 9)]):
        write_image(tmp_path / f"{i}.png", rng, size)
    sources = [*find_photographs([tmp_path])[0], Image.new("RGB", (2, 6)), np.zeros((8, 4), np.uint8)]
    facts = examine(sources, 2, quiet)
    assert [(f.width, f.height) for f in facts] == [(7, 5), (5, 7), (3, 3), (9, 9), (2, 6), (4, 8)]
    assert [f.name for f in facts] == [name_of(s, n) for n, s in enumerate(sources)]
    assert all(f.sha256 == sha256_of(tmp_path / f.name) for f in facts[:4]) and len({f.sha256 for f in facts}) == 6
    damage(tmp_path / "1.png")
    with Image.open(tmp_path / "1.png") as opened, pytest.raises(ReconpatchError, match="cannot be decoded"):
        load(opened)
    (tmp_path / "2.png").write_text("<html>")
    (tmp_path / "3.png").unlink()
    with pytest.raises(ReconpatchError, match=r"^3 problems of the images") as error:
        examine(sources, 2, quiet)
    assert [Path(line.split(":")[0]).name for line in str(error.value).splitlines()[1:]] == ["1.png", "2.png", "3.png"]


def test_files_with_the_same_problem_share_a_line(tmp_path) -> None:
    for n in range(8):
        (tmp_path / f"{n}.tif").write_bytes(tiff(np.zeros((4, 4, 1)), 32, 1))
    (tmp_path / "8.tif").write_bytes(b"")
    with pytest.raises(ReconpatchError) as error:
        examine(find_photographs([tmp_path])[0], 2, quiet)
    heading, same, other = str(error.value).splitlines()
    assert heading.startswith("9 problems") and other.startswith(f"{tmp_path / '8.tif'}: ")
    assert "32 bits" in same and same.endswith(f": 8 ({tmp_path / '0.tif'}, {tmp_path / '1.tif'}, ...)")


def test_copies_share_the_digest_of_their_pixels_however_they_are_saved(tmp_path, rng) -> None:
    write_image(tmp_path / "a.png", rng, (7, 5))
    picture = Image.open(tmp_path / "a.png")
    picture.save(tmp_path / "b.png", compress_level=0)
    picture.save(tmp_path / "c.bmp")
    picture.save(tmp_path / "d.tif", compression="tiff_lzw")
    picture.save(tmp_path / "e.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.transpose(Image.Transpose.ROTATE_180).save(tmp_path / "f.png", exif=exif)
    picture.putpixel((6, 4), tuple(255 - value for value in picture.getpixel((6, 4))))
    picture.save(tmp_path / "g.png")
    files = find_photographs([tmp_path])[0]
    *copies, other = examine([*files[:6], np.asarray(Image.open(tmp_path / "a.png")), files[6]], 2, quiet)
    assert len({facts.pixels_sha256 for facts in copies}) == 1 != len({facts.sha256 for facts in copies})
    assert other.pixels_sha256 != copies[0].pixels_sha256


def test_the_shape_is_part_of_the_digest_of_an_array() -> None:
    flat = [np.full(shape, 7, np.uint8) for shape in ((2, 8), (8, 2), (4, 4), (4, 4, 3))]
    digests = [facts.sha256 for facts in examine([*flat, Image.fromarray(flat[2])], 1, quiet)]
    assert len(set(digests)) == 3 and digests[2] == digests[3] == digests[4]  # grey or not, the same pixels
