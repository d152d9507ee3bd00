"""The parts of the build: numbers from runs, strictness, light pages, editions, and what the strict build refuses."""

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from sphinx.errors import ExtensionError

import mfrlib
from mfrbook.book import edition as edition_module
from mfrbook.book.edition import Edition
from mfrbook.book.notebooks import NotebookError
from mfrbook.book.verify import Comparison
from mfrbook.drawing.report import VALUES_MIME
from mfrbook.pages import build as book
from mfrbook.pages import pdf, spot_checks, status
from mfrbook.probes.compare import Judged
from mfrbook.store.runs import read
from tests.companion.book import extensions

PROJECT = Path(__file__).resolve().parents[3]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><path d="M0 0H2"/></svg>'
CSV = "step,loss\n0,1.5\n"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


FIGURE = (
    f'<img class="mfr-light" src="data:image/svg+xml;base64,{encoded(SVG)}" alt="A line that stays level">'
    f'<a class="mfr-data" download="figure-2.csv" href="data:text/csv;base64,{encoded(CSV)}">data (CSV)</a>'
)


@pytest.fixture(scope="module")
def extension():
    return extensions.extension("mfr_book")


@pytest.fixture(scope="module")
def light():
    return extensions.extension("mfr_light")


@pytest.fixture(scope="module")
def reference():
    return extensions.extension("mfr_reference")


def cell(source: str, **data: object) -> nbformat.NotebookNode:
    """Return a code cell that displayed data, given by MIME type; with none, one that failed."""
    shown = nbformat.v4.new_output("display_data", data)
    failed = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    return nbformat.v4.new_code_cell(source, outputs=[shown if data else failed])


def notebook(*cells: nbformat.NotebookNode) -> dict:
    """Return an executed notebook, as it lies in a file."""
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "papermill": {"duration": 12.3, "end_time": "2026-11-21T10:11:12.5", "exception": None},
        "mfr": {
            "commit": "0123456789abcdef",
            "dirty": True,
            "profile": "quick",
            "versions": {"torch": "2.13.0"},
            "machine": {"processor": "Some | CPU", "threads": 2},
        },
    }
    title = nbformat.v4.new_markdown_cell("# A run")
    return json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=[title, *cells], metadata=metadata)))


# The roles


def test_a_value_is_formatted(extension):
    values = {"synthetic-similarity": {"r": 0.51234, "change": -0.0312, "n": 5, "rule": "best cosine"}}
    shown = {
        "synthetic-similarity.r:.3f": "0.512",
        "synthetic-similarity.change:+.1%": "−3.1\u00a0%",
        "synthetic-similarity.n": "5",
        "synthetic-similarity.rule": "best cosine",
    }
    assert {text: extension.format_value(values, text) for text in shown} == shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("similarty.r:.3f", "unknown notebook 'similarty' .*did you mean 'similarity'"),
        ("similarity.r_mx:.3f", "unknown key 'r_mx' .*did you mean 'r_max'"),
        ("similarity", "unknown key ''"),
    ],
)
def test_an_unknown_value_is_refused_with_the_nearest_name(extension, text, complaint):
    with pytest.raises(KeyError, match=complaint):
        extension.format_value({"similarity": {"r_max": 0.5}}, text)


def test_a_number_that_is_not_known_needs_no_format(extension):
    assert extension.format_value({"a": {"gain": None}}, "a.gain:.3f") == "not known"


def test_a_format_that_does_not_fit_is_refused(extension):
    with pytest.raises(ValueError, match="format code"):
        extension.format_value({"a": {"name": "text"}}, "a.name:.3f")


# Light pages


