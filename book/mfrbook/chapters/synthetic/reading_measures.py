"""What the penalty does in the released code taken whole (R1), where SAEs differ in k."""

import numpy as np

from mfrbook.experiments.evidence import Evidence

RELEASED = "released-oct24"


def readings_released_first(evidence: Evidence) -> list[float]:
    """Q13: rise of MMCS with input features by the penalty, of the SAE whose k is the number of active features."""
    return _rise(evidence, 0)


def readings_released_second(evidence: Evidence) -> list[float]:
    """Q13b: the same of the SAE whose k is twice that."""
    return _rise(evidence, 1)


def _rise(evidence: Evidence, sae: int) -> list[float]:
    found = [row.run for row in evidence.get("readings") if row.choice.partition(",")[0] == RELEASED]
    without, penalised = (
        np.array([run.results["mmcs_input"][sae] for run in found if bool(run.config["alpha"]) is penalty])
        for penalty in (False, True)
    )
    return (penalised - without).tolist()
