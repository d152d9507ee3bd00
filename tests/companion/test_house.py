"""The rules of the house: small folders and modules, imports downward only and declared, and a library that stands alone."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ENTRIES, LINES, LIBRARY = 12, 250, 8_500
"""At most: entries of a package's folder, lines of a module, lines of the library."""

# From the bottom up: a module may import from its own room and from those before it.
ROOMS = (
    "mfrlib.config",
    "mfrlib.environment",
    "mfrlib.randomness",
    "mfrlib.data.files",
    "mfrlib.models.kernels",
    "mfrlib.models",
    "mfrlib.data",
    "mfrlib.data.text",
    "mfrlib.data.eeg",
    "mfrlib.method",
    "mfrlib.training",
    "mfrlib.language_models.pretrained",
    "mfrlib.language_models",
    "mfrlib.denoising",
    "mfrlib",
    "mfrbook.store",
    "mfrbook.chapters",
    "mfrbook.experiments",
    "mfrbook.drawing",
    "mfrbook.chapters.synthetic",
    "mfrbook.chapters.synthetic.questions",
    "mfrbook.chapters.synthetic.starts",
    "mfrbook.chapters.gpt2",
    "mfrbook.chapters.end_to_end",
    "mfrbook.chapters.eeg.recordings",
    "mfrbook.chapters.eeg",
    "mfrbook.chapters.denoising",
    "mfrbook.chapters.tiny_lm",
    "mfrbook.ledger",
    "mfrbook.performance",
    "mfrbook.probes",
    "mfrbook.book",
    "mfrbook.pages",
    "mfrbook.command",
    "mfrbook",
)
FORBIDDEN = {
    "mfrbook", "pandas", "matplotlib", "papermill", "nbformat", "nbclient", "IPython", "ipykernel", "jupyter_book",
    "jupyter_client", "sphinx", "docutils", "yaml", "snakemake",
}  # fmt: skip
"""What the library must do without."""
TOOLS = {"gguf", "ipykernel", "jupyter-book", "snakemake", "sphinx-mathjax-offline"}
"""What is needed though no module imports it: commands, the notebooks' kernel, and what another package imports on demand."""


def modules(project: Path) -> dict[str, Path]:
    """Return the modules of both packages by name."""
    found = {}
    for root, package in ((project, "mfrlib"), (project / "book", "mfrbook")):
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
            found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield what a module imports, wherever in it: a module of ours by its full name, any other by what is written."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{origin}.{alias.name}"
                yield whole if whole in known else origin


def room(name: str) -> str:
    """Return the room of a module: the longest of `ROOMS` that its name begins with."""
    return max((one for one in ROOMS if f"{name}.".startswith(f"{one}.")), key=len)


def crowded(project: Path) -> list[str]:
    """Return folders with too many entries, modules with too many lines, and the library if it has too many."""
    found, known = [], modules(project)
    for folder in sorted({path.parent for path in known.values()}):
        n = sum(one.name not in ("__pycache__", "py.typed") for one in folder.iterdir())
        name = folder.relative_to(project).as_posix()
        found += [f"{name} has {n} entries"] if n > ENTRIES else []
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in known.items()}
    found += [f"{name} has {n} lines" for name, n in lines.items() if n > LINES]
    whole = sum(n for name, n in lines.items() if room(name).startswith("mfrlib"))
    return found + ([f"mfrlib has {whole} lines"] if whole > LIBRARY else [])


def upward(project: Path) -> list[str]:
    """Return imports from a higher room, and a circle of modules if there is one."""
    known = modules(project)
    uses = {name: {one for one in imports(name, path, known) if one in known} - {name} for name, path in known.items()}
    found = [
        f"{name} imports {one}"
        for name, used in uses.items()
        for one in sorted(used)
        if ROOMS.index(room(one)) > ROOMS.index(room(name))
    ]
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        found.append("a circle: " + ", ".join(error.args[1]))
    return found


def foreign(project: Path) -> Iterator[tuple[str, str]]:
    """Yield each module with the first name of what it imports from elsewhere, Python's own modules aside."""
    known = modules(project)
    for name, path in known.items():
        for first in sorted({one.partition(".")[0] for one in imports(name, path, known)} - sys.stdlib_module_names):
            if first != name.partition(".")[0]:
                yield name, first


def declared(project: Path) -> dict[str, set[str]]:
    """Return what each package's pyproject.toml declares, its needs and its extras, those for developers aside."""
    found = {}
    for package, folder in (("mfrlib", project), ("mfrbook", project / "book")):
        about = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = about.get("optional-dependencies", {})
        needs = [*about["dependencies"], *(need for name in extras if name != "dev" for need in extras[name])]
        found[package] = {_normal(re.split(r"[^\w.-]", need)[0]) for need in needs}
    return found


