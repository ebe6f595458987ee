"""Layouts of data sets: which categories a folder holds, and which file is what. No image is opened here.

A category is a folder: `<train>/*  <test>/<defect type>/*  <masks>/<defect type>/<mask>`, where LAYOUTS names the three
folders and a defect type is "good" (or another name of NORMAL) or any defect. `pair_masks` says which mask belongs to
which image, here and for photographs of one's own. Where a layout says so, an image has a folder of masks, one for each
of its defects, or a table beside the categories says what every image is (`split_table`).

Images are the files with a suffix of EXTENSIONS, in upper or lower case. Names that begin with a dot are no part of
the data: archives made on a Mac hold a `._000.png` beside every `000.png`. Nor are the SYSTEM_FOLDERS. Other files are
ignored, except images of other formats: those are problems, because they would be missed.
"""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from reconpatch.errors import ReconpatchError, quote
from reconpatch.files import NAME

# Order of the paper's Table 5: objects, then textures.
MVTEC_AD = (
    *("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"),
    *("carpet", "grid", "leather", "tile", "wood"),
)
SAMPLE = ("brick", "grass", "gravel")  # categories of the embedded sample, which `sample` draws
NORMAL = frozenset({"good", "ok", "normal"})
MASK_FOLDERS = frozenset({"groundtruth", "groundtruths", "gt", "mask", "masks"})  # names people give, letters alone
FORMAT_SUFFIXES = {  # format that is read, as Pillow calls it -> suffixes that announce it; a camera's MPO is a JPEG
    "PNG": {".png"},
    "JPEG": {".jpg", ".jpeg"},
    "MPO": {".jpg", ".jpeg"},
    "BMP": {".bmp"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
}
EXTENSIONS = frozenset().union(*FORMAT_SUFFIXES.values())
OTHER_FORMATS = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".jfif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dng"}
)
# Folders that systems, network drives and programs put among a user's own, in lower case: thumbnails, recycle bins,
# snapshots.
SYSTEM_FOLDERS = frozenset(
    {
        *("__macosx", "network trash folder", "temporary items"),  # macOS
        *("$recycle.bin", "recycler", "system volume information"),  # Windows
        *("lost+found", "~snapshot"),  # Linux, NetApp
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharesnap"),  # Synology
        *("@recycle", "@recently-snapshot", "@transcode"),  # QNAP
        *("thumbnails", "thumbnail", "thumbs", ".thumbnails", ".thumbs"),  # programs that show or manage photographs
    }
)
MASK_ENDING = re.compile(r"[ ._-](masks?|gt|labels?|ground[ ._-]?truth)$", re.IGNORECASE)  # of the stem of a mask
# In the folder of a category: its images are made up (`miniatures`), whatever else it looks like.
MADE_UP_FILE = "MADE_UP.txt"
SPLIT_COLUMNS = ("object", "split", "label", "image", "mask")  # of a layout's table
TABLE_SPLITS = {"train": 0, "test": 1}  # their order

# What `layout` of a data set may be.
LayoutName = Literal[
    "mvtec_ad", "btad", "visa", "mvtec_loco", "mpdd", "mvtec_ad_2", "dtd_synthetic", "folder", "sample"
]


@dataclass(frozen=True)
class Layout:
    """How the folders of a category are called, relative to its own, with forward slashes."""

    train: str = "train/good"  # normal images; where it has a folder `good`, they are in there
    test: str = "test"  # a folder for every defect type
    masks: str = "ground_truth"  # the same folders
    all_masked: bool = True  # every defective image has a mask; else all of a category have one, or none
    single: bool = False  # the root may be a category itself
    validation: str = ""  # further normal images, from which thresholds may be chosen
    unlabelled: tuple[str, ...] = ()  # folders of test images whose truth only a server knows
    mask_folders: bool = False  # an image has a folder of masks, one for each of its defects
    mask_classes: bool = False  # values of masks are numbers of kinds of defect, not black and white
    saturations: str = ""  # file of the category that says how many px of a defect need to be found
    table: str = ""  # CSV file beside the categories that says what every image is; then the folders do not
    defect_types: str = ""  # CSV file of the category with the defect type of every image, where the table has none


