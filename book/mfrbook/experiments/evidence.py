"""The runs that measures speak of, loaded from the store."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mfrbook.chapters import registry
from mfrbook.store.runs import Run
from mfrbook.store.store import MissingRunsError


class Untested(Exception):
    """A claim that these runs cannot test; the message is the reason."""


class Evidence:
    """The runs of a profile, and of further values, loaded from the store when a measure asks for them."""

    def __init__(self, profile: str, values: Mapping[str, Any] | None = None) -> None:
        self.profile, self.values = profile, dict(values or {})
        self.runs: dict[str, Any] = {}
        """What `get` returns or raises, by name: what stands here is not loaded."""

    def get(self, name: str) -> Any:
        """Return the runs of a plan by its name in `mfrbook.chapters.registry`; never trains."""
        if name not in self.runs:
            collect = registry.load_plan(name).collect
            try:
                n_seeds = self.values.get("n_seeds")
                values = {name: value for name, value in self.values.items() if name != "n_seeds"}
                self.runs[name] = collect(self.profile, n_seeds=n_seeds, values=values, trains=False)
            except MissingRunsError as error:
                maker = "archive" if self.profile == "published" else f"book --profile {self.profile}"
                missing = len(str(error).splitlines())
                self.runs[name] = Untested(
                    f"{missing} runs are missing for profile {self.profile}; `mfr {maker}` computes them."
                )
        if isinstance(self.runs[name], Untested):
            raise self.runs[name]
        return self.runs[name]

    @property
    def seeds(self) -> list[dict[str, Run]]:
        """The synthetic section's runs, by condition, for each seed."""
        return self.get("synthetic")

    def of(self, measure: str, question: str | None = None) -> list[Mapping[str, Run]]:
        """Return the runs of each seed behind a measure, whose name begins with the experiment's if not synthetic.

        Where an experiment has runs of several sizes, `question` names those that the measure speaks of.
        """
        plans = {
            "denoise": "denoising", "lm": "gpt2", "smollm2": "gpt2-smollm2", "control": "gpt2-controls", "warmup": "gpt2-warm-up", "toy": "gpt2-released",
            "shorter": "eeg-controls", "transforms": "eeg-transforms", "e2e": "end-to-end",
            "real": "end-to-end-smollm2", "tuned": "end-to-end-tuned", "longer": "end-to-end-longer",
            "opponents": "eeg-regularisers",
        }  # fmt: skip
        prefix = measure.partition("_")[0]
        found = self.get(plans.get(prefix, prefix if prefix in registry.PLANS else "synthetic"))
        asked = [one for one in found if question is None or one.question == question]
        return [one if isinstance(one, Mapping) else {"run": one.run} for one in asked]

    def samples(self, measure: str, question: str | None = None) -> int | None:
        """Return the samples that each run behind a measure saw; `question` as for `of`."""
        return next(iter(self.of(measure, question)[0].values())).results["samples"]


def mean(run: Run, name: str) -> float:
    """Return a result's mean over the SAEs of a run."""
    return float(np.mean(run.results[name]))
