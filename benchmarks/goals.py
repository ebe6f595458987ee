"""What is wanted of the measurements; of single computations it is said in goals_kernels.py."""

from goals_kernels import coreset, metrics, scoring, training
from table import Line


def lines(names: set[str]) -> list[Line]:
    """Names of the runs -> the lines that they allow."""
    found = [*coreset(), *extraction(), *decoding(), *training(), *scoring(), *metrics(), *category(names), *rest()]
    return [x for x in found if {*x.top, *([x.bottom] if x.bottom else [])} <= names]


def extraction() -> list[Line]:
    """Row 3."""
    found = []
    for size in ("64 px", "224 px", "320 px"):
        at = f"extraction/{size}"
        for end, name, goal in (("", "float32", 1.3), (" bf16", "bfloat16", 2.0)):
            own, title = f"{at}/ours{end}", f"extraction {size}, {name}"
            found += [
                Line(
                    f"{title}: rate to our network's forward pass alone", "wall_s", (f"{at}/forward{end}",), own, 0.95
                ),
                Line(f"{title}: rate to timm's plain forward pass", "wall_s", (f"{at}/timm",), own),
                Line(f"{title}: rate to patchcore", "wall_s", (f"{at}/patchcore",), own, goal),
                Line(f"{title}: rate to anomalib", "wall_s", (f"{at}/anomalib",), own, goal),
                Line(f"{title}: CPU time per image", "cpu_s_per_image", (own,)),
            ]
    return found


def decoding() -> list[Line]:
    """Row 4. What decoding takes from the CPU it must take; beyond that nothing may be lost to it."""
    found = []
    for end, name in (("", "float32"), (" bf16", "bfloat16")):
        files, decoded = (f"decoding/1024 px/{v}{end}" for v in ("files", "decoded"))
        found += [
            Line(f"from files, {name}: rate to that without decoding", "wall_s", (decoded,), files, 0.9),
            Line(f"from files, {name}: CPU time without decoding to all", "cpu_s", (decoded,), files),
        ]
    return [*found, Line("decoding a PNG of 1,024 px: CPU time", "cpu_s_per_image", ("decoding/1024 px/decode",))]


def category(names: set[str]) -> list[Line]:
    """Row 8: CPU seconds without imports."""
    found = []
    goals = {"synthetic 1 %": ((2.2, None), (4, None)), "synthetic 10 %": ((2.8, 8), (5.5, 15))}
    for at in sorted({n.rsplit("/", 1)[0] for n in names if n.startswith("category/")}, reverse=True):
        name = at.removeprefix("category/")
        for end, wanted in zip(("", " bf16"), goals.get(name, ((None, None),) * 2), strict=True):
            own, title = f"{at}/ours{end}", f"{name}{', bfloat16' if end else ''}"
            lean = f"{at}/anomalib lean"
            both = (f"{at}/patchcore", f"{at}/anomalib", *([lean] if lean in names else []))
            found += [
                Line(f"category {title}: CPU time of the faster peer to ours", "cpu_s", both, own, wanted[0]),
                Line("same, patchcore", "cpu_s", both[:1], own),
                Line("same, anomalib", "cpu_s", both[1:2], own, wanted[1]),
                Line("same, anomalib without validation", "cpu_s", (lean,), own),
                Line("same, our peak memory", "peak_mb", (own,)),
            ]
    at = "category/synthetic 1 %"
    found += [
        Line(f"import of {v}, CPU time", "import_cpu_s", (f"{at}/{v}",)) for v in ("ours", "patchcore", "anomalib")
    ]
    return found


def rest() -> list[Line]:
    """Rows 9 and 10."""
    found = [
        Line(
            "workflow: share of a run that is not the jobs' work",
            "overhead_share",
            ("overhead/smoke/overhead",),
            at_most=0.15,
        )
    ]
    for stage in ("extract", "train", "coreset", "score", "metrics"):
        title = f"1,000 training and 1,000 test images of 480 px, WRN-101: {stage}"
        found.append(Line(f"{title}, memory held", "held_mb", (f"memory/480 px/{stage}",), at_most=8192))
        found.append(Line("same, with pages of mapped files", "peak_mb", (f"memory/480 px/{stage}",), at_most=8192))
    return found