def test_embedded_data_become_files(light, tmp_path):
    page = tmp_path / "executed" / "similarity.html"
    html = light.extract_data(FIGURE + FIGURE, page, tmp_path)
    assert "data:" not in html
    (image,) = (tmp_path / "_images").iterdir()
    assert image.read_text() == SVG
    assert html.count(f'src="../_images/{image.name}"') == 2
    assert 'href="../_downloads/executed/similarity/figure-2.csv"' in html
    assert (tmp_path / "_downloads/executed/similarity/figure-2.csv").read_text() == CSV
    assert light.extract_data(html, page, tmp_path) == html


def test_a_view_of_an_image_gets_its_address(light, tmp_path):
    page = tmp_path / "executed" / "a.html"
    views = '<img src="#dark" alt="x"><img class="b" src="#2-dark" alt="y"><a href="#dark">there</a>'
    html = light.extract_data(FIGURE + views, page, tmp_path)
    name = re.search(r'src="(\.\./_images/\w+\.svg)"', html)[1]
    assert f'src="{name}#dark"' in html
    assert f'src="{name}#2-dark"' in html
    assert 'href="#dark"' in html
    assert light.extract_data(html, page, tmp_path) == html


def test_two_downloads_of_one_name_are_refused(light, tmp_path):
    other = FIGURE.replace(encoded(CSV), encoded("step,loss\n"))
    with pytest.raises(Exception, match=r"two different downloads are both named figure-2\.csv"):
        light.extract_data(FIGURE + other, tmp_path / "a.html", tmp_path)


def test_a_download_cannot_leave_its_folder(light, tmp_path):
    climbing = FIGURE.replace("figure-2.csv", "../../../x.csv")
    html = light.extract_data(climbing, tmp_path / "a.html", tmp_path)
    assert 'href="_downloads/a/x.csv"' in html


def test_space_goes_where_it_is_not_text(light):
    listing = "<pre>\n  a\n\n    b\n</pre>"
    html = f"<ul>\n\n    <li>one\n    two</li>\n  </ul>\n{listing}\n\n<script>\n\n  `x`\n</script>"
    lighter = light.without_idle_space(html)
    assert lighter == f"<ul>\n<li>one\ntwo</li>\n</ul>\n{listing}\n<script>\n\n  `x`\n</script>"


def test_scripts_from_outside_are_dropped(light):
    html = (
        '<script>const THEBE_JS_URL = "https://unpkg.com/thebe"; const a = 1</script>'
        '<script src="_static/a.js"></script>'
        '<script async="async" src="_static/sphinx-thebe.js?v=c100c467"></script>'
        '<script type="text/x-thebe-config">\n{}\n</script>'
    )
    assert light.THEBE.sub("", html) == '<script src="_static/a.js"></script>'


