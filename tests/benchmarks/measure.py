"""The whole programme: what is timed beside what, and the table it becomes."""

import math
import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from . import memory
from .cases import Case, Plan
from .contestants import CONTESTANTS, OURS, REFERENCE
from .environments import Absent
from .referee import Entry, Timing, Worker, spread, take_turns

FLOAT = 4  # bytes
COPIED = 2**26  # numbers in a copy that no cache holds
PASSES = 7  # the optimiser reads weights, gradients and two moments, and writes all but the gradients
SCALING_ROUNDS = 3  # a third of the rounds: a curve forgives more than a table


class Benchmark:
    """Contestants that are there, and the rows and ratios measured so far."""

    def __init__(
        self, plan: Plan, *, peers: bool, rounds: int, turn: float, threads: int, device: str, logs: Path
    ) -> None:
        self.plan, self.rounds, self.turn, self.threads, self.device = plan, rounds, turn, threads, device
        self.asked, self.logs = peers, logs
        self.contestants: list[dict[str, Any]] = []
        self.workers: dict[str, Worker] = {}
        self.rows: list[dict[str, Any]] = []
        self.ratios: list[dict[str, Any]] = []
        self.flops: dict[str, float] = {}
        self.bandwidth = 0.0

    def __enter__(self) -> Self:
        """Start everybody who can be had, and note who cannot."""
        try:
            for name, contestant in CONTESTANTS.items():
                about = {"name": name, "package": contestant.package or "mfrlib", "options": contestant.options}
                try:
                    about |= self.start(name)
                except Absent as absent:
                    if contestant.package is None:
                        raise
                    about["absent"] = str(absent)
                    print(f"{name}: absent, {absent}", flush=True)
                self.contestants.append(about)
        except BaseException:
            self.close()
            raise
        return self

    def start(self, name: str) -> dict[str, str]:
        """Start a contestant's process and return its versions."""
        if CONTESTANTS[name].package and not self.asked:
            raise Absent("not asked for, PEERS=0")
        worker = Worker(name, self.threads, self.device, self.logs / f"{name}.log")
        self.workers[name] = worker
        ours = self.workers[OURS].versions["torch"]
        if worker.versions["torch"] != ours:
            self.workers.pop(name).close()
            raise Absent(f"has torch {worker.versions['torch']}, mfrlib {ours}")
        return worker.versions

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self.close()

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()

    @property
    def mine(self) -> list[Worker]:
        """Our two: with the kernels, and in plain PyTorch."""
        return [self.workers[name] for name in (OURS, REFERENCE)]

    @property
    def peers(self) -> list[Worker]:
        """The other libraries that are there."""
        return [worker for name, worker in self.workers.items() if name not in (OURS, REFERENCE)]

    def run(self) -> dict[str, Any]:
        """Measure everything and return it, ready for JSON."""
        self.peak()
        for size in self.plan.sizes:
            self.steps(size)
        self.penalty()
        self.limits()
        self.end_to_end(self.plan.sizes[0])
        for axis in self.plan.axes:
            self.scaling(axis)
        return {"contestants": self.contestants, "rows": self.rows, "ratios": self.ratios}

    def peak(self) -> None:
        """The machine's best rates in products of square matrices."""
        case = self.plan.sizes[0]
        for dtype in ("float32", "bfloat16", "int8"):
            options = [{"n": n, "dtype": dtype} for n in self.plan.squares]
            timings = self.turns("peak", [Entry(self.workers[OURS], "square", case, one) for one in options])
            self.flops[dtype] = max(2 * one.entry.options["n"] ** 3 / min(one.seconds) for one in timings)

    def limits(self) -> None:
        """The parts of a step of one SAE, and the penalty of five, beside what the processor can do at best.

        For a search that is the products in eight bits that hold all it looks at; for the optimiser, one pass over what it reads and writes.
        """
        ours, sizes = self.workers[OURS], self.plan.sizes
        copied = self.turns("peak", [Entry(ours, "copy", sizes[0], {"n": COPIED})], self.few)[0]
        self.bandwidth = 2 * COPIED * FLOAT / min(copied.seconds)
        entries = [Entry(ours, job, size) for size in sizes for job in ("step", "forward", "optimizer")]
        entries.append(Entry(ours, "penalty", self.plan.five))
        self.turns("limits", entries)
        for row, (_, job, case, _) in zip(self.rows[-len(entries) :], entries, strict=True):
            if job == "optimizer":
                row["limit_seconds"] = PASSES * FLOAT * case.parameters / self.bandwidth
            elif job != "step":
                operations = case.products if job == "forward" else case.matching
                row["limit_seconds"] = operations / self.flops["int8"]

    def steps(self, size: Case) -> None:
        """Training steps at one size: ours with one and more SAEs, the peers with one."""
        entries = [Entry(worker, "step", case) for case in self.plan.steps(size) for worker in self.mine]
        entries += [Entry(worker, "step", size) for worker in self.peers]
        timings = self.turns("steps", entries, said=size.size)
        ours = {one.entry.case: one for one in timings if one.entry.worker.name == OURS}
        for one in timings:
            if one.entry.worker.name != OURS:
                self.ratio("step", one, ours[one.entry.case])
        for case, one in ours.items():
            if case.penalty:
                self.ratio("penalty", one, ours[replace(case, penalty=False)])
            elif case.n_saes > 1:
                self.ratio("stack to as many single steps", one, ours[replace(case, n_saes=1)], case.n_saes)

    def penalty(self) -> None:
        """The penalty of five SAEs, beside ten plain matrix products and beside a whole step."""
        worker, case = self.workers[OURS], self.plan.five
        entries = [Entry(worker, job, case) for job in ("penalty", "products", "step")]
        entries += [Entry(worker, "step", replace(case, penalty=True))]
        value, products, step, both = self.turns("penalty", entries)
        self.ratio("penalty to ten products", value, products)
        self.ratio("penalty to step", value, step)
        self.ratio("step with penalty", both, step)
        hungarian = Entry(worker, "penalty", case, {"matching": "hungarian"})
        self.turns("penalty", [hungarian], rounds=1, warm=0, said="one-to-one, once")

    def end_to_end(self, size: Case) -> None:
        """Data and the whole loop, beside the bare step of two SAEs."""
        worker, two = self.workers[OURS], replace(size, n_saes=2)
        entries = [Entry(worker, "data", two), Entry(worker, "step", two)]
        entries += [
            Entry(worker, "train", replace(two, penalty=on), {"steps": self.plan.train_steps}) for on in (False, True)
        ]
        made, step, *loops = self.turns("loop", entries, self.few)
        self.ratio("data to step", made, step)
        for row in self.rows[-len(loops) :]:
            row["examples_per_second"] = size.batch * self.plan.train_steps / row["seconds"]["median"]

    def scaling(self, axis: str) -> None:
        """Training steps along one axis: ours, and the two fastest peers where one SAE is trained."""
        for case in self.plan.along(axis):
            workers = self.mine + (self.fastest() if axis != "n_saes" else [])
            self.turns(axis, [Entry(one, "step", case) for one in workers], self.few, said=str(getattr(case, axis)))

    @property
    def few(self) -> int:
        """Rounds for curves and long jobs."""
        return max(1, self.rounds // SCALING_ROUNDS)

    def fastest(self) -> list[Worker]:
        """The two peers, of different packages, with the shortest steps (geometric mean over the sizes)."""
        times = defaultdict(list)
        for row in self.rows:
            if row["table"] == "steps" and row["n_saes"] == 1 and "seconds" in row:
                times[row["contestant"]].append(math.log(row["seconds"]["median"]))
        whole = [one for one in self.peers if len(times[one.name]) == len(self.plan.sizes)]
        chosen: dict[str | None, Worker] = {}
        for one in sorted(whole, key=lambda worker: statistics.mean(times[worker.name])):
            chosen.setdefault(CONTESTANTS[one.name].package, one)
        return list(chosen.values())[:2]

    def turns(
        self, table: str, entries: list[Entry], rounds: int | None = None, *, warm: int = 1, said: str = ""
    ) -> list[Timing]:
        """Time entries side by side and add their rows to a table."""
        print(table, said, flush=True)
        timings = take_turns(entries, rounds or self.rounds, self.turn, warm)
        for one in timings:
            worker, job, case, options = one.entry
            row = {"table": table, "what": job, "contestant": worker.name, **case.as_dict(), **options}
            if one.error and worker.name in (OURS, REFERENCE):
                raise RuntimeError(f"{row}: {one.error}")
            if one.error:
                row["error"] = one.error
            else:
                row |= {"seconds": spread(one.seconds), "rounds": len(one.seconds)}
                if job == "step":
                    row["products_seconds"] = case.products / self.flops["float32"]
            self.rows.append(row)
        return timings

    def ratio(self, what: str, above: Timing, below: Timing, times: int = 1) -> None:
        """Add the ratio of a time to so many times another one, taken round by round."""
        if above.seconds and below.seconds:
            ratios = [a / (times * b) for a, b in zip(above.seconds, below.seconds, strict=True)]
            names = {"what": what, "contestant": above.entry.worker.name, **above.entry.case.as_dict()}
            self.ratios.append(names | {"ratio": spread(ratios)})


def memory_rows(plan: Plan, threads: int) -> list[dict[str, Any]]:
    """Peak memory of whole trainings, short and long."""
    print("memory", flush=True)
    return memory.measure(plan.sizes[0], plan.memory, threads)
