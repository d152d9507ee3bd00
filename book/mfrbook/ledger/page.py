"""The ledger as pages: a line for each claim or question that unfolds, filters, and the paper's figures beside ours."""

import csv
import html
import io
import math
import re
from collections.abc import Sequence

from mfrbook.ledger import rule
from mfrbook.ledger.wording import (
    NOTES,
    Group,
    Row,
    answer,
    differs,
    effect,
    groups,
    number,
    reading_words,
    shortened,
    size,
    worded,
    wording,
)

LOOK = {
    rule.REPRODUCED: ("for", "✓"), rule.SAME: ("for", "✓"), rule.LARGER: ("for", "✓"), rule.SMALLER: ("part", "✓"), rule.YES: ("for", "✓"),
    rule.OPPOSITE: ("against", "✗"), rule.NO: ("against", "✗"), rule.CANNOT_TELL: ("open", "?"), rule.AMOUNT: ("part", "="),
    rule.NOT_TESTED: ("none", "–"),
}  # fmt: skip
PAPERS = {"mfr": "MFR", "e2e": "End-to-end SAEs"}
SCALES = {"full": "at the paper's scale", "part": "below it", "none": "no scale"}
COLUMNS = ("id", "section", "claim", "where", "paper", "ours", "low", "high", "pi_low", "pi_high", "n_seeds", "over", "scale", "reading",
           "stand_in", "verdict", "reason")  # fmt: skip
FIGURES_OF_PAPER = "https://arxiv.org/html/2411.01220v2#"


def page(rows: Sequence[Row], *, questions: bool = False) -> str:
    """Return the claims' page, or the questions', as HTML that needs no script; a script adds the filters."""
    found = groups(worded(rows), questions)
    heading = (
        "",
        "Question" if questions else "Claim",
        "Answer",
        "" if questions else "Paper",
        "Ours (95 % interval)",
        "Verdict",
    )
    head = "".join(f"<span>{one}</span>" for one in heading)
    lines = "".join(_group(group, questions) for group in found)
    kind = "questions" if questions else "claims"
    notes = "".join(
        f'<p class="mfr-note">Rows marked {mark}: {html.escape(long.strip())}</p>'
        for long, (mark, _) in NOTES.items()
        if any(long in row["reason"] for group in found for row in group.rows)
    )
    return (
        f'<div class="mfr-ledger mfr-{kind}">{_filters(found, questions)}{notes}'
        f'<div class="mfr-ledger-head" aria-hidden="true">{head}</div><ol>{lines}</ol></div>\n'
    )


def table(rows: Sequence[Row]) -> str:
    """Return the ledger as CSV: the fields of claims.json, intervals as two columns each."""
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        ends = {f"{name}{end}": value for name, key in (("", "ci"), ("pi_", "pi"))
                for end, value in zip(("low", "high"), row[key] or ("", ""), strict=True)}  # fmt: skip
        writer.writerow(dict(row) | ends)
    return target.getvalue()


def figures(rows: Sequence[Row]) -> dict[int, str]:
    """Return, for each figure of the MFR paper, a strip: what the paper has, what we have, the verdict, and where both are."""
    leads = {group.stem: group for group in groups(worded(rows), False)}
    return {
        number_: "".join(_strip(number_, about, leads[name]) for name in about["claims"] if name in leads)
        for number_, about in wording()["figure"].items()
    }


def _strip(figure: int, about: dict[str, str], group: Group) -> str:
    row = group.lead
    return (
        f'<div class="mfr-strip"><a href="{FIGURES_OF_PAPER}{about["at"]}">Figure {figure} of the paper</a>'
        f'<span class="c-paper"><i>Paper</i> {html.escape(_paper(row))}</span>'
        f'<span class="c-ours"><i>Ours</i> {bar(row)} {html.escape(effect(row))}</span>'
        f'<span class="c-verdict">{_chip(row)}</span><a href="claims.html#{group.stem}">{html.escape(group.short)}</a></div>'
    )


