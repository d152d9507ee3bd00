"""Notebooks with parameters: their declarations, strict checks before a kernel starts, execution by papermill."""

import ast
import functools
import hashlib
import json
import operator
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import nbformat

from mfrbook.book.edition import PUBLISHED, Edition
from mfrbook.experiments import sources
from mfrbook.experiments.planned import Planned, plan
from mfrbook.store.provenance import PROJECT, commit, machine, versions
from mfrbook.store.runs import CHECKSUMS
from mfrbook.store.store import MissingRunsError, Store
from mfrlib import environment
from mfrlib.config import ConfigError, checked, unknown_name

T = TypeVar("T")
FOLDER = PROJECT / "notebooks"
# In the book's order.
NAMES = (
    "synthetic-similarity",
    "synthetic-training",
    "synthetic-readings",
    "synthetic-questions",
    "gpt2",
    "end-to-end",
    "eeg",
    "denoising",
)


_MISSING = "Profile published trains nothing here: `mfr archive` computes the published runs, `mfr train` with the same values others.\n"


class Parameter(NamedTuple):
    """A declared parameter: `hint` is its type, `default` the value in the parameters cell."""

    name: str
    hint: Any
    default: Any
    help: str


class NotebookError(RuntimeError):
    """A notebook failed; the message names it and the cell, and where the partial notebook is."""


def parameters(notebook: Path) -> dict[str, Parameter]:
    """Return what a notebook's parameters cell declares, as `name: type = default  # help` lines.

    Our notebooks write `Optional[int]`, since papermill's own list leaves out types with a `|`.
    """
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            lines = cell.source.splitlines()
            for one in ast.parse(cell.source).body:
                if isinstance(one, ast.ImportFrom) and one.module == "typing":
                    continue
                if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name) or one.value is None:
                    raise ConfigError(f"parameters cell: name: type = default  # help, given {ast.unparse(one)!r}")
                rest = lines[(one.end_lineno or 1) - 1].encode()[one.end_col_offset :].decode()
                hint, default = _hint(one.annotation), ast.literal_eval(one.value)
                found[one.target.id] = Parameter(one.target.id, hint, default, rest.strip(" #"))
    return found


def check(notebook: Path, values: Mapping[str, Any]) -> list[Planned]:
    """Refuse unknown names, wrong types and impossible values before a kernel starts.

    Returns
    -------
    list of Planned
        The runs that the notebook will ask for.

    Raises
    ------
    ConfigError
        Naming the parameter, the value given and what is allowed, or the nearest name.
    """
    declared = parameters(notebook)
    checked(values, {name: one.hint for name, one in declared.items()})
    parts = nbformat.read(notebook, as_version=4).metadata.get("mfr", {}).get("asks", [])
    merged = {name: one.default for name, one in declared.items()} | dict(values)
    return plan(parts, merged)


def find(name: str) -> Path:
    """Return the path of a notebook given by name or path."""
    path = Path(name) if name.endswith(".ipynb") else FOLDER / f"{name}.ipynb"
    if not path.is_file():
        raise unknown_name(name, [one.stem for one in FOLDER.glob("*.ipynb")], "notebook")
    return path


