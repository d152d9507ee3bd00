"""The experiments by name: each a frozen config with profiles, and `run(config) -> Run`."""

import importlib
from collections.abc import Mapping
from types import ModuleType

from mfrlib.config import unknown_name

RUNS = {
    "synthetic": "synthetic.runs",
    "coverage": "synthetic.questions.coverage",
    "groups": "synthetic.questions.groups",
    "starts": "synthetic.starts.runs",
    "gpt2": "gpt2.runs",
    "gpt2-features": "gpt2.smollm2.looking",
    "end-to-end": "end_to_end.runs",
    "end-to-end-likeness": "end_to_end.likeness",
    "eeg": "eeg.runs",
    "eeg-transforms": "eeg.transforms",
    "denoising": "denoising.runs",
    "tiny-lm": "tiny_lm.runs",
}
"""Where each experiment lies."""
NAMES = tuple(RUNS)
PLANS = {
    "synthetic": "synthetic.runs",
    "readings": "synthetic.readings",
    "released": "synthetic.questions.released",
    "printed": "synthetic.printed",
    "always-on": "synthetic.questions.always_on",
    "questions": "synthetic.questions.runs",
    "coverage": "synthetic.questions.coverage",
    "groups": "synthetic.questions.groups",
    "starts": "synthetic.starts.runs",
    "gpt2": "gpt2.plan",
    "gpt2-controls": "gpt2.controls",
    "gpt2-warm-up": "gpt2.warm_up",
    "gpt2-released": "gpt2.released",
    "gpt2-smollm2": "gpt2.smollm2.runs",
    "gpt2-looking": "gpt2.smollm2.looking",
    "end-to-end": "end_to_end.plan",
    "end-to-end-likeness": "end_to_end.likeness",
    "end-to-end-rates": "end_to_end.sizes.rates",
    "end-to-end-narrow": "end_to_end.sizes.narrow",
    "end-to-end-tuned": "end_to_end.sizes.tuned",
    "end-to-end-longer": "end_to_end.sizes.longer",
    "end-to-end-smollm2": "end_to_end.sizes.smollm2",
    "end-to-end-trials": "end_to_end.sizes.trials",
    "end-to-end-equal": "end_to_end.sizes.equal",
    "eeg": "eeg.plan",
    "eeg-controls": "eeg.opponents.longer",
    "eeg-readings": "eeg.readings",
    "eeg-regularisers": "eeg.opponents.regularisers",
    "eeg-transforms": "eeg.transforms",
    "denoising": "denoising.plan",
}
"""Where it is said which runs a part of a notebook, or a measure, asks for."""


def load(name: str) -> ModuleType:
    """Return an experiment's module by name; it has `configure` and `run`.

    Raises
    ------
    ConfigError
        With the nearest name, if there is no such experiment.
    """
    return _load(RUNS, name, "experiment")


def load_plan(name: str) -> ModuleType:
    """Return the module that says which runs are asked for under a name: `asked` plans them, `collect` returns them.

    Raises
    ------
    ConfigError
        With the nearest name, if there is no such module.
    """
    return _load(PLANS, name, "plan")


def _load(modules: Mapping[str, str], name: str, what: str) -> ModuleType:
    if name not in modules:
        raise unknown_name(name, modules, what)
    return importlib.import_module(f"mfrbook.chapters.{modules[name]}")
