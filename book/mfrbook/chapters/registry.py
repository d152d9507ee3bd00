"""The experiments by name: each a frozen config with profiles, and `run(config) -> Run`."""

import importlib
from collections.abc import Sequence
from types import ModuleType

from mfrlib.config import unknown_name

NAMES = ("synthetic", "coverage", "groups", "gpt2", "end-to-end", "end-to-end-likeness", "eeg", "denoising", "tiny-lm")
MODULES = {
    "synthetic": "mfrbook.chapters.synthetic.runs",
    "readings": "mfrbook.chapters.synthetic.readings",
    "questions": "mfrbook.chapters.synthetic.questions.runs",
    "groups": "mfrbook.chapters.synthetic.questions.groups",
    "coverage": "mfrbook.chapters.synthetic.questions.coverage",
    "gpt2": "mfrbook.chapters.gpt2.runs",
    "gpt2_controls": "mfrbook.chapters.gpt2.controls",
    "end_to_end": "mfrbook.chapters.end_to_end.runs",
    "end_to_end_likeness": "mfrbook.chapters.end_to_end.likeness",
    "end_to_end_narrow": "mfrbook.chapters.end_to_end.narrow",
    "eeg": "mfrbook.chapters.eeg.runs",
    "eeg_controls": "mfrbook.chapters.eeg.controls",
    "eeg_readings": "mfrbook.chapters.eeg.readings",
    "denoising": "mfrbook.chapters.denoising.runs",
    "tiny_lm": "mfrbook.chapters.tiny_lm.runs",
}


def load(name: str, known: Sequence[str] = NAMES) -> ModuleType:
    """Return an experiment's module by name; it has `configure`, `run` and `plan`.

    Raises
    ------
    ConfigError
        With the nearest name, if there is no such experiment.
    """
    if name not in known:
        raise unknown_name(name, known, "experiment")
    return importlib.import_module(MODULES[name.replace("-", "_")])
