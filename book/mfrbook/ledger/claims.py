"""The ledger: a row for each claim of claims.yaml, as text, as JSON, and as the book's pages."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfrbook.drawing import lessons, report
from mfrbook.drawing.markdown import table
from mfrbook.drawing.statistics import as_text
from mfrbook.experiments.evidence import Evidence
from mfrbook.ledger import page, together
from mfrbook.ledger.rule import AMOUNT, NO, NOT_TESTED, REPRODUCED, VERDICTS, YES, units
from mfrbook.ledger.verdicts import load_claims, row_of
from mfrbook.ledger.wording import worded

NAMED_ONLY = (
    YES,
    NO,
    AMOUNT,
    NOT_TESTED,
)  # verdicts under which the home page's table names rows without their numbers


def ledger(profile: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return a row per claim: `id, paper, ours, ci, pi, n_seeds, scale, reading, stand_in, verdict, reason`, with claim, where
    and section.

    `closest` is the reading that comes closest to what the paper reports, for the claims that were put to readings;
    `closest_at_scale` the one of those that were run at the size of the main runs, unless it gives the row's own effect.

    Parameters
    ----------
    profile
        Size of the runs.
    values
        Further parameters of the notebooks that show these runs, such as `n_seeds`.
    """
    evidence = Evidence(profile, values)
    return [row_of(claim, evidence) for claim in load_claims()]


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the ledger as plain text."""
    lines = [
        f"{row['id']:4} {row['verdict']:24} {_ours(row):34} paper: {row['paper'] or '–'}\n     {row['claim']}\n     {row['reason']}"
        for row in rows
    ]
    return "\n".join(lines)


def _ours(row: Mapping[str, Any]) -> str:
    if row["ours"] is None:
        return "–"
    return f"{as_text(row['ours'], *row['ci'])}, {units(row['n_seeds'], row.get('over', 'seeds'))}"


def write(folder: Path, profile: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Write the ledger for the book: pages, `summary.md`, and the same rows as JSON and CSV, in the folder of executed notebooks."""
    rows = ledger(profile, values)
    folder.mkdir(parents=True, exist_ok=True)
    save(rows, folder / "claims.json")
    written = {
        "ledger.html": page.page(rows),
        "questions.html": page.page(rows, questions=True),
        "claims.csv": page.table(rows),
        "together.md": together.said(rows),
    }
    if lessons.shown(rows).size:
        written["lessons.html"] = _lessons(rows)
    strips = {f"figure-{number}.html": strip + "\n" for number, strip in page.figures(rows).items()}
    for name, content in (written | strips).items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "summary.md").write_text(summary(rows, profile), encoding="utf-8")
    return rows


def _lessons(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figure of what was learned, with links from each effect to the figure or table that has its runs."""
    plot = lessons.lessons(worded(rows))
    see = {row["id"]: row["see"] for row in rows}
    names = [f"{what} ({claim})" for what, claim in zip(plot.data["what"], plot.data["claim"], strict=True)]
    links = zip((page.address(see[claim]) for claim in plot.data["claim"]), names, strict=True)
    runs = "".join(f'<li><a href="{where}">{name}</a></li>' for where, name in links)
    about = {"Rows of the ledger": ", ".join(plot.data["claim"]), "Recompute": "mfr claims"}
    caption = "Effects of the ledger; bars: 95 % intervals over seeds; upright strokes: the paper's number."
    drawn = report.figure_html(plot, "lessons", caption, about)
    return f'{drawn}\n<details class="mfr-provenance"><summary>Runs behind each effect</summary><ul>{runs}</ul></details>\n'


def save(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the ledger as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def summary(rows: Sequence[Mapping[str, Any]], profile: str) -> str:
    """Return the home page's answer: under each verdict, what was claimed; questions and claims not tested by name only."""
    lines = []
    for kind in VERDICTS:
        found = [row for row in rows if row["verdict"] == kind]
        if kind in NAMED_ONLY:
            said = ", ".join(row["id"] for row in found)
        else:
            said = "<br>".join(f"**{row['id']}** {row['claim']} {_ours(row)}.{_redeemed(row)}" for row in found)
        lines.append([f"**{kind}** ({len(found)})", said or "–"])
    shown = table(["Verdict", "Claims"], lines)
    shares = [row["scale"] for row in rows if row["scale"]]
    if shares and min(shares) < 1:
        said = f"runs saw from {100 * min(shares):.3g} % to {100 * max(shares):.3g} % of the paper's samples. A verdict holds for its own scale, which the ledger has."
        warning = f":::{{admonition}} Below the paper's scale\n:class: warning\nProfile `{profile}`: {said}\n:::\n"
        return f"{warning}\n{shown}"
    return shown


def _of(among: int) -> str:
    return f" (of {among})" if among > 1 else ""


def _redeemed(row: Mapping[str, Any]) -> str:
    """Name the reading under which a claim would be reproduced at the main runs' size, where it is not as we read it."""
    found = row["closest_at_scale"]
    if not found or row["verdict"] == REPRODUCED or found["verdict"] != REPRODUCED:
        return ""
    return (
        f" Reproduced under another reading{_of(found['among'])}, {found['reading'].replace(':', ',')}: {_ours(found)}."
    )
