import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from drawing import make_record
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.results.comparison import Result, cells
from reconpatch.results.paper import read_paper
from reconpatch.results.tables import (
    MISSING,
    Table,
    comparison_table,
    notes,
    provenance,
    published_table,
    to_html,
    to_latex,
    to_markdown,
)

FOLDER = Path(__file__).parents[3] / "configs" / "paper"
NAN = float("nan")
awkward = st.text(st.sampled_from("ab1 <>&_%$#{}\\~^|\"'–±×−"), min_size=1, max_size=12).map(lambda s: f"a{s}b")


class Page(HTMLParser):
    """What a browser would see: tags, texts of table cells, and of every cell its links and class."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.texts: dict[str, list[str]] = {}
        self.links: list[list[tuple[str, str]]] = []
        self.classes: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        if tag in ("th", "td", "li", "figcaption"):
            self.texts.setdefault(tag, []).append("")
        if tag == "td":
            self.links.append([])
            self.classes.append(str(dict(attrs).get("class")))
        if tag == "a":
            self.links[-1].append((str(dict(attrs)["href"]), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            if tag in self.texts:
                self.texts[tag][-1] += data
        if self._open and self._open[-1] == "a":
            href, text = self.links[-1][-1]
            self.links[-1][-1] = (href, text + data)


def from_latex(text: str) -> str:
    """LaTeX -> the text it prints; a special character that is not escaped is an error."""
    named = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^"}
    named |= {"textless": "<", "textgreater": ">", "textbar": "|"}
    tokens = re.findall(r"\\([a-z]+)\{\}|\\([&%$#_{}])|(\$\\pm\$|\$\\times\$|\$-\$|--)|([^\\&%$#_{}~^<>|])|(.)", text)
    assert not [t for t in tokens if t[4]], f"not escaped: {text}"
    maths = {r"$\pm$": "±", r"$\times$": "×", "$-$": "−", "--": "–", "": ""}
    return "".join(named.get(name, "") + escaped + maths[sign] + plain for name, escaped, sign, plain, _ in tokens)


def from_markdown(text: str) -> list[list[str]]:
    """Markdown -> the cells of its table's rows, without the ruler."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    split = [[c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert all(set("".join(cells)) <= set(":- ") for cells in split[1:2])
    return split[:1] + split[2:]


def cell(**changes: Any) -> dict[str, Any]:
    """A cell of image AUROC, as `cells` makes it."""
    fields = {"dataset": "mine", "category": "nut", "categories": 1, "method": "reconpatch", "metric": "image_auroc"}
    fields |= {"value": 0.91234, "sd": NAN, "low": 0.85, "high": 0.9612, "paper": NAN, "difference": NAN}
    fields |= {"verdict": "", "reasons": "", "gain": NAN, "gain_low": NAN, "gain_high": NAN}
    return fields | {"seeds": "0", "runs": "r", "links": "runs/r/record.json"} | changes


def table_of(*made: dict[str, Any], labels: tuple[str, ...] = ()) -> Table:
    return comparison_table(pd.DataFrame(made), labels, "Title", ["A note."])


def run(method: str = "reconpatch", *, flags: tuple[str, ...] = (), missing: bool = False, **changes: Any) -> Result:
    """A run with a record, unless it is missing."""
    record = make_record(
        metrics={"image_auroc": 0.9, "pixel_auroc": 0.8, "aupro_30": 0.7},
        description={"backbone": "net", "method": method},
        weights={"source": "file"},
        flags=list(flags),
    )
    fields = {"labels": {}, "seed": 0, "dataset": "mine", "category": "nut", "run": f"{method}-1", "departures": ()}
    return Result(method=method, record=None if missing else record, **(fields | changes))


def notes_of(*results: Result, paper: pd.DataFrame | None = None, absent: str = "", tolerance: float = 0.002) -> str:
    frame = cells(results, paper, {"mine": "mvtec_ad"}, count=100, tolerance=tolerance)
    return "\n".join([*notes(results, frame, count=100, tolerance=tolerance), *provenance(results, absent)])


def printed(caveat: str = "") -> pd.DataFrame:
    fields = {"category": "nut", "method": "reconpatch", "metric": "image_auroc", "value": 90.0, "caveat": caveat}
    return pd.DataFrame([fields])


