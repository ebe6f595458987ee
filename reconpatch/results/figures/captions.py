"""The caption of a figure: sentences in a text file beside it. This module does without matplotlib."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from reconpatch.errors import listed
from reconpatch.experiments.stages import FIGURES
from reconpatch.files import write_text
from reconpatch.records.record import Record
from reconpatch.results.latex import breakable, escaped
from reconpatch.results.names import THE_PAPER

MOST_DEPARTURES = 8  # in a caption; the notes of the table have all


def write_caption(
    figure: Path, records: Sequence[Record], departures: Sequence[str], remarks: Sequence[str] = ()
) -> None:
    """A figure's file, whose stem is its kind, the records it shows, their settings other than the paper's, what else
    must be said -> its caption beside it.

    A line each: what is drawn, of which categories; networks and weights; settings; departures from the paper's; every
    flag of the records; remarks. The text goes into a `.txt`; a `.tex` has it as a command `\\caption` with a label.
    """
    targets = list(dict.fromkeys(f"{r.category.replace('_', ' ')} ({r.dataset})" for r in records))
    drawn_from = f" Drawn from {', '.join(targets)}." if targets else ""
    lines = [FIGURES[figure.stem].caption + drawn_from, *facts_of(records, departures), *remarks]
    said = [line for line in lines if line]
    write_text(caption_file(figure), "".join(f"{line}\n" for line in said))
    parts = figure.with_suffix("").parts
    label = "-".join(parts[parts.index("figures") + 1 :] if "figures" in parts else parts[-1:])
    latex = "\n".join(breakable(escaped(line)) for line in said)
    text = f"% In a figure, below \\includegraphics.\n\\caption{{{latex}}}\n\\label{{fig:{label.replace('_', '-')}}}\n"
    write_text(figure.with_suffix(".tex"), text)


def facts_of(records: Sequence[Record], departures: Sequence[str]) -> list[str]:
    """Records, their settings other than the paper's -> sentences on their networks and weights, their settings, and
    every flag.

    The description of an ensemble holds what its members share.
    """
    shared = [{"backbone": "several", "dim": "several", "coreset": "several"} | r.description for r in records]
    backbones = sorted(
        {f"{of['backbone']} ({r.weights.source} weights)" for of, r in zip(shared, records, strict=True)}
    )
    settings = sorted({f"{of['dim']} dimensions, coreset {of['coreset']}" for of in shared})
    flags = sorted({str(flag) for record in records for flag in record.flags})
    lines = [
        f"Backbone: {', '.join(backbones)}." if backbones else "",
        f"Settings: {'; '.join(settings)}." if 0 < len(settings) < 3 else "",  # a sweep's axis says what differs
        f"Settings other than the paper's: {'; '.join(listed(departures, MOST_DEPARTURES))}." if departures else "",
        f"Remarks: {'; '.join(flags)}." if flags else "",
    ]
    return [line for line in lines if line]


def of_published(sources: Iterable[object], verdicts: Iterable[object]) -> list[str]:
    """Who published the numbers drawn beside ours, the verdicts on ours -> what must be said of them."""
    names = ["the paper" if name == THE_PAPER else str(name) for name in dict.fromkeys(sources)]
    lines = [f"Published by: {'; '.join(names)}."] if names else []
    if "not comparable" in set(verdicts):
        lines.append("The published numbers are not comparable: see the table's notes.")
    return lines


def caption_file(figure: Path) -> Path:
    """A figure's file -> the file of its caption."""
    return figure.with_suffix(".txt")


def caption_of(folder: Path, file: str) -> list[str]:
    """Folder of results, a figure in it, as `figures_of` names it -> the lines of its caption, first what it shows.

    A figure without the file of its caption has the caption of its kind, and says that the rest is not known.
    """
    beside = caption_file(folder / file)
    if beside.is_file():
        return beside.read_text(encoding="utf-8").splitlines()
    return [FIGURES[Path(file).stem].caption, f"Its settings and remarks are not known: {beside.name} is missing."]
