"""The published data sets: what each contains, where it is, and what one must know before using it.

Facts alone, each from the publishers or from readers that many people use; what could not be established is left out
or said. The key of a data set is the name of its layout (`layouts.LAYOUTS`).

Poses and groups follow the publications where these say something; elsewhere they are our judgement, made before any
result on these data and noted beside each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Counts(NamedTuple):
    """Images of a category. `unlabelled` are those whose truth only a server knows."""

    train: int
    normal: int
    defective: int
    validation: int = 0
    unlabelled: int = 0


@dataclass(frozen=True)
class Published:
    """One data set. Without `urls` it has to be fetched by hand from `home`."""

    title: str
    home: str
    archive: str
    urls: tuple[str, ...]  # by preference
    sha256: str  # of the archive
    size: str
    licence: str
    source: str  # of the facts
    citation: str = ""
    traps: tuple[str, ...] = ()  # what went wrong for others
    counts: Mapping[str, Counts] = field(default_factory=dict)  # of each category; empty where not known
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)  # categories whose means tables show
    # Kinds of anomalies that are measured apart -> the defect types of each.
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    defect_types: frozenset[str] = frozenset()  # folders of test images, where they are known; `ok` is called good
    smallest: int = 0  # px, the shorter side of its smallest images; 0 where not known
    compressed: bool = False  # whether the originals are JPEG files

    @property
    def categories(self) -> list[str]:
        """Names of its categories, those with counts in their order."""
        return list(self.counts) or sorted(frozenset().union(*self.groups.values()))


def _counts(**categories: tuple[int, ...]) -> dict[str, Counts]:
    return {name: Counts(*counts) for name, counts in categories.items()}


# Natures of categories, in the order in which tables show them; `logical` is one of anomalies, see Published.kinds.
NATURES = ("aligned", "rotated", "texture", "several", "logical")
DRIVE = "https://www.mydrive.ch/shares"
TEXTURES = frozenset({"carpet", "grid", "leather", "tile", "wood"})  # MVTec AD's; the other ten are objects
_MVTEC_LICENCE = "CC BY-NC-SA 4.0 (not for commercial use), as anomalib states it; the home page is authoritative"

_MVTEC_AD = Published(
    title="MVTec AD (MVTec Software GmbH)",
    home="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    archive="mvtec_anomaly_detection.tar.xz",
    urls=(
        f"{DRIVE}/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/mvtec_anomaly_detection.tar.xz",
        f"{DRIVE}/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/mvtec_anomaly_detection.tar.xz",
    ),
    sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    size="about 5 GB",
    licence=_MVTEC_LICENCE,
    source="first address and SHA-256: anomalib, datamodules/image/mvtecad.py; second: the share in use before it; "
    "counts: as inspected by three independent sources",
    citation="Bergmann, Batzner, Fauser, Sattlegger, Steger: The MVTec Anomaly Detection Dataset, IJCV 129, 2021",
    traps=("grid, screw and zipper are grey images; the smallest are 700 px, the largest 1,024 px.",),
    counts=_counts(
        bottle=(209, 20, 63),
        cable=(224, 58, 92),
        capsule=(219, 23, 109),
        hazelnut=(391, 40, 70),
        metal_nut=(220, 22, 93),
        pill=(267, 26, 141),
        screw=(320, 41, 119),
        toothbrush=(60, 12, 30),
        transistor=(213, 60, 40),
        zipper=(240, 32, 119),
        carpet=(280, 28, 89),
        grid=(264, 21, 57),
        leather=(245, 32, 92),
        tile=(230, 33, 84),
        wood=(247, 19, 60),
    ),
    # The paper prints means of objects and textures. It is said to gain by learnt positions, so the pose of the objects
    # may matter, too. The data set's publication (CVPR 2019) names toothbrush, capsule and pill as roughly aligned, and
    # metal nut, screw and hazelnut as placed with a random rotation. The other four are our judgement: cable,
    # transistor and zipper lie the same way in all normal images; the bottle is seen from above, centred and round, so
    # that turning it changes little.
    groups={
        "object": frozenset(
            {
                "bottle",
                "cable",
                "capsule",
                "hazelnut",
                "metal_nut",
                "pill",
                "screw",
                "toothbrush",
                "transistor",
                "zipper",
            }
        ),
        "aligned": frozenset({"bottle", "cable", "capsule", "pill", "toothbrush", "transistor", "zipper"}),
        "rotated": frozenset({"hazelnut", "metal_nut", "screw"}),
        "texture": TEXTURES,
    },
    smallest=700,
)

_BTAD = Published(
    title="BTAD (beanTech, University of Udine)",
    home="https://github.com/pankajmishra000/VT-ADL",
    archive="btad.zip",
    urls=(
        "https://avires.dimi.uniud.it/papers/btad/btad.zip",
        "http://avires.dimi.uniud.it/papers/btad/btad.zip",  # the digest protects this one, too
    ),
    sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    size="not known here",
    licence="sources differ: CC BY-NC-SA 4.0 (anomalib), CC BY-SA (a copy by inclad-benchmark), "
    "none found (others); ask the authors before you use it commercially or pass it on",
    source="address and SHA-256: anomalib, datamodules/image/btech.py; counts: the total of 2,540 images and 290 masks "
    "is certain, its split is supported by published AUROCs",
    citation="Mishra, Verk, Fornasier, Piciarelli, Foresti: VT-ADL, ISIE 2021",
    traps=("Normal images lie in `ok`, defective ones in `ko`; images are BMP or PNG; 03 is wider than high.",),
    counts={"01": Counts(400, 21, 49), "02": Counts(399, 30, 200), "03": Counts(1000, 400, 41)},
    # Our judgement: 01 and 03 are one part at the same place, 02 is a surface.
    groups={"aligned": frozenset({"01", "03"}), "texture": frozenset({"02"})},
    defect_types=frozenset({"good", "ko"}),
    smallest=600,
)

_VISA = Published(
    title="VisA (Amazon)",
    home="https://github.com/amazon-science/spot-diff",
    archive="VisA_20220922.tar",
    urls=("https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",),
    sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    size="1.9 GB",
    licence="CC BY 4.0 (README and LICENSE-DATASET of its repository; anomalib names another, which is wrong)",
    source="address and SHA-256: anomalib, datamodules/image/visa.py; counts: the rows of split_csv/1cls.csv",
    citation="Zou, Jeong, Pemula, Zhang, Dabeer: SPot-the-Difference Self-Supervised Pre-training for Anomaly "
    "Detection and Segmentation, ECCV 2022",
    traps=(
        "The split is a table, split_csv/1cls.csv; the folders alone do not tell training from test images.",
        "Masks hold numbers of kinds of defect from 1 on and look black: every value above 0 is a defect.",
        "Suffixes of images are in capitals (.JPG); a mask has the name of its image with .png, without _mask.",
        "The type of a defect stands in image_anno.csv of the category; one image may have several.",
    ),
    counts=_counts(
        candle=(900, 100, 100),
        capsules=(542, 60, 100),
        cashew=(450, 50, 100),
        chewinggum=(453, 50, 100),
        fryum=(450, 50, 100),
        macaroni1=(900, 100, 100),
        macaroni2=(900, 100, 100),
        pcb1=(904, 100, 100),
        pcb2=(901, 100, 100),
        pcb3=(905, 101, 100),
        pcb4=(904, 101, 100),
        pipe_fryum=(450, 50, 100),
    ),
    # Its publication has three groups: complex structure (the boards), several instances, and one instance that lies
    # roughly the same way.
    groups={
        "aligned": frozenset({"cashew", "chewinggum", "fryum", "pipe_fryum", "pcb1", "pcb2", "pcb3", "pcb4"}),
        "several": frozenset({"candle", "capsules", "macaroni1", "macaroni2"}),
    },
    compressed=True,
)

_LOCO = Published(
    title="MVTec LOCO AD (MVTec Software GmbH)",
    home="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    archive="mvtec_loco_anomaly_detection.tar.xz",
    urls=(
        f"{DRIVE}/48237/1b9106ccdfbb09a0c414bd49fe44a14a/download/430647091-1646842701/"
        "mvtec_loco_anomaly_detection.tar.xz",
    ),
    sha256="9e7c84dba550fd2e59d8e9e231c929c45ba737b6b6a6d3814100f54d63aae687",
    size="not known here",
    licence=_MVTEC_LICENCE,
    source="address and SHA-256: anomalib, datamodules/image/mvtec_loco.py; counts: three inspections of the files; "
    "the publication has 354 and 59 for training and validation of splicing_connectors",
    citation="Bergmann, Batzner, Fauser, Sattlegger, Steger: Beyond Dents and Scratches: Logical Constraints in "
    "Unsupervised Anomaly Detection and Localization, IJCV 130, 2022",
    traps=(
        "An image has a folder of masks, one for each defect: a reader of 000.png alone misses the others.",
        "Values in masks are 234 to 255, one for each kind of defect of the category; masks of an image may overlap.",
        "defects_config.json says how many px of a defect must be found; its values are px of the original image.",
        "Its authors report logical and structural anomalies apart, each with all normal images, and their mean.",
        "No image is square: a crop of the centre cuts parts off.",
    ),
    counts=_counts(
        breakfast_box=(351, 102, 173, 62),
        juice_bottle=(335, 94, 236, 54),
        pushpins=(372, 138, 172, 69),
        screw_bag=(360, 122, 219, 60),
        splicing_connectors=(360, 119, 193, 60),
    ),
    # Our judgement: the bottle and the box stand the same way; the rest are several parts that lie anywhere.
    groups={
        "aligned": frozenset({"breakfast_box", "juice_bottle"}),
        "several": frozenset({"pushpins", "screw_bag", "splicing_connectors"}),
    },
    kinds={"logical": frozenset({"logical_anomalies"}), "structural": frozenset({"structural_anomalies"})},
    defect_types=frozenset({"good", "logical_anomalies", "structural_anomalies"}),
    smallest=800,
)

_MPDD = Published(
    title="MPDD (Brno University of Technology)",
    home="https://github.com/stepanje/MPDD",
    archive="",
    urls=(),
    sha256="",
    size="about 1.8 GB",
    licence="its repository names none; anomalib says CC BY-NC-SA 4.0; ask the authors before you use it commercially",
    source="counts: the publication's totals, and a README that lists them by type of defect",
    citation="Jezek, Jonak, Burget, Dvorak, Skotak: Deep learning-based defect detection of metal parts: evaluating "
    "current methods in complex conditions, ICUMT 2021",
    traps=(
        "Copies that lack categories are about: `reconpatch check` compares the counts.",
        "The folder of the defects of tubes is called `anomalous` in some copies and `flattening` in others.",
    ),
    counts=_counts(
        bracket_black=(289, 32, 47),
        bracket_brown=(185, 26, 51),
        bracket_white=(110, 30, 30),
        connector=(128, 30, 14),
        metal_plate=(54, 26, 71),
        tubes=(122, 32, 69),
    ),
    # Its publication: parts in changing orientation and position. Our judgement: plates are surfaces, tubes several.
    groups={
        "rotated": frozenset({"bracket_black", "bracket_brown", "bracket_white", "connector"}),
        "texture": frozenset({"metal_plate"}),
        "several": frozenset({"tubes"}),
    },
)

_AD_2 = Published(
    title="MVTec AD 2 (MVTec Software GmbH)",
    home="https://www.mvtec.com/research-teaching/datasets/mvtec-ad-2",
    archive="mvtec_ad_2.tar.gz",
    urls=(f"{DRIVE}/150997/701c90d3aea6588f404936e32a674602/download/466712769-1743429042/mvtec_ad_2.tar.gz",),
    sha256="c0ded99ef32bfc8e352d52beb44515e5b292b8598cb963aadfa91ca0763505e4",
    size="33 GB",
    licence=_MVTEC_LICENCE,
    source="address and SHA-256: anomalib, datamodules/image/mvtecad2.py; counts: the publication, and the checker of "
    "submissions for the private images",
    citation="Heckler-Kram, Neudeck, Scheler, König, Steger: The MVTec AD 2 Dataset: Advanced Scenarios for "
    "Unsupervised Anomaly Detection, arXiv:2503.21622, 2025",
    traps=(
        "The masks lie inside the folder of the public test images, test_public/ground_truth.",
        "Training and validation images are of the regular light alone; test images are of several lights.",
        "The truth of test_private and test_private_mixed is known to https://benchmark.mvtec.com alone.",
        "Images have 2 to 5 megapixels and are not square.",
    ),
    counts=_counts(
        can=(412, 72, 90, 46, 642),
        fabric=(387, 66, 90, 43, 628),
        fruit_jelly=(263, 20, 60, 37, 510),
        rice=(313, 42, 90, 35, 554),
        sheet_metal=(137, 24, 90, 19, 284),
        vial=(291, 35, 105, 41, 552),
        wallplugs=(293, 60, 90, 33, 464),
        walnuts=(432, 60, 90, 48, 456),
    ),
    # Our judgement: a vial stands and a sheet lies the same way; a can is turned about its axis.
    groups={
        "aligned": frozenset({"sheet_metal", "vial"}),
        "rotated": frozenset({"can"}),
        "texture": frozenset({"fabric"}),
        "several": frozenset({"fruit_jelly", "rice", "wallplugs", "walnuts"}),
    },
    defect_types=frozenset({"good", "bad"}),
    smallest=1024,
)

_DTD_CATEGORIES = frozenset(
    {
        *("Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037"),
        *("Stratified_154", "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127"),
    }
)
_DTD = Published(
    title="DTD-Synthetic (Tohoku University); not the Describable Textures Dataset that it is drawn from",
    home="https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
    archive="",
    urls=(),
    sha256="",
    size="not known here",
    licence="none found; ask the authors before you use it commercially or pass it on",
    source="address and categories: AnomalyCLIP's README and generate_dataset_json/DTD.py; counts could not be found",
    citation="Aota, Tong, Okatani: Zero-Shot Versus Many-Shot: Unsupervised Texture Anomaly Detection, WACV 2023",
    traps=("Counts could not be established, so copies are not compared with them.",),
    groups={"texture": _DTD_CATEGORIES},
)

PUBLISHED: dict[str, Published] = {
    "mvtec_ad": _MVTEC_AD,
    "btad": _BTAD,
    "visa": _VISA,
    "mvtec_loco": _LOCO,
    "mpdd": _MPDD,
    "mvtec_ad_2": _AD_2,
    "dtd_synthetic": _DTD,
}


def category_counts(layout: str) -> Mapping[str, Counts]:
    """Layout of a data set -> the published images of each of its categories; none where they are not known."""
    return PUBLISHED[layout].counts if layout in PUBLISHED else {}


def groups_of(layout: str) -> Mapping[str, frozenset[str]]:
    """Layout of a data set -> the groups of its categories whose means tables show."""
    return PUBLISHED[layout].groups if layout in PUBLISHED else {}


def kinds_of(layout: str) -> Mapping[str, frozenset[str]]:
    """Layout of a data set -> its kinds of anomalies that are measured apart, with the defect types of each."""
    return PUBLISHED[layout].kinds if layout in PUBLISHED else {}