def test_numbers_are_percent_with_their_interval() -> None:
    (row,) = table_of(cell()).rows
    assert row == {"category": "nut", "method": "ReConPatch", "image AUROC": "91.23 [85.0, 96.1]"}
    (row,) = table_of(cell(low=NAN, high=NAN, method="patchcore")).rows
    assert (row["method"], row["image AUROC"]) == ("PatchCore", "91.23")


def test_paper_verdict_and_gain_have_columns_where_there_are_any() -> None:
    fields = {"paper": 0.914, "difference": -0.00166, "verdict": "agrees"}
    gain = {"gain": -0.0042, "gain_low": -0.0151, "gain_high": 0.0049}
    ours, theirs = cell(**fields, **gain), cell(category="bolt", runs="s")
    table = table_of(ours, theirs, cell(metric="aupro_30"))
    first, second = table.rows
    assert first["image AUROC, paper"] == "91.40"
    assert first["image AUROC, verdict"] == "agrees (-0.17)"
    assert first["image AUROC, gain over PatchCore"] == "-0.42 [-1.5, +0.5]"
    assert (second["image AUROC, paper"], second["image AUROC, verdict"]) == (MISSING, MISSING)
    assert second["image AUROC, gain over PatchCore"] == ""
    assert [c for c in table.columns if c.startswith("AUPRO")] == ["AUPRO (30 %)"]


def test_missing_is_a_dash_without_link() -> None:
    table = table_of(cell(value=NAN, low=NAN, high=NAN, paper=0.9, verdict="not run", links="runs/seed0/record.json"))
    (row,) = table.rows
    assert row["image AUROC"] == MISSING and row["image AUROC, verdict"] == "not run"
    page = Page(to_html(table))
    assert not any(page.links)
    assert MISSING in page.texts["td"]


def test_rows_say_what_they_are_means_of() -> None:
    shown = [("nut", 1), ("metal_nut", 1), ("object", 2), ("texture", 3), ("mean", 5)]
    table = table_of(*(cell(category=c, categories=n, runs=c) for c, n in shown))
    names = [row["category"] for row in table.rows]
    assert names == ["nut", "metal nut", "mean of 2 objects", "mean of 3 textures", "mean of 5"]
    (row,) = table_of(cell(category="object")).rows  # a category may be called so
    assert row["category"] == "object"


def test_data_sets_are_named_where_there_are_several() -> None:
    assert "dataset" not in table_of(cell(), cell(category="bolt")).columns
    table = table_of(cell(), cell(dataset="other"))
    assert [row["dataset"] for row in table.rows] == ["mine", "other"]


def test_patchcore_rows_are_not_repeated() -> None:
    """Sigma is none of PatchCore's, so its run is the same everywhere; each data set and category has its own row."""
    made = []
    for dataset, category in (("mine", "nut"), ("mine", "bolt"), ("other", "nut")):
        for sigma in (0.5, 1.0, 2.0):
            place = {"dataset": dataset, "category": category, "sigma": sigma}
            made += [cell(**place, method="patchcore", runs="p"), cell(**place, runs=f"r{sigma}", gain=0.01)]
    rows = table_of(*made, labels=("sigma",)).rows
    shown = [(row["method"], row["sigma"]) for row in rows]
    one = [("PatchCore", "0.5"), ("ReConPatch", "0.5"), ("ReConPatch", "1.0"), ("ReConPatch", "2.0")]
    assert shown == one * 3
    differ = [cell(dim=dim, method="patchcore", runs=f"p{dim}") for dim in (64, 512)]
    assert [row["dim"] for row in table_of(*differ, labels=("dim",)).rows] == ["64", "512"]


def test_metrics_of_a_place_are_one_row() -> None:
    made = [cell(dim=dim, metric=m, runs=f"r{dim}") for dim in (64, 512) for m in ("image_auroc", "pixel_auroc")]
    table = table_of(*made, labels=("dim",))
    assert table.columns == ["category", "dim", "method", "image AUROC", "pixel AUROC"] and len(table.rows) == 2


def test_notes_tell_seeds_and_what_was_drawn() -> None:
    single, several = notes_of(run()), notes_of(run(), run(seed=3))
    assert "Seeds: 0." in single and "one seed" in single and "test images and seeds" not in single
    assert "Seeds: 0, 3 (means)." in several and "100 bootstrap draws of test images and seeds." in several
    assert "Backbone (weights): net (file)." in single


