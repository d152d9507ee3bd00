"""All rows of the ledger judged together: how many effects are left at a false discovery rate of 5 % (Benjamini and Hochberg 1995)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # its parts, which take long, are imported when they are first used

from mfrbook.ledger.verdicts import FIRST_EDITION, load_claims

RATE = 0.05


def p_value(row: Mapping[str, Any], correlation: bool = False) -> float:
    """Return the two-sided p of a row's effect being zero, of the t test whose 95 % interval the row has.

    `correlation`: effect and interval are correlations, and the test is of Fisher's z.
    """
    middle, low, high = (np.arctanh(one) if correlation else one for one in (row["ours"], *row["ci"]))
    degrees = row["n_seeds"] - 1
    half = (high - low) / 2
    if half == 0:
        return 1.0 if middle == 0 else 0.0
    return float(2 * scipy.stats.t.sf(abs(middle) / half * scipy.stats.t.ppf(0.975, degrees), degrees))


def said(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the ledger's paragraph on it: over the papers' rows, and over the questions. It changes no verdict."""
    claims = {one["id"]: one for one in load_claims()}
    lines = []
    for name, asked in (("the papers' claims", False), ("the questions", True)):
        tested = [row for row in rows if (row["section"] == "questions") == asked and is_test(row, claims[row["id"]])]
        if not tested:
            continue
        z = [bool(claims[row["id"]].get("correlation") or claims[row["id"]].get("fisher")) for row in tested]
        p = np.array([p_value(row, one) for row, one in zip(tested, z, strict=True)])
        alone, left = p < RATE, scipy.stats.false_discovery_control(p) <= RATE
        lost = ", ".join(f"`{row['id']}`" for row, one in zip(tested, alone & ~left, strict=True) if one)
        lines.append(
            f"Of {name}, {len(tested)} were tested for a direction, those of the first edition's mixture aside. "
            f"{alone.sum()} have an interval without zero. {(alone & left).sum()} of "
            f"these remain at a false discovery rate of {100 * RATE:g} %" + (f", all but {lost}." if lost else ".")
        )
    return "## All rows together\n\n" + " ".join(lines) + " No verdict above depends on this.\n"


def is_test(row: Mapping[str, Any], claim: Mapping[str, Any]) -> bool:
    """Tell whether a row tests for a direction: not for a level or an amount, on more than one unit, and of a method that somebody proposed."""
    tests = not claim.get("amount") and "margin" not in claim and claim.get("reading") != FIRST_EDITION
    return tests and row["ours"] is not None and row["n_seeds"] > 1
