"""Plain words and numbers for the ledger's rows: answers, units, and which rows stand together."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mfrbook.ledger import rule
from mfrbook.ledger.verdicts import FIRST_EDITION, NO_START_PASSES, SAME_AS_PENALTY, load_claims, parsed

Row = Mapping[str, Any]
ANSWERS = {
    rule.REPRODUCED: "Yes", rule.SAME: "Yes", rule.LARGER: "Yes, more", rule.SMALLER: "Yes, less", rule.CANNOT_TELL: "Cannot tell",
    rule.OPPOSITE: "No", rule.YES: "Yes", rule.NO: "No", rule.AMOUNT: "", rule.NOT_TESTED: "Not tested",
}  # fmt: skip
NOTES = {
    NO_START_PASSES: ("*", "MFR is the penalty alone here"),
    SAME_AS_PENALTY: ("†", "MFR equals the penalty alone here"),
}
"""Of a reason that many rows have: its mark, and what a row says instead."""
FAR = 3
"""From how many times the paper's number on an effect is far from it."""
_SIDES = dict.fromkeys((rule.REPRODUCED, rule.SAME, rule.LARGER, rule.SMALLER, rule.YES), "yes") | dict.fromkeys(
    (rule.OPPOSITE, rule.NO), "no"
)
_HUNDRED = {"%": " %", "points": " points"}
_LEANS = re.compile(r"(The same|And|As|That|More than|Does its?|Do they|What does|How far below)\b")


class Group(NamedTuple):
    """A claim or question with those that belong to it: the row that answers it first, if one was measured."""

    stem: str
    short: str
    lead: Row
    rows: Sequence[Row]
    beside: Sequence[Row] = ()
    """Rows of the other page that put the claim to other conditions."""


def wording() -> dict[str, Any]:
    """Return what wording.yaml says."""
    found = parsed((Path(__file__).parent / "wording.yaml").read_text(encoding="utf-8"))
    return found | {"unit": {measure: unit for unit, measures in found["unit"].items() for measure in measures}}


def stem(name: str) -> str:
    """Return the id of the claim that a row belongs to: S8 of S8-first, G1 of G1s."""
    found = re.match(r"[A-Z]+\d+", name)
    return found[0] if found else name