def _group(group: Group, questions: bool) -> str:
    row = group.lead
    paper = "" if questions else f'<span class="c-paper"><i>Paper</i> {html.escape(_paper(row))}</span>'
    further = f" and {len(group.rows) - 1} more" if len(group.rows) > 1 else ""
    inside = "".join(_row(one, one["id"] == group.stem, questions) for one in group.rows)
    inside += "".join(
        f'<p class="c-facts">{html.escape(one["claim"])} <b>{html.escape(effect(one))}</b> {_chip(one)} '
        f'<a href="{"claims" if questions else "questions"}.html#{one["id"]}">{one["id"]}</a></p>'
        for one in group.beside
    )
    other = f"<small>{html.escape(said)}</small>" if (said := differs(group)) else ""
    return (
        f'<li id="{group.stem}"><details><summary title="Unfold {group.stem}{further}"><span class="c-id">{group.stem}</span>'
        f'<span class="c-claim">{html.escape(group.short)}</span><span class="c-answer">{answer(row)}{other}</span>{paper}'
        f'<span class="c-ours"><i>Ours</i> {bar(row)} <span>{html.escape(effect(row))}</span></span>'
        f'<span class="c-verdict">{_chip(row)}</span></summary><div class="c-body">{inside}</div></details></li>'
    )


def _paper(row: Row) -> str:
    """Return the paper's number in the effect's unit, or the words it has instead."""
    return number(row["value"], row["unit"], 3) if row["value"] is not None else row["paper"] or "–"


def _row(row: Row, named: bool, questions: bool) -> str:
    name = "" if named else f' id="{row["id"]}"'
    size = f"{100 * row['scale']:.3g} % of the paper's samples" if row["scale"] else ""
    units = rule.units(row["n_seeds"], row["over"]) if row["n_seeds"] else ""
    reading = f"reading {row['reading']}" if row["reading"] else ""
    facts = ", ".join(one for one in (units, size, reading) if one)
    see = f' <a href="{address(row["see"])}">See the figure or table, its data and its runs.</a>' if row["see"] else ""
    said = (
        ""
        if questions
        else f'<p class="c-said">The paper ({html.escape(row["where"])}): {html.escape(row["paper"] or "–")}</p>'
    )
    return (
        f'<div class="mfr-row"{name} data-verdict="{row["verdict"]}" data-paper="{"e2e" if row["section"] == "end-to-end" else "mfr"}" '
        f'data-scale="{_scale(row)}"><p class="c-claim"><a class="c-id" href="#{row["id"]}">{row["id"]}</a> {html.escape(row["claim"])}</p>'
        f'<p class="c-result">{bar(row)} <b>{html.escape(effect(row))}</b> {_chip(row)}</p>{said}'
        f'<p class="c-why">{_prose(shortened(row["reason"]))}{see}</p><p class="c-facts">{html.escape(facts)}</p>{_elsewhere(row)}</div>'
    )


