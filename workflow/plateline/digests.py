"""Digests of files, and of the code behind a rule: what tells whether either has changed.

Standard library only: every cluster job imports this before anything else.
"""

import ast
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from plateline import methods
from plateline.errors import ConfigError

PACKAGE = Path(__file__).parent

# Doors that cannot change a number; the store counts by its FORMAT.
NOT_COUNTED = {"plateline", "plateline.methods", "plateline.log", "plateline.store"}


def digest_file(path: str | Path) -> str:
    """sha256 of a file's bytes, 32 hexadecimal digits; `missing` when there is none."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32] if path.is_file() else "missing"


@cache
def code_digest(stage: str, *chosen: str | None) -> str:
    """Digest of the code a stage runs, comments and docstrings apart.

    Covers the stage's module, the chosen methods' modules, and what they import inside the package; a method from
    elsewhere counts by its own file. The file formats count by ``store.FORMAT``.

    Parameters
    ----------
    stage : str
        Stage word.
    chosen : str or None
        Names or import paths of the chosen methods, and of modules that read the source for this stage and count as
        well; None counts for nothing.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    roots = [f"plateline.{stage}", *(methods.target(stage, name).partition(":")[0] for name in chosen if name)]
    found = dict(sorted(_closure(roots).items()))
    return hashlib.sha256(json.dumps([_format(), found]).encode()).hexdigest()[:32]


def _format() -> str:
    text = (PACKAGE / "store" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r"^FORMAT = (\d+)$", text, re.MULTILINE)[0]


def _closure(roots: Iterable[str]) -> dict[str, str]:
    """Bare source of the modules and of all they import inside the package, by name."""
    sources, waiting = {}, list(roots)
    while waiting:
        name = waiting.pop()
        if name in sources or name in NOT_COUNTED or (path := module_file(name)) is None:
            continue
        sources[name], imported = _read_module(path, path.read_text(encoding="utf-8"))
        waiting += [*imported, name.rpartition(".")[0]]
    return {name: source for name, source in sources.items() if source}


def module_file(name: str) -> Path | None:
    """File of a module; of the package's own by path, so that nothing is imported to find it."""
    if not name:
        return None
    if name.split(".")[0] == "plateline":
        base = PACKAGE.joinpath(*name.split(".")[1:])
        return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec and not spec.origin and spec.submodule_search_locations:
        return None  # a folder without __init__.py
    if spec is None or not spec.origin:
        msg = f"method module {name!r} is not found; expected an installed one or a file beside the Snakefile"
        raise ConfigError(msg)
    return Path(spec.origin)


@cache
def _read_module(path: Path, text: str) -> tuple[str, list[str]]:
    """Bare source of a module, and the package's modules it may import, from the note of it where there is one.

    Most modules belong to several stages, every job asks anew, and parsing them all takes a second. So what was found
    is noted beside Python's own compiled files. A note counts only for the very text, and for this reader of it.
    """
    note = Path(importlib.util.cache_from_source(str(path))).with_suffix(".json")
    of = hashlib.sha256(f"{_reader()}{text}".encode()).hexdigest()
    with suppress(OSError, ValueError):
        kept = json.loads(note.read_text(encoding="utf-8"))
        if kept["of"] == of:
            return kept["source"], kept["imported"]
    source, imported = _parse_module(text)
    _keep(note, {"of": of, "source": source, "imported": imported})
    return source, imported


@cache
def _reader() -> str:
    """Digest of this file: another way to read modules makes other notes."""
    return digest_file(__file__)


def _keep(note: Path, found: dict) -> None:
    """Write a note whole or not at all, as Python does with compiled files: a clone that cannot be written has none."""
    draft = note.with_suffix(f".{os.getpid()}.draft")
    with suppress(OSError):
        note.parent.mkdir(exist_ok=True)
        draft.write_text(json.dumps(found), encoding="utf-8")
        draft.replace(note)


def _parse_module(text: str) -> tuple[str, list[str]]:
    """Source without comments and docstrings, and the package's modules it may import, also inside functions."""
    tree, imported = ast.parse(text), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported += _own_modules(node)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree), imported


def _own_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Names of the package's modules that a line may import; of `from a import b`, b may be a module or not."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.startswith("plateline.")]
    if not node.module or node.module.split(".")[0] != "plateline":
        return []
    return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
