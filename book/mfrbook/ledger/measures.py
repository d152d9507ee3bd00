"""What answers each claim: a function per measure, from runs to one number per seed, positive on the paper's side."""

import inspect
from collections.abc import Callable, Mapping

from mfrbook.chapters.denoising import measures as denoising
from mfrbook.chapters.eeg import measures as eeg
from mfrbook.chapters.end_to_end import measures as end_to_end
from mfrbook.chapters.gpt2 import measures as gpt2
from mfrbook.chapters.gpt2.smollm2 import measures as smollm2
from mfrbook.chapters.synthetic import measures as synthetic
from mfrbook.chapters.synthetic import printed_measures as printed
from mfrbook.chapters.synthetic import reading_measures as readings
from mfrbook.chapters.synthetic.questions import group_measures as groups
from mfrbook.chapters.synthetic.questions import measures as questions
from mfrbook.chapters.synthetic.questions import released_measures as released
from mfrbook.chapters.synthetic.starts import kinds
from mfrbook.chapters.synthetic.starts import measures as starts
from mfrbook.experiments.evidence import Evidence
from mfrbook.ledger import costs

# By the name that claims.yaml has for it: the public functions of these modules that take evidence and nothing else.
MEASURES: Mapping[str, Callable[[Evidence], list[float]]] = (
    {
        name: found
        for module in (
            synthetic,
            gpt2,
            smollm2,
            eeg,
            end_to_end,
            denoising,
            questions,
            readings,
            released,
            printed,
            kinds,
            starts,
            groups,
            costs,
        )
        for name, found in inspect.getmembers(module, inspect.isfunction)
        if found.__module__ == module.__name__ and not name.startswith("_")
        if list(inspect.signature(found).parameters) == ["evidence"]
    }
    | dict(gpt2.MEASURES)
    | dict(smollm2.MEASURES)
    | dict(end_to_end.MEASURES)
    | dict(questions.MEASURES)
)
