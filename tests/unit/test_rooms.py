"""Rooms offer modules, and other rooms use no others; their `__init__` holds nothing that could change a result."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "reconpatch"
ROOMS = sorted(folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file())


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def offered(room: str) -> set[str]:
    """The modules in the `__all__` of a room."""
    body = parsed(PACKAGE / room / "__init__.py").body
    return set(ast.literal_eval(next(node.value for node in body if isinstance(node, ast.Assign))))


def used_elsewhere(room: str) -> set[str]:
    """The modules of a room that other rooms, the workflow and the package itself import."""
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "workflow").rglob("*.py")]
    used = set()
    for file in (file for file in files if PACKAGE / room not in file.parents):
        for node in ast.walk(parsed(file)):
            parts = node.module.split(".") if isinstance(node, ast.ImportFrom) and node.module else []
            if parts[:2] == ["reconpatch", room]:
                used |= {parts[2]} if len(parts) > 2 else {alias.name for alias in node.names}
    return used


@pytest.mark.parametrize("room", ROOMS)
def test_other_rooms_use_what_a_room_offers(room: str) -> None:
    assert used_elsewhere(room) <= offered(room)
    assert all((PACKAGE / room / f"{name}.py").is_file() or (PACKAGE / room / name).is_dir() for name in offered(room))


@pytest.mark.parametrize("room", ROOMS)
def test_the_face_of_a_room_holds_a_docstring_and_its_list(room: str) -> None:
    """Digests of stages follow modules, not these files."""
    body = parsed(PACKAGE / room / "__init__.py").body
    assert [type(node) for node in body] == [ast.Expr, ast.Assign]
