"""Files that follow from the models of the configuration and from the catalogue of data sets: configs/default.yaml, the
schemas for editors, docs/configuration.md and the facts in docs/datasets.md. `reconpatch schemas` writes them.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from reconpatch.data.catalogue import CONTENTS
from reconpatch.data.natures import natures_of
from reconpatch.data.sources import PUBLISHED
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import (
    DEFAULT,
    Config,
    Dataset,
    Ensemble,
    Experiment,
    Override,
    Variant,
    View,
    read_yaml,
)
from reconpatch.experiments.run import DEFAULTS, ORIGINS, RunSettings

DEFAULT_HEAD = """\
# yaml-language-server: $schema=../workflow/schemas/config.schema.json
# The whole configuration with its defaults. Change values in a file of your own, given with --configfile, or with
# --config. An unknown key, a wrong type or a value out of range stops the run before any work; `reconpatch plan` shows
# what would run. Give every key once: Snakemake reads the files given with --configfile itself and silently keeps the
# last of two. `reconpatch schemas` writes the comments and the whole of `baseline`, from reconpatch/experiments/run.py
# and config.py; only the other values are edited here.
"""
HEAD = """\
# Every key of the configuration

*`reconpatch schemas` writes this page from `reconpatch/experiments/run.py` and `config.py`; edit those instead.*