def test_static_files_are_pruned_to_what_a_page_loads(light, tmp_path):
    kept = ["mathjax/tex-chtml.js", "mathjax/output/chtml/fonts/woff-v2/a.woff", "theme.js", "solid.woff2", "only.ttf"]
    for name in [*kept, "mathjax/tex-svg.js", "mathjax/sre/mathmaps/en.json", "theme.js.map", "solid.ttf"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    light.prune_static(tmp_path, "mathjax/tex-chtml.js")
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(kept)
    assert not (tmp_path / "mathjax" / "sre").exists()


def test_listings_of_one_depth_share_their_navigation_before_the_theme_asks_for_it(light):
    connected = {}
    app = SimpleNamespace(connect=lambda event, call, priority=500: connected.setdefault(event, (call, priority)))
    light.setup(app)
    share, priority = connected["html-page-context"]
    assert priority < 500, "the theme's own"

    def navigation(page: str) -> str:
        context = {"toctree": lambda **_: f"made for {page}"}
        share(app, page, "page.html", context, None)
        return context["toctree"](maxdepth=1)

    pages = ["_modules/a", "_modules/b", "_modules/a/b", "index"]
    assert [navigation(page).removeprefix("made for ") for page in pages] == ["_modules/a", "_modules/a", *pages[2:]]


def test_a_config_is_documented_by_its_fields(reference):
    from mfrlib.training.config import TrainingConfig

    lines: list[str] = []
    reference.describe_fields(None, "class", "TrainingConfig", TrainingConfig, None, lines)
    assert any(line.startswith("    * **batch_size** (``10000``) -- samples per step") for line in lines)


def test_a_named_tuple_is_documented_by_what_stands_below_its_fields(reference):
    from mfrlib.language_models.hooked_model import Forward

    lines: list[str] = []
    reference.describe_fields(None, "class", "Forward", Forward, None, lines)
    assert "    * **logits** -- (sequence, position, vocabulary)" in lines


def test_a_full_name_in_a_docstring_links_to_where_it_is_defined(reference):
    lines = ["As `mfrlib.load`, not ``mfrlib.load`` or `load`; of `mfrlib.models.sparse`."]
    reference.link_names(None, "function", "f", None, None, lines)
    home = f"{mfrlib.load.__module__}.load"
    assert lines == [
        f"As :py:obj:`mfrlib.load <{home}>`, not ``mfrlib.load`` or `load`; of :py:obj:`mfrlib.models.sparse <mfrlib.models.sparse>`."
    ]
    with pytest.raises(ExtensionError, match=r"names mfrlib\.lod: .*lod"):
        reference.link_names(None, "function", "f", None, None, ["`mfrlib.lod`"])


def test_what_the_code_names_in_full_exists(reference):
    texts = [path.read_text() for folder in ("mfrlib", "book/mfrbook") for path in (PROJECT / folder).rglob("*.py")]
    names = {name for text in texts for name in reference.NAMED.findall(text)}
    assert len([reference.defined(name) for name in names]) > 30


# A small site, built strictly by Sphinx


@pytest.fixture
def site(tmp_path):
    """A site of two pages and an executed notebook, and a function that builds it."""
    source, html = tmp_path / "source", tmp_path / "build" / "html"
    (source / "executed").mkdir(parents=True)
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(extensions.FOLDER)!r})\nextensions = ['myst_nb', 'mfr_book', 'mfr_light']\n"
        "nb_execution_mode = 'off'\nhtml_theme = 'basic'\n"
    )
    (source / "index.md").write_text(
        "# Home\n\n```{toctree}\nother\nexecuted/run\n```\n\nr is {val}`run.r:.2f`, theirs {paper}`0.625`.\n"
    )
    (source / "other.md").write_text("# Other\n\nNo number.\n")
    executed = notebook(
        cell("show()", **{"text/html": FIGURE}), cell("keep()", **{VALUES_MIME: {"r": 0.5123}, "text/plain": "kept"})
    )
    (source / "executed" / "run.ipynb").write_text(json.dumps(executed))
    (source / "executed" / "values.json").write_text('{"run": {"r": 0.5123}}')

    def build() -> tuple[int, str, str]:
        line = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", str(source), str(html)]
        done = subprocess.run(line, capture_output=True, text=True)
        page = html / "index.html"
        return done.returncode, done.stderr, page.read_text() if page.exists() else ""

    return SimpleNamespace(source=source, html=html, build=build)


@pytest.mark.slow
def test_a_changed_value_reaches_the_page_without_a_clean_build(site):
    code, errors, page = site.build()
    assert (code, errors) == (0, "")
    number = r'<a class="mfr-row-link [^"]*" href="executed/run.html"><abbr class="mfr-val" title="Computed from runs in the notebook run, which calls it r.">0.51</abbr></a>'
    assert re.search(number, page)
    assert re.search(r'<abbr class="mfr-paper" title="reported in the paper">0.625</abbr>', page)
    other = (site.html / "other.html").stat().st_mtime_ns
    executed = (site.html / "executed" / "run.html").read_text()
    assert "data:image" not in executed
    assert len(re.findall(r"<details class=[^>]*above-input", executed)) == 2, "code is folded away"
    assert "kept" not in executed, "values are for the prose"

    (site.source / "executed" / "values.json").write_text('{"run": {"r": 0.7788}}')
    code, _, page = site.build()
    assert code == 0
    assert ">0.78</abbr>" in page
    assert (site.html / "other.html").stat().st_mtime_ns == other, "a page without the value was rebuilt"


