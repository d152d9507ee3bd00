"""A contestant's process: prepares a case when told to, takes steps when told to, answers with their times.

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

N_BATCHES = 4  # taken in turn: no batch is still in the cache because the last step used it


def main(name: str, threads: int, device: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(threads)

    def answer(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    contestant = CONTESTANTS[name]
    package = contestant.package or "mfrlib"
    answer({"torch": torch.__version__, "version": importlib.metadata.version(package), "threads": torch.get_num_threads()})
    work: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "case" in request:
                work = None
                work = Steps(Case(**request["case"]), contestant, device)
                answer({"ready": True})
            else:
                answer({"seconds": work.run(request["run"])})
        except Exception as error:  # a contestant that fails is a row of the table, not the end of the run
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {str(error)[:200]}"})


class Steps:
    """One contestant's training steps of one case."""

    def __init__(self, case: Case, contestant: Any, device: str) -> None:
        draws = torch.Generator().manual_seed(0)
        k = tuple(case.k) if isinstance(case.k, list) else case.k
        case = Case(**{**case.as_dict(), "k": k})
        self.device, self.number = device, 0
        self.batches = [torch.randn(case.batch, case.d_in, generator=draws).to(device) for _ in range(N_BATCHES)]
        self.step = contestant.build(case, self.batches, device)

    def one(self) -> Any:
        loss = self.step(self.batches[self.number % N_BATCHES])
        self.number += 1
        return loss

    def run(self, n: int) -> float:
        """Return the seconds of one step, a mean over n; a step before them warms the caches that others have used."""
        self.one()
        self.synchronize()
        start = time.perf_counter()
        for _ in range(n):
            loss = self.one()
        self.synchronize()
        seconds = (time.perf_counter() - start) / n
        if not math.isfinite(float(loss)):
            raise ArithmeticError(f"loss is {float(loss)} after {self.number} steps")
        return seconds

    def synchronize(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
