"""Types of values in the configuration, each with its limits, and the messages about wrong ones.

Upper limits are there where a typing error would otherwise fill the memory or run for years before anyone notices.
"""

import re
import reprlib
from collections.abc import Iterable
from difflib import get_close_matches
from fractions import Fraction
from numbers import Integral, Real
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails

from reconpatch.errors import ReconpatchError, listed
from reconpatch.files import NAME

BACKBONE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
SHARE = "^[1-9][0-9]{0,5}/[1-9][0-9]{0,5}$"
NUMBER_OR_SHARE = "(a whole number, or a share as text, for example 1/2)"
LONGEST_PART, LONGEST_PATH = 255, 4095  # bytes of a file's name and of a whole path, on Linux and macOS


class Section(BaseModel):
    """A section of a configuration file. An unknown key is an error, and no number is infinite or NaN.

    Numbers may come as text: Snakemake's --config hands nested values over as text, and YAML reads 1e-5 as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def checked_name(value: str) -> str:
    """Name of a file or folder of the results -> the same; ValueError for one that could leave that folder."""
    if not re.fullmatch(NAME, value):
        raise ValueError(
            "names start with a letter or digit and hold only letters, digits, '.', '_' and '-', at most 64 of them"
        )
    return value


def checked_path(value: str) -> str:
    """Text of a path -> the same; ValueError where no file can have it."""
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a path, without line breaks and other control characters")
    parts = [part.encode() for part in value.split("/")]
    if max(map(len, parts)) > LONGEST_PART or len(value.encode()) > LONGEST_PATH:
        raise ValueError(f"no path is that long: at most {LONGEST_PART} bytes a folder, {LONGEST_PATH} in all")
    return value


def clash(names: Iterable[str]) -> str | None:
    """Names -> the problem, if two are equal, or are equal on systems that ignore upper and lower case."""
    seen: dict[str, str] = {}
    for name in names:
        if name in seen.values():
            return f"{name!r} is there twice: give every name once"
        if name.casefold() in seen:
            return f"{seen[name.casefold()]!r} and {name!r} would be one file on some systems: rename one of them"
        seen[name.casefold()] = name
    return None


def _no_clash(value: Any) -> Any:
    if problem := clash(value):
        raise ValueError(problem)
    return value


def _backbone(value: str) -> str:
    if not re.fullmatch(BACKBONE, value):
        raise ValueError("timm's names hold only letters, digits, '.', '_' and '-', at most 100 of them")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":  # NumPy's
        raise ValueError("true and false are not numbers: give a number")
    if isinstance(value, Integral):  # NumPy's, which pydantic does not know
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line of text, without control characters")
    return value


def _text(value: str) -> str:
    if not all(part.isprintable() for part in value.split("\n")):
        raise ValueError("must be text, without control characters")
    return value


def _image(value: str) -> str:
    if not re.fullmatch("[A-Za-z0-9./][A-Za-z0-9._/:@+-]*", value):  # Snakemake writes it into a shell's command
        raise ValueError("must be a file or an address of an image, of letters, digits and . _ / : @ + -")
    return value


def _digest(value: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ValueError("must be the 64 hexadecimal digits of a SHA-256, as a record shows it under weights")
    return value.lower()


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that a patch has a centre")
    return value


def _ascending(value: tuple[int, ...]) -> tuple[int, ...]:
    if list(value) != sorted(set(value)):
        raise ValueError("list every level once, lowest first: the first one's grid is the patch grid")
    return value


def _distinct(value: list[Any]) -> list[Any]:
    twice = next((v for n, v in enumerate(value) if v in value[:n]), None)
    if twice is not None:
        raise ValueError(f"{twice} is there twice: give every value once")
    return value


def _share(value: str) -> str:
    if not re.fullmatch(SHARE, value) or Fraction(value) > 1:
        raise ValueError("must be a share above 0 and at most 1, written as two whole numbers, for example 1/2")
    return value


def _share_or_number(value: Any) -> str:
    return "(share)" if isinstance(value, str) and "/" in value else NUMBER_OR_SHARE


def _noted(text: str) -> Any:
    """A remark about a type that a JSON schema has no keyword for; docs/configuration.md shows it."""
    return Field(json_schema_extra={"$comment": text})


NUMBER = BeforeValidator(_number)
UNSIGNED = AfterValidator(lambda value: value + 0.0)  # -0.0 becomes 0.0: the same run must have the same name

Name = Annotated[str, AfterValidator(checked_name), _noted("name")]
Backbone = Annotated[str, AfterValidator(_backbone), _noted("timm's name of a network")]
PathText = Annotated[str, AfterValidator(checked_path), _noted("path")]
Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(_line), _noted("line of text")]
Caption = Annotated[str, StringConstraints(max_length=5000), AfterValidator(_text)]
Image = Annotated[str, AfterValidator(_image), _noted("image")]
Digest = Annotated[str, AfterValidator(_digest), _noted("64 hexadecimal digits")]
Digests = Annotated[
    Annotated[Digest, Tag("(all)")] | Annotated[list[Digest], Field(min_length=1), Tag("(names)")],
    Discriminator(lambda value: "(names)" if isinstance(value, list) else "(all)"),
]
ONCE = AfterValidator(_no_clash)
Names = Annotated[list[Name], ONCE]
# A callable, or an error would name both readings of what is neither.
Categories = Annotated[
    Annotated[Literal["all"], Tag("(all)")] | Annotated[Names, Tag("(names)")],
    Discriminator(lambda value: "(all)" if isinstance(value, str) else "(names)"),
]
Axes = dict[Annotated[str, _noted("key of a run")], list[Any]]
Settings = Annotated[dict[str, Any], _noted("keys of a run and their values")]

Seed = Annotated[int, Field(ge=0, lt=2**32), NUMBER]  # as many as NumPy's and scikit-learn's generators take
DISTINCT = AfterValidator(_distinct)
Seeds = Annotated[list[Seed], Field(min_length=1), DISTINCT, _noted("each once")]
Positive = Annotated[int, Field(ge=1, le=10**6), NUMBER]
Side = Annotated[int, Field(ge=1, le=8192), NUMBER]  # px; an image of 8,192 px takes gigabytes in a network
Width = Annotated[int, Field(ge=1, le=16384), NUMBER]  # values; f of 16,384 times as many takes 1 GB
ShareText = Annotated[
    str,
    AfterValidator(_share),
    WithJsonSchema({"type": "string", "pattern": SHARE, "$comment": "share as text, for example 1/2"}),
]
# The names of the tags are what an error calls the alternatives.
AutoWidth = Annotated[
    Annotated[Width, Tag("(a whole number, or auto)")] | Annotated[Literal["auto"], Tag("(auto)")],
    Discriminator(lambda value: "(auto)" if value == "auto" else "(a whole number, or auto)"),
]
ShareOrWidth = Annotated[
    Annotated[Width, Tag(NUMBER_OR_SHARE)] | Annotated[ShareText, Tag("(share)")], Discriminator(_share_or_number)
]
ShareOrPositive = Annotated[
    Annotated[Positive, Tag(NUMBER_OR_SHARE)] | Annotated[ShareText, Tag("(share)")], Discriminator(_share_or_number)
]
Batch = Annotated[int, Field(ge=2, le=16384), NUMBER]  # patches; all pairs of 16,384 take 2 GB
PatchSize = Annotated[int, Field(ge=1, le=63), NUMBER, AfterValidator(_odd), _noted("odd")]
Level = Annotated[int, Field(ge=0, le=99), NUMBER]
Levels = Annotated[tuple[Level, ...], Field(min_length=1), AfterValidator(_ascending), _noted("lowest first")]
Share = Annotated[float, Field(ge=0, le=1), NUMBER, UNSIGNED]
BelowOne = Annotated[float, Field(ge=0, lt=1), NUMBER, UNSIGNED]
Part = Annotated[float, Field(gt=0, le=1), NUMBER]
Angle = Annotated[float, Field(ge=0, le=180), NUMBER, UNSIGNED]
Blur = Annotated[float, Field(ge=0, le=256), NUMBER, UNSIGNED]  # px; the window of a wider one takes gigabytes
Amount = Annotated[float, Field(ge=0), NUMBER, UNSIGNED]
AboveZero = Annotated[float, Field(gt=0), NUMBER]


def shown(value: object) -> str:
    """Any value -> text for a message: on one line and short."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    try:
        text = short.repr(value)
    except ValueError:
        return "(a number of thousands of digits)"  # Python will not print it
    return text if text.isprintable() else ascii(text)


