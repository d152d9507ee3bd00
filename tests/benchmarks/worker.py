"""A contestant's process: makes jobs when told to, does them when told to, answers with their times.

Requests and answers are lines of JSON on standard input and output. What libraries print goes to standard error.
"""

import importlib.metadata
import json
import math
import os
import sys
import time
import traceback
from typing import Any

import torch

from .cases import Case
from .contestants import CONTESTANTS
from .jobs import JOBS, Once


def main(name: str, threads: int, device: str) -> None:
    """Serve until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    torch.set_num_threads(threads)
    contestant = CONTESTANTS[name]
    jobs: dict[str, Once] = {}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "make" in request:
            make, case = JOBS[request["make"]], Case.from_dict(request["case"])
            jobs[request["job"]] = make(case, contestant, device, **request["options"])
            return {}
        if "times" in request:
            return {"seconds": timed(jobs[request["job"]], request["times"], device)}
        jobs.clear()
        return {}

    versions = {"torch": torch.__version__, "version": importlib.metadata.version(contestant.package or "mfrlib")}
    answers.write(json.dumps(versions | {"engine": contestant.engine(device)}) + "\n")
    for line in sys.stdin:
        try:
            told = answer(json.loads(line))
        except Exception as error:  # a contestant that fails is a gap in the table, not the end of the run
            traceback.print_exc()
            told = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        answers.write(json.dumps(told) + "\n")


def timed(once: Once, times: int, device: str) -> float:
    """Return the seconds of one of `times`; one more before them fills the caches that others have emptied."""
    once()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        loss = once()
    synchronize(device)
    seconds = (time.perf_counter() - start) / times
    if loss is not None and not math.isfinite(loss):
        raise ArithmeticError(f"the loss is {float(loss)}")
    return seconds


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
