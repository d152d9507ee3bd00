"""The runs that measures speak of, loaded from the store."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mfrbook.chapters.registry import MODULES
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.store.runs import Run
from mfrbook.store.store import MissingRunsError

ASKED = {
    "questions_binary": questions.MANY,
    "questions_early": questions.MANY,
    "questions_early_tenth": questions.SWITCHES,
    "questions_number": questions.SAES,
    "questions_number_pull": questions.SAES,
    "questions_centring": questions.CENTRED,
    "questions_centring_or_penalty": questions.CENTRED,
    "questions_samples": questions.CENTRED,
    "questions_sum": questions.SWITCHES,
    "questions_one_to_one": questions.CENTRED,
    "questions_one_to_one_tenth": questions.SWITCHES,
    "questions_one_to_one_loss": questions.CENTRED,
    "questions_one_to_one_longer": questions.SWITCHES,
    "questions_one_to_one_pair": questions.SWITCHES,
    "questions_one_to_one_pair_loss": questions.SWITCHES,
    "questions_one_to_one_longer_loss": questions.SWITCHES,
    "questions_centred_sum": questions.SWITCHES,
    "questions_centred_one_to_one": questions.SWITCHES,
    "questions_true": questions.CENTRED,
    "questions_true_penalty": questions.CENTRED,
    "questions_true_one_to_one": questions.CENTRED,
    "questions_shared": questions.CENTRED,
    "questions_shared_penalty": questions.CENTRED,
    "questions_shared_one_to_one": questions.CENTRED,
    "questions_shared_centred": questions.CENTRED,
    "coverage_one_to_one": questions.CENTRED,
    "coverage_centred_one_to_one": questions.SWITCHES,
}
"""Which of the questions' runs a measure speaks of, since they differ in size."""


class Untested(Exception):
    """A claim that these runs cannot test; the message is the reason."""


class Evidence:
    """The runs of a profile, and of further values, loaded from the store when a measure asks for them."""

    def __init__(self, profile: str, values: Mapping[str, Any] | None = None) -> None:
        self.profile, self.values = profile, dict(values or {})
        self._loaded: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return the runs that a module of `mfrbook.experiments.conditions` collects, by its name; never trains."""
        if name not in self._loaded:
            collect = importlib.import_module(MODULES[name]).collect
            try:
                n_seeds = self.values.get("n_seeds")
                values = {name: value for name, value in self.values.items() if name != "n_seeds"}
                self._loaded[name] = collect(self.profile, n_seeds=n_seeds, values=values, trains=False)
            except MissingRunsError as error:
                maker = "archive" if self.profile == "paper" else f"book --profile {self.profile}"
                missing = len(str(error).splitlines())
                self._loaded[name] = Untested(
                    f"{missing} runs are missing for profile {self.profile}; `mfr {maker}` computes them."
                )
        if isinstance(self._loaded[name], Untested):
            raise self._loaded[name]
        return self._loaded[name]

    @property
    def seeds(self) -> list[dict[str, Run]]:
        """The synthetic section's runs, by condition, for each seed."""
        return self.get("synthetic")

    def of(self, measure: str) -> list[Mapping[str, Run]]:
        """Return the runs of each seed behind a measure, whose name begins with the experiment's if not synthetic."""
        prefixes = {
            "eeg": "eeg", "denoise": "denoising", "lm": "gpt2", "control": "gpt2_controls", "shorter": "eeg_controls", "e2e": "end_to_end",
            "groups": "groups", "questions": "questions", "readings": "readings", "coverage": "coverage",
        }  # fmt: skip
        found = self.get(prefixes.get(measure.partition("_")[0], "synthetic"))
        asked = [one for one in found if measure not in ASKED or one.question == ASKED[measure]]
        return [one if isinstance(one, Mapping) else {"run": one.run} for one in asked]

    def samples(self, measure: str) -> int | None:
        """Return the samples that each run behind a measure saw."""
        return next(iter(self.of(measure)[0].values())).results["samples"]


def treated(runs: Mapping[str, Run]) -> Run:
    """Return the run under MFR, which is the penalty alone where the threshold was never reached."""
    return runs["mfr"] if "mfr" in runs else runs["penalty"]


def untreated(runs: Mapping[str, Run]) -> Run:
    """Return the run without penalty that re-initialises as the one under MFR does."""
    return runs.get("reinit", runs["baseline"])


def mean(run: Run, name: str) -> float:
    """Return a result's mean over the SAEs of a run."""
    return float(np.mean(run.results[name]))
