"""What a notebook shows: figures, tables, banners, provenance and values, self-contained in the executed notebook."""

import base64
import html
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML, display

from mfrbook.drawing.palette import INK
from mfrbook.drawing.picture import picture
from mfrbook.drawing.style import Live, Plot, typeset
from mfrbook.drawing.tables import as_data, side_by_side
from mfrbook.store.provenance import commit_text, in_words
from mfrbook.store.runs import Run

VALUES_MIME = "application/vnd.mfr.values+json"
PAGE_MIME = "application/vnd.mfr.page+json"


def figure(plot: Plot, name: str, caption: str, runs: Sequence[Run], note: str = "") -> None:
    """Show a figure with alt text, its data as CSV and its provenance, for light and dark pages.

    Parameters
    ----------
    name
        Such as "figure-2": anchor and file name.
    note
        Written into the corner of the figure, such as "simulated data".
    """
    if note:
        plot.figure.text(0.995, 0.995, note, ha="right", va="top", fontsize=9, color=INK)
    display(HTML(figure_html(plot, name, caption, made_from(runs))))


def figure_html(plot: Plot, name: str, caption: str, provenance: Mapping[str, str]) -> str:
    """Return what `figure` shows, for pages that are no notebooks; provenance as names and plain text."""
    content = picture(plot.figure, plot.alt) + _live(plot.live)
    more = ""
    if plot.live and not set(plot.live.data) <= set(plot.data):  # readers have all numbers that a figure can show
        more = f" {_csv_link(plot.live.data, f'{name}-choices', 'All choices (CSV)')}"
    return _box(content, plot.data, name, typeset(f"{plot.sees} {caption}".strip()), provenance, more)


def table(data: pd.DataFrame, name: str, caption: str, runs: Sequence[Run]) -> None:
    """Show a table with its CSV and provenance."""
    display(HTML(table_html(data, name, caption, made_from(runs))))


def table_html(data: pd.DataFrame, name: str, caption: str, provenance: Mapping[str, str]) -> str:
    """Return what `table` shows, for pages that are no notebooks."""
    blocks = side_by_side(data)
    look = "mfr-table mfr-wide" if len(blocks) > 1 or data.shape[1] > 5 else "mfr-table"
    body = "".join(one.to_html(classes=look, border=0, index=False) for one in blocks)
    return _box(
        f'<div class="mfr-scroll" role="group" aria-label="Table {name}" tabindex="0">{body}</div>',
        data,
        name,
        caption,
        provenance,
    )


def banner(runs: Sequence[Run], profile: str, paper_samples: int, remark: str = "") -> None:
    """Say how much of the paper's scale a page was computed at; nothing at full scale."""
    least, most = (choose(run.results["samples"] for run in runs) for choose in (min, max))
    stale = sum(run.stale for run in runs)
    sentences = []
    if least < paper_samples:
        sizes = list(dict.fromkeys((least, most)))
        seen = " to ".join(f"{samples:,}" for samples in sizes)
        share = " to ".join(f"{100 * samples / paper_samples:.3g} %" for samples in sizes)
        sentences.append(
            f"Profile <code>{html.escape(profile)}</code>: a run saw {seen} samples, {share} of the paper's {paper_samples:,}. "
            "Read it as a working model of the experiment, not as the experiment."
        )
    if remark:
        sentences.append(html.escape(remark))
    if stale:
        sentences.append(
            f"{stale} of {len(runs)} runs are stale: made by code that behaved otherwise, not yet computed again."
        )
    if sentences:
        title = (
            '<p class="admonition-title">Below the paper\'s scale</p>'
            if least < paper_samples
            else '<p class="admonition-title">Note</p>'
        )
        display(HTML(f'<div class="admonition warning mfr-banner">{title}<p>{" ".join(sentences)}</p></div>'))


def note(text: str) -> None:
    """Show a remark that a computation, not a writer, decided to make."""
    display(HTML(f'<div class="admonition note"><p class="admonition-title">Note</p><p>{html.escape(text)}</p></div>'))


def values(numbers: Mapping[str, float | int | str]) -> None:
    """Hand numbers to the book's prose, which names them as `notebook.key`; one that is not finite is not known."""
    plain = {
        key: value if isinstance(value, str) else float(value) if math.isfinite(value) else None
        for key, value in numbers.items()
    }
    lines = "\n".join(
        f"{key} = {f'{value:.4g}' if isinstance(value, float) else value}" for key, value in plain.items()
    )
    display({VALUES_MIME: plain, "text/plain": lines}, raw=True)


def page(name: str, content: str) -> None:
    """Hand a piece of HTML to the book, which has a page of this name for it."""
    size = f"{len(content.encode()) / 1000:.0f} kB of HTML for the book's page {name!r}"
    display({PAGE_MIME: {name: content}, "text/plain": size}, raw=True)


