"""The Sphinx extensions of the book, which lie in no package."""

import importlib.util
from types import ModuleType

from mfrbook.store.provenance import PROJECT

FOLDER = PROJECT / "book" / "_ext"


def extension(name: str) -> ModuleType:
    """Import an extension by its name."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