`configs/default.yaml` has every key. Files given with `--configfile` change it, the later one winning, and `--config
key=value` wins over files. Sections are merged key by key, lists are replaced. An unknown key, a wrong type or a value
outside these limits stops the run before any work, with the key, its value and the fix. Names become files and folders:
letters, digits, `.`, `_` and `-`, at most 64 of them.
"""
SECTIONS: dict[type[BaseModel], str] = {
    Config: "`configs/default.yaml`, and any part of it in a file given with `--configfile`.",
    RunSettings: "`baseline`; the same keys are used in `set`, `axes`, `variants` and `stand_ins`.",
    Dataset: "`datasets`, under the name that experiments use.",
    Experiment: "a file of its own, named under `experiments`.",
    Variant: "`variants` of an experiment, under its label in the table.",
    Ensemble: "`ensemble` of an experiment.",
    View: "`view` of an experiment.",
    Override: "`overrides`, under the name of the experiment.",
}
COLUMNS = """\
*Source* of the default: paper; PatchCore, its official code; STML, the code of the parent method; codes, agreement of
public re-implementations; ours, our own choice. "Second hand" is what others report about the paper. *Stated*: whether
the paper states the value or takes it over from PatchCore; where it does not, tables say that it is assumed. *Stages*
use the parameter: another value makes them and the stages after them anew, and no others.
"""
DATA_SETS, FACTS = Path("docs/datasets.md"), "## Facts\n"  # the page, and the heading below which it is written
NUMBERS = {"integer": "whole number", "number": "number"}


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
        limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
        if set(schema) & set(limits) == {"minimum"}:
            limits["minimum"] = "at least"
        words = (f"{word} {schema[limit]:,}" for limit, word in limits.items() if limit in schema)
        return " ".join([NUMBERS[kind], *words]) + more
    if kind == "array":
        least = f", at least {schema['minItems']}" if "minItems" in schema else ""
        each = re.sub(r"\b(number|name)\b", r"\1s", values(schema["items"]), count=1)
        return f"list of {each}{least}{more}"
    if kind == "object" and not note:
        keys = values({"type": "string"} | schema.get("propertyNames", {}))
        return f"section, by {keys}: {values(schema['additionalProperties'])}"
    return str(note or {"string": "text", "boolean": "`true`, `false`", "null": "`null`"}.get(str(kind), "any value"))


def _written(value: object) -> str:
    """A value as YAML, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _entry(key: str, value: object, comment: str, indent: str = "") -> Iterator[str]:
    """Lines of a key in YAML: its comment behind it where that fits, or above it."""
    spans = isinstance(value, dict) and bool(value)
    line = f"{indent}{key}:" if spans else f"{indent}{key}: {_written(value)}"
    if not spans and len(line) + len(comment) < 117:
        yield f"{line} # {comment}"
    else:
        yield from textwrap.wrap(comment, 120, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        yield line


def default_text(content: Mapping[str, Any]) -> str:
    """Content of configs/default.yaml -> its text: values of general keys as they are, the rest from the models."""
    lines = [DEFAULT_HEAD]
    for key, field in Config.model_fields.items():
        if key != "baseline":
            entry = list(_entry(key, content[key], str(field.description)))
            lines += entry if len(entry) == 1 else ["", *entry]
            if isinstance(content[key], dict):
                lines += [f"  {name}: {_written(value)}" for name, value in content[key].items()]
    sources = "Sources in brackets, as docs/configuration.md explains them"
    fields = DEFAULTS.model_dump(mode="json")
    lines += ["", *_entry("baseline", fields, f"{Config.model_fields['baseline'].description}. {sources}.")]
    for key, value in fields.items():
        meaning = RunSettings.model_fields[key].description
        lines += _entry(key, value, f"[{ORIGINS[key].source}] {meaning}", indent="  ")
    return "\n".join(lines) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """Text as a table's cell shows it; what is in backticks is shown as it is."""
    parts = re.split("(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def _section(model: type[BaseModel], content: Mapping[str, Any]) -> str:
    """The table of a section: of a run with sources and stages, of `Config` with the values of default.yaml."""
    rows = []
    for key, schema in model.model_json_schema()["properties"].items():
        if model is Config:
            spans = isinstance(content[key], dict) and content[key]
            default = f"the {len(content[key])} of the file" if spans else f"`{_written(content[key])}`"
        else:
            default = f"`{_written(schema['default'])}`" if "default" in schema else "required"
        row = [f"`{key}`", values(schema), default]
        if model is RunSettings:
            origin = ORIGINS[key]
            stated = {True: "yes", False: "no", None: "-"}[origin.stated]
            row += [origin.source, stated, ", ".join(origin.stages)]
        rows.append([*row, schema["description"]])
    of_run = ["source", "stated", "stages"] if model is RunSettings else []
    return _table(["key", "values", "default", *of_run, "meaning"], rows)


def reference(content: Mapping[str, Any]) -> str:
    """Content of configs/default.yaml -> text of docs/configuration.md."""
    parts = [HEAD]
    for model, place in SECTIONS.items():
        parts += [f"## {model.__name__}\n", f"{inspect.cleandoc(str(model.__doc__))}\n", f"*Where:* {place}\n"]
        parts += [COLUMNS] if model is RunSettings else []
        parts.append(_section(model, content))
    return "\n".join(parts)


def data_set_facts() -> str:
    """The facts of every published data set, as Markdown."""
    parts = []
    for name, this in PUBLISHED.items():
        where = [f"address: {url}" for url in this.urls] or ["address: by hand from its home page"]
        facts = [
            *(f"home page: {this.home}", *where),
            *([f"SHA-256 of {this.archive}: `{this.sha256}`"] if this.urls else []),
            *(f"size: {this.size}", f"licence: {this.licence}", f"cite: {this.citation}", f"facts from: {this.source}"),
        ]
        parts += [f"### {name}", "", this.title, "", *(f"- {fact}" for fact in facts)]
        parts += ["", "To know before use:", "", *(f"- {trap}" for trap in this.traps), ""]
        counts, natures = CONTENTS[name].counts, natures_of(name)
        columns = ("training", "normal", "defective", "validation", "without truth")
        used = [n for n in range(len(columns)) if any(of_category[n] for of_category in counts.values())]
        rows = [
            [
                category,
                *(f"{counts[category][n]:,}" if category in counts else "" for n in used),
                natures.get(category, ""),
            ]
            for category in CONTENTS[name].categories
        ]
        parts.append(_table(["category", *(columns[n] for n in used), "nature"], rows))
    return "\n".join(parts)


def generated_files() -> dict[Path, str]:
    """Path from the root of the repository -> the text that the file there must have; ReconpatchError elsewhere."""
    if not DEFAULT.exists():
        raise ReconpatchError("no such file", where=DEFAULT, fix="call this from the root of a clone")
    content = read_yaml(DEFAULT)
    schemas = {
        Path("workflow/schemas") / f"{model.__name__.lower()}.schema.json": json.dumps(
            model.model_json_schema(), indent=1
        )
        + "\n"
        for model in (Config, Experiment)
    }
    before = DATA_SETS.read_text(encoding="utf-8") if DATA_SETS.exists() else ""
    page = before.partition(FACTS)[0] + FACTS + "\n" + data_set_facts()
    texts = {DEFAULT: default_text(content), Path("docs/configuration.md"): reference(content), DATA_SETS: page}
    return texts | schemas
