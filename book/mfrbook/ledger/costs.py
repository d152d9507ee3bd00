"""What the papers' runs would cost here: no verdict, since the hardware is another."""

import json

from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.store.provenance import PROJECT


def _cost(size: str, n_saes: int, steps: int, course: str = "") -> str:
    """Say what a run of the paper's size would cost on the machine that was benchmarked, from the measured step.

    `course`: the training over which it was measured how much longer the penalty takes; its first steps take longer than its mean.
    """
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
        "penalty": False,
    }
    row = next(row for row in timed["rows"] if wanted.items() <= row.items())
    machine = timed["made"]["machine"]
    minutes = max(1, round(steps * row["seconds"]["median"] / 60))
    said = f"{minutes} minute{'s' * (minutes > 1)} for {steps:,} steps of {n_saes} SAE{'s' * (n_saes > 1)}"
    if blocks := timed.get("course", {}).get(course, {}).get("blocks"):
        longer = sum(one["with"] for one in blocks) / sum(one["without"] for one in blocks)
        said += f", with the penalty {longer:.1f} times as long over a whole training"
    return f"Other hardware, so no verdict: at the benchmark's pace {said}, on {machine['cores']} cores of {machine['processor']}."


def cost_synthetic(evidence: Evidence) -> list[float]:
    """S9: a cost, on other hardware than the paper's."""
    raise Untested(_cost("S", 1, 10_000))


def cost_gpt2(evidence: Evidence) -> list[float]:
    """G4: the same for GPT-2's size."""
    raise Untested(_cost("G", 5, 4000, "SmolLM2"))


def cost_eeg(evidence: Evidence) -> list[float]:
    """E3: the same for EEG's."""
    raise Untested(_cost("E", 5, 3418, "EEG"))
