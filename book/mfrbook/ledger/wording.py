"""Plain words and numbers for the ledger's rows: answers, units, and which rows stand together."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mfrbook.ledger import rule
from mfrbook.ledger.verdicts import load_claims, parsed

Row = Mapping[str, Any]
ANSWERS = {
    rule.REPRODUCED: "Yes", rule.SAME: "Yes", rule.LARGER: "Yes, more", rule.SMALLER: "Yes, less", rule.CANNOT_TELL: "Cannot tell",
    rule.OPPOSITE: "No", rule.YES: "Yes", rule.NO: "No", rule.AMOUNT: "", rule.NOT_TESTED: "Not tested",
}  # fmt: skip
_HUNDRED = {"%": " %", "points": " points"}


class Group(NamedTuple):
    """A claim or question with those that belong to it: the row that answers it first, if one was measured."""

    stem: str
    short: str
    lead: Row
    rows: Sequence[Row]


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
    """Return the papers' claims, or the questions that neither asks, each with all rows that belong to it, in the ledger's order."""
    short = wording()
    together: dict[str, list[Row]] = {}
    for row in rows:
        if (row["section"] == "questions") is questions:
            together.setdefault(stem(row["id"]), []).append(row)
    names = short["short"] | (short["short_question"] if questions else {})
    return [
        Group(name, names.get(name, found[0]["claim"]), next((row for row in found if row["ours"] is not None), found[0]), found)
        for name, found in together.items()
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
    if row["ci"][0] == row["ci"][1]:
        return number(row["ours"], row["unit"])
    for digits in (2, 3, 4):
        low, middle, high = (number(one, row["unit"], digits) for one in (row["ci"][0], row["ours"], row["ci"][1]))
        if len({low, middle, high}) == 3:
            break
    return f"{middle} ({low.partition(' ')[0]} to {high.partition(' ')[0]})"


def answer(row: Row) -> str:
    """Return the verdict in a word or two; where a question asks how much, the amount."""
    return ANSWERS[row["verdict"]] or number(row["ours"], row["unit"])