@pytest.mark.slow
def test_the_published_ledger_speaks_in_prose(site):
    (site.source / "results").mkdir()
    row = {
        "id": "S8",
        "section": "synthetic",
        "claim": "Higher.",
        "ours": -0.1234,
        "ci": [-0.2, -0.05],
        "n_seeds": 5,
        "over": "seeds",
    }
    untested = {**row, "id": "G1", "ours": None, "verdict": "not tested here", "reason": "No weights."}
    rows = [{**row, "scale": 0.1, "verdict": "not reproduced", "reason": ""}, untested]
    (site.source / "results" / "claims.json").write_text(json.dumps(rows))
    with (site.source / "index.md").open("a") as file:
        file.write(
            "\nIt is {ours}`S8`, so {verdict}`S8`; turned {ours}`-S8`, {ours}`-S8%`, {effect}`-S8`, {effect}`-S8%`, {effect}`-S8pp`; G1 is {ours}`G1`.\n"
        )
    code, errors, page = site.build()
    assert (code, errors) == (0, "")
    measured = "5 seeds, 10 % of the paper's samples), in the opposite direction to the claim “Higher”; verdict: not reproduced. [S8]"
    effects = ["−0.123 [−0.2, −0.05]", "not reproduced", "0.123 [0.05, 0.2]", "12.3\u00a0% [5, 20]"]
    effects += ["0.12", "12\u00a0%", "12 percentage points", "not tested here"]
    assert re.findall(r"<abbr[^>]*>([^<]*)</abbr>", page)[2:] == effects
    for shown in (
        "0.12 MMCS (95 % interval 0.05 to 0.2",
        "12 % (95 % interval 5 to 20",
        "12 percentage points (95 % interval 5 to 20",
    ):
        assert f'title="We measured {shown}; {measured}"' in html.unescape(page)
    assert 'title="Not tested, the claim “Higher”. No weights. [G1]"' in html.unescape(page)


def test_no_sentence_contradicts_the_published_ledger(extension):
    """What each page quotes is there and has the direction that its sentence says."""
    ledger = json.loads((PROJECT / "book" / "results" / "claims.json").read_text())
    quoted = [
        (page.name, part, text)
        for page in sorted((PROJECT / "book").glob("*.md"))
        for part, text in re.findall(r"\{(ours|effect|verdict)\}`([^`]+)`", page.read_text(encoding="utf-8"))
    ]
    assert len(quoted) > 50
    wrong = []
    for page, part, text in quoted:
        try:
            extension.quote(part, text, ledger)
        except ValueError as error:
            wrong.append(f"{page}: {error}")
    assert not wrong, "\n".join(wrong)


def test_every_number_of_the_ledger_on_the_home_page_has_five_seeds():
    """As that page says."""
    ledger = json.loads((PROJECT / "book" / "results" / "claims.json").read_text())
    seeds = {row["id"]: row["n_seeds"] for row in ledger}
    home = (PROJECT / "book" / "index.md").read_text(encoding="utf-8")
    quoted = re.findall(r"\{(?:ours|effect)\}`-?([\w-]+?)(?:%|pp)?`", home)
    assert len(quoted) > 5
    assert {name: seeds[name] for name in quoted if seeds[name] != 5} == {}


@pytest.mark.slow
def test_injected_faults_fail_the_strict_build(site):
    (site.source / "results").mkdir()
    (site.source / "results" / "claims.json").write_text(
        '[{"id": "S1", "ours": 0.1, "ci": [-0.1, 0.3]}, {"id": "S3", "ours": -0.2, "ci": [-0.3, -0.1]}]'
    )
    with (site.source / "other.md").open("a") as file:
        file.write(
            "\n{val}`run.q:.2f` {ours}`S2` {effect}`S1` {effect}`S3` [there](nowhere.md) {py:func}`mfrlib.nothing`\n"
        )
    code, errors, _ = site.build()
    assert code != 0
    for complaint in ("unknown key 'q'", "unknown claim 'S2'", "claim 'S1'", "claim 'S3'", "nowhere", "mfrlib.nothing"):
        assert complaint in errors