LAYOUTS: dict[str, Layout] = {
    "mvtec_ad": Layout(),
    "btad": Layout(train="train/ok"),
    "visa": Layout(
        train="Data/Images",
        test="Data/Images",
        masks="Data/Masks",
        table="split_csv/1cls.csv",
        defect_types="image_anno.csv",
        mask_classes=True,
    ),
    "mvtec_loco": Layout(
        validation="validation/good", mask_folders=True, mask_classes=True, saturations="defects_config.json"
    ),
    "mpdd": Layout(),
    "mvtec_ad_2": Layout(
        test="test_public",
        masks="test_public/ground_truth",
        validation="validation/good",
        unlabelled=("test_private", "test_private_mixed"),
    ),
    "dtd_synthetic": Layout(),
    "folder": Layout(train="train", all_masked=False, single=True),
    "sample": Layout(),
}


@dataclass(frozen=True)
class Mask:
    """A mask of an image; its path is relative to the category's folder. The other fields are read by `index`."""

    path: str
    sha256: str = ""
    bytes: int = 0
    orientation: int = 1  # EXIF's; 1 is upright
    pixels: int = 0  # above 0
    between: int = 0  # above 0 and not white
    classes: bool = False  # whether its values are numbers of kinds of defect, not black and white
    saturation: int = 0  # px that need to be found, where the data set says so
    notes: tuple[str, ...] = ()  # what `pictures` remarks on


@dataclass(frozen=True)
class Item:
    """One image of a category; paths are relative to the category's folder, with forward slashes.

    The fields after `masks`, and those of the masks, are read from the files by `index`.
    """

    path: str
    split: str  # train, test or validation
    label: int  # 1 is anomalous
    defect: str  # the defect type, "good" for normal images
    masks: tuple[Mask, ...] = ()  # normal images may have one, which is empty
    sha256: str = ""
    pixels_sha256: str = ""  # digest of what was decoded, where another image of the category has the same, else empty
    bytes: int = 0
    width: int = 0  # px, after the turn EXIF asks for
    height: int = 0
    mode: str = ""  # Pillow's, of the file
    format: str = ""  # what the file holds, whatever its suffix
    orientation: int = 1  # EXIF's; 1 is upright
    warning: str = ""  # what Pillow warned of in the image or its masks
    notes: tuple[str, ...] = ()  # what `pictures` remarks on in the image


def of_system(name: str) -> bool:
    """Whether a folder of this name is the own one of a system, network drive or program."""
    return name.casefold() in SYSTEM_FOLDERS


def is_mask_folder(name: str) -> bool:
    """Whether people give folders of masks this name."""
    return re.sub("[^a-z]", "", name.lower()) in MASK_FOLDERS


def hidden(name: str) -> bool:
    """Whether a name is no part of the data."""
    return name.startswith(".") or of_system(name)


def is_folder(path: Path) -> bool:
    """Whether there is a folder that may be entered."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    """Whether there is a file; not where its name is longer than names may be."""
    try:
        return path.is_file()
    except OSError:
        return False


def stem_of(path: PurePath) -> str:
    """What pairs images with masks. Macs write `ü` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", path.stem)


def _image_stems(mask: PurePath) -> list[str]:
    """A mask -> the stems that its image may have: the mask's own, also without a second suffix (`000.png.png` comes
    about where a system hides suffixes), and both of them without the ending that says it is a mask.
    """

    def without_suffix(name: str) -> str:
        return PurePath(name).stem if PurePath(name).suffix.lower() in EXTENSIONS else name

    whole = stem_of(mask)
    stems = [whole, without_suffix(whole)]
    for stem in tuple(stems):
        image = MASK_ENDING.sub("", stem)
        stems += [image, without_suffix(image)]
    return list(dict.fromkeys(filter(None, stems)))


