import os
import threading
from pathlib import Path

import numpy as np
import pytest
from drawing import write_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reconpatch.data.images import load_image
from reconpatch.data.layouts import EXTENSIONS, OTHER_FORMATS
from reconpatch.detector import photographs
from reconpatch.detector.photographs import MOST, UNREAD, Photograph, examine, find, load, name_of
from reconpatch.errors import ReconpatchError
from reconpatch.files import sha256_of


def quiet(*_: object) -> None:
    """No progress is shown."""


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def names(*sources: Path) -> list[str]:
    return [each.name for each in find(sources)[0]]


def test_any_depth_any_case_nothing_hidden(tmp_path) -> None:
    kept = ["a.png", "B.JPG", "deep/er/c.TiF", "deep/d.webp", "e.jpeg", "f.bmp", "g.tiff"]
    left = [".hidden.png", "deep/.cache/h.png", "__MACOSX/._a.png", "notes.txt", "Thumbs.db", "README"]
    touch(tmp_path, *kept, *left)
    found, remarks = find([tmp_path])
    assert [each.name for each in found] == sorted(kept)
    assert all(each.path == tmp_path / each.name for each in found)
    assert remarks == [f"1 files ending in {s} are no images" for s in ("nothing", ".db", ".txt")]


def test_every_suffix_is_read_refused_or_counted(tmp_path, rng) -> None:
    touch(tmp_path, *(f"a{suffix}" for suffix in EXTENSIONS))
    assert len(names(tmp_path)) == len(EXTENSIONS)
    touch(tmp_path / "other", *(f"b{suffix}" for suffix in UNREAD))
    found = find([tmp_path / "other"])[0]
    assert len(found) == len(UNREAD) > len(OTHER_FORMATS)
    for each in found:
        write_image(each.path.with_suffix(".png"), rng)
        each.path.with_suffix(".png").replace(each.path)  # a preview that could be decoded does not count
        with pytest.raises(ReconpatchError, match=rf"b{each.path.suffix}: images in this format are not read; save it"):
            load(each)


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
        examine(find([tmp_path / "in"])[0][1:2], 1, quiet)


def test_folders_tell_equal_names_apart(tmp_path) -> None:
    touch(tmp_path, "monday/a.png", "tuesday/a.png", "tuesday/b.png")
    assert names(tmp_path / "monday", tmp_path / "tuesday") == ["monday/a.png", "tuesday/a.png", "tuesday/b.png"]
    assert names(tmp_path / "monday", tmp_path / "tuesday/b.png") == ["a.png", "b.png"]
    with pytest.raises(ReconpatchError, match=r"a\.png: two images would have this name"):
        find([tmp_path / "monday/a.png", tmp_path / "tuesday/a.png"])


def test_a_file_below_two_sources_counts_once(tmp_path) -> None:
    """By the file itself: through a link, by another spelling, and named twice."""
    touch(tmp_path, "test/good/a.png", "test/stain/b.png", "new/c.png")
    test, remark = tmp_path / "test", "images lie below more than one of the sources given; each counts once"
    for sources in ([test, test / "stain"], [test / "stain", test], [test / "stain/b.png", test]):
        found, remarks = find(sources)  # the name that tells most, whichever comes first
        assert [each.name for each in found] == ["good/a.png", "stain/b.png"] and remarks == [f"1 {remark}"]
    found, remarks = find([test, test / "stain/../good", test / "stain/b.png", tmp_path / "new"])
    assert [each.name for each in found] == ["c.png", "good/a.png", "stain/b.png"] and remarks == [f"2 {remark}"]
    (test / "twin.png").symlink_to(test / "good/a.png")
    assert names(test) == ["good/a.png", "stain/b.png", "twin.png"]  # a link within a source stays
    (tmp_path / "link").symlink_to(test)
    assert find([tmp_path / "link", test])[1] == [f"3 {remark}"]
    assert find([test, tmp_path / "new"])[1] == []


