"""docs/configuration.md: every key with its values, default, meaning and source, from the models and the comments of
configs/default.yaml.
"""

import inspect
import json
import re
from typing import Any

import yaml
from pydantic import BaseModel

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, Dataset, Ensemble, Experiment, Override, Variant
from reconpatch.experiments.run import Run

HEAD = """\
# Every key of the configuration

*Written by `reconpatch schemas` from the types in `reconpatch/experiments/` and the comments of
`configs/default.yaml`; change those, not this page.*

`configs/default.yaml` has every key; files given with `--configfile` change it, the later winning, and `--config
key=value` wins over files. Sections are merged key by key, lists replaced. A misspelt key, a wrong type or a value
outside what stands here stops the run before any work, with the key, its value and the fix. Names become files and
folders: letters, digits, `.`, `_` and `-`, at most 64 of them.
"""
PLACES: dict[type[BaseModel], str] = {
    Config: "`configs/default.yaml`, and any part of it in an overlay.",
    Run: "`baseline`; the same keys stand in `set`, `axes`, `variants` and `stand_ins`.",
    Dataset: "`datasets`, by the name that experiments use.",
    Experiment: "a file of its own, named under `experiments`.",
    Variant: "`variants` of an experiment, by its label in the table.",
    Ensemble: "`ensemble` of an experiment.",
    Override: "`overrides`, by the experiment's name.",
}
SOURCES = """\
Source of the default: paper; PatchCore, its official code; STML, the code of the parent method; codes, agreement of
public re-implementations; ours, a choice without influence on the method. "Second hand" is what others report of the
paper."""
SOURCE = re.compile(r"\s*\[((?:paper|PatchCore|STML|codes|ours)\b[^\]]*)\]")
NUMBERS = {"integer": "whole number", "number": "number"}


def comments(text: str, section: str | None = None) -> dict[str, tuple[str, str]]:
    """YAML text, a section in it (or its top) -> key: (its value as written, the comment above and behind it).

    Of a section that spans lines the value is how many keys it has.
    """
    node, lines = yaml.compose(text, Loader=yaml.SafeLoader), text.splitlines()
    if section is not None and node is not None:
        node = next(value for key, value in node.value if key.value == section)
    found = {}
    for key, value in node.value if node is not None else ():
        first = last = key.start_mark.line
        while first and lines[first - 1].lstrip().startswith("#"):
            first -= 1
        spans = isinstance(value, yaml.CollectionNode) and not value.flow_style
        behind = lines[last][(key if spans else value).end_mark.column :].partition("#")[2]
        said = [*(line.strip().removeprefix("#") for line in lines[first:last]), behind]
        given = f"`{text[value.start_mark.index : value.end_mark.index]}`"
        shown = f"the {len(value.value)} of the file" if spans else given
        found[key.value] = (shown, " ".join(line.strip() for line in said).strip())
    return found


def _number(schema: dict[str, Any]) -> str:
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    if set(schema) & set(limits) == {"minimum"}:
        limits["minimum"] = "at least"
    return " ".join([NUMBERS[schema["type"]], *(f"{word} {schema[k]:,}" for k, word in limits.items() if k in schema)])


def values(schema: dict[str, Any]) -> str:
    """JSON schema of a value -> what it may be, in words."""
    note = schema.get("$comment")
    more = f", {note}" if note else ""
    if "$ref" in schema:
        name = schema["$ref"].split("/")[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(values, parts))
    kind = schema.get("type")
    if kind in NUMBERS:
        return _number(schema) + more
    if kind == "array":
        least = f", at least {schema['minItems']}" if "minItems" in schema else ""
        each = re.sub(r"\b(number|name)\b", r"\1s", values(schema["items"]), count=1)
        return f"list of {each}{least}{more}"
    if kind == "object" and not note:
        keys = values({"type": "string"} | schema.get("propertyNames", {}))
        return f"section, by {keys}: {values(schema['additionalProperties'])}"
    return str(note or {"string": "text", "boolean": "`true`, `false`", "null": "`null`"}.get(str(kind), "any value"))


def _cell(text: str) -> str:
    """Text as a table's cell shows it; what stands in backticks is shown as it is."""
    parts = re.split("(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _default(entry: dict[str, Any]) -> str:
    return f"`{json.dumps(entry['default'])}`" if "default" in entry else "required"


def _rows(model: type[BaseModel], given: dict[str, tuple[str, str]] | None) -> list[list[str]]:
    """Rows of a section's table. What default.yaml gives is explained there, other sections by their models."""
    rows = []
    for key, entry in model.model_json_schema()["properties"].items():
        default, said = (_default(entry), entry.get("description", "")) if given is None else given.get(key, ("", ""))
        meaning = SOURCE.sub("", said).strip(" ,;") if model is Run else said
        if not meaning:
            raise ReconpatchError(f"{model.__name__}.{key}: say what it means, in configs/default.yaml or its Field")
        sources = [", ".join(SOURCE.findall(said))] if model is Run else []
        rows.append([f"`{key}`", values(entry), default, *sources, meaning])
    return rows


def reference(default: str) -> str:
    """Text of configs/default.yaml -> text of docs/configuration.md; raises ReconpatchError for a key not explained."""
    given = {Config: comments(default), Run: comments(default, "baseline")}
    parts = [HEAD]
    for model, place in PLACES.items():
        about = [inspect.cleandoc(str(model.__doc__)), f"*Where:* {place}", *([SOURCES] if model is Run else [])]
        head = ["key", "values", "default", *(["source"] if model is Run else []), "meaning"]
        parts += [
            f"## {model.__name__}\n",
            *(f"{line}\n" for line in about),
            _table(head, _rows(model, given.get(model))),
        ]
    return "\n".join(parts)