def called_like_masks(images: Sequence[PurePath]) -> dict[PurePath, PurePath]:
    """Files that count as images -> those that are called like masks of others in their folder, with these others."""
    others = {(image.parent, stem_of(image)): image for image in images}
    return {
        image: others[image.parent, stem]
        for image in images
        for stem in _image_stems(image)[1:]
        if (image.parent, stem) in others
    }


def differ_in_suffix(images: Sequence[PurePath]) -> list[PurePath]:
    """N files -> those whose names differ from another's only in suffix."""
    count_of = Counter(image.with_suffix("") for image in images)
    return [image for image in images if count_of[image.with_suffix("")] > 1]


def mask_names(image: PurePath) -> str:
    """An image -> what its mask may be called, for messages."""
    stem = quote(stem_of(image))
    return f"{stem}.png or {stem}_mask.png (also _gt, _label)"


def pair_masks(stems: Collection[str], masks: Iterable[Path]) -> dict[str, list[Path]]:
    """Stems of the images of one folder, the files in their folder of masks -> stem -> its masks, sorted; images
    without a mask, and files that are no image's mask, are left out.

    Where a mask may belong to several images, longer names are paired first, each with the image of its own stem unless
    that has a mask already. So gas_mask.png is the mask of the image `gas_mask`; but it is the mask of `gas` where
    gas_mask_mask.png is there for `gas_mask`.
    """
    pairs: dict[str, list[Path]] = {}
    for mask in sorted(masks, key=lambda path: (-len(stem_of(path)), path)):
        possible = [stem for stem in _image_stems(mask) if stem in stems]
        if possible:
            chosen = next((stem for stem in possible if stem not in pairs), possible[0])
            pairs.setdefault(chosen, []).append(mask)
    return {stem: sorted(of_stem) for stem, of_stem in pairs.items()}


def _first_part(folder: str) -> str:
    """A folder of a layout -> its first part: "train" of "train/good"."""
    return folder.split("/")[0]


def training_part(layout: str) -> str:
    """Layout -> the folder that every category has, directly below its own."""
    return _first_part(LAYOUTS[layout].train)


def categories(layout: str, root: Path) -> list[str]:
    """root folder -> names of the categories in it, MVTec AD's in the paper's order, others sorted.

    Raises ReconpatchError when the root is missing, cannot be listed or holds no category.
    """
    rules, where = LAYOUTS[layout], f"data root {root}"
    train, test = _first_part(rules.train), _first_part(rules.test)
    try:
        if not root.is_dir():
            content = f"{train}/ and {test}/" if rules.single else "the categories"
            raise ReconpatchError("no such folder", where=where, fix=f"give the one that holds {content}")
        if rules.single and (root / train).is_dir():
            return [_checked_name(root.resolve().name)]
        names = {p.name for p in root.iterdir() if not hidden(p.name) and (p / train).is_dir()}
    except OSError as error:
        raise ReconpatchError(f"{quote(error.filename)}: {error.strerror}", where=where) from None
    if not names:
        raise ReconpatchError(
            f"no folder in it has a {train}/ folder, so it holds no {layout} category",
            where=where,
            fix="give the folder that holds the categories",
        )
    return [c for c in MVTEC_AD if c in names] + [_checked_name(c) for c in sorted(names.difference(MVTEC_AD))]


def _checked_name(name: str) -> str:
    """Category names become folders of the results."""
    if not re.fullmatch(NAME, name):
        raise ReconpatchError(
            "names hold only letters, digits, '.', '_' and '-'", where=f"category folder {name!r}", fix="rename it"
        )
    return name


def category_folder(layout: str, root: Path, category: str) -> Path:
    """The folder of one category; where the layout allows it, the root may be a single category itself."""
    rules = LAYOUTS[layout]
    return root if rules.single and (root / _first_part(rules.train)).is_dir() else root / category


def count_images(layout: str, folder: Path) -> tuple[int, int]:
    """The folder of a category -> images in it for training and to be scored, none of them opened."""
    splits = [item.split for item in list_items(layout, folder, [])]
    return splits.count("train"), splits.count("test") + splits.count("validation")


