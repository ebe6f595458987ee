"""What the benchmark measures: processes by part, in groups whose members run alternately."""

from dataclasses import dataclass
from pathlib import Path

PEERS = ("patchcore", "anomalib")
EXTRA = frozenset({"memory"})  # parts that run only when named


@dataclass(frozen=True)
class Run:
    """A process to measure: `name` is unique in the suite; `peer` is whose environment it needs, "" for our own."""

    name: str
    command: tuple[str, ...]
    peer: str = ""
    once: bool = False  # measured once, whatever --repeat says


Group = list[Run]


def alternating(prefix: str, common: str, *variants: str) -> Group:
    """("coreset/160k", "coreset.py {} --points 160000", "ours", "patchcore") -> their runs."""
    return [Run(f"{prefix}/{v}", tuple(common.format(v).split()), v if v in PEERS else "") for v in variants]


def coreset(quick: bool) -> list[Group]:
    """Rows 1 and 2."""
    small, large, some, check = (4000, 8000, 1500, 100) if quick else (160_000, 1_000_000, 20_000, 2000)
    picks, few = (20, 10) if quick else (150, 50)
    return [
        [
            Run(
                "coreset/check/check",
                ("coreset.py", "check", "--points", str(some), "--ratio", str(check / some)),
                "",
                True,
            )
        ],
        alternating(
            *("coreset/160k 10 %", f"coreset.py {{}} --points {small} --ratio 0.1 --picks {picks}"),
            *("ours", "brute", "patchcore", "anomalib"),
        ),
        alternating("coreset/160k 1 %", f"coreset.py {{}} --points {small} --ratio 0.01", "ours"),
        alternating("coreset/1M 1 %", f"coreset.py {{}} --points {large} --ratio 0.01 --picks {few}", "ours", "brute"),
    ]


def extraction(quick: bool) -> list[Group]:
    """Row 3."""
    groups = []
    for size in (64,) if quick else (224, 320):
        common = f"extraction.py {{}} --size {size} --batches {1 if quick else 6}"
        group = alternating(f"extraction/{size} px", common, "ours", "forward", "timm", "patchcore", "anomalib")
        for variant in ("ours", "forward"):
            command = (*common.format(variant).split(), "--precision", "bfloat16")
            group.append(Run(f"extraction/{size} px/{variant} bf16", command))
        groups.append(group)
    return groups


def decoding(quick: bool, scratch: Path) -> list[Group]:
    """Row 4."""
    sizes = ("--images", "8", "--side", "300") if quick else ("--images", "48", "--side", "1024")
    prefix = "decoding/1024 px"
    group = [Run(f"{prefix}/{v}", ("decoding.py", v, str(scratch), *sizes)) for v in ("files", "decoded", "decode")]
    bf16 = ("--precision", "bfloat16")
    for v in ("files", "decoded"):
        group.append(Run(f"{prefix}/{v} bf16", ("decoding.py", v, str(scratch), *sizes, *bf16)))
    return [group]


def training(quick: bool) -> list[Group]:
    """Row 5."""
    groups = []
    for inputs, dim, projection in ((1536, 512, 1024), (1024, 512, 1024), (1024, 512, 128)):
        sizes = f"--inputs {inputs} --dim {dim} --projection {projection} --batch {128 if quick else 2048}"
        common = f"step.py {{}} {sizes} --steps {3 if quick else 12}"
        groups.append(alternating(f"training/{inputs}-{dim}-{projection}", common, "train", "products"))
    return groups


def scoring(quick: bool) -> list[Group]:
    """Row 6."""
    contestants = ("ours", "torch", "patchcore", "anomalib")
    queries, banks, count = (3000, (100, 500), 8) if quick else (31_360, (1600, 16_000), 100)
    groups = [
        alternating(f"search/{bank}", f"scoring.py search {{}} --queries {queries} --bank {bank}", *contestants)
        for bank in banks
    ]
    for grid, size in ((28, 224), (40, 320)):
        common = f"scoring.py maps {{}} --count {count} --grid {grid} --size {size}"
        groups.append(alternating(f"maps/{grid} to {size}", common, *contestants))
    return groups


def metrics(quick: bool) -> list[Group]:
    """Row 7."""
    common = f"pixels.py {{}} --maps {8 if quick else 100} --size {64 if quick else 320}"
    return [alternating("metrics/100 maps", common, "ours", "wins", "sklearn", "patchcore", "anomalib")]


def category(root: Path, name: str, ratios: dict[str, float], once: bool, lean: bool) -> list[Group]:
    """Row 8."""
    groups = []
    for label, ratio in ratios.items():
        rest = (str(root), name, "--ratio", str(ratio))
        prefix = f"category/{name} {label}"
        group = [
            Run(f"{prefix}/ours", ("category.py", *rest), "", once),
            Run(f"{prefix}/ours bf16", ("category.py", *rest, "--precision", "bfloat16"), "", once),
            Run(f"{prefix}/patchcore", ("patchcore_category.py", *rest), "patchcore", once),
            Run(f"{prefix}/anomalib", ("anomalib_category.py", *rest), "anomalib", once or ratio > 0.05),  # minutes
        ]
        if lean:
            group.append(Run(f"{prefix}/anomalib lean", ("anomalib_category.py", *rest, "--lean"), "anomalib", True))
        groups.append(group)
    return groups


def suite(quick: bool, scratch: Path, real: Path | None) -> dict[str, list[Group]]:
    """Folder for inputs, perhaps MVTec AD's root -> every part. The categories are written by bench.py."""
    data = scratch / "data"
    found = {
        "coreset": coreset(quick),
        "extraction": extraction(quick),
        "decoding": decoding(quick, scratch),
        "training": training(quick),
        "scoring": scoring(quick),
        "metrics": metrics(quick),
        "category": category(data, "synthetic", {"1 %": 0.01, "10 %": 0.1}, once=False, lean=True),
        "overhead": [[Run("overhead/smoke/overhead", ("overhead.py",), "", True)]],
        "memory": memory(quick, scratch),
    }
    if real is not None:
        found["category"] += category(data, "bottle", {"1 %": 0.01}, once=True, lean=False)
    if not (Path(__file__).parent / "overhead.py").is_file():
        del found["overhead"]
    return found


def memory(quick: bool, scratch: Path) -> list[Group]:
    """Row 10."""
    small = {"side": 96, "images": 20, "extracted": 8, "scored": 4, "steps": 1, "maps": 8} if quick else {}
    sizes = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    variants = ("extract", "train", "coreset", "score", "metrics")
    return [[Run(f"memory/480 px/{v}", ("large.py", v, str(scratch), *sizes), "", True)] for v in variants]
