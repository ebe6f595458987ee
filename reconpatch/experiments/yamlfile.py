"""YAML files of the user's, read strictly: plain values only, every key once, nothing that unfolds without end."""

from pathlib import Path
from typing import Any

import yaml

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.value_types import shown

LARGEST = 10**6  # bytes; the shipped files have a few thousand
MOST_VALUES = 10**5  # with every alias written out
PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
KEYS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


def read_yaml(file: Path) -> Any:
    """YAML file -> its content: None where it is empty, else nested dictionaries with text as keys, lists, text,
    numbers, true, false and null.

    Raises ReconpatchError naming the file, and the line where there is one, for what is missing, no regular file, not
    UTF-8, above a megabyte or no YAML; and for what YAML allows but no one means: a key given twice (other readers
    silently keep the last), keys that are no text, tags, dates, and aliases that contain themselves or unfold into
    more than 100,000 values.
    """
    try:
        if not file.is_file():
            there = "a folder" if file.is_dir() else "no regular file" if file.exists() else "no such file"
            raise ReconpatchError(f"{file}: {there}; give the path of a YAML file from {Path.cwd()}")
        if file.stat().st_size > LARGEST:
            raise ReconpatchError(f"{file}: {file.stat().st_size} bytes, a configuration has at most {LARGEST}")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReconpatchError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise ReconpatchError(f"{shown(str(file))}: cannot be read ({error})") from None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, file, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        parts = [getattr(error, name, None) for name in ("context", "problem")]
        said = " ".join((", ".join(filter(None, parts)) or str(error)).split())
        hint = "; indent with spaces" if "'\\t'" in said else ""
        where = f"{file}, line {mark.line + 1}" if mark else f"{file}"
        raise ReconpatchError(f"{where}: not valid YAML ({said}){hint}") from None
    except RecursionError:
        raise ReconpatchError(f"{file}: not valid YAML: nested too deeply") from None
    except (ValueError, LookupError) as error:  # of a tag's reader, as for an integer of 5,000 digits or `!!bool 3`
        raise ReconpatchError(f"{file}: not valid YAML: a value cannot be read ({error})") from None


def _check(node: yaml.Node, file: Path, sizes: dict[int, int]) -> int:
    """Raise ReconpatchError for what `read_yaml` refuses; else the number of values below, aliases written out."""
    where = f"{file}, line {node.start_mark.line + 1}"
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ReconpatchError(f"{where}: this value contains itself through an alias; write it out")
        return sizes[id(node)]
    sizes[id(node)] = 0
    if node.tag not in PLAIN:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        what = shown(node.value) if isinstance(node, yaml.ScalarNode) else "this value"
        raise ReconpatchError(f"{where}: {what} would be read as {shown(kind)}; write it in quotes, without a tag")
    below: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        below = [value for _, value in node.value]
        seen: set[str] = set()
        for key, _ in node.value:
            at = f"{file}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag not in KEYS:
                raise ReconpatchError(f"{at}: key {shown(key.value)} is no text; write it in quotes")
            if key.value in seen:
                raise ReconpatchError(f"{at}: key {shown(key.value)} is there twice; keep one of them")
            seen.add(key.value)
    sizes[id(node)] = 1 + sum(_check(child, file, sizes) for child in below)
    if sizes[id(node)] > MOST_VALUES:
        raise ReconpatchError(f"{where}: its aliases unfold into more than {MOST_VALUES} values; write them out")
    return sizes[id(node)]
