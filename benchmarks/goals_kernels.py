"""What is wanted of single computations: coreset, training step, search, maps, metrics."""

from table import Line


def coreset() -> list[Line]:
    """Rows 1 and 2."""
    at, all_, few, check = "coreset/160k 10 %", "coreset/1M 1 %", "coreset/160k 1 %", "coreset/check/check"
    own = f"{at}/ours"
    return [
        Line("coreset 160,000 x 128, 10 %: patchcore's time to ours", "wall_s", (f"{at}/patchcore",), own, 40),
        Line("same, CPU time", "cpu_s", (f"{at}/patchcore",), own),
        Line("coreset 160,000 x 128, 10 %: anomalib's time to ours", "wall_s", (f"{at}/anomalib",), own, 150),
        Line("same, CPU time", "cpu_s", (f"{at}/anomalib",), own),
        Line("same, one pass a pick", "wall_s", (f"{at}/brute",), own),
        Line("same picks as the plain rule in float64", "same_order", (check,)),
        Line("same picks as the plain rule in float32", "same_order_float32", (check,)),
        Line("coreset 160,000 x 128, 10 %: extra memory to N d 4 bytes", "extra_per_input", (own,)),
        Line("coreset 1,000,000 x 128, 1 %: peak memory", "peak_mb", (f"{all_}/ours",), at_most=8192),
        Line("same, wall time", "wall_s", (f"{all_}/ours",)),
        Line(
            "same, time per pick and point to that at 160,000, 1 %",
            "ns_per_pair",
            (f"{all_}/ours",),
            f"{few}/ours",
            None,
            1,
        ),
        Line("same, to that at 160,000, 10 %", "ns_per_pair", (f"{all_}/ours",), own, None, 1),
        Line("same, one pass a pick", "wall_s", (f"{all_}/brute",), f"{all_}/ours"),
    ]


def training() -> list[Line]:
    """Row 5."""
    found = []
    for sizes in ("1536-512-1024", "1024-512-1024", "1024-512-128"):
        step, products = f"training/{sizes}/train", f"training/{sizes}/products"
        found += [
            Line(
                f"training step {sizes}, 2,048 patches: time to its matrix products",
                "wall_s",
                (step,),
                products,
                None,
                1.5,
            ),
            Line("same, CPU time", "cpu_s", (step,), products),
            Line("same, extra memory", "extra_mb", (step,), None, None, 300),
            Line("same, 120 epochs of 250,000 patches", "predicted_h", (step,)),
        ]
    return found


def scoring() -> list[Line]:
    """Row 6."""
    found = []
    for size in ("100", "500", "1600", "16000"):
        own = f"search/{size}/ours"
        found.append(Line(f"search of 31,360 patches in {size}: GFLOP/s", "gflop_per_s", (own,)))
        found += times("same", f"search/{size}", own, torch="the matrix product alone")
    for at in ("28 to 224", "40 to 320"):
        found += times(f"100 maps, {at} px", f"maps/{at}", f"maps/{at}/ours", torch="interpolation and Gaussian")
    return found


def times(title: str, at: str, own: str, torch: str) -> list[Line]:
    """Title, group, our run -> lines of the others' times to ours; torch stands for what is said."""
    named = {"torch": torch, "patchcore": "patchcore", "anomalib": "anomalib"}
    return [Line(f"{title}: time of {text} to ours", "wall_s", (f"{at}/{v}",), own) for v, text in named.items()]


def metrics() -> list[Line]:
    """Row 7."""
    at = "metrics/100 maps"
    own = f"{at}/ours"
    return [
        Line("metrics of 100 maps, 320 px: anomalib's time to ours", "wall_s", (f"{at}/anomalib",), own, 7),
        Line("same, our extra memory to anomalib's", "extra_mb", (own,), f"{at}/anomalib", None, 0.5),
        Line("same, patchcore's time to ours", "wall_s", (f"{at}/patchcore",), own),
        Line("same, scikit-learn's time (AUROC alone) to ours", "wall_s", (f"{at}/sklearn",), own),
        Line("same, AUROC: ours minus scikit-learn's", "auroc", (own,), f"{at}/sklearn", difference=True),
        Line("same, AUPRO: ours minus anomalib's", "aupro", (own,), f"{at}/anomalib", difference=True),
        Line("wins of the pixels (for intervals)", "wall_s", (f"{at}/wins",)),
    ]
