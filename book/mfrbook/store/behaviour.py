"""Which behaviour of the code an archived run was made with: a number an experiment, raised on purpose, never by refactoring.

As long as an experiment's probes (`mfr probes`) give the committed numbers, its archived runs stand for what today's code
would compute, whatever moved, split or got faster. Who changes numbers on purpose raises the experiment's number here:
archived runs of the older number are stale, and so are those built on them.
"""

from collections.abc import Mapping
from typing import Any

BEHAVIOUR: Mapping[str, int] = {
    "synthetic": 1,
    "coverage": 1,
    "groups": 1,
    "starts": 1,
    "gpt2": 1,
    "gpt2-features": 1,
    "end-to-end": 1,
    "end-to-end-likeness": 1,
    "eeg": 1,
    "eeg-transforms": 1,
    "denoising": 1,
    "tiny-lm": 1,
}
BUILDS_ON: Mapping[str, tuple[str, ...]] = {
    "coverage": ("synthetic",),
    "groups": ("synthetic",),
    "starts": ("synthetic",),
    "eeg-transforms": ("eeg",),
    "end-to-end-likeness": ("end-to-end",),
    "gpt2-features": ("gpt2",),
}
"""Experiments whose runs are worked out from runs, or by the code, of others."""

SOURCES: Mapping[str, Mapping[str, int]] = {
    "synthetic": {"8a53f023ddfd1164": 1},
    "coverage": {"a8e3ca482b3026a6": 1},
    "groups": {"f4e55ae091d9bfb5": 1},
    "gpt2": {"e15af551204dca26": 1},
    "end-to-end": {"a62dafff66a274ed": 1},
    "end-to-end-likeness": {"e5789e3dff18dfb2": 1},
    "eeg": {"5bea8d2c75d692e2": 1},
    "denoising": {"b381a5a203372a55": 1},
}
"""Experiment → hash of its source, by which runs were marked before probes were → the behaviour it had."""


def marks(experiment: str) -> dict[str, Any]:
    """Return what a run of today's code keeps in its provenance: its `behaviour`, and that of what it is `built_on`."""
    found: dict[str, Any] = {"behaviour": BEHAVIOUR.get(experiment, 1)}
    if on := BUILDS_ON.get(experiment):
        found["built_on"] = {name: BEHAVIOUR[name] for name in on}
    return found


def is_current(experiment: str, provenance: Mapping[str, Any]) -> bool:
    """Tell whether a run was made with today's behaviour of its experiment, and of what it is built on."""
    now = marks(experiment)
    return {name: provenance.get(name) for name in now} == now


def adopted(experiment: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of a run that was marked by the hash of its source, marked by behaviour instead.

    Raises
    ------
    ValueError
        If the hash is none of those whose behaviour is known.
    """
    if "behaviour" in provenance:
        return dict(provenance)
    known = SOURCES.get(experiment, {})
    source = str(provenance.get("source"))
    if source not in known:
        raise ValueError(
            f"made by source {source!r} of {experiment}, whose behaviour is not known; known: {', '.join(known) or 'none'}. "
            f"Compute the run again"
        )
    rest = {name: value for name, value in provenance.items() if name != "source"}
    built_on = dict.fromkeys(BUILDS_ON.get(experiment, ()), 1)
    return rest | {"behaviour": known[source]} | ({"built_on": built_on} if built_on else {})