def made_from(runs: Sequence[Run]) -> dict[str, str]:
    """Return the provenance of runs: names and plain text."""

    def distinct(values: Sequence[Any]) -> str:
        return ", ".join(dict.fromkeys(str(value) for value in values))

    made = [run.provenance for run in runs]
    found = {
        "Experiment": distinct([run.experiment for run in runs]),
        "Data": distinct([run.data_id for run in runs]),
        "Seeds": distinct(sorted({run.config["seed"] for run in runs})),
        "Runs": "\n".join([str(len(runs)), *by_condition(runs)]),
        "Recompute": distinct(
            [f"mfr verify {key}" for key in {run.experiment: run.key for run in reversed(runs)}.values()]
        ),
        "Samples seen by each": distinct([f"{run.results['samples']:,}" for run in runs]),
        "Commit": distinct([commit_text(one) for one in made]),
        "Versions": distinct([in_words(one["versions"]) for one in made]),
        "Machine": distinct([in_words(one["machine"]) for one in made]),
        "Computing time": f"{sum(one['wall_seconds'] for one in made):.0f} s in all",
        "Behaviour": distinct([str(one.get("behaviour", "unknown")) for one in made])
        + (" (stale)" if any(run.stale for run in runs) else ""),
    }
    if corrected := [one["corrected"] for one in made if "corrected" in one]:
        found["Corrected since"] = distinct(corrected)
    return found


MOST_FIELDS = 4
NOT_TOLD = {"seed", "log_every", "checkpoint_every", "device", "compiled"}  # told apart, or of no matter


def by_condition(runs: Sequence[Run]) -> list[str]:
    """Return a line for each condition of runs: the fields in which they differ, seeds, and keys in the same order.

    Where that is more than `MOST_FIELDS` fields, a condition has only those that most runs have otherwise.
    """
    fields = {run.key: {"experiment": run.experiment, "data": run.data_id, **run.config} for run in runs}
    values: dict[str, Counter[str]] = {}
    for one in fields.values():
        for name, value in one.items():
            values.setdefault(name, Counter())[json.dumps(value)] += 1
    differing = {name for name, found in values.items() if len(found) > 1} - NOT_TOLD
    usual = {name: found.most_common(1)[0][0] for name, found in values.items() if len(differing) > MOST_FIELDS}
    conditions: dict[str, dict[str, int]] = {}
    for run in sorted(runs, key=lambda one: int(one.config["seed"])):
        own = {name: json.dumps(value) for name, value in fields[run.key].items() if name in differing}
        said = ", ".join(f"{name} {value}" for name, value in own.items() if value != usual.get(name)).replace('"', "")
        conditions.setdefault(said or ("as most runs" if usual else ""), {})[run.key] = run.config["seed"]
    return [
        f"{f'{said}; ' if said else ''}seeds {', '.join(map(str, keys.values()))}: {', '.join(keys)}"
        for said, keys in conditions.items()
    ]


def _said(text: str) -> str:
    """Return provenance as HTML: lines, and the keys of runs as code, which a click completes to a command."""
    return re.sub(r"\b[0-9a-f]{16}\b", r"<code>\g<0></code>", html.escape(text)).replace("\n", "<br>")


def _box(
    content: str, data: pd.DataFrame, name: str, caption: str, provenance: Mapping[str, str], more: str = ""
) -> str:
    """Return a figure or table with caption, data and, folded away, its provenance."""
    body = "".join(
        f"<dt>{what}</dt><dd>{_said(text) if what == 'Runs' else html.escape(text)}</dd>"
        for what, text in provenance.items()
    )
    return (
        f'<figure class="mfr-figure" id="{name}">{content}<figcaption>{html.escape(caption)} {_csv_link(data, name)}{more}'
        f'<details class="mfr-provenance"><summary>Provenance</summary><dl>{body}</dl></details></figcaption></figure>'
    )


def _live(live: Live | None) -> str:
    """Return the numbers of a figure that responds, as its CSV has them."""
    if live is None:
        return ""
    content = _csv(live.data).replace("</", "<\\/")
    return f'<script type="text/csv" data-live="{live.kind}">{content}</script>'


def _data_uri(text: str, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(text.encode()).decode()}"


def _csv(data: pd.DataFrame) -> str:
    return as_data(data).to_csv(index=False, float_format="%.6g")


def _csv_link(data: pd.DataFrame, name: str, text: str = "Data (CSV)") -> str:
    return f'<a class="mfr-data" download="{name}.csv" href="{_data_uri(_csv(data), "text/csv")}">{text}</a>'
