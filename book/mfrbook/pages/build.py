"""The book: execute the notebooks, gather what they left behind, render the pages."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mfrbook.book.edition import PUBLISHED, Edition
from mfrbook.book.notebooks import NAMES, NotebookError, check, execute, find, parameters
from mfrbook.drawing.markdown import table
from mfrbook.drawing.report import PAGE_MIME, VALUES_MIME
from mfrlib.config import ConfigError, describe

_FIGURE = re.compile(r'<figure class="mfr-figure" id="([\w-]+)">')
BUILD = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"  # jupyter-book has no -m form


class BookError(RuntimeError):
    """The pages cannot be rendered; the message says what Sphinx objected to."""


def gather(profile: str, project: Path, values: Mapping[str, Any] | None = None) -> Edition:
    """Execute what is out of date, and write the values, tables and pages made of it, for `render`.

    Parameters
    ----------
    profile : str
        "smoke", "quick" or "published".
    project : Path
        The folder with `_config.yml`, `book/` and `notebooks/`.
    values : mapping, optional
        Further parameters, of every notebook.

    Returns
    -------
    Edition
        Where its pages lie, and will lie once they are rendered.

    Raises
    ------
    NotebookError
        If a notebook failed.
    """
    from mfrbook.experiments import sources
    from mfrbook.ledger import claims
    from mfrbook.pages import interop, status
    from mfrbook.performance import page as performance
    from mfrbook.store.store import Store

    values = sources.resolved(values or {})
    edition = Edition(project, profile)
    executed = edition.executed
    executed.mkdir(parents=True, exist_ok=True)
    execute_all(profile, executed, values)
    notebooks = {name: json.loads((executed / f"{name}.ipynb").read_text(encoding="utf-8")) for name in NAMES}
    for name, notebook in notebooks.items():
        if (cell := status.failed_cell(notebook)) is not None:
            raise NotebookError(f"{name}.ipynb failed in cell {cell}; it is kept in {executed}")
    archive = project / "book" / "results"
    runs = list(Store(archive).all(weights=False))
    shown = collect_values(notebooks) | performance.write(project, executed) | status.durations(runs, notebooks)
    (executed / "values.json").write_text(json.dumps(shown, indent=1, sort_keys=True), encoding="utf-8")
    for name, content in (collect_pages(notebooks) | collect_figures(notebooks)).items():
        target = executed / f"{name}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    (executed / "status.md").write_text(status.page(archive, runs, notebooks), encoding="utf-8")
    (executed / "parameters.md").write_text(parameter_table(project / "notebooks"), encoding="utf-8")
    (executed / "environment.md").write_text(environment_table(), encoding="utf-8")
    claims.write(executed, profile, values)
    interop.write(project, executed)
    edition.prepare(NAMES)
    return edition


def execute_all(profile: str, folder: Path, values: Mapping[str, Any]) -> None:
    """Execute the notebooks that are out of date, as many at once as there are cores, each on its share of them.

    Small runs gain little from a second thread, so this takes about half the time on two cores. Notebooks that share runs
    wait for each other through the store: the second of the two on training stands last in the queue.

    Raises
    ------
    ConfigError
        Before any of them begins, if one does not take the values.
    """
    for name in NAMES:
        try:
            check(find(name), {**values, "profile": profile})
        except ConfigError as error:
            raise ConfigError(f"{name}.ipynb: {error}") from error
    cores = os.cpu_count() or 1
    workers = min(cores, len(NAMES))
    os.environ.setdefault("OMP_NUM_THREADS", str(cores // workers))  # for the kernels, which inherit it
    queue = [*NAMES[:1], *NAMES[2:], *NAMES[1:2]]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {
            pool.submit(execute, name, values, profile, folder / f"{name}.ipynb", only_if_stale=True): name
            for name in queue
        }
        print(f"executing {len(queue)} notebooks, {workers} at once, profile {profile}", flush=True)
        for number, done in enumerate(as_completed(waiting), start=1):
            try:
                executed = done.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            said = "executed" if executed else "nothing changed since it was executed"
            print(f"[{number}/{len(queue)}] {waiting[done]}: {said}", flush=True)


def collect_values(notebooks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge the values that the cells of each executed notebook displayed: {notebook: {key: value}}."""
    return {name: _displayed(notebook, VALUES_MIME) for name, notebook in notebooks.items()}


