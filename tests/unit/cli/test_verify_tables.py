"""Tables of real results, tampered with: each is made again and compared cell by cell."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reconpatch.cli.verify_tables import check_table
from reconpatch.records.verify import Findings, Results, summary, verify

Rows = list[dict[str, str]]


class Tables:
    """Results with tables to tamper with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "results"

    def check(self, name: str) -> Findings:
        """What is found of one table."""
        findings = Findings()
        file = self.root / f"tables/{name}.csv"
        findings.attempt(lambda: check_table(file, Results(self.root, {}), findings))
        return findings

    def edit(self, name: str, change: Callable[[Rows], object]) -> None:
        """Change rows of a table."""
        file = self.root / f"tables/{name}.csv"
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        change(rows)
        with file.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


@pytest.fixture(scope="module")
def shared(real_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Copied once: tests change tables alone."""
    return Tables(shutil.copytree(real_results, tmp_path_factory.mktemp("tables") / "real results"))


@pytest.fixture
def tables(shared: Tables, real_results: Path) -> Tables:
    shutil.copytree(real_results / "results/tables", shared.root / "tables", dirs_exist_ok=True)
    return shared


def test_untouched_tables_are_ok(tables: Tables) -> None:
    verdicts = list(verify(tables.root / "tables", check_table=check_table))
    assert summary(verdicts) == "5 tables: 5 ok, 0 rounding, 0 DIFFERS, 0 cannot be checked"
    (one,) = verify(tables.root / "tables/tiny.csv", check_table=check_table)
    assert one.status == "ok" and not one.is_problem


@pytest.mark.parametrize("column", ["value", "low", "gain"])
@pytest.mark.parametrize("row", [0, 13])
def test_a_changed_number_is_named_with_both_values(column, row, tables: Tables) -> None:
    def change(rows: Rows) -> None:
        rows[row][column] = str(float(rows[row][column] or 0) + 1e-4)

    tables.edit("tiny", change)
    (text,) = tables.check("tiny").differs
    assert f", {column}: stored " in text and "recomputed " in text


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("tiny", lambda rows: rows[0].update(flags=""), "flags: stored"),
        ("tiny", lambda rows: rows[0].update(seeds="5"), "seeds: stored 5"),
        ("tiny", lambda rows: rows[0].update(value="high"), "value: stored high"),
        ("tiny", lambda rows: rows[0].update(value=""), "value: stored undefined"),
        ("tiny", lambda rows: rows[0].update(runs="none-1"), "runs: stored none-1"),
        ("tiny", lambda rows: rows[0].update(links="runs/../../x"), "links: stored runs/../../x"),
        ("tiny", lambda rows: rows[0].update(method="reconpatch"), "lacks the row"),
        ("tiny", lambda rows: rows[0].update(category="mean"), "no record gives the row"),
        ("combined", lambda rows: rows.pop(5), "lacks the row"),
        ("tiny", lambda rows: [row.pop("sd") for row in rows], "columns: stored"),
        ("costs", lambda rows: rows[1].update({"coreset, s": "99.9"}), "row 2, coreset, s: stored 99.9"),
        ("costs", lambda rows: rows.pop(), "lacks the row row 2"),
    ],
)
def test_a_row_must_be_what_its_records_give(name, change, says, tables: Tables) -> None:
    tables.edit(name, change)
    findings = tables.check(name)
    assert findings.status == "DIFFERS" and any(says in text for text in findings.differs), findings


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("tiny_summary", lambda rows: rows[0].update(wins="7"), "row 1, wins: stored 7"),
        ("tiny_summary", lambda rows: rows.pop(), "lacks the row row"),
        ("tiny_defects", lambda rows: rows[1].update(gain="0.5"), "gain: stored"),
        ("tiny_defects", lambda rows: rows[0].update(defect="rust"), "lacks the row mine, bolt, bent"),
    ],
)
def test_summaries_and_types_of_defect_are_checked_with_their_table(name, change, says, tables: Tables) -> None:
    tables.edit(name, change)
    findings = tables.check("tiny")
    assert findings.status == "DIFFERS" and any(says in text for text in findings.differs), findings


def test_a_summary_that_is_lost_or_made_up_is_not_ok(tables: Tables) -> None:
    summaries = {name: tables.root / f"tables/{name}_summary.csv" for name in ("tiny", "combined")}
    text = summaries["tiny"].read_text()
    summaries["tiny"].unlink()
    assert "tiny_summary.csv is missing" in tables.check("tiny").missing[0]
    assert len(summaries["combined"].read_text().splitlines()) == 1  # one category: the columns alone
    summaries["combined"].write_text(text)
    assert tables.check("combined").status == "DIFFERS"


def test_rounding_is_told_from_a_difference(tables: Tables) -> None:
    tables.edit("tiny", lambda rows: rows[0].update(value=str(float(rows[0]["value"]) + 5e-7)))
    assert tables.check("tiny").status == "rounding"


@pytest.mark.parametrize("content", ["", "a\n1\n", '"', "\x00", "dataset\n" + "x," * 50])
def test_a_file_that_is_no_table_is_never_ok(content, tables: Tables) -> None:
    (tables.root / "tables/tiny.csv").write_text(content)
    assert tables.check("tiny").status in ("DIFFERS", "cannot be checked")


def test_a_table_without_its_settings_cannot_be_checked(tables: Tables) -> None:
    shutil.copy(tables.root / "tables/tiny.csv", tables.root / "tables/other.csv")
    (text,) = tables.check("other").missing
    assert "other.json is missing" in text
    (tables.root / "tables/other.csv").unlink()


def test_lost_and_edited_records_hinder_the_check(real_results_copy: Path) -> None:
    tables = Tables(real_results_copy)
    record = next((tables.root / "runs/mine/bolt").glob("*/record.json"))
    content = record.read_text()
    record.write_text(content.replace('"seed": 0', '"seed": 9').replace('"seed": 1', '"seed": 9'))
    findings = tables.check("tiny")
    assert findings.status == "cannot be checked" and record.parent.name in findings.missing[0]
    record.unlink()
    findings = tables.check("tiny")
    assert any(f"{record.parent.name} are missing" in text for text in findings.missing)
    assert not any("_holm" in text or "tiny_" in text or ", wins" in text for text in findings.differs)
