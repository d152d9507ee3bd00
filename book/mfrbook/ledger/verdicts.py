"""Verdicts on claims, computed from runs by one rule.

`reproduced`: a 95 % interval over five seeds or more lies wholly on the paper's side and contains its value (where it
gives one) · `partly`: on the paper's side only · `undecided`: it includes zero, or there are fewer than five seeds ·
`not reproduced`: the other side · `not tested here`: with the reason. Questions that no paper answers get `answered`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mfrbook.chapters.synthetic.readings import switches
from mfrbook.drawing.statistics import interval
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.ledger.closest_reading import Source, closest, presets, switched
from mfrbook.ledger.measures import MEASURES
from mfrlib.config import ConfigError, require, unknown_name

ENOUGH_SEEDS = 5
HEADINGS = {
    "synthetic": "Synthetic data (Section 3)", "gpt2": "Language models (Section 4.1)", "eeg": "EEG (Sections 4.2 and 4.3)",
    "end-to-end": "End-to-end SAEs", "questions": "Questions neither paper asks",
}  # fmt: skip
KEYS = dict.fromkeys([
    "id", "claim", "where", "paper", "value", "scale", "measure", "question", "readings", "over", "fisher", "mfr", "see", "remark", "untested"
])  # fmt: skip
NAMED = ("gpt2", "end-to-end", "eeg")  # sections whose data a reader may choose: each row names them
SAME_AS_PENALTY = (
    "The threshold was never reached, so MFR equals the penalty alone, and re-initialisation alone the baseline. "
)
NO_START_PASSES = "Some SAE exceeds the threshold at every start: re-initialisation would never end and was left out, MFR is the penalty alone. "


def verdict(values: Sequence[float], value: float | None) -> tuple[str, str]:
    """Return the verdict on effects per seed, positive on the paper's side, and why."""
    middle, low, high = (float(one) for one in interval(np.asarray(values)))
    if len(values) < ENOUGH_SEEDS:
        return "undecided", f"{len(values)} seeds; the rule asks for {ENOUGH_SEEDS}."
    if low <= 0 <= high:
        return "undecided", "The interval includes zero."
    if middle < 0:
        return "not reproduced", "The interval lies on the other side."
    if value is None:
        return "reproduced", "The interval lies on the paper's side; the paper gives no number."
    if low <= value <= high:
        return "reproduced", "The interval lies on the paper's side and contains its value."
    return "partly", f"On the paper's side, but the interval does not contain its value, {value:g}."


def load_claims() -> list[dict[str, Any]]:
    """Return the rows of claims.yaml.

    Raises
    ------
    ConfigError
        If a section, key or measure is unknown, or an id or claim is missing or an id there twice: a typo would change a verdict.
    """
    sections = yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8"))
    found = [row | {"section": section} for section, rows in sections.items() for row in rows]
    ids = [row.get("id") for row in found]
    for row in found:
        where = f"claims.yaml, {row.get('id', row)}"
        for known, wanted, what in (
            (HEADINGS, {row["section"]}, "section"),
            (KEYS, row.keys() - {"section"}, "key"),
            (MEASURES, {row["measure"]} if "measure" in row else set(), "measure"),
        ):
            for name in sorted(wanted - known.keys()):
                raise ConfigError(f"{where}: {unknown_name(name, known, what)}")
        require(bool(row.get("id") and row.get("claim")), where, row, "needs id and claim")
        require(ids.count(row["id"]) == 1, where, row["id"], "the id is there twice")
    return found


def row_of(claim: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    """Return the ledger's row of a claim, as `mfrbook.ledger.claims.ledger` describes it."""
    row = {name: claim.get(name, "") for name in ("id", "section", "where", "claim", "paper", "see")}
    row |= {
        "ours": None,
        "ci": None,
        "n_seeds": 0,
        "over": claim.get("over", "seeds"),
        "scale": None,
        "verdict": "not tested here",
        "reason": claim.get("untested", ""),
        "closest": _closest(claim, evidence, ("readings", "questions")),
        "closest_at_scale": None,
    }
    if "measure" not in claim:
        return row
    try:
        values = MEASURES[claim["measure"]](evidence)
        samples = evidence.samples(claim["measure"], claim.get("question"))
        if not np.isfinite(values).all():
            raise Untested("Some runs give no finite value.")
    except Untested as reason:
        return row | {"reason": str(reason)}
    said, why = verdict(values, claim.get("value"))
    if claim["section"] == "questions":
        said, why = "answered", "No paper's side: the estimate is the answer."
    section = claim["section"]
    found = evidence.of(claim["measure"], claim.get("question")) if claim.get("mfr") or section in NAMED else []
    if claim.get("mfr") and (without := [runs for runs in found if "mfr" not in runs]):
        never_passes = 0 in without[0]["baseline"].results.get("passing_starts", ())
        seeds = f"In {len(without)} of {len(found)} seeds: " if len(without) < len(found) else ""
        why = seeds + (NO_START_PASSES if never_passes else SAME_AS_PENALTY) + why
    if section in NAMED:
        why = f"Data: {next(iter(found[0].values())).data_id}. {why}"
    why = " ".join(one for one in (why, claim.get("remark")) if one)
    scale = samples / claim["scale"] if samples and "scale" in claim else None
    at_scale = _closest(claim, evidence, ("questions",))
    if at_scale and at_scale["ours"] != _effect(values)["ours"]:
        row["closest_at_scale"] = at_scale
    return row | _effect(values, claim.get("fisher", False)) | {"scale": scale, "verdict": said, "reason": why}


def _closest(claim: Mapping[str, Any], evidence: Evidence, among: Sequence[str]) -> dict[str, Any] | None:
    """Return what the reading that comes closest gives, among the runs of the readings or those of the main runs' size."""
    if "readings" not in claim:
        return None
    sources = []
    for name, rows_of, unit, see in (
        ("readings", switches, claim["readings"], "synthetic-readings#readings"),
        ("readings", presets, 1, "synthetic-readings#presets"),
        ("questions", switched, 1, "synthetic-questions#q9"),
    ):
        try:
            if name in among and unit:
                sources.append(Source(rows_of(evidence.get(name)), unit, see))
        except Untested:
            continue
    found = closest(claim["measure"], claim.get("value"), sources)
    if not found:
        return None
    said, _ = verdict(found.values, found.value)
    scale = found.samples / claim["scale"]
    effect = _effect(found.values) | {"scale": scale, "verdict": said}
    return {"reading": found.reading, "among": found.among, "see": found.see, **effect}


def _effect(values: Sequence[float], fisher: bool = False) -> dict[str, Any]:
    """Return mean, interval and number of the effects; of correlations in Fisher's z, as correlations."""
    found = interval(np.asarray(values))
    middle, low, high = (float(one) for one in (np.tanh(found) if fisher else found))
    return {"ours": middle, "ci": [low, high], "n_seeds": len(values)}
