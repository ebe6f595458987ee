import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from drawing import make_record
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.results.comparison import Cell, Gain, Result
from reconpatch.results.tables import (
    MISSING,
    Table,
    comparison_table,
    cost_table,
    to_html,
    to_latex,
    to_markdown,
)

FOLDER = Path(__file__).parents[3] / "configs" / "paper"
NAN = float("nan")
awkward = st.text(st.sampled_from("ab1 <>&_%$#{}\\~^|\"'–±×−"), min_size=1, max_size=12).map(lambda s: f"a{s}b")


def page(text: str) -> tuple[dict[str, list[str]], list[Element]]:
    """HTML -> the texts of its elements by tag, and the cells of its table."""
    root = fromstring(text)
    texts: dict[str, list[str]] = {}
    for element in root.iter():
        texts.setdefault(element.tag, []).append("".join(element.itertext()))
    return texts, list(root.iter("td"))


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
    fields |= {"difference": NAN, "verdict": "", "reasons": []}
    return Cell(**(fields | {"seeds": [0], "runs": ["r"], "links": ["runs/r/record.json"]} | changes))


def table_of(*made: Cell) -> Table:
    return comparison_table(made, "Title", ["A note."])


def test_paper_verdict_and_gain_have_columns_where_there_are_any() -> None:
    fields = {"paper": 0.914, "difference": -0.00166, "verdict": "agrees"}
    gain = Gain("patchcore", -0.0042, -0.0151, 0.0049, p=0.1, holm=0.3, paper=0.012, verdict="smaller")
    table = table_of(
        cell(**fields, gains={"gain": gain}),
        cell(metric="aupro_30", low=NAN, gains={"gain": Gain("patchcore", 0.5, NAN, NAN, NAN)}),
        cell(category="bolt", method="patchcore"),
    )
    first, second = table.rows
    assert first == {
        **{"category": "nut", "method": "ReConPatch", "image AUROC": "91.23 [85.0, 96.1]"},
        **{"image AUROC, paper": "91.40", "image AUROC, verdict": "agrees (-0.17)"},
        "image AUROC, gain over PatchCore": "-0.42 [-1.5, +0.5], corrected p 0.300",
        "image AUROC, paper's gain over PatchCore": "+1.20",
        "image AUROC, verdict on the gain over PatchCore": "smaller",
        "AUPRO (30 %)": "91.23",
    }
    assert second["method"] == "PatchCore" and second["image AUROC, gain over PatchCore"] == ""
    assert (second["image AUROC, paper"], second["image AUROC, verdict"]) == (MISSING, MISSING)
    assert (table_of(cell()).columns) == ["category", "method", "image AUROC"]


def test_patchcore_rows_are_not_repeated() -> None:
    """Sigma is none of PatchCore's, so its run is the same everywhere; each data set and category has its own row."""
    made = []
    for dataset, category in (("mine", "nut"), ("mine", "bolt"), ("other", "nut")):
        for sigma in (0.5, 1.0, 2.0):
            target = {"dataset": dataset, "category": category, "labels": {"sigma": sigma}}
            made += [cell(**target, method="patchcore", runs=["p"]), cell(**target, runs=[f"r{sigma}"])]
    shown = [(row["method"], row["sigma"]) for row in table_of(*made).rows]
    assert shown == [("PatchCore", "0.5"), *(("ReConPatch", s) for s in ("0.5", "1.0", "2.0"))] * 3
    differ = [cell(labels={"dim": dim}, method="patchcore", runs=[f"p{dim}"]) for dim in (64, 512)]
    assert [row["dim"] for row in table_of(*differ).rows] == ["64", "512"]


@settings(deadline=None, max_examples=40)
@given(awkward, awkward, awkward, awkward)
def test_names_are_escaped(column, text, title, note) -> None:
    table = Table(title, [{column: text}], [note])
    texts, _ = page(to_html(table))
    assert [texts[tag] for tag in ("figcaption", "th", "td", "li")] == [[title], [column], [text], [note]]
    assert texts.keys() <= {"figure", "figcaption", "div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    latex = to_latex(table)
    header, body = re.findall(r"(.*) \\\\\n", latex)
    assert (from_latex(header), from_latex(body)) == (column, text)
    (caption,) = re.findall(r"\\caption\{(.*)\}\n", latex)
    assert from_latex(caption) == f"{title}. {note}"
    assert from_markdown(to_markdown(table)) == [[column.strip()], [text.strip()]]


def test_cells_link_to_the_records_of_their_seeds_and_verdicts_are_classes() -> None:
    links = ["runs/a/record.json", 'runs/b&"<c>/record.json', "runs/d/record.json"]
    table = table_of(cell(links=links), cell(category="mean", categories=2, links=[]))
    texts, shown = page(to_html(table))
    found = [[(a.get("href"), a.text) for a in each.iter("a")] for each in shown]
    assert found[2] == [(links[0], "91.23 [85.0, 96.1]"), (links[1], "2"), (links[2], "3")]
    assert texts["td"][3] == "mean of 2" and sum(map(len, found)) == 3
    words = ("agrees", "above", "below", "not comparable")
    table = table_of(*(cell(category=v, verdict=v, paper=0.9, difference=0.1) for v in words))
    position = table.columns.index("image AUROC, verdict")
    _, shown = page(to_html(table))
    assert [each.get("class") or "" for each in shown[position :: len(table.columns)]] == [*words[:3], ""]


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
