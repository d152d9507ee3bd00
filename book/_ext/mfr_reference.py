"""Sphinx extension of the book: the API reference.

A line ``{modules} mfrlib.models`` stands for the modules of that package, each documented; a config's fields say what they are, and a
full name in a docstring is a link.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pkgutil
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docstrings import prepare_docstring

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NAMED = re.compile(r"(?<![`:\w])`(mfr(?:lib|book)(?:\.\w+)+)`(?!`)")
MODULES = re.compile(r"^\{modules\} ([\w.]+)(?: but ([\w ]+))?$", re.MULTILINE)


def list_modules(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in place of a line ``{modules} PACKAGE [but NAME …]`` the reference of the modules that lie in that package's folder."""
    source[0] = MODULES.sub(lambda line: reference(line[1], (line[2] or "").split()), source[0])


def reference(package: str, left_out: Sequence[str] = ()) -> str:
    """Return the reference of a package's own modules, in Markdown, those of its subpackages left out.

    Raises
    ------
    ExtensionError
        If there is no such package, or a module to leave out is not there.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ExtensionError(f"{{modules}} {package}: there is no such package")
    folders = [str(folder) for folder in found.submodule_search_locations]
    names = [one.name for one in pkgutil.iter_modules(folders) if not one.ispkg and one.name != "__main__"]
    if unknown := set(left_out) - set(names):
        raise ExtensionError(f"{{modules}} {package}: has no module {', '.join(sorted(unknown))} to leave out")
    listed = [f"{package}.{name}" for name in names if name not in left_out]
    directive = "```{{eval-rst}}\n.. automodule:: {0}\n   :members:\n```\n"
    return "\n".join(f"## `{name}`\n\n{directive.format(name)}" for name in listed)


def describe_fields(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Append to the docstring of a config class, or of a named tuple, what its fields say about themselves."""
    if what == "class" and hasattr(obj, "_fields"):
        said = {
            one: " ".join(text).strip()
            for (owner, one), text in ModuleAnalyzer.for_module(obj.__module__).find_attr_docs().items()
            if owner == obj.__name__
        }
        listed = [f"    * **{field}** -- {said[field]}" for field in obj._fields if field in said]
        lines += ["", ":Fields:", *listed] if listed else []
    if what != "class" or not dataclasses.is_dataclass(obj):
        return
    helped = [(one.name, one.default, one.metadata["help"]) for one in dataclasses.fields(obj) if one.metadata]
    if helped:
        lines += [
            "",
            ":Fields:",
            *(f"    * **{name}** (``{default!r}``) -- {text}" for name, default, text in helped),
        ]


def link_names(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a link of each full name, such as `mfrlib.load`, wherever what it names is defined."""
    lines[:] = [NAMED.sub(lambda found: f":py:obj:`{found[1]} <{defined(found[1])}>`", line) for line in lines]


def defined(name: str) -> str:
    """Return the name under which the reference has what that name names.

    Raises
    ------
    ExtensionError
        If nothing has that name.
    """
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise ExtensionError(f"A docstring names {name}: {error}") from error
    home = getattr(found, "__qualname__", "<")  # no constant has one, and what another function made has it in brackets
    return name if "<" in home else f"{found.__module__}.{home}"


def skip_tuple_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the members of a named tuple: its docstring has them, or `describe_fields` adds them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


_constants: dict[str, list[str]] = {}  # what napoleon was given to read


def remember_constant(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the docstring of a constant or field as it is, until napoleon has read it."""
    if what in ("data", "attribute"):
        _constants[name] = list(lines)


def keep_constant_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give a constant or field its docstring back, for the same reason as a property."""
    if what in ("data", "attribute"):
        lines[:] = _constants.pop(name)


def keep_property_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give a property its docstring back: napoleon takes what stands before a colon for its type."""
    if what == "property":
        lines[:] = prepare_docstring(obj.__doc__ or "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what documents the modules."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("source-read", list_modules)
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("autodoc-process-docstring", keep_property_text, priority=900)
    app.connect("autodoc-process-docstring", remember_constant, priority=100)
    app.connect("autodoc-process-docstring", keep_constant_text, priority=900)
    app.connect("autodoc-process-docstring", link_names, priority=950)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
