"""The rows of the ledger: for each claim of claims.yaml, what was measured, and the verdict by `mfrbook.ledger.rule`."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mfrbook.chapters.synthetic.readings import switches
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.ledger.closest_reading import Source, as_released, closest, presets, switched
from mfrbook.ledger.measures import MEASURES
from mfrbook.ledger.rule import (
    ENOUGH_FOR_QUESTIONS,
    ENOUGH_SEEDS,
    NOT_TESTED,
    Effect,
    effect_of,
    of_direction,
    of_level,
    of_question,
)
from mfrlib.config import ConfigError, require, unknown_name

HEADINGS = {
    "synthetic": "Synthetic data (Section 3)", "gpt2": "Language models (Section 4.1)", "eeg": "EEG (Sections 4.2 and 4.3)",
    "end-to-end": "End-to-end SAEs", "questions": "Questions neither paper asks",
}  # fmt: skip
KEYS = dict.fromkeys([
    "id", "claim", "where", "paper", "value", "scale", "measure", "question", "readings", "over", "fisher", "mfr", "see", "remark", "untested",
    "reading", "stand_in", "margin", "level", "side", "correlation", "jackknife", "control", "amount", "binomial",
])  # fmt: skip
READINGS = {"gpt2": "as-printed", "eeg": "as-printed"}  # of the sections whose rows name none
NAMED = ("gpt2", "end-to-end", "eeg")  # sections whose data a reader may choose: each row names them
FIRST_EDITION = "first-edition"
"""The reading that nobody proposed."""
SAME_AS_PENALTY = (
    "The threshold was never reached in the first steps, the only ones in which this reading checks it. So MFR equals the "
    "penalty alone, and re-initialisation alone the baseline. "
)
NO_START_PASSES = (
    "Some SAE exceeds the threshold at every start, so re-initialisation would never end. It was left out, as in the authors' "
    "own training code for GPT-2 and EEG: MFR is the penalty alone. "
)


def verdict(claim: Mapping[str, Any], values: Sequence[float], value: float | None = None) -> tuple[Effect, str, str]:
    """Return the effect of a claim's values, the verdict on it, and why; `value`: the paper's number."""
    over = claim.get("over", "seeds")
    kind = {name: claim.get(name, False) for name in ("correlation", "fisher", "binomial")}
    effect = effect_of(values, over=over, runs=over == "seeds" and not claim.get("jackknife"), **kind)
    if claim["section"] == "questions":
        return effect, *of_question(effect, amount=claim.get("amount", False))
    away, enough = stand_in(claim), ENOUGH_FOR_QUESTIONS if claim.get("control") else ENOUGH_SEEDS
    if "margin" in claim:
        at = (claim["margin"], claim.get("level", 0), claim.get("side", "both"))
        return effect, *of_level(effect, *at, stand_in=away, enough=enough)
    return effect, *of_direction(effect, value, stand_in=away, enough=enough)


def stand_in(claim: Mapping[str, Any]) -> bool:
    """Tell whether the runs of a claim are on other data, or another model, than the paper's."""
    return bool(claim.get("stand_in", claim["section"] in NAMED))


@cache
def parsed(text: str) -> dict[str, Any]:
    """Return what a text in YAML says, read once a process: that takes a while."""
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def load_claims() -> list[dict[str, Any]]:
    """Return the rows of claims.yaml.

    Raises
    ------
    ConfigError
        If a section, key or measure is unknown, or an id or claim is missing or an id there twice: a typo would change a verdict.
    """
    sections = parsed((Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8"))
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
        "pi": None,
        "n_seeds": 0,
        "over": claim.get("over", "seeds"),
        "scale": None,
        "reading": claim.get("reading", READINGS.get(claim["section"])),
        "stand_in": stand_in(claim),
        "verdict": NOT_TESTED,
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
    effect, said, why = verdict(claim, values, claim.get("value"))
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
    if at_scale and at_scale["ours"] != effect.middle:
        row["closest_at_scale"] = at_scale
    return row | _fields(effect) | {"scale": scale, "verdict": said, "reason": why}


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
    with suppress(Untested):
        whole = as_released(evidence.get("released"))
        sources.append(Source([], 1, "synthetic-training#cells", whole))
    found = closest(claim["measure"], claim.get("value"), sources)
    if not found:
        return None
    effect, said, _ = verdict(claim, found.values, found.value)
    about = {"scale": found.samples / claim["scale"], "verdict": said}
    return {"reading": found.reading, "among": found.among, "see": found.see, **_fields(effect), **about}


def _fields(effect: Effect) -> dict[str, Any]:
    """Return an effect as the ledger's row has it."""
    pi = None if effect.pi is None else list(effect.pi)
    return {"ours": effect.middle, "ci": list(effect.ci), "pi": pi, "n_seeds": effect.n}