def explained(error: ValidationError, where: str) -> ReconpatchError:
    """Pydantic's error -> one error with a line for every wrong key: its value, and what it should be."""
    lines = [f"{where}: {_explained(each)}" for each in error.errors(include_url=False)]
    return ReconpatchError("\n".join(listed(lines)))


def _explained(details: ErrorDetails) -> str:
    """One of pydantic's errors -> a line that names the key, its value and the fix."""
    alternatives = [str(part) for part in details["loc"] if str(part).startswith("(") and str(part).endswith(")")]
    parts = [str(part) for part in details["loc"] if str(part) not in alternatives]
    wrong_key = parts[-1:] == ["[key]"]
    if wrong_key:  # the last part itself is wrong; letters that only look like others are made visible
        parts[-2:] = [parts[-2] if parts[-2].isascii() else ascii(parts[-2])]
    key = ".".join(part if part.isprintable() and len(part) <= 80 else shown(part) for part in parts)
    problem, value, given = details["type"], details["input"], shown(details["input"])
    if problem == "extra_forbidden":
        known = [name for section in Section.__subclasses__() for name in section.model_fields]
        near = get_close_matches(parts[-1], known, n=1)
        if near == [parts[-1]]:
            return f"unknown key {key}; {near[0]} belongs to another section"
        return f"unknown key {key}; check its spelling" + (f" (similar: {near[0]})" if near else "")
    if problem == "missing":
        return f"key {key} is missing"
    if problem in ("model_type", "dict_type"):
        return f"{key or '(whole)'} = {given}: must be a section of `key: value` lines"
    message = details["msg"].removeprefix("Value error, ")
    if problem in ("list_type", "tuple_type"):
        message = "must be a list, for example [2, 3]"
    if problem.startswith("int_") and alternatives and "number" in alternatives[-1]:
        message = f"must be {alternatives[-1][1:-1]}"
    if problem == "string_type" and not isinstance(value, (list, dict)):
        message += "; write it in quotes if it is meant as text"
    if not key:
        return message
    if wrong_key or isinstance(value, dict):  # the value is too long to be shown, and seldom what is wrong
        return f"{key}: {message}"
    return f"{key} = {given}: {message}"
