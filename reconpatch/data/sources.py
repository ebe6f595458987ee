"""Where the published data sets are, what they may be used for, whom to cite, and what went wrong for others.

All of this is read by people and by `download` alone. The key of a data set is the name of its layout.
"""

from dataclasses import dataclass


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
    source: str  # of these facts, and of those in `catalogue`
    citation: str = ""
    traps: tuple[str, ...] = ()  # what one must know before use


DRIVE = "https://www.mydrive.ch/shares"
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
)

_MPDD = Published(
    title="MPDD (Brno University of Technology)",
    home="https://github.com/stepanje/MPDD",
    archive="",
    urls=(),
    sha256="",
    size="about 1.8 GB",
    licence="its repository names none; anomalib says CC BY-NC-SA 4.0; ask the authors before you use it commercially",
    source="counts: the publication's totals, and two inspections of the files; a README has 209 instead of 289 "
    "training images of bracket_black",
    citation="Jezek, Jonak, Burget, Dvorak, Skotak: Deep learning-based defect detection of metal parts: evaluating "
    "current methods in complex conditions, ICUMT 2021",
    traps=(
        "Copies that lack categories are about: `reconpatch check` compares the counts.",
        "The folder of the defects of tubes is called `anomalous` in some copies and `flattening` in others.",
    ),
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
)

_DTD = Published(
    title="DTD-Synthetic (Tohoku University); not the Describable Textures Dataset that it is drawn from",
    home="https://www.vision.is.tohoku.ac.jp/?p=383&lang=en",
    archive="",
    urls=(),
    sha256="",
    size="not known here",
    licence="none found; ask the authors before you use it commercially or pass it on",
    source="categories: AnomalyCLIP, generate_dataset_json/DTD.py; its README and others point to the folder "
    "https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1; counts could not be found",
    citation="Aota, Tong, Okatani: Zero-Shot Versus Many-Shot: Unsupervised Texture Anomaly Detection, WACV 2023",
    traps=("Counts could not be established, so copies are not compared with them.",),
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
