import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from drawing import make_record
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.results.comparison import Cell, Result, cells
from reconpatch.results.names import METHODS
from reconpatch.results.paper import Paper, PaperNumber, read_paper
from reconpatch.results.tables import (
    MISSING,
    Table,
    comparison_table,
    cost_table,
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


def cell(**changes: Any) -> Cell:
    """A cell of image AUROC, as `cells` makes it."""
    fields = {"dataset": "mine", "category": "nut", "categories": 1, "method": "reconpatch", "metric": "image_auroc"}
    fields |= {"labels": {}, "value": 0.91234, "sd": NAN, "low": 0.85, "high": 0.9612, "paper": None, "flags": []}
    fields |= {"difference": NAN, "verdict": "", "reasons": [], "gain": None, "gain_low": NAN, "gain_high": NAN}
    return Cell(**(fields | {"seeds": [0], "runs": ["r"], "links": ["runs/r/record.json"]} | changes))


def table_of(*made: Cell) -> Table:
    return comparison_table(made, "Title", ["A note."])


def run(method: str = "reconpatch", *, flags: tuple[str, ...] = (), missing: bool = False, **changes: Any) -> Result:
    """A run with a record, unless it is missing."""
    record = make_record(
        category=changes.get("category", "nut"),
        metrics={"image_auroc": 0.9, "pixel_auroc": 0.8, "aupro_30": 0.7},
        description={"backbone": "net", "method": method},
        weights={"source": "file"},
        flags=list(flags),
    )
    fields = {"labels": {}, "seed": 0, "dataset": "mine", "category": "nut", "run": f"{method}-1", "departures": ()}
    return Result(method=method, record=None if missing else record, **(fields | changes))


def notes_of(*results: Result, caveat: str | None = None, absent: str = "", tolerance: float = 0.002) -> list[str]:
    """The notes of a table, beside a number of the paper where there is a caveat."""
    numbers = {} if caveat is None else {("nut", "reconpatch", "image_auroc", ()): PaperNumber(90.0, caveat)}
    made = cells(results, Paper([], numbers), {"mine": "mvtec_ad"}, count=100, tolerance=tolerance)
    return [*notes(results, made, count=100, tolerance=tolerance), *provenance(results, absent)]


def test_paper_verdict_and_gain_have_columns_where_there_are_any() -> None:
    fields = {"paper": 0.914, "difference": -0.00166, "verdict": "agrees"}
    gain = {"gain": -0.0042, "gain_low": -0.0151, "gain_high": 0.0049}
    table = table_of(
        cell(**fields, **gain), cell(metric="aupro_30", low=NAN, gain=0.5), cell(category="bolt", method="patchcore")
    )
    first, second = table.rows
    assert first == {
        **{"category": "nut", "method": "ReConPatch", "image AUROC": "91.23 [85.0, 96.1]"},
        **{"image AUROC, paper": "91.40", "image AUROC, verdict": "agrees (-0.17)"},
        **{"image AUROC, gain over PatchCore": "-0.42 [-1.5, +0.5]", "AUPRO (30 %)": "91.23"},
    }
    assert second["method"] == "PatchCore" and second["image AUROC, gain over PatchCore"] == ""
    assert (second["image AUROC, paper"], second["image AUROC, verdict"]) == (MISSING, MISSING)
    assert (table_of(cell()).columns) == ["category", "method", "image AUROC"]


def test_rows_say_what_they_are_means_of_and_of_which_data_set() -> None:
    shown = [("nut", 1), ("metal_nut", 1), ("object", 2), ("texture", 3), ("mean", 5), ("object", 1)]
    table = table_of(*(cell(category=c, categories=n, runs=[c]) for c, n in shown))
    names = [row["category"] for row in table.rows]  # a category may be called "object"
    assert names == ["nut", "metal nut", "mean of 2 objects", "mean of 3 textures", "mean of 5", "object"]
    assert [row["dataset"] for row in table_of(cell(), cell(dataset="other")).rows] == ["mine", "other"]


def test_patchcore_rows_are_not_repeated() -> None:
    """Sigma is none of PatchCore's, so its run is the same everywhere; each data set and category has its own row."""
    made = []
    for dataset, category in (("mine", "nut"), ("mine", "bolt"), ("other", "nut")):
        for sigma in (0.5, 1.0, 2.0):
            target = {"dataset": dataset, "category": category, "labels": {"sigma": sigma}}
            made += [cell(**target, method="patchcore", runs=["p"]), cell(**target, runs=[f"r{sigma}"], gain=0.01)]
    shown = [(row["method"], row["sigma"]) for row in table_of(*made).rows]
    assert shown == [("PatchCore", "0.5"), *(("ReConPatch", s) for s in ("0.5", "1.0", "2.0"))] * 3
    differ = [cell(labels={"dim": dim}, method="patchcore", runs=[f"p{dim}"]) for dim in (64, 512)]
    assert [row["dim"] for row in table_of(*differ).rows] == ["64", "512"]


def test_notes_tell_seeds_draws_gains_and_what_is_missing() -> None:
    whole = "\n".join(notes_of(run()))
    assert "Seeds: 0." in whole and "one seed" in whole and "Backbone (weights): net (file)." in whole
    assert not [word for word in ("Missing", "A dash", "Not run", "Gain", "Verdict", "other than") if word in whole]
    several = "\n".join(notes_of(run(), run(seed=3), run("patchcore"), run("patchcore", seed=3)))
    assert "Seeds: 0, 3 (means)." in several and "test images and seeds" in several and "Gain: " in several
    partial = notes_of(run(), run(category="bolt", missing=True), absent="data set btad is not at hand")
    assert partial[-1] == "Not run: data set btad is not at hand." and partial[-2].startswith("Missing")
    assert "mine/bolt reconpatch-1" in partial[-2] and any(line.startswith("A dash: ") for line in partial)


def test_notes_tell_every_flag_once_and_remarks_on_the_data_apart() -> None:
    flag = "untrained (random) weights"
    lines = notes_of(run(flags=(flag, "data: two images are one")), run(category="bolt", flags=(flag, "x")))
    assert [line for line in lines if line.startswith(("Not a result", "Remarks on the data"))] == [
        f"Not a result of the paper: {flag}.",
        "Not a result of the paper, bolt: x.",
        "Remarks on the data, nut: two images are one.",
    ]


def test_notes_tell_departures_by_place() -> None:
    results = [
        run(labels={"variant": "small", "dim": dim}, run=f"r{dim}", departures=("epochs = 3 (paper 120)", *own))
        for dim, own in ((64, ("crop = 96 (paper 224)", "k = 4 (paper 5)")), (128, ("k = 4 (paper 5)",)), (512, ()))
    ]
    assert [line for line in notes_of(*results) if line.startswith("Settings")] == [
        "Settings other than the paper's: epochs = 3 (paper 120).",
        "Settings other than the paper's (small, 64): crop = 96 (paper 224).",
        "Settings other than the paper's (small, 128 | small, 64): k = 4 (paper 5).",
    ]


def test_notes_tell_verdicts_and_reasons() -> None:
    """A setting or a flag is named by its own note, a caveat of the paper by the one that says "not comparable"."""
    caveat = [line for line in notes_of(run(), caveat="As | it is; so.", tolerance=0.0025) if "omparable" in line]
    assert caveat == ["Not comparable, ReConPatch: As | it is; so."]
    assert any("±0.25" in line for line in notes_of(run(), caveat="", tolerance=0.0025))
    lines = notes_of(run(flags=("x",), departures=("a = 1",)), caveat="")
    assert len([line for line in lines if "Not comparable: rows" in line]) == 1
    assert not [line for line in lines if "Not comparable, " in line]


@settings(deadline=None, max_examples=40)
@given(awkward, awkward, awkward, awkward)
def test_names_are_escaped(column, text, title, note) -> None:
    table = Table(title, [{column: text}], [note])
    page = Page(to_html(table))
    assert page.texts == {"figcaption": [title], "th": [column], "td": [text], "li": [note]}
    assert page.tags <= {"figure", "figcaption", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    latex = to_latex(table)
    header, body = re.findall(r"(.*) \\\\\n", latex)
    assert (from_latex(header), from_latex(body)) == (column, text)
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", latex)
    assert from_latex(caption) == f"{title}. {note}"
    assert from_markdown(to_markdown(table)) == [[column.strip()], [text.strip()]]


def test_formats_have_a_cell_per_column_and_keep_digits() -> None:
    table = Table("Title", [{"a": "90.10"}, {"b": "007"}], ["One.", "Two."])
    got = to_markdown(table)
    assert from_markdown(got) == [["a", "b"], ["90.10", ""], ["", "007"]]
    assert got.startswith("**Title**\n\n|") and got.endswith("\n\n- One.\n- Two.\n")
    assert Page(to_html(table)).texts["td"] == ["90.10", "", "", "007"]
    for part in (r"\begin{table}", r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{ll}"):
        assert part in to_latex(table)


def test_cells_link_to_the_records_of_their_seeds_and_verdicts_are_classes() -> None:
    links = ["runs/a/record.json", 'runs/b&"<c>/record.json', "runs/d/record.json"]
    table = table_of(cell(links=links), cell(category="mean", categories=2, links=[]))
    page = Page(to_html(table))
    assert page.links[2] == [(links[0], "91.23 [85.0, 96.1]"), (links[1], "2"), (links[2], "3")]
    assert page.texts["td"][3] == "mean of 2" and sum(map(len, page.links)) == 3
    words = ("agrees", "above", "below", "not comparable")
    table = table_of(*(cell(category=v, verdict=v, paper=0.9, difference=0.1) for v in words))
    position = table.columns.index("image AUROC, verdict")
    assert Page(to_html(table)).classes[position :: len(table.columns)] == [*words[:3], ""]


@pytest.mark.parametrize("name", ["table_btad", "table_ensemble", "table_mvtec"])
def test_numbers_of_other_methods_are_all_printed(name) -> None:
    paper = read_paper(FOLDER / f"{name}.csv")
    table = published_table(paper, name)
    assert table is not None
    shown = sorted(
        float(n) for row in table.rows for c in row if c != "category" for n in row[c].split(", ") if n != MISSING
    )
    assert shown == pytest.approx(sorted(n.value for key, n in paper.numbers.items() if key[1] not in METHODS))
    ours = {key: n for key, n in paper.numbers.items() if key[1] in METHODS}
    assert published_table(Paper(paper.labels, ours), name) is None


# --- costs -----------------------------------------------------------------------------------------------------------

SECONDS = {"features": 10.04, "training": 100.0, "bank": 5.25, "score": 2.5}
PEAKS = {"features": 900.0, "training": 1500.4, "bank": 700.0, "score": 1200.0}
PER_IMAGE = {"features": {"train": 9.0, "test": 0.3}, "score": {"test": 0.1}}


def costly(method: str = "reconpatch", processor: str = "a processor", **changes: Any) -> Result:
    stages = {
        name: {"wall_s": SECONDS[name], "peak_mb": PEAKS[name], "threads": 4, "processor": processor, "cores": 8}
        | {"s_per_image": PER_IMAGE.get(name, {})}
        for name in SECONDS
        if method == "reconpatch" or name != "training"
    }
    record = make_record(
        description={"backbone": "net", "dim": 512, "method": method},
        bank={"patches": 4000, "of": 100_000},
        stages=stages,
        members=changes.pop("members", ()),
    )
    fields = {"labels": {"dim": 512}, "method": method, "seed": 0, "dataset": "mine", "category": "metal_nut"}
    fields |= {"run": "r", "departures": (), "record": record, "link": "runs/r/record.json"}
    return Result(**(fields | changes))


def test_costs_by_hand() -> None:
    missing = costly(record=None, link="")
    ensemble = costly(members=[costly().record])  # its members have rows of their own
    table = cost_table([costly(), costly("patchcore"), missing, ensemble], "Cost", [])
    first, second, third, fourth = table.rows
    assert first == {
        **{"category": "metal nut", "dim": "512", "method": "ReConPatch", "seed": "0", "backbone": "net"},
        **{"features, s": "10.0", "training, s": "100.0", "coreset, s": "5.2", "scores, s": "2.5", "all, s": "117.8"},
        "largest process, MB": "1500",
        "bank, patches": "4000 of 100000",
        "bank, MB": "8.2",  # 4000 rows of 512 float32: 8,192,000 bytes
        "images per second": "2.5",  # 0.3 s for the features of a test image and 0.1 s for its scores
        "on": "cpu, 4 threads",
    }
    assert second["training, s"] == MISSING and float(second["all, s"]) == pytest.approx(17.79, abs=0.05)
    assert second["largest process, MB"] == "1200"
    assert third["backbone"] == MISSING and fourth["backbone"] == "net" and len(third) == len(fourth) == 5
    assert table.links[0] == {"all, s": ["runs/r/record.json"]} and table.links[2] == {}
