"""Tables as text: no character of a name changes a table, and LaTeX prints what it should within the page."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from cells import cells_of, make_cell, view_of
from drawing import make_record
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.results.figures.captions import write_caption
from reconpatch.results.formats import to_html, to_latex, to_markdown
from reconpatch.results.paper_view import paper_view
from reconpatch.results.tables import Table, comparison_table

AWKWARD = "ab1 <>&_%$#{}\\~^|\"'–±×−"
awkward = st.text(st.sampled_from(AWKWARD), min_size=1, max_size=12).map(lambda s: f"a{s}b")
PACKAGES = r"\usepackage{times,textcomp,amsmath,etoolbox,booktabs,siunitx,tabularx,adjustbox}"
NEEDS_TEX = pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")


def page(text: str) -> tuple[dict[str, list[str]], list[Element]]:
    """HTML -> the texts of its elements by tag, and the cells of its tables."""
    root = fromstring(f"<body>{text}</body>")
    texts: dict[str, list[str]] = {}
    for element in root.iter():
        texts.setdefault(element.tag, []).append("".join(element.itertext()))
    return texts, list(root.iter("td"))


def from_markdown(text: str) -> list[list[str]]:
    """Markdown -> the cells of its table's rows, without the ruler."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    split = [[re.sub(r"\\(.)", r"\1", c.strip()) for c in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert all(set("".join(cells)) <= set(":- ") for cells in split[1:2])
    return split[:1] + split[2:]


def printed(latex: str, folder: Path) -> str:
    """LaTeX of tables -> the text of its pages as a two-column paper prints it. Fails where anything is too wide."""
    # The text and the columns of WACV's style.
    lines = [r"\documentclass[10pt,twocolumn,letterpaper]{article}", r"\usepackage[T1]{fontenc}", PACKAGES]
    lines.append(r"\input{glyphtounicode}\pdfgentounicode=1")  # so that pdftotext knows what glyphs are
    lines.insert(1, r"\usepackage[textwidth=6.875in,textheight=8.875in,columnsep=0.3125in]{geometry}")
    (folder / "paper.tex").write_text("\n".join([*lines, r"\begin{document}", latex, r"\end{document}"]), "utf-8")
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    made = subprocess.run(call, cwd=folder, capture_output=True, check=False)
    log = made.stdout.decode(errors="replace")
    assert made.returncode == 0, log
    assert not re.findall(r"Overfull .hbox.*|Float too large.*", log)
    call = ["pdftotext", "-layout", "paper.pdf", "-"]
    return subprocess.run(call, cwd=folder, capture_output=True, check=True).stdout.decode()


@settings(deadline=None, max_examples=40)
@given(awkward, awkward, awkward, awkward)
def test_names_are_escaped(column, text, title, note) -> None:
    table = Table(title, [{column: text}], [note])
    texts, _ = page(to_html(None, [table]))
    assert [texts[tag] for tag in ("figcaption", "th", "td", "li")] == [[title], [column], [text], [note]]
    assert from_markdown(to_markdown(None, [table])) == [[column.strip()], [text.strip()]]


@settings(deadline=None, max_examples=40)
@given(awkward, awkward)
def test_names_in_a_view_are_escaped(category, variant) -> None:
    view = paper_view(
        [make_cell(category=category, labels={"variant": variant})],
        view_of(rows=["category"], columns=["variant"]),
        {"mine": "folder"},
        "Title",
        [],
    )
    texts, shown = page(to_html(view, []))
    assert texts["th"][1:] == [variant, category.replace("_", " ")] and [each.text for each in shown] == ["91.23"]
    assert from_markdown(to_markdown(view, []))[1:] == [[category.replace("_", " ").strip(), "91.23"]]


