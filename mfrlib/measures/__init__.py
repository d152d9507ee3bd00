"""What answers each claim: a function per measure, from runs to one number per seed, positive on the paper's side."""

import inspect
from collections.abc import Callable, Mapping

from mfrlib.evidence import Evidence
from mfrlib.measures import costs, denoising, eeg, end_to_end, gpt2, groups, questions, readings, synthetic

# By the name that claims.yaml has for it: the public functions of these modules that take evidence and nothing else.
MEASURES: Mapping[str, Callable[[Evidence], list[float]]] = {
    name: found
    for module in (synthetic, gpt2, eeg, end_to_end, denoising, questions, readings, groups, costs)
    for name, found in inspect.getmembers(module, inspect.isfunction)
    if found.__module__ == module.__name__ and not name.startswith("_")
    if list(inspect.signature(found).parameters) == ["evidence"]
}