def list_items(layout: str, folder: Path, problems: list[str]) -> Iterator[Item]:
    """layout, a category's folder -> its images in sorted order; what does not fit is added to `problems`."""
    yield from _Category(folder, LAYOUTS[layout], problems).items()


@dataclass
class _Category:
    """The folders of one category while they are listed."""

    folder: Path
    rules: Layout
    problems: list[str]
    taken: set[Path] = field(default_factory=set)  # images and masks that the layout has a use for

    def items(self) -> Iterator[Item]:
        return self._of_table() if self.rules.table else self._of_folders()

    def _of_folders(self) -> Iterator[Item]:
        train, test, masks = (self.folder / f for f in (self.rules.train, self.rules.test, self.rules.masks))
        if is_folder(train / "good"):
            train = train / "good"
        for path in _images(train, self.problems):
            yield self._item(path, "train", "good")
        for subfolder in _folders(test, self.problems):
            if subfolder == masks:
                continue
            if self.rules.mask_folders and subfolder.name not in NORMAL:
                yield from self._of_mask_folders(subfolder, masks / subfolder.name)
            else:
                yield from self._of_defect_type(subfolder, masks / subfolder.name)
        for subfolder in _folders(masks, self.problems):
            if not is_folder(test / subfolder.name):
                self.problems.append(
                    f"{quote(subfolder)}: masks for a folder {quote(test / subfolder.name)} that is not there; "
                    "are the names the same?"
                )
                self.taken.update(_images(subfolder, self.problems))
        if self.rules.validation:
            for path in _images(self.folder / self.rules.validation, self.problems):
                yield self._item(path, "validation", "good")
        self.problems.extend(self._left_over())

    def _of_table(self) -> Iterator[Item]:
        """The images that the table of the data set names for this category, in sorted order."""
        table, problems = self.folder.parent / self.rules.table, self.problems
        every = _rows(table, SPLIT_COLUMNS, problems)
        rows = [row for row in every or () if row["object"] == self.folder.name]
        if not rows:  # one problem, not one for each folder of images
            if every is not None:
                problems.append(f"{quote(table)}: names no image of {quote(self.folder.name)}")
            return
        types, named = self._defect_types(), set[Path]()
        for row in sorted(rows, key=lambda row: (TABLE_SPLITS.get(row["split"], 0), row["image"])):
            files = [self.folder.parent / row[key] for key in ("image", "mask") if row[key]]
            problem = self._wrong(row) or ("named twice" if named.intersection(files) else "")
            self.taken.update(files)  # those of wrong rows, too: they are reported here, not as left over
            if problem:
                problems.append(f"{quote(table)}, line {row['line']}, {quote(row['image'])}: {problem}")
                continue
            named.update(files)
            defect_type = "good" if row["label"] == "normal" else types.get(files[0].name, "anomaly")
            yield self._item(files[0], row["split"], defect_type, files[1:])
        problems.extend(self._left_over())

    def _wrong(self, row: dict[str, str]) -> str:
        """A row of the table -> what is wrong with it, or nothing."""
        for key, known in (("split", ("train", "test")), ("label", ("normal", "anomaly"))):
            if row[key] not in known:
                return f"{key} {quote(row[key])}: must be {' or '.join(known)}"
        if row["split"] == "train" and row["label"] != "normal":
            return "a defective image for training"
        if not row["image"]:
            return "names no image"
        if row["label"] != "normal" and not row["mask"]:
            return "a defective image without a mask"
        for key in ("image", "mask") if row["mask"] else ("image",):
            path = PurePosixPath(row[key])
            if path.is_absolute() or ".." in path.parts or path.parts[:1] != (self.folder.name,):
                return f"{key} {quote(row[key])}: must lie in the folder of the category"
            if not _is_file(self.folder.parent / path):
                return f"{key} {quote(row[key])}: no such file"
        return ""

    def _defect_types(self) -> dict[str, str]:
        """Name of a defective image -> its defect type, where the category has a table of them. Several types of one
        image are one, whatever their order.
        """
        table = self.folder / self.rules.defect_types
        if not self.rules.defect_types or not table.is_file():
            return {}
        types: dict[str, str] = {}
        for row in _rows(table, ("image", "label"), self.problems) or ():
            label = " + ".join(sorted({part.strip() for part in row["label"].split(",")} - {""}))
            if not label.isprintable():
                where = f"{quote(table)}, line {row['line']}, {quote(label)}"
                self.problems.append(f"{where}: rename it, the name of a defect is shown in figures")
            if label and label.casefold() not in NORMAL:
                types[PurePosixPath(row["image"]).name] = label
        return types

    def _item(self, path: Path, split: str, defect_type: str, masks: Sequence[Path] = ()) -> Item:
        self.taken.add(path)
        of_image = tuple(
            Mask(mask.relative_to(self.folder).as_posix(), classes=self.rules.mask_classes) for mask in masks
        )
        return Item(path.relative_to(self.folder).as_posix(), split, int(defect_type != "good"), defect_type, of_image)

    def _of_mask_folders(self, subfolder: Path, mask_folder: Path) -> Iterator[Item]:
        """The test images of one defect type, each with the masks in its own folder."""
        self._check_name(subfolder)
        images = _images(subfolder, self.problems)
        for path in images:
            masks = _images(mask_folder / path.stem, self.problems)
            self.taken.update(masks)
            if not masks:
                self.problems.append(f"{quote(path)}: no masks in {quote(mask_folder / path.stem)}; add them")
            yield self._item(path, "test", subfolder.name, masks)
        for other in _folders(mask_folder, self.problems):
            if other.name not in {path.stem for path in images}:
                self.problems.append(f"{quote(other)}: masks without an image in {quote(subfolder)}; move them")
                self.taken.update(_images(other, self.problems))

    def _check_name(self, subfolder: Path) -> None:
        """Problems: a defect type whose name cannot be shown, or is nearly that of the normal images."""
        if subfolder.name not in NORMAL and subfolder.name.casefold() in NORMAL:
            self.problems.append(
                f"{quote(subfolder)}: would count as defective; if its images are normal, call it good"
            )
        if not subfolder.name.isprintable():
            self.problems.append(f"{quote(subfolder)}: rename it, the name of a defect is shown in figures")

    def _of_defect_type(self, subfolder: Path, mask_folder: Path) -> Iterator[Item]:
        """The test images of one defect type, or the normal ones, each with its mask."""
        name, problems = subfolder.name, self.problems
        self._check_name(subfolder)
        normal = name in NORMAL
        images, masks = _images(subfolder, problems), _images(mask_folder, problems)
        self.taken.update(masks)
        count_of = Counter(map(stem_of, images))
        pairs = pair_masks(count_of, masks)
        must_have_masks = self.rules.all_masked and not normal
        if images and not masks and must_have_masks:
            problems.append(
                f"{quote(mask_folder)}: no masks of the {len(images)} images in {quote(subfolder)}; add them"
            )
        for path in images:
            of_image = pairs.get(stem_of(path), [])
            if of_image and count_of[stem_of(path)] > 1:
                problems.append(
                    f"{quote(path)}: another image differs only in suffix, so that its mask is unclear; rename"
                )
            elif pairs and not of_image and must_have_masks:
                problems.append(
                    f"{quote(path)}: no mask in {quote(mask_folder)}; add it, or rename it: masks are called "
                    f"{mask_names(path)} here"
                )
            yield self._item(path, "test", "good" if normal else name, of_image[:1])
        self._unclear_masks(subfolder, images, masks, pairs)

    def _unclear_masks(
        self, subfolder: Path, images: Sequence[Path], masks: Sequence[Path], pairs: dict[str, list[Path]]
    ) -> None:
        """Problems: masks of which it is not clear whose they are, by their names."""
        for first, *others in pairs.values():
            self.problems.extend(
                f"{quote(other)}: {quote(first.name)} is a mask of the same image by its name; rename one or move it "
                "elsewhere"
                for other in others
            )
        state = "normal" if subfolder.name in NORMAL else "defective"
        lacking = [path for path in images if stem_of(path) not in pairs]
        names = mask_names(next(iter([*lacking, *images]), PurePath("<image>")))
        paired = {mask for of_image in pairs.values() for mask in of_image}
        surplus = [mask for mask in masks if mask not in paired]
        if len(surplus) > 1 and images and not pairs:
            self.problems.append(
                f"{quote(surplus[0].parent)}: none of the {len(surplus)} masks here, for example "
                f"{quote(surplus[0].name)}, is called like an image in {quote(subfolder)}; masks are called {names}: "
                "rename them"
            )
            return
        self.problems.extend(
            f"{quote(mask)}: mask without a {state} image in {quote(subfolder)}; masks are called {names} here: rename "
            "it, or move it elsewhere"
            for mask in surplus
        )

    def _left_over(self) -> Iterator[str]:
        """Problems: images below the three folders that the layout has no use for; mask folders of other names."""
        folders = filter(None, (self.rules.train, self.rules.test, self.rules.masks, self.rules.validation))
        for part in dict.fromkeys(map(_first_part, folders)):
            for folder, subfolders, files in os.walk(self.folder / part):
                subfolders[:] = sorted(name for name in subfolders if not hidden(name))
                paths = (Path(folder, name) for name in sorted(files) if not hidden(name))
                left = [p for p in paths if p.suffix.lower() in EXTENSIONS and p not in self.taken]
                if left:
                    yield (
                        f"{quote(folder)}: {len(left)} image(s) here have no place in the layout, for example "
                        f"{quote(left[0].name)}; move them"
                    )
        masks = self.rules.masks
        if not is_folder(self.folder / masks):
            for other in _folders(self.folder, []):
                if is_mask_folder(other.name):
                    yield f"{quote(other)}: if these are the masks, call the folder {masks}; else move it elsewhere"


