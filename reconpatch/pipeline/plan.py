"""The step that writes the plan as a table, one row for each experiment, category and run."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconpatch.files import replacing


def write_plan(rows: Sequence[Mapping[str, object]], destination: Path) -> None:
    """Rows -> a CSV file. An ensemble's row has other columns than a run's."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with replacing(destination) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