def test_notes_tell_every_flag_once() -> None:
    text = notes_of(
        run(flags=("untrained (random) weights",)), run(category="bolt", flags=("untrained (random) weights", "x"))
    )
    assert text.count("untrained (random) weights") == 1
    assert "Not a result of the paper: untrained (random) weights." in text  # everywhere
    assert "Not a result of the paper, bolt: x." in text


def test_notes_keep_remarks_on_the_data_apart() -> None:
    text = notes_of(run(flags=("data: two images are one",)), run(category="bolt", flags=("x",)))
    assert "Of the data, nut: two images are one." in text and "Not a result of the paper, bolt: x." in text


def test_notes_tell_departures_by_place() -> None:
    results = [
        run(labels={"variant": "small", "dim": dim}, run=f"r{dim}", departures=("epochs = 3 (paper 120)", *own))
        for dim, own in ((64, ("crop = 96 (paper 224)", "k = 4 (paper 5)")), (128, ("k = 4 (paper 5)",)), (512, ()))
    ]
    lines = notes_of(*results).splitlines()
    assert "Settings other than the paper's: epochs = 3 (paper 120)." in lines
    assert "Settings other than the paper's (small, 64): crop = 96 (paper 224)." in lines
    assert "Settings other than the paper's (small, 128 | small, 64): k = 4 (paper 5)." in lines
    assert not [line for line in notes_of(run()).splitlines() if "other than the paper" in line]


def test_notes_tell_verdicts_and_reasons() -> None:
    text = notes_of(run(), paper=printed("As it is; without more."), tolerance=0.0025)
    assert "agrees within ±0.25 of the paper's number" in text
    assert [line for line in text.splitlines() if "Not comparable" in line] == [
        "Not comparable, ReConPatch: As it is; without more."
    ]
    assert "Verdict" not in notes_of(run())
    told = notes_of(run(flags=("x",), departures=("a = 1",)), paper=printed())
    assert "Not comparable: rows with settings" in told and "Not comparable, " not in told
    assert "Not a result of the paper: x." in told and "a = 1" in told


def test_notes_list_what_is_missing() -> None:
    text = notes_of(run(), run(category="bolt", missing=True), absent="data set btad is not at hand")
    assert "Missing, because the run failed or has not ended: mine/bolt reconpatch-1." in text
    assert "A dash: " in text and text.endswith("Not run: data set btad is not at hand.")
    whole = notes_of(run())
    assert not [word for word in ("Missing", "A dash", "Not run") if word in whole]


def test_how_to_read_a_table_and_what_it_is_made_of_are_told_apart() -> None:
    """Tables of costs say only the second."""
    results = [run(flags=("x",), departures=("a = 1",)), run("patchcore"), run(category="bolt", missing=True)]
    results.append(run("patchcore", category="bolt"))
    frame = cells(results, printed(), {"mine": "mvtec_ad"}, count=100, tolerance=0.002)
    reading, made = notes(results, frame, count=100, tolerance=0.002), provenance(results, "no data")
    assert [line.split(":")[0].split(",")[0] for line in reading] == [
        "Values × 100",
        "Gain",
        "Verdict",
        "Not comparable",
        "A dash",
    ]
    assert made == [
        "Seeds: 0.",
        "Backbone (weights): net (file).",
        "Not a result of the paper, nut: x.",
        "Settings other than the paper's: a = 1.",
        "Missing, because the run failed or has not ended: mine/bolt reconpatch-1.",
        "Not run: no data.",
    ]
    assert provenance([run(missing=True)], "")[0] == "Seeds: 0." and len(provenance([run(missing=True)], "")) == 2


def test_notes_explain_a_gain_only_where_there_is_one() -> None:
    assert "Gain: " in notes_of(run(), run("patchcore"))
    assert "Gain: " not in notes_of(run())