def unlabelled_images(layout: str, folder: Path) -> list[Path]:
    """layout, a category's folder -> its test images whose truth only a server knows, in sorted order.

    Raises ReconpatchError for a folder that cannot be listed and for images in a format that is not read.
    """
    problems: list[str] = []
    images = [path for part in LAYOUTS[layout].unlabelled for path in _images(folder / part, problems)]
    if problems:
        raise ReconpatchError("\n  ".join(problems))
    return images


def _rows(table: Path, columns: Sequence[str], problems: list[str]) -> list[dict[str, str]] | None:
    """CSV file, columns it must have -> its rows, each with the number of its `line`, a cell that is not there being
    empty; None where the file cannot be read.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, restval="", strict=True)
            names = reader.fieldnames or ()
            rows = [row | {"line": str(reader.line_num)} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f"{quote(table)}: cannot be read as CSV in UTF-8 ({error}); restore the published file")
        return None
    if missing := [name for name in columns if name not in names]:
        problems.append(f"{quote(table)}: no column {', '.join(missing)}; restore the published file")
        return None
    return [{name: row[name].strip() for name in (*columns, "line")} for row in rows]


def _entries(folder: Path, problems: list[str]) -> list[Path]:
    """What is in a folder and not hidden, sorted; nothing where there is no folder."""
    try:
        return sorted(p for p in folder.iterdir() if not hidden(p.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        problems.append(f"{quote(folder)}: cannot be listed ({error.strerror})")
        return []


def _folders(folder: Path, problems: list[str]) -> list[Path]:
    return [p for p in _entries(folder, problems) if is_folder(p)]


def _images(folder: Path, problems: list[str]) -> list[Path]:
    entries = _entries(folder, problems)
    problems.extend(
        f"{quote(p)}: images in this format are not read; save it as png, or move it elsewhere"
        for p in entries
        if p.suffix.lower() in OTHER_FORMATS
    )
    return [p for p in entries if p.suffix.lower() in EXTENSIONS]