def _prose(text: str) -> str:
    """Return a sentence as HTML; what it has between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _elsewhere(row: Row) -> str:
    """Say what the measure gives under the reading that comes closest, at its own size, and what the verdict would be."""
    shown = {"Closest reading": row["closest"], "At the main runs' size": row["closest_at_scale"]}
    if all(shown.values()) and len({(found["reading"], *found["ci"]) for found in shown.values()}) == 1:
        del shown["At the main runs' size"]
    parts = [
        f'<a href="{address(found["see"])}">{name}</a> (of {found["among"]}): {html.escape(reading_words(found["reading"]))}: '
        f"{html.escape(effect({**row, **found}))}, {100 * found['scale']:.3g} % of the samples: {found['verdict']} under it."
        for name, found in shown.items()
        if found
    ]
    return f'<p class="c-facts">{"<br>".join(parts)}</p>' if parts else ""


def _chip(row: Row) -> str:
    look, sign = LOOK[row["verdict"]]
    flag = (
        ' <span class="mfr-flag" title="The data or the model are others than the paper\'s">stand-in</span>'
        if row["stand_in"]
        else ""
    )
    far = f' <small class="mfr-size">{said}</small>' if (said := size(row)) else ""
    return f'<span class="mfr-chip v-{look}"><b aria-hidden="true">{sign}</b> {row["verdict"]}</span>{flag}{far}'


def _scale(row: Row) -> str:
    return "none" if not row["scale"] else "full" if row["scale"] > 0.999 else "part"


def address(see: str) -> str:
    """Return the address of the figure or table that a row names."""
    notebook, _, name = see.partition("#")
    return f"executed/{notebook}.html#{name}"


def _filters(found: Sequence[Group], questions: bool) -> str:
    """Return the controls, hidden until the script that works them shows them."""
    rows = [row for group in found for row in group.rows]
    boxes = "".join(
        f'<label><input type="checkbox" name="verdict" value="{verdict}"> {verdict} <small>{n}</small></label>'
        for verdict in rule.VERDICTS
        if (n := sum(row["verdict"] == verdict for row in rows))
    )
    papers = "" if questions else _select("paper", "Paper", PAPERS)
    return (
        f'<form class="mfr-filters" hidden><fieldset><legend>{len(found)} {"questions" if questions else "claims"}, {len(rows)} tests</legend>{boxes}</fieldset>{papers}{_select("scale", "Scale", SCALES)}'
        '<button type="reset">Show all</button> <output aria-live="polite"></output></form>'
    )


def _select(name: str, label: str, choices: dict[str, str]) -> str:
    options = "".join(f'<option value="{value}">{shown}</option>' for value, shown in choices.items())
    return f'<label>{label} <select name="{name}"><option value="">all</option>{options}</select></label>'


WIDTH, HEIGHT, ROOM = 170, 20, 6


def bar(row: Row) -> str:
    """Return the drawing of a row's effect, empty where nothing was measured. What counts for the claim is shaded."""
    if row["ours"] is None:
        return ""
    low, high = row["ci"]
    shown = [low, high, row["ours"], *([row["value"]] if row["value"] is not None else [])]
    zone = _zone(row)
    shown += [end for end in zone or (0.0,) if math.isfinite(end)] or [0.0]
    least, most = min(shown), max(shown)
    span = (most - least) or 1.0

    def x(value: float) -> float:
        return ROOM + (WIDTH - 2 * ROOM) * (min(max(value, least), most) - least) / span

    parts = []
    if zone:
        start, end = (0 if zone[0] < least else x(zone[0])), (WIDTH if zone[1] > most else x(zone[1]))
        parts.append(f'<rect class="zone" x="{start:.1f}" width="{end - start:.1f}" height="{HEIGHT}"/>')
    if least <= 0 <= most:
        parts.append(f'<path class="zero" d="M{x(0):.1f} 0V{HEIGHT}"/>')
    parts.append(f'<path class="ci" d="M{x(low):.1f} {HEIGHT / 2}H{x(high):.1f}"/>')
    parts.append(f'<circle class="ours" cx="{x(row["ours"]):.1f}" cy="{HEIGHT / 2}" r="4"/>')
    if row["value"] is not None:
        parts.append(f'<path class="paper" d="M{x(row["value"]):.1f} 1V{HEIGHT - 1}"/>')
    paper = f"; the paper has {number(row['value'], row['unit'], 3)}" if row["value"] is not None else ""
    said = html.escape(f"Ours {effect(row)}{paper}")
    return f'<svg class="mfr-bar" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">{"".join(parts)}</svg>'


def _zone(row: Row) -> tuple[float, float] | None:
    """Return the effects that count for a claim, or for yes; None where a question asks how much."""
    if row["verdict"] == rule.AMOUNT:
        return None
    if row["margin"] is not None:
        level = row["level"] or 0.0
        return level - row["margin"], math.inf if row["side"] == "below" else level + row["margin"]
    return 0.0, math.inf
