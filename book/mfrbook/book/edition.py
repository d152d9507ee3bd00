"""Editions of the book: the published one, and those that are computed anew, small, each with folders of its own.

Prose that states what was found holds for the published runs only. An edition of another profile has the notebooks, the
ledger and the home page made from its own runs, the guides, and on every page a line that says so.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

PUBLISHED = "published"
GUIDES = ("method", "rerun", "scaling", "take-away", "environment", "status", "glossary", "references")
"""Pages that every edition has, since they state nothing that was found in the published runs."""
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)([./\w-]+)\.(md|ipynb)(#[\w-]*)?\)")
_READING = re.compile(r"\[([^\]]*)\]\(#r\d+[a-z]?\)")  # an address on the page of readings
_PAGE = re.compile(r"\{doc\}`([^<`]*?) <([\w-]+)>`")  # from a notebook to another
_REFERENCE = re.compile(r"\{(?:mod|func|class|meth|attr)\}`~?([\w.]+)`")  # to the API
_HOME = """# The book at profile {profile}

Everything here was computed on this machine, at a size that shows *how* the experiments run and not what they find. For the
published results, run `make book`.

```{{raw}} html
:file: executed/answer.html
```

## Verdicts at this size

```{{include}} executed/summary.md
```
"""
_LEDGER = """# Claims ledger

What each claim of the papers comes to in the runs of this edition. The rule of verdicts is that of the published ledger.

```{raw} html
:file: executed/ledger.html
```

```{include} executed/together.md
```
"""
_QUESTIONS = """# Questions neither paper asks

How the runs of this edition answer them.

```{raw} html
:file: executed/questions.html
```
"""


@dataclass(frozen=True)
class Edition:
    """Where an edition's pages are written, executed and rendered."""

    project: Path
    profile: str

    @property
    def published(self) -> bool:
        """Whether this is the published book."""
        return self.profile == PUBLISHED

    @property
    def folder(self) -> Path:
        """What is made lies below this folder."""
        return self.project / "_build" if self.published else self.project / "_build" / self.profile

    @property
    def source(self) -> Path:
        """The folder of pages that Sphinx reads."""
        return self.project / "book" if self.published else self.folder / "book"

    @property
    def executed(self) -> Path:
        """The folder of executed notebooks, and of what else the build writes for the pages."""
        return self.source / "executed"

    @property
    def site(self) -> Path:
        """The folder of the rendered pages."""
        return self.folder / "html"

    def prepare(self, notebooks: tuple[str, ...]) -> None:
        """Write the pages of an edition that is not the published one, beside its executed notebooks."""
        if self.published:
            return
        import yaml  # not before it is needed: `mfr --help` and messages about missing packages do without

        book = self.project / "book"
        self.executed.mkdir(parents=True, exist_ok=True)
        for name in ("references.bib", "_static", "profiles"):
            target = self.source / name
            if (book / name).is_dir():
                shutil.copytree(book / name, target, dirs_exist_ok=True)
            else:
                shutil.copy(book / name, target)
        pages = {name: (book / f"{name}.md").read_text(encoding="utf-8") for name in GUIDES}
        pages |= {"index": _HOME.format(profile=self.profile), "claims": _LEDGER, "questions": _QUESTIONS}
        known = {*pages, *(f"executed/{name}" for name in notebooks)}
        for name, text in pages.items():
            (self.source / f"{name}.md").write_text(without_links(text, known), encoding="utf-8")
        for name in notebooks:
            _rewrite(self.executed / f"{name}.ipynb", known)
        parts = [
            {"caption": "Computed on this machine", "chapters": [{"file": f"executed/{one}"} for one in notebooks] + [{"file": "claims"}, {"file": "questions"}]},
            {"caption": "Guides", "chapters": [{"file": name} for name in GUIDES]},
        ]  # fmt: skip
        toc = {"format": "jb-book", "root": "index", "parts": parts}
        (self.source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
        said = f"Computed on this machine at profile {self.profile}: not the published book, and no evidence for or against a claim."
        settings = self.settings(said) | {"title": f"Mutual Feature Regularization (profile {self.profile})"}
        self.config().write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")

    def config(self) -> Path:
        """Return the file of settings that Jupyter Book takes."""
        return self.project / "_config.yml" if self.published else self.folder / "_config.yml"

    def settings(self, said: str) -> dict:
        """Return the settings of pages that are not the published ones, with a line that every page says."""
        import yaml

        settings = yaml.safe_load((self.project / "_config.yml").read_text(encoding="utf-8"))
        extensions = settings["sphinx"]["local_extensions"]
        settings["sphinx"]["local_extensions"] = dict.fromkeys(extensions, str(self.project / "book" / "_ext"))
        settings["sphinx"]["config"]["mfr_ledger"] = "executed/claims.json"
        settings["sphinx"]["config"]["html_theme_options"]["announcement"] = said
        return settings


def without_links(text: str, known: set[str]) -> str:
    """Return Markdown whose links to pages that this edition lacks are their words alone."""
    kept = _LINK.sub(lambda found: found[0] if found[2] in known else found[1], text)
    kept = _PAGE.sub(lambda found: found[0] if f"executed/{found[2]}" in known else found[1], kept)
    return _REFERENCE.sub(r"`\1`", _READING.sub(r"\1", kept))


def _rewrite(notebook: Path, known: set[str]) -> None:
    """Do the same to the prose of an executed notebook, whose time stays: it was not executed again."""
    if not notebook.is_file():
        return
    time, content = notebook.stat(), json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            text = without_links("".join(cell["source"]), known)
            cell["source"] = text.splitlines(keepends=True)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    os.utime(notebook, ns=(time.st_atime_ns, time.st_mtime_ns))
