"""What the papers' runs would cost here: no verdict, since the hardware is another."""

import json

from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.store.provenance import PROJECT


def _cost(size: str, n_saes: int, penalty: bool, steps: int) -> str:
    """Say what a run of the paper's size would cost on the machine that was benchmarked, from the measured step."""
    source = PROJECT / "book" / "results" / "performance.json"
    timed = json.loads(source.read_text(encoding="utf-8")).get("cpu") if source.exists() else None
    if not timed:
        raise Untested("Other hardware, and not measured on this one.")
    wanted = {
        "table": "steps",
        "what": "step",
        "contestant": "mfrlib",
        "size": size,
        "n_saes": n_saes,
        "penalty": penalty,
    }
    row = next(row for row in timed["rows"] if wanted.items() <= row.items())
    machine = timed["made"]["machine"]
    return f"{steps * row['seconds']['median'] / 60:.0f} minutes for {steps:,} steps of {n_saes} SAE{'s' * (n_saes > 1)}{' with the penalty' * penalty}, on {machine['cores']} cores of {machine['processor']}"


def cost_synthetic(evidence: Evidence) -> list[float]:
    """S9: a cost, on other hardware than the paper's."""
    raise Untested(f"Other hardware, so no verdict: {_cost('S', 1, False, 10_000)}, from the measured step.")


def cost_gpt2(evidence: Evidence) -> list[float]:
    """G4: the same for GPT-2's size."""
    said = f"{_cost('G', 5, False, 4000)}, and {_cost('G', 5, True, 4000)}"
    raise Untested(f"Other hardware, so no verdict: {said}, from the measured steps.")


def cost_eeg(evidence: Evidence) -> list[float]:
    """E3: the same for EEG's."""
    said = f"{_cost('E', 5, False, 3418)}, and {_cost('E', 5, True, 3418)}"
    raise Untested(f"Other hardware, so no verdict: {said}, from the measured steps.")