@settings(deadline=None)
@given(awkward, awkward, awkward, awkward)
def test_names_are_escaped_in_html(column, text, title, note) -> None:
    page = Page(to_html(Table(title, [{column: text}], [note])))
    assert page.texts == {"figcaption": [title], "th": [column], "td": [text], "li": [note]}
    assert page.tags <= {"figure", "figcaption", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


@settings(deadline=None)
@given(awkward, awkward, awkward, awkward)
def test_names_are_escaped_in_latex(column, text, title, note) -> None:
    got = to_latex(Table(title, [{column: text}], [note]))
    header, body = re.findall(r"(.*) \\\\\n", got)
    assert (from_latex(header), from_latex(body)) == (column, text)
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", got)
    assert from_latex(caption) == f"{title}. {note}"


def test_latex_is_a_table_with_rules() -> None:
    got = to_latex(table_of(cell(), cell(category="bolt")))
    for part in (r"\begin{table}", r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lll}"):
        assert part in got
    assert got.count("ReConPatch") == 2


@settings(deadline=None)
@given(st.lists(st.lists(awkward, min_size=3, max_size=3), min_size=1, max_size=4))
def test_markdown_has_a_cell_per_column(texts) -> None:
    columns = ["a", "b|c", "d_e"]
    table = Table("Title", [dict(zip(columns, row, strict=True)) for row in texts], ["One.", "Two."])
    got = to_markdown(table)
    assert from_markdown(got) == [columns, *([t.strip() for t in row] for row in texts)]
    assert got.startswith("**Title**\n\n|") and got.endswith("\n\n- One.\n- Two.\n")


def test_rows_may_lack_columns() -> None:
    table = Table("t", [{"a": "1"}, {"b": "2"}])
    assert table.columns == ["a", "b"]
    assert from_markdown(to_markdown(table)) == [["a", "b"], ["1", ""], ["", "2"]]
    assert Page(to_html(table)).texts["td"] == ["1", "", "", "2"]


def test_numbers_keep_their_digits() -> None:
    assert from_markdown(to_markdown(Table("t", [{"a": "90.10", "b": "007"}])))[1] == ["90.10", "007"]


def test_cells_link_to_the_records_of_their_seeds() -> None:
    links = ["runs/a/record.json", 'runs/b&"<c>/record.json', "runs/d/record.json"]
    table = table_of(cell(links=" ".join(links)), cell(category="mean", categories=2, links=""))
    page = Page(to_html(table))
    assert page.links[2] == [(links[0], "91.23 [85.0, 96.1]"), (links[1], "2"), (links[2], "3")]
    assert page.texts["td"][3] == "mean of 2" and sum(map(len, page.links)) == 3


def test_verdicts_are_classes_of_their_cells() -> None:
    made = [cell(category=v, verdict=v, paper=0.9, difference=0.1, runs=v) for v in ("agrees", "above", "below")]
    table = table_of(*made, cell(category="nut", verdict="not comparable", paper=0.9))
    page = Page(to_html(table))
    at = table.columns.index("image AUROC, verdict")
    assert page.classes[at :: len(table.columns)] == ["agrees", "above", "below", ""]


def test_numbers_of_other_methods() -> None:
    fields = [
        ("01", "VT-ADL", "image_auroc", 97.6),
        ("01", "VT-ADL", "pixel_auroc", 99.0),
        ("metal_nut", "PNI, 480 px", "pixel_auroc", 97.8),
        ("01", "reconpatch", "image_auroc", 99.7),
    ]
    paper = pd.DataFrame(fields, columns=["category", "method", "metric", "value"])
    table = published_table(paper, "Others")
    assert table is not None
    assert list(table.rows) == [
        {"category": "01", "VT-ADL": "97.60, 99.00", "PNI, 480 px": "–, –"},
        {"category": "metal nut", "VT-ADL": "–, –", "PNI, 480 px": "–, 97.80"},
    ]
    assert published_table(paper[paper["method"] == "reconpatch"], "Others") is None


@pytest.mark.parametrize("name", ["table_btad", "table_ensemble", "table_mvtec"])
def test_numbers_of_other_methods_are_all_printed(name) -> None:
    paper = read_paper(FOLDER / f"{name}.csv")
    table = published_table(paper, name)
    assert table is not None
    shown = sorted(
        float(n) for row in table.rows for c in row if c != "category" for n in row[c].split(", ") if n != MISSING
    )
    others = paper[~paper["method"].isin(["patchcore", "reconpatch"])]
    assert shown == pytest.approx(sorted(others["value"]))
