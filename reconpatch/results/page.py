"""What all HTML pages share: they are whole, load nothing, and read offline, on a phone and on paper."""

import base64
import hashlib
import re
from typing import Any


def data_uri(content: bytes, mime: str) -> str:
    """Bytes of a picture, its type, for example image/png -> data URI."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def anchor(name: str) -> str:
    """Name of an experiment or a group -> the name of its place on the page, apart from those of other parts."""
    return "of-" + re.sub(r"\W", "-", name)


def render_page(template: str, **content: Any) -> str:
    """Name of a template that extends `page.html.j2`, what it shows -> HTML page. All text is escaped."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("reconpatch.results", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["anchor"] = anchor
    script = environment.get_template("report.js.j2").render()
    return environment.get_template(template).render(
        style=Markup(environment.get_template("report.css.j2").render()),  # noqa: S704, our own
        script=Markup(script),  # noqa: S704, our own
        script_hash=_hash(script),
        **content,
    )


def _hash(text: str) -> str:
    """Text of a script -> what allows it, and no other, to run on the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
