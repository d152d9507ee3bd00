"""Text that every machine with this package has: Python's own documentation and that of the libraries it stands on.

Docstrings are read off the source with `ast`: nothing is imported or run. Other versions give other text.
"""

import ast
import gc
import hashlib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mfrlib.data.text.documents import Split, split_of

PACKAGES = ("numpy", "scipy", "matplotlib", "mne", "torch")
SHORTEST = 40
"""Characters; shorter docstrings say nothing that their function's name does not."""


def documents(split: Split) -> Iterator[str]:
    """Yield the docstrings of one side, each once, in an order that mixes the packages.

    Modules are opened one by one, so that whoever needs little text waits for little. A docstring that modules of
    both sides share is on both sides.

    Parameters
    ----------
    split : {"train", "held-out"}
        Modules, never docstrings of one module, are on either side: a tenth, by the hash of their names, is held out.
    """
    seen = set()
    for module, path in _modules(PACKAGES):
        if split_of(module) == split:
            for text in _docstrings(module, path):
                if (digest := _digest(text)) not in seen:
                    seen.add(digest)
                    yield text


@cache
def _modules(packages: tuple[str, ...]) -> tuple[tuple[str, Path | None], ...]:
    """Return names and files, tests left out, in the order of the names' hashes; Python's topics have no file."""
    found: list[tuple[str, Path | None]] = [(f"pydoc_data.topics.{topic}", None) for topic in _topics()]
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent
        for path in root.rglob("*.py"):
            parts = path.relative_to(root.parent).with_suffix("").parts
            if not any(part.strip("_") in ("test", "tests", "testing") or part.startswith("test_") for part in parts):
                found.append((".".join(parts), path))
    return tuple(sorted(found, key=lambda one: _order(one[0])))


def _docstrings(module: str, path: Path | None) -> Iterator[str]:
    if path is None:
        yield _topics()[module.removeprefix("pydoc_data.topics.")].strip()
        return
    source = path.read_bytes()
    if b'"""' not in source:
        return
    collects = gc.isenabled()
    gc.disable()  # a tree has no cycles, and looking for them while it grows doubles the time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's escape sequences
        try:
            found: list[ast.AST] = [ast.parse(source)]
        except (SyntaxError, ValueError):
            return  # templates and code of other Python versions
        finally:
            if collects:
                gc.enable()
    # Not ast.walk: expressions hold no docstrings, and most nodes are expressions.
    for node in found:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and len(text := inspect.cleandoc(text)) >= SHORTEST:
                yield text
        found.extend(child for child in getattr(node, "body", ()) if isinstance(child, ast.stmt))


def _topics() -> dict[str, str]:
    from pydoc_data.topics import topics

    return topics


def _order(name: str) -> float:
    return int.from_bytes(_digest(name)[:8]) / 2**64


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