def undeclared(project: Path) -> list[str]:
    """Return imports that the package's pyproject.toml does not declare."""
    known = declared(project)
    return [
        f"{name} imports {first}"
        for name, first in foreign(project)
        if not known[name.partition(".")[0]] & distributions().get(first, {_normal(first)})
    ]


def unused(project: Path) -> list[str]:
    """Return what a package declares though no module of it imports it, tools aside."""
    used: dict[str, set[str]] = {}
    for name, first in foreign(project):
        used.setdefault(name.partition(".")[0], set()).update(distributions().get(first, {_normal(first)}))
    return [
        f"{package} declares {need}, which it does not import"
        for package, needs in declared(project).items()
        for need in sorted(needs - used[package] - TOOLS)
    ]


@cache
def distributions() -> dict[str, set[str]]:
    """Return the distributions here that bring a module, by the first name of the module."""
    return {first: {_normal(one) for one in made_by} for first, made_by in packages_distributions().items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unwanted(project: Path) -> list[str]:
    """Return what the library imports though it must do without."""
    return [f"{name} imports {one}" for name, one in foreign(project) if name.startswith("mfrlib") and one in FORBIDDEN]


@pytest.mark.parametrize("rule", [crowded, upward, undeclared, unused, unwanted])
def test_the_house_is_in_order(rule):
    assert rule(PROJECT) == []


def test_every_room_is_there():
    known = modules(PROJECT)
    assert [one for one in ROOMS if one not in known] == []
    assert {room(name) for name in known} == set(ROOMS)


@pytest.fixture
def house(tmp_path):
    """A small tree in order, as a function that adds a module to it."""
    for folder, package, needs in ((".", "mfrlib", ["torch>=2"]), ("book", "mfrbook", ["mfrlib", "PyYAML"])):
        (tmp_path / folder / package).mkdir(parents=True)
        about = f'[project]\nname = "{package}"\ndependencies = {needs}\n'
        (tmp_path / folder / "pyproject.toml").write_text(about)

    def add(name: str, text: str = "") -> Path:
        root = tmp_path / "book" if name.startswith("mfrbook") else tmp_path
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    for name in (
        "mfrlib.__init__",
        "mfrlib.config",
        "mfrlib.models.__init__",
        "mfrbook.__init__",
    ):
        add(name)
    add("mfrbook.store.runs", "import mfrlib.config, yaml\n")
    add("mfrlib.models.sae", "import torch\nfrom mfrlib import config\n")
    return add


PLANTED = [
    (crowded, "mfrlib.models.long", "x = 1\n" * 251, "mfrlib.models.long has 251 lines"),
    (upward, "mfrlib.config", "def f():\n    from mfrlib.models import sae\n", "mfrlib.config imports mfrlib.models.sae"),
    (upward, "mfrlib.config", "from .models.sae import TopKSAE\n", "mfrlib.config imports mfrlib.models.sae"),
    (upward, "mfrlib.models.sae", "if TYPE_CHECKING:\n    import mfrbook.store.runs\n", "mfrlib.models.sae imports mfrbook.store.runs"),
    (unwanted, "mfrlib.models.sae", "def f():\n    import pandas as pd\n", "mfrlib.models.sae imports pandas"),
    (unwanted, "mfrlib.models.sae", "from mfrbook.store import runs\n", "mfrlib.models.sae imports mfrbook"),
    (undeclared, "mfrbook.store.runs", "import torch\n", "mfrbook.store.runs imports torch"),
    (unused, "mfrbook.store.runs", "import mfrlib\n", "mfrbook declares pyyaml, which it does not import"),
    (undeclared, "mfrlib.models.sae", "import yaml\n", "mfrlib.models.sae imports yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "name", "text", "said"), PLANTED)
def test_what_breaks_a_rule_is_named(house, rule, name, text, said):
    assert rule(house("mfrlib.models.relu")) == []
    assert said in rule(house(name, text))


def test_a_circle_within_a_room_is_named(house):
    house("mfrlib.models.one", "from . import two\n")
    (said,) = upward(house("mfrlib.models.two", "from mfrlib.models.one import f\n"))
    assert "mfrlib.models.one" in said
    assert "mfrlib.models.two" in said


def test_a_folder_is_full_with_twelve_entries(house):
    for n in range(10):
        project = house(f"mfrlib.models.m{n}")
    assert crowded(project) == []
    assert crowded(house("mfrlib.models.m10")) == ["mfrlib/models has 13 entries"]