def test_names_never_lead_out_of_a_folder(tmp_path, monkeypatch) -> None:
    """Names become files below overlays/: `..` and `.` stand for the folder they mean."""
    touch(tmp_path, "here/now/a.png", "here/a.png")
    monkeypatch.chdir(tmp_path / "here/now")
    assert names(Path(), Path("../a.png")) == ["a.png", "now/a.png"]
    assert names(Path(".."), Path()) == ["a.png", "now/a.png"]
    touch(tmp_path, "other/a.png")
    assert names(Path(), Path("../../other")) == ["now/a.png", "other/a.png"]


def test_order_of_the_folders_does_not_matter(tmp_path) -> None:
    touch(tmp_path, "x/b.png", "y/a.png", "y/c.png")
    assert names(tmp_path / "x", tmp_path / "y") == names(tmp_path / "y", tmp_path / "x") == ["a.png", "b.png", "c.png"]


def test_nothing_to_look_at(tmp_path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ReconpatchError, match=r"no images below it \(1 files ending in .txt are no images\).*\.png"):
        find([tmp_path])
    with pytest.raises(ReconpatchError, match=r"1 problem of the images:\n.*no such file or folder"):
        find([tmp_path / "nowhere"])


def test_many_problems_are_counted(tmp_path) -> None:
    touch(tmp_path, *(f"{i:03}.gif" for i in range(MOST + 5)))
    with pytest.raises(ReconpatchError, match=f"^{MOST + 5} problems") as error:
        examine(find([tmp_path])[0], 1, quiet)
    lines = str(error.value).splitlines()
    assert len(lines) == MOST + 2 and lines[-1] == "and 5 more"


def test_odd_names_stay_themselves(tmp_path, rng) -> None:
    odd = ["line\nbreak.png", 'comma, quote".png', "é ü 日本.png", " blank.png", os.fsdecode(b"latin\xe9.png")]
    for name in odd:
        write_image(tmp_path / name, rng)
    found, _ = find([tmp_path])
    assert [each.name for each in found] == sorted(odd)
    assert [facts.name for facts in examine(found, 2, quiet)] == sorted(odd)
    (tmp_path / "line\nbreak.png").write_bytes(b"")
    with pytest.raises(ReconpatchError) as error:
        examine(find([tmp_path])[0], 2, quiet)
    assert len(str(error.value).splitlines()) == 2 and r"line\nbreak.png" in str(error.value)


MODES = {
    "grey": Image.new("L", (5, 4), 77),
    "one pixel": Image.new("RGB", (1, 1), (1, 2, 3)),
    "with alpha": Image.new("RGBA", (5, 4), (10, 20, 30, 0)),
    "palette": Image.new("RGB", (5, 4), (200, 100, 50)).convert("P"),
    "black and white": Image.new("1", (5, 4), 1),
    "16 bits": Image.fromarray(np.full((4, 5), 257 * 99, np.uint16)),
    "CMYK": Image.new("CMYK", (5, 4), (0, 255, 255, 0)),
}
COLOURS = {
    **{"grey": (77, 77, 77), "one pixel": (1, 2, 3), "with alpha": (10, 20, 30), "black and white": (255, 255, 255)},
    **{"16 bits": (99, 99, 99), "CMYK": (255, 0, 0)},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode, tmp_path) -> None:
    """As the workflow reads it, from a file and from memory."""
    image = MODES[mode]
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    from_file = load(Photograph("a", path))
    assert from_file.mode == "RGB" and from_file.size == image.size
    if mode in COLOURS:
        assert (np.asarray(from_file) == COLOURS[mode]).all()
    np.testing.assert_array_equal(np.asarray(from_file), np.asarray(load_image(path)))
    np.testing.assert_array_equal(np.asarray(from_file), np.asarray(load(image)))


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


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_arrays_are_their_pixels(width, height, grey, strided) -> None:
    rng = np.random.default_rng(width * 10 + height)
    array = rng.integers(0, 256, (height, width) if grey else (height, width, 3)).astype(np.uint8)
    given_array = array[::-1][::-1] if strided else array
    want = np.repeat(array[..., None], 3, 2) if grey else array
    np.testing.assert_array_equal(np.asarray(load(given_array)), want)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\).*uint8"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 4), np.uint8), "last axis must hold the 3 colours"),
        (np.zeros((4, 4, 1), np.uint8), "last axis must hold the 3 colours"),
        (np.zeros(4, np.uint8), r"uint8 \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        ("a.png", "an image is str"),
        (None, "NoneType"),
        (Image.new("F", (4, 4)), "floating-point"),
        (Image.new("LAB", (4, 4)), "mode LAB"),
    ],
)
def test_what_is_no_image(source, said) -> None:
    with pytest.raises(ReconpatchError, match=said):
        load(source)
    with pytest.raises(ReconpatchError, match=f"image 1: .*{said}"):
        examine([np.zeros((2, 2), np.uint8), source], 1, quiet)