@NEEDS_TEX
def test_latex_prints_names_as_they_are(tmp_path) -> None:
    """Each awkward character, between letters, in every place of a table; TeX itself is the judge."""
    name = "x".join(f"a{c}b" for c in AWKWARD if c not in " \"'")
    table = Table(name, [{name: name}], [name])
    view = paper_view([make_cell(category=name)], view_of(rows=["category"]), {"mine": "folder"}, name, [name])
    for latex in (to_latex(None, [table], "a_name"), to_latex(view, [], "a_name")):
        text = re.sub(r"\s+", "", printed(latex, tmp_path))
        assert text.count(name) + text.count(name.replace("_", "")) >= 3


@NEEDS_TEX
def test_a_caption_for_latex_prints_names_as_they_are(tmp_path) -> None:
    name = "x".join(f"a{c}b" for c in AWKWARD if c not in " \"'")
    figure = tmp_path / "figures/a_table/histogram.pdf"
    write_caption(figure, [make_record(category="metal_nut")], [name], [name])
    latex = figure.with_suffix(".tex").read_text(encoding="utf-8")
    text = re.sub(r"\s+", "", printed("\\begin{figure*}" + latex + "\\end{figure*}", tmp_path))
    assert text.count(name) + text.count(name.replace("_", "")) >= 2 and "metalnut" in text
    assert r"\label{fig:a-table-histogram}" in latex


@NEEDS_TEX
def test_every_table_fits_the_page_of_two_columns(tmp_path, rng, configs) -> None:
    """Of every experiment, all categories, all numbers there, each with a mark and the paper's beside it."""
    for file in sorted((configs / "ablations").glob("*.yaml")):
        made, shown = cells_of(file, rng)
        view = paper_view(made, shown, {made[0].dataset: made[0].dataset}, "A title of usual length", ["A note."] * 4)
        assert view is not None
        text = printed(to_latex(view, [], file.stem), tmp_path)
        numbers = re.findall(r"\d{2,3}\.\d\d", text)
        entries = [view.entry(row, column).text for row in view.rows for column in view.columns]
        assert sorted(numbers) == sorted(entry for entry in entries if entry), file.name


def test_a_view_is_shown_first_and_the_long_table_folded() -> None:
    made = [make_cell(method=name, value=value) for name, value in (("patchcore", 0.5), ("reconpatch", 0.75))]
    view = paper_view(made, view_of(rows=["category"]), {"mine": "folder"}, "Title", ["A note."])
    root = fromstring(f"<body>{to_html(view, [comparison_table(made, 'All', [])])}</body>")
    first, second = root
    assert (first.get("class"), second.get("class"), second.tag) == ("paper-view", "long-view", "details")
    assert [float(str(each.get("data-value"))) for each in first.iter("td")] == [50, 75]
    assert [each.get("class") for each in first.iter("td")] == [None, "best"]


def test_cells_link_to_the_records_of_their_seeds_and_verdicts_are_classes() -> None:
    def table_of(*made: Any) -> Table:
        return comparison_table(made, "Title", ["A note."])

    links = ["runs/a/record.json", 'runs/b&"<c>/record.json', "runs/d/record.json"]
    table = table_of(make_cell(links=links), make_cell(category="mean", categories=2, links=[]))
    texts, shown = page(to_html(None, [table]))
    found = [[(a.get("href"), a.text) for a in each.iter("a")] for each in shown]
    assert found[2] == [(links[0], "91.23 [85.0, 96.1]"), (links[1], "2"), (links[2], "3")]
    assert texts["td"][3] == "mean of 2 categories" and sum(map(len, found)) == 3
    words = ("agrees", "above", "below", "not comparable")
    table = table_of(*(make_cell(category=v, verdict=v, paper=0.9, difference=0.1) for v in words))
    position = table.columns.index("image AUROC, verdict")
    _, shown = page(to_html(None, [table]))
    assert [each.get("class") or "" for each in shown[position :: len(table.columns)]] == [*words[:3], ""]


@NEEDS_TEX
def test_long_names_in_narrow_columns_go_on_in_the_next_line(tmp_path) -> None:
    """As names of networks in a table of costs do."""
    row = {f"column {n}": "1000.5" for n in range(13)} | {"backbone": "wide_resnet50_2.tv_in1k"}
    printed(to_latex(None, [Table("Title", [row], [])], "costs"), tmp_path)
