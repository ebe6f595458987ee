import numpy as np
import pytest
from drawing import make_record

from reconpatch.errors import ReconpatchError
from reconpatch.tables import (
    MISSING,
    comparison,
    footnote,
    formatted,
    notes,
    panels,
    results_frame,
    to_html,
    to_latex,
    to_markdown,
)

AXES = ["method", "dim"]


def records(categories=("nut", "metal_nut"), seeds=(0,), flags=()):
    """AUROC is 0.5 + 0.1 for ReConPatch + 0.01 a category + 0.001 a seed."""
    return [
        make_record(
            category=category,
            seed=seed,
            description={"method": method, "dim": 64, "coreset": 0.01, "backbone": "net"},
            metrics={"image_auroc": 0.5 + 0.1 * m + 0.01 * c + 0.001 * seed, "pixel_auroc": 0.9, "aupro_30": None},
            weights={"source": "random"},
            flags=list(flags),
        )
        for c, category in enumerate(categories)
        for m, method in enumerate(("patchcore", "reconpatch"))
        for seed in seeds
    ]


def table_of(made):
    frame = results_frame(made, AXES)
    return frame, comparison(frame, AXES)


def test_difference_and_mean_over_categories() -> None:
    _, table = table_of(records())
    assert list(table["category"]) == ["nut", "metal_nut", "mean of 2"]
    assert list(table["image_auroc|difference"]) == pytest.approx([0.1, 0.1, 0.1])
    assert list(table["image_auroc|PatchCore"]) == pytest.approx([0.5, 0.51, 0.505])


def test_seeds_give_mean_and_standard_deviation() -> None:
    _, table = table_of(records(seeds=(0, 1, 2)))
    assert table["image_auroc|PatchCore"][0] == pytest.approx(0.501)
    assert table["image_auroc|PatchCore sd"][0] == pytest.approx(0.001)
    shown = formatted(table)
    assert shown["image AUROC, PatchCore"][0] == "50.10 ± 0.10"
    assert shown["image AUROC, difference"][0] == "+10.00"


def test_undefined_prints_a_dash_not_a_number() -> None:
    _, table = table_of(records())
    assert np.isnan(table["aupro_30|PatchCore"]).all()
    assert set(formatted(table)["AUPRO (30 %), PatchCore"]) == {MISSING}


def test_one_method_has_no_difference() -> None:
    _, table = table_of([r for r in records() if r.description["method"] == "patchcore"])
    assert not [c for c in table if "difference" in c]


def test_a_missing_run_prints_a_dash() -> None:
    _, table = table_of(records()[:-1])
    assert formatted(table)["image AUROC, ReConPatch"].tolist() == ["60.00", MISSING, MISSING]


def test_notes_tell_flags_weights_seeds_and_settings() -> None:
    made = records(flags=["untrained (random) weights"])
    text = " ".join(notes(results_frame(made, AXES), made, ["epochs = 3 (baseline 120)"]))
    for part in ("untrained (random) weights", "net (random)", "Seeds: 0.", "epochs = 3 (baseline 120)"):
        assert part in text


def test_names_are_escaped_in_every_format() -> None:
    _, table = table_of(records(categories=("<script>", "a_b&c%")))
    shown, lines = formatted(table), ["<b>note</b> 1_000 %"]
    page = to_html(shown, "<i>t</i>", lines)
    assert "<script>" not in page and "&lt;script&gt;" in page and "<b>" not in page and "<i>" not in page
    latex = to_latex(shown, "t_t", lines)
    assert r"a\_b\&c\%" in latex and r"t\_t" in latex and r"\toprule" in latex and r"1\_000 \%" in latex
    assert to_markdown(shown, "t", lines).count("\n| ") == 2 + 3 - 1


def test_csv_keeps_raw_numbers_and_flags() -> None:
    frame, _ = table_of(records(flags=["x"]))
    text = frame.to_csv(index=False)
    assert "0.5," in text and ",x," in text and len(text.splitlines()) == 5


def test_an_axis_patchcore_does_not_have() -> None:
    """A sweep of a training parameter: PatchCore has no such value, and keeps a row of its own."""
    made = [r for r in records(categories=("nut",)) if r.description["method"] == "patchcore"]
    for sigma in (0.5, 1.0):
        ours = [r for r in records(categories=("nut",)) if r.description["method"] == "reconpatch"]
        made += [r.model_copy(update={"description": r.description | {"sigma": sigma}}) for r in ours]
    frame = results_frame(made, ["method", "sigma"])
    shown = formatted(comparison(frame, ["method", "sigma"]))
    assert shown["sigma"].tolist() == [MISSING, "0.5", "1.0"]
    assert shown["image AUROC, PatchCore"].tolist() == ["50.00", MISSING, MISSING]
    assert shown["image AUROC, ReConPatch"].tolist() == [MISSING, "60.00", "60.00"]


def test_figures_of_different_geometry_are_refused() -> None:
    base = {"method": "patchcore", "resize": 256, "crop": 224, "interpolation": "bilinear", "blur": 4.0}
    one, other = make_record(description=base), make_record(description=base | {"method": "reconpatch"})
    assert panels([one, other]) == ["PatchCore", "ReConPatch"]
    assert panels([one, one]) == ["PatchCore base-1"] * 2
    with pytest.raises(ReconpatchError, match=r"differ in crop: \[224, 320\]"):
        panels([one, make_record(description=base | {"crop": 320})])


def test_footnote_tells_untrained_weights() -> None:
    text = footnote(records(flags=["untrained (random) weights"]))
    for part in ("net (random weights)", "64 dimensions, coreset 0.01", "untrained (random) weights"):
        assert part in text