def collect_pages(notebooks: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Merge the pieces of HTML that the notebooks made for pages of the book: {page: HTML}."""
    return {name: page for notebook in notebooks.values() for name, page in _displayed(notebook, PAGE_MIME).items()}


def collect_figures(notebooks: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return every figure and table of the notebooks, for chapters that show one: {figures/NOTEBOOK/FIGURE: HTML}."""
    return {
        f"figures/{name}/{figure}": drawn
        for name, one in notebooks.items()
        for figure, drawn in figures_of(one).items()
    }


def figures_of(notebook: dict[str, Any]) -> dict[str, str]:
    """Return the figures and tables that a notebook shows, by the names that it gives them."""
    found = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            drawn = "".join(output.get("data", {}).get("text/html", ""))
            if name := _FIGURE.match(drawn):
                found[name[1]] = drawn
    return found


def _displayed(notebook: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            found.update(output.get("data", {}).get(kind, {}))
    return found


def parameter_table(folder: Path) -> str:
    """List the parameters that `mfr run NOTEBOOK -p name=value` accepts, each once: a line for each meaning, with its notebooks."""
    declared: dict[str, dict[str, Any]] = {}
    for notebook in NAMES:
        for one in parameters(folder / f"{notebook}.ipynb").values():
            declared.setdefault(one.name, {})[notebook] = one
    rows = []
    for name, found in declared.items():
        meanings: dict[tuple[str, ...], list[str]] = {}
        for notebook, one in found.items():
            meanings.setdefault((describe(one.hint), f"`{one.default!r}`", one.help), []).append(notebook)
        for place, (said, notebooks) in enumerate(meanings.items()):
            links = [f"[{one}](executed/{one}.ipynb)" for one in notebooks]
            whose = "all" if len(notebooks) == len(NAMES) else ", ".join(links)
            rows.append(["" if place else f"`{name}`", *said, whose])
    return table(["Name", "Type", "Default", "Meaning", "Notebooks"], rows)


def environment_table() -> str:
    """List Python, the platform, and the version of every package that mfrlib asks for and finds here."""
    rows = [["Python", platform.python_version()], ["Platform", f"{platform.system()} {platform.machine()}"]]
    names = ["mfrlib", *(importlib.metadata.requires("mfrlib") or [])]
    for name in sorted({re.split(r"[^\w.-]", name, maxsplit=1)[0] for name in names}, key=str.lower):
        try:
            rows.append([name, importlib.metadata.version(name)])
        except importlib.metadata.PackageNotFoundError:
            rows.append([name, "not installed"])
    return table(["Package", "Version"], rows)


def render(project: Path, edition: Edition | None = None) -> Path:
    """Run Jupyter Book strictly: any warning, unknown reference or unknown number fails the build; return the home page."""
    edition = edition or Edition(project, PUBLISHED)
    shutil.rmtree(edition.site, ignore_errors=True)
    output = edition.project if edition.published else edition.folder
    render_pages(project, edition.source, output, "html", edition.config())
    if not edition.published:  # Jupyter Book makes a folder _build of its own
        shutil.move(output / "_build" / "html", edition.site)
    return edition.site / "index.html"


def render_pages(
    project: Path,
    source: Path,
    output: Path,
    builder: str,
    config: Path,
    toc: Path | None = None,
    *,
    strict: bool = True,
) -> None:
    """Run Jupyter Book on a folder of pages, into `_build/BUILDER` below `output`.

    Raises
    ------
    BookError
        If Sphinx fails or, where it is strict, warns.
    """
    line = [sys.executable, "-c", BUILD, "build", str(source), "--path-output", str(output), "--builder", builder]
    line += ["--config", str(config), "--all", *(["--toc", str(toc)] if toc else [])]
    line += ["-W", "-n", "--keep-going"] if strict else []
    done = subprocess.run(line, cwd=project, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        shown = [text for text in done.stderr.splitlines() if "WARNING" in text or "ERROR" in text]
        tail = "\n".join(shown or (done.stdout + done.stderr).splitlines()[-30:])
        raise BookError(f"jupyter-book ended with exit code {done.returncode}:\n{tail}")