# What the build gathers


def test_values_of_all_cells_are_merged():
    one = notebook(cell("keep()", **{VALUES_MIME: {"r": 0.5}}), cell("more()", **{VALUES_MIME: {"n": 3}}))
    assert book.collect_values({"a": one, "b": notebook()}) == {"a": {"r": 0.5, "n": 3}, "b": {}}


def test_a_failed_cell_is_numbered():
    fine = cell("keep()", **{VALUES_MIME: {}})
    assert status.failed_cell(notebook(fine)) is None
    assert status.failed_cell(notebook(fine, cell("fail()"))) == 3


def test_status_tells_how_a_notebook_ran():
    shown = status.notebook_table({"eeg": notebook()})
    told = ["[eeg](executed/eeg.ipynb)", "ok", "12 s", "2026-11-21 10:11", "quick", "torch 2.13.0"]
    for text in [*told, "`0123456789` with local changes", r"processor Some \| CPU, threads 2"]:
        assert f"| {text} |" in shown
    assert "failed in cell 2" in status.notebook_table({"eeg": notebook(cell("fail()"))})
    assert status.notebook_table({"eeg": notebook() | {"metadata": {}}}).count("not recorded") == 6


def test_the_archive_is_summed_up_with_hours_commits_and_what_is_wrong():
    said = status.archived([read(path.parent) for path in (PROJECT / "book" / "results" / "groups").glob("*/run.json")])
    n = len(list((PROJECT / "book" / "results" / "groups").glob("*/run.json")))
    assert re.search(rf"The archive holds {n} runs: [\d.]+ hours of computing, from \d+ commits?\.", said)
    assert re.search(rf"\| groups \| {n} \| [\d.]+ \| 20\d\d-\d\d-\d\d to 20", said)
    assert "Stale runs: none." in said
    assert status.archived([]) == "The archive holds no run.\n"


def test_what_verify_confirmed_is_kept_for_the_page(tmp_path):
    run = read(next((PROJECT / "book" / "results" / "groups").glob("*/run.json")).parent)
    assert "No recomputation" in status.verified(tmp_path)
    made = {"commit": "0123456789abcdef", "dirty": False}
    status.record(tmp_path, Comparison(run, True, [], {}), made)
    assert f"| {run.experiment} | `{run.key}` |" in status.verified(tmp_path)
    assert "| the same, bit for bit |" in status.verified(tmp_path)
    status.record(tmp_path, Comparison(run, False, ["another machine"], {"loss": (2.0, 1.0)}), made)
    assert "| 0 of 1 numbers within the tolerance; not loss |" in status.verified(tmp_path)
    assert status.verified(tmp_path).count(run.key) == 1


def test_the_reference_is_not_printed():
    toc = (PROJECT / "book" / "_toc.yml").read_text(encoding="utf-8")
    kept = pdf.contents_of_pdf(toc)
    assert "api" in toc
    assert "api" not in kept
    assert {"method", "claims", "glossary"} <= set(re.findall(r"file: ([\w-]+)", kept))


def test_each_parameter_is_listed_once_with_type_default_help_and_notebooks(tmp_path, monkeypatch):
    for name, lines in (
        ("eeg", ["alpha: float = 3.0  # weight", "k: int = 6  # of EEG"]),
        ("gpt2", ["k: int = 12  # of text"]),
    ):
        parameters = cell("\n".join(lines))
        parameters.metadata["tags"] = ["parameters"]
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook(parameters)))
    monkeypatch.setattr(book, "NAMES", ("eeg", "gpt2"))
    listed = book.parameter_table(tmp_path)
    assert "| `alpha` | float | `3.0` | weight | [eeg](executed/eeg.ipynb) |" in listed
    assert "| `k` | int | `6` | of EEG | [eeg](executed/eeg.ipynb) |\n|  | int | `12` | of text |" in listed