def worded(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with what claims.yaml and wording.yaml have for a page: the paper's `value`, `margin`, `level`, `side`, `unit`."""
    units, claims = wording()["unit"], {row["id"]: row for row in load_claims()}
    more = ("value", "margin", "level", "side", "measure")
    return [
        {name: claims.get(row["id"], {}).get(name) for name in more}
        | {"unit": units.get(claims.get(row["id"], {}).get("measure"), "")}
        | dict(row)
        for row in rows
    ]


def groups(rows: Iterable[Row], questions: bool) -> list[Group]:
    """Return the papers' claims, or the questions that neither asks, each with all rows that belong to it.

    Claims stand in the papers' order, questions in that of wording.yaml: the most telling first.
    """
    short = wording()
    together: dict[str, list[Row]] = {}
    beside: dict[str, list[Row]] = {}
    for row in rows:
        if (row["section"] == "questions") is questions:
            together.setdefault(stem(row["id"]), []).append(row)
        elif row["id"] in short["differs"]:
            beside.setdefault(stem(row["id"]), []).append(row)
    names, stems = short["short"] | (short["short_question"] if questions else {}), list(together)
    if questions:
        ranks = {name: rank for rank, name in enumerate(short["short"] | short["short_question"])}
        stems.sort(key=lambda name: (name in short["short_question"], ranks.get(name, len(ranks))))
    return [
        Group(name, names.get(name, found[0]["claim"]), next((row for row in found if row["ours"] is not None), found[0]), found, beside.get(name, ()))
        for name, found in ((name, together[name]) for name in stems)
    ]  # fmt: skip


def number(value: float, unit: str = "", digits: int = 2) -> str:
    """Return a number of so many digits in its unit, with a sign that readers see."""
    scaled = 100 * value if unit in _HUNDRED else value
    said = f"{scaled:.0f}" if abs(scaled) >= 99.5 else f"{scaled:.{digits}g}"
    return said.replace("-", "−") + (_HUNDRED.get(unit) or (f" {unit}" if unit else ""))


def effect(row: Row) -> str:
    """Return a row's effect with its 95 % interval, in its unit; with more digits where two would make the interval a point."""
    if row["ours"] is None:
        return "–"
    middle, low, high = _ends(row)
    return middle if row["ci"][0] == row["ci"][1] else f"{middle} ({low} to {high})"


def _ends(row: Row) -> tuple[str, str, str]:
    """Return a row's effect in its unit, and the ends of its interval without one."""
    for digits in (2, 3, 4):
        low, middle, high = (number(one, row["unit"], digits) for one in (row["ci"][0], row["ours"], row["ci"][1]))
        if len({low, middle, high}) == 3 or row["ci"][0] == row["ci"][1]:
            break
    return middle, low.partition(" ")[0], high.partition(" ")[0]


def sentence(name: str, rows: Iterable[Row], unit: str | None = None, *, turned: bool = False) -> str:
    """Return a row in a sentence that needs no other: effect, interval, number of units, the whole claim, the verdict and the id.

    Parameters
    ----------
    unit
        "%" or "points" where the number is shown in them, "" where a share is a fraction; else the row's own.
    turned
        Whether the number has the other sign than the ledger's.
    """
    by_id = {row["id"]: row for row in worded(rows)}
    row = by_id[name]
    kind, said = ("question", "answer") if row["section"] == "questions" else ("claim", "verdict")
    whole = f"the {kind} “{_whole_claim(row, by_id)}”"
    if row["ours"] is None:
        return f"Not tested, {whole}. {row['reason']} [{name}]"
    ends = {"ours": -row["ours"], "ci": [-row["ci"][1], -row["ci"][0]]} if turned else {}
    middle, low, high = _ends(
        {**row, **ends, "unit": row["unit"] if unit is None or (not unit and row["unit"] not in _HUNDRED) else unit}
    )
    units = rule.units(row["n_seeds"], row["over"])
    scale = f", {100 * row['scale']:.2g} % of the paper's samples" if row["scale"] and row["scale"] < 0.999 else ""
    shown = f"{middle} (95 % interval {low} to {high}; {units}{scale})".replace("points", "percentage points")
    asked = "in the opposite direction to" if turned else "on"
    verdict = "" if row["verdict"] == rule.AMOUNT else f"; {said}: {row['verdict']}"
    return f"We measured {shown}, {asked} {whole}{verdict}. [{name}]"


def _whole_claim(row: Row, by_id: Mapping[str, Row]) -> str:
    """Return a row's claim behind those that it leans on, as "As D1, on SmolLM2" does."""
    before = leans_on(row, by_id)
    said = re.sub(r" \(the same \w+\)", "", row["claim"]) if before else row["claim"]
    return f"{_whole_claim(by_id[before], by_id)} – {said}".rstrip(".") if before else said.rstrip(".")


def leans_on(row: Row, by_id: Mapping[str, Row]) -> str | None:
    """Return the id of the row without which a claim is not understood: what wording.yaml says, what it names, or what its id extends."""
    name, claim = row["id"], row["claim"]
    named = [one for one in re.findall(r"\b[A-Z]\d[\w-]*", claim) if one in by_id and one != name]
    if said := wording()["leans"].get(name):
        return said if said in by_id else None
    if named or not _LEANS.match(claim):
        return named[0] if named else None
    shorter = [one for one in by_id if name.startswith(one) and one != name and by_id[one]["section"] == row["section"]]
    return max(shorter, key=len, default=None)


def answer(row: Row) -> str:
    """Return the verdict in a word or two; where a question asks how much, the amount."""
    return ANSWERS[row["verdict"]] or number(row["ours"], row["unit"])


def differs(group: Group) -> str:
    """Return in a few words which rows of a claim were decided otherwise than the one that answers it first; empty if none was.

    Rows of the first edition's mixture, which nobody proposed, do not count.
    """
    others = [row for row in (*group.rows, *group.beside) if row is not group.lead and row["ours"] is not None]
    others = [row for row in others if row["reading"] != FIRST_EDITION]
    found: dict[str, list[Row]] = {}
    for row in others:
        if (side := _SIDES.get(row["verdict"])) and side != _SIDES.get(group.lead["verdict"]):
            found.setdefault(side, []).append(row)
    if len(found) == 1:
        ((side, rows),) = found.items()
        names = {_condition(row, group.lead) for row in rows} - {""}
        return f"{min(names)}: {side}" if len(names) == 1 else f"{len(rows)} of {len(others)} tests: {side}"
    return "tests: " + ", ".join(f"{len(rows)} {side}" for side, rows in found.items()) if found else ""


def _condition(row: Row, lead: Row) -> str:
    """Return in a word or two how a row differs from the one that answers its claim first, as far as that is known."""
    other = (
        row["reading"]
        if row["reading"] != lead["reading"] and row["id"].endswith(f"-{str(row['reading']).removeprefix('as-')}")
        else ""
    )
    return str(wording()["differs"].get(row["id"], other.replace("-", " ")))


def size(row: Row) -> str:
    """Say how large an effect on the paper's side is beside the paper's number, where one is three times the other or more."""
    if row["verdict"] not in (rule.SAME, rule.SMALLER, rule.LARGER) or not row["value"] or row["margin"] is not None:
        return ""
    times = row["ours"] / row["value"]
    if times >= FAR:
        return f"{times:.2g} times the paper's size"
    return f"1/{1 / times:.2g} of the paper's size" if 0 < times <= 1 / FAR else ""


def shortened(reason: str) -> str:
    """Return a row's reason with its data in words, and with marks for what stands above the table."""
    for long, (mark, short) in NOTES.items():
        reason = reason.replace(long, f"{short}.{mark} ")
    return re.sub(r"^Data: (\S+)\. ", lambda found: f"Data: {data_words(found[1])}. ", reason)


def data_words(data_id: str) -> str:
    """Return what data a run had, in words; an identity of another form as it is."""
    words = wording()["data"]
    match data_id.split(":"):
        case ["lm", model, text, _]:
            return f"activations of {words.get(model, model)} on {words.get(text, text)}"
        case ["eeg", name, channels, rate, band, _]:
            said = (
                f"EEG of {words.get(name, name)}, {words.get(channels, channels)}, {rate}, {band.replace('-', ' to ')}"
            )
            return re.sub(r"(?<=\d)(?=k?Hz)", " ", said)
    return data_id


def reading_words(reading: str) -> str:
    """Return a reading with its codes behind it: "threshold 0.5 (R10)" of "R10: threshold 0.5"."""
    codes, _, said = reading.partition(": ")
    return f"{said.replace('as-released', 'the released code')} ({codes})" if said else reading
