"""The report: one HTML page with every table and figure inside it, readable offline and on a phone."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from reconpatch.experiments.outputs import reasons
from reconpatch.experiments.stages import FIGURES
from reconpatch.records.provenance import CodeState

MIME = {".png": "image/png", ".svg": "image/svg+xml"}


def data_uri(path: Path) -> str:
    """Image file -> data URI."""
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def figure(folder: Path, file: str) -> dict[str, str]:
    """Figure file `figures/<experiment>/[<data set>/<category>/]<kind>.<suffix>` -> what the page shows of it."""
    _, experiment, *where, name = Path(file).parts
    kind = Path(name).stem
    about = ", ".join(part.replace("_", " ") for part in where)
    caption = f"{about}. {FIGURES[kind].caption}" if about else FIGURES[kind].caption
    return {"uri": data_uri(folder / file), "caption": caption, "alt": f"{kind} of {about or experiment}"}


def render(
    folder: Path,
    sections: Sequence[Mapping[str, Any]],
    absent: Mapping[str, str],
    code: CodeState,
    missing: Sequence[str] = (),
) -> str:
    """Folder of results, sections (name, title, table and figure files in it), what is missing -> HTML page.

    `absent` says why experiments, or parts of them, were not planned; `missing` names planned results that are not
    there.
    """
    template = Environment(loader=PackageLoader("reconpatch.results", "."), autoescape=True).get_template(
        "report.html.j2"
    )
    shown = [
        {
            "name": re.sub(r"\W", "-", section["name"]),
            "title": section["title"],
            "table": Markup((folder / section["table"]).read_text(encoding="utf-8")),  # noqa: S704, escaped by tables
            "figures": [figure(folder, file) for file in section["figures"]],
        }
        for section in sections
    ]
    return template.render(sections=shown, reasons=reasons(absent), code=code, missing=missing)