def test_the_ten_lines_of_the_api_page_run(capsys):
    (lines,) = re.findall(r"```python\n(.*?)```", (PROJECT / "book" / "api.md").read_text(), re.DOTALL)
    assert len(lines.strip().splitlines()) <= 11
    exec(lines, {})
    best, one_to_one = map(float, capsys.readouterr().out.split())
    assert 0 < one_to_one <= best < 1


def test_environment_names_what_is_installed():
    listed = book.environment_table()
    assert re.search(r"\| torch \| \d+\.\d+", listed)
    assert "| Python | 3." in listed


def test_the_two_schemes_of_figure_1_differ_in_colours_only():
    light, dark = ((PROJECT / f"book/_static/pipeline-{name}.svg").read_text() for name in ("light", "dark"))
    assert light != dark
    assert re.sub(r"#[0-9a-f]{6}", "", light) == re.sub(r"#[0-9a-f]{6}", "", dark)


# Parts of the build


@pytest.fixture(scope="module")
def tiny_book(tmp_path_factory):
    """A project whose book is one page, rendered by Jupyter Book."""
    project = tmp_path_factory.mktemp("tiny")
    (project / "book").mkdir()
    (project / "_config.yml").write_text("title: Tiny\n")
    (project / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (project / "book" / "index.md").write_text("# Home\n")
    assert "Home" in book.render(project).read_text()
    return project


@pytest.mark.slow
def test_the_strict_build_names_what_it_objects_to(tiny_book, tmp_path):
    shutil.copytree(tiny_book, tmp_path, dirs_exist_ok=True)
    (tmp_path / "book" / "index.md").write_text("# Home\n\n[there](#nowhere)\n")
    with pytest.raises(book.BookError, match=r"exit code 1(?s:.)*nowhere"):
        book.render(tmp_path)


@pytest.mark.slow
def test_the_same_sources_build_on_plain_sphinx(tmp_path):
    """The way out should Jupyter Book 1 rot: an exported conf.py, with our settings and our extension."""
    shutil.copy(PROJECT / "_config.yml", tmp_path)
    for name in ("_ext", "_static"):
        shutil.copytree(PROJECT / "book" / name, tmp_path / "book" / name)
    shutil.copy(PROJECT / "book" / "references.bib", tmp_path / "book")
    page = (
        "# Home\n\n```{math}\n:label: eq-one\na = b\n```\n\nBy {eq}`eq-one`, {paper}`0.6` {cite}`elhage2022toy`.\n\n"
        "```{bibliography}\n```\n"
    )
    (tmp_path / "book" / "index.md").write_text(page)
    (tmp_path / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    places = [tmp_path / "book" / "_ext", PROJECT, PROJECT / "book"]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}
    export = [sys.executable, "-c", book.BUILD, "config", "sphinx", "book", "--config", "_config.yml"]
    subprocess.run(export, cwd=tmp_path, env=variables, check=True, capture_output=True)
    (found,) = [path for path in (tmp_path / "conf.py", tmp_path / "book" / "conf.py") if path.exists()]
    (tmp_path / "book" / "conf.py").write_text(re.sub(r"'jupyter_book',? ?", "", found.read_text()))
    line = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "book", "plain"]
    done = subprocess.run(line, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plain" / "index.html").is_file()


def test_a_failing_notebook_fails_the_book_by_name_and_cell(tmp_path, monkeypatch):
    """No page of an earlier build takes the place of the one that failed."""

    def execute_all(profile, folder, values):
        for name in book.NAMES:
            last = cell("fail()") if name == "eeg" else cell("keep()", **{VALUES_MIME: {"r": 1}})
            (folder / f"{name}.ipynb").write_text(json.dumps(notebook(last)))

    monkeypatch.setattr(book, "execute_all", execute_all)
    with pytest.raises(NotebookError, match=r"eeg\.ipynb failed in cell 2; it is kept in "):
        book.gather("smoke", tmp_path)


def test_every_module_is_in_the_api_reference(reference):
    pages = "".join(page.read_text(encoding="utf-8") for page in sorted((PROJECT / "book" / "api").glob("*.md")))
    listed = [(package, (left_out or "").split()) for package, left_out in reference.MODULES.findall(pages)]
    named = [name for one in listed for name in re.findall(r"automodule:: (\S+)", reference.reference(*one))]
    files = {path for root in (PROJECT, PROJECT / "book") for path in root.glob("mfr*/**/*.py")}
    files = {
        path.relative_to(PROJECT).as_posix().removeprefix("book/") for path in files if not path.stem.startswith("__")
    }
    expected = {name.removesuffix(".py").replace("/", ".") for name in files}
    expected -= {"mfrbook.command.cli", "mfrbook.command.commands"}
    assert sorted(named) == sorted(expected)


@pytest.mark.parametrize(
    ("package", "left_out"), [("mfrlib.attic", []), ("mfrlib.config", []), ("mfrlib.data", ["eggs"])]
)
def test_a_reference_of_what_is_not_there_fails_the_build(reference, package, left_out):
    with pytest.raises(reference.ExtensionError, match=package):
        reference.reference(package, left_out)


def test_an_edition_computed_anew_has_pages_of_its_own_and_none_of_the_published_findings(tmp_path):
    edition = Edition(PROJECT, "smoke")
    own = Edition(tmp_path, "smoke")
    for name in ("_config.yml", "book"):
        source = PROJECT / name
        ignored = shutil.ignore_patterns("results", "executed", "mfrbook", "__pycache__", "*.egg-info")
        shutil.copytree(source, tmp_path / name, ignore=ignored) if source.is_dir() else shutil.copy(source, tmp_path)
    own.prepare(book.NAMES)
    assert edition.site.is_relative_to(PROJECT / "_build" / "smoke")
    pages = {path.stem: path.read_text(encoding="utf-8") for path in own.source.glob("*.md")}
    assert {"index", "claims", "questions", *edition_module.GUIDES} == set(pages)
    for name, text in pages.items():
        assert not re.search(r"\{(ours|verdict)\}", text), f"{name} quotes the published ledger"
        linked = set(re.findall(r"\]\((?!https?:)([./\w-]+)\.(?:md|ipynb)(?:#[\w-]*)?\)", text))
        assert linked <= {*pages, *(f"executed/{one}" for one in book.NAMES)}, name
    settings = yaml.safe_load(own.config().read_text(encoding="utf-8"))["sphinx"]
    assert "not the published book" in settings["config"]["html_theme_options"]["announcement"]


def test_spot_checks_are_told_on_the_home_page(tmp_path):
    judged = [
        Judged("eeg", "one", "identical"),
        Judged("eeg", "two", "within rounding", others=("torch 2 there, 3 here",)),
    ]
    for name in ("index.html", "status.html"):
        (tmp_path / name).write_text(f"<p>{spot_checks.MARK}Spot checks: not yet run.</span> The rest.</p>")
    said = "2 of 2 spot checks agree on this machine: 1 identical, the others within rounding (torch 2 there, 3 here)."
    assert spot_checks.tell(tmp_path, judged) == said
    assert said in (tmp_path / "index.html").read_text()
    assert (tmp_path / "status.html").read_text().endswith("</span> The rest.</p>")
    assert "identical on this machine" in spot_checks.sentence(judged[:1])
    assert "differ: eeg (three)" in spot_checks.sentence([*judged, Judged("eeg", "three", "changed")])