def test_a_cut_file_opened_by_the_user_is_an_error_of_ours(tmp_path, rng, damage) -> None:
    write_image(tmp_path / "a.png", rng)
    damage(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image, pytest.raises(ReconpatchError, match="cannot be decoded"):
        load(image)


def test_facts_and_all_problems_at_once(tmp_path, rng, damage) -> None:
    for i, size in enumerate([(7, 5), (5, 7), (3, 3), (9, 9)]):
        write_image(tmp_path / f"{i}.png", rng, size)
    sources = [*find([tmp_path])[0], Image.new("RGB", (2, 6)), np.zeros((8, 4), np.uint8)]
    seen = []
    facts = examine(sources, 2, lambda *p: seen.append(p))
    assert [(f.width, f.height) for f in facts] == [(7, 5), (5, 7), (3, 3), (9, 9), (2, 6), (4, 8)]
    assert [f.name for f in facts] == [name_of(s, n) for n, s in enumerate(sources)]
    assert [f.name for f in facts][4:] == ["image 4", "image 5"]
    assert all(f.sha256 == sha256_of(tmp_path / f.name) for f in facts[:4]) and len({f.sha256 for f in facts}) == 6
    assert seen == [(i, 6) for i in range(1, 7)]
    damage(tmp_path / "1.png")
    (tmp_path / "2.png").write_text("<html>")
    (tmp_path / "3.png").unlink()
    with pytest.raises(ReconpatchError, match=r"^3 problems of the images") as error:
        examine(sources, 2, quiet)
    lines = str(error.value).splitlines()[1:]
    assert [Path(line.split(":")[0]).name for line in lines] == ["1.png", "2.png", "3.png"]
    assert "HTML" in lines[1] and "no such file" in lines[2]


def test_the_bytes_decoded_are_the_bytes_hashed(tmp_path, rng, monkeypatch) -> None:
    """A file that changes after it was read is read once alone."""
    write_image(tmp_path / "a.png", rng)
    before = sha256_of(tmp_path / "a.png")

    def read_and_change(path: Path) -> bytes:
        content = path.read_bytes()
        write_image(path, rng, (9, 9))
        return content

    monkeypatch.setattr(photographs, "read_file", read_and_change)
    facts = examine([Photograph("a", tmp_path / "a.png")], 1, quiet)[0]
    assert facts.sha256 == before != sha256_of(tmp_path / "a.png")


def test_the_shape_is_part_of_what_an_array_is() -> None:
    flat = [np.full(shape, 7, np.uint8) for shape in ((2, 8), (8, 2), (4, 4), (4, 4, 3))]
    digests = [facts.sha256 for facts in examine([*flat, Image.fromarray(flat[2])], 1, quiet)]
    assert len(set(digests)) == 3 and digests[2] == digests[3] == digests[4]  # grey or not, the same pixels


def test_no_more_than_some_images_are_decoded_at_once(monkeypatch) -> None:
    lock, inside, most = threading.Lock(), [0], [0]
    real = photographs.load

    def counted(source: photographs.Source) -> Image.Image:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.01)
        with lock:
            inside[0] -= 1
        return real(source)

    monkeypatch.setattr(photographs, "load", counted)
    examine([np.zeros((2, 2), np.uint8)] * 64, 64, quiet)
    assert 1 < most[0] <= photographs.DECODERS