def execute(name: str, values: Mapping[str, Any], profile: str, output: Path, *, only_if_stale: bool = False) -> bool:
    """Execute a notebook into `output`, showing progress; return whether it had to be executed.

    Parameters
    ----------
    only_if_stale
        Leave `output` as it is where it came, without an error, from the same notebook, values, package source, places
        of data, and runs.

    Raises
    ------
    NotebookError
        If a cell fails; the partial notebook is kept at `output`.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from mfrbook.book import kernel

    notebook, output = find(name), output.absolute()
    if output.suffix != ".ipynb":
        raise ConfigError(f"output: must be a file .ipynb, given {str(output)!r}")
    if values.get("profile", profile) != profile:
        raise ConfigError(f"profile: given twice, as {profile!r} and as parameter {values['profile']!r}")
    values = sources.resolved({**values, "profile": profile})  # the kernel runs in another folder
    planned = check(notebook, values)
    made_from = inputs(notebook, values)
    if only_if_stale and fresh(output, made_from) and stored(planned) <= output.stat().st_mtime_ns:
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory() as made:
            source = Path(made) / notebook.name
            nbformat.write(of_profile(notebook, profile), source)
            executed = _once_a_kernel_starts(functools.partial(
                papermill.execute_notebook, str(source), str(output), parameters=dict(values), cwd=str(PROJECT), kernel_name=kernel.NAME, kernel_manager_class=kernel.OwnKernel,
                progress_bar=sys.stderr.isatty(), stderr_file=sys.stderr, request_save_on_cell_execute=True,
            ))  # fmt: skip
    except PapermillExecutionError as error:
        remedy = _MISSING if error.ename == MissingRunsError.__name__ else ""
        raise NotebookError(
            f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\n{remedy}The partial notebook is {output}"
        ) from error
    except DeadKernelError as error:
        raise NotebookError(
            f"{notebook.name}, cell {_last_cell(output)}: the kernel died, of lack of memory perhaps\n"
            f"The partial notebook is {output}"
        ) from error
    executed.metadata["papermill"] = {**executed.metadata.get("papermill", {}), "input_path": str(notebook)}
    executed.metadata["mfr"] = {
        **executed.metadata.get("mfr", {}), **commit(), "versions": versions(), "machine": machine(),
        "platform": platform.platform(), "profile": profile, "inputs": made_from,
    }  # fmt: skip
    temporary = output.with_suffix(".tmp")
    nbformat.write(executed, temporary)
    os.replace(temporary, output)
    return True


def of_profile(notebook: Path, profile: str) -> nbformat.NotebookNode:
    """Return a notebook without the cells whose tag names another profile: what the archive alone holds is tagged `published`."""
    content = nbformat.read(notebook, as_version=4)
    content.cells = [
        cell for cell in content.cells if PUBLISHED not in cell.metadata.get("tags", []) or profile == PUBLISHED
    ]
    return content


def _once_a_kernel_starts(execution: Callable[[], T]) -> T:
    """Make a call that begins with a kernel's start, again where that fails: another process may take one of its ports first."""
    from nbclient.exceptions import DeadKernelError

    for _ in range(2):
        try:
            return execution()
        except DeadKernelError:  # it started, and died later
            raise
        except RuntimeError as error:
            print(f"a kernel did not start, trying again: {error}", file=sys.stderr)
    return execution()


def output_path(name: str, values: Mapping[str, Any], profile: str) -> Path:
    """Return where `mfr run` puts a notebook: the page of the profile's edition, or `runs/` for parameters of one's own."""
    stem = find(name).stem
    if not values:
        return Edition(PROJECT, profile).executed / f"{stem}.ipynb"
    digest = hashlib.sha256(json.dumps([values, profile], sort_keys=True).encode()).hexdigest()[:8]
    return PROJECT / "runs" / f"{stem}-{digest}.ipynb"


def _last_cell(output: Path) -> int:
    """Count the code cells of a partial notebook that were begun."""
    cells = [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
    return sum(cell.metadata.get("papermill", {}).get("status") != "pending" for cell in cells)


def _hint(node: ast.expr) -> Any:
    """Turn a type hint, such as `Optional[int]` or `int | list[int]`, into the type; nothing is evaluated."""
    plain = {"int": int, "float": float, "bool": bool, "str": str}
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Name(id=name) if name in plain:
            return plain[name]
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[_hint(inner)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _hint(inner) | None
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            return functools.reduce(operator.or_, map(_hint, parts))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _hint(left) | _hint(right)
    allowed = ", ".join([*plain, "None", "list[...]", "Optional[...]", "Union[...]"])
    raise ConfigError(f"parameters cell: type must be made of {allowed}, given {ast.unparse(node)!r}")


def inputs(notebook: Path, values: Mapping[str, Any]) -> str:
    """Return a hash of what an executed notebook depends on: itself, its values and their data, the packages' source, where runs lie."""
    digest, packages = hashlib.sha256(notebook.read_bytes()), (PROJECT / "mfrlib", PROJECT / "book" / "mfrbook")
    for file in sorted(one for package in packages for kind in ("*.py", "*.c") for one in package.rglob(kind)):
        digest.update(file.read_bytes())
    folders = [str(environment.data_folder() or ""), str(environment.cache_folder())]
    digest.update(json.dumps([dict(values), folders, sources.identities(values)], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def fresh(output: Path, made_from: str) -> bool:
    """Tell whether a notebook was executed, without an error, from what has this hash."""
    try:
        metadata = json.loads(output.read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError):
        return False
    return metadata.get("mfr", {}).get("inputs") == made_from and not metadata.get("papermill", {}).get("exception")


def stored(planned: Iterable[Planned]) -> int:
    """Return when the last of these runs came into the store, in ns since 1970: 0 where none is there."""
    entries = [entry for one in planned for entry in Store().entries(one.experiment, one.key)]
    return max((sums.stat().st_mtime_ns for entry in entries if (sums := entry / CHECKSUMS).exists()), default=0)
