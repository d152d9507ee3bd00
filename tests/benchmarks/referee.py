"""Lets contestants take turns: one process each, of which only one computes at a time."""

import json
import os
import select
import signal
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from .cases import Case
from .contestants import CONTESTANTS
from .environments import PROJECT, Absent, interpreter

PATIENCE = 600  # seconds after which a silent contestant is given up


class Worker:
    """A contestant's process, stopped except while it answers.

    Between turns it gets SIGSTOP: threads of an idle OpenMP pool spin for a while, and a library may keep threads of its
    own, either of which would take time from whoever is being timed.

    Raises
    ------
    Absent
        If the process cannot be had, or has another torch than ours.
    """

    def __init__(self, name: str, threads: int, device: str, log: Path, variables: Mapping[str, str] = {}) -> None:
        contestant = CONTESTANTS[name]
        python = interpreter(contestant.package)
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        alone = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [python, "-m", "tests.benchmarks.worker", name, str(threads), device],
                cwd=PROJECT,
                env=alone | counts | contestant.variables | dict(variables),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
            )  # fmt: skip
        self.name, self.log = name, log
        try:
            self.versions = self._answer()
            self._stop()
        except BaseException:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request while everybody else is stopped, and return the answer."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return self._answer()
        except (Absent, OSError) as error:
            self.close()  # a late answer must not be taken for that to the next request
            return {"error": str(error)}
        finally:
            self._stop()

    def _answer(self) -> dict[str, Any]:
        stream = self.process.stdout
        assert stream is not None
        line = stream.readline() if select.select([stream], [], [], PATIENCE)[0] else ""
        if line:
            return json.loads(line)
        said = self.log.read_text().strip().splitlines()
        raise Absent(f"no answer: {said[-1][:300] if said else 'it said nothing'}")

    def _stop(self) -> None:
        """Return when all threads of the process stand still, or it has ended."""
        self.process.send_signal(signal.SIGSTOP)
        if self.process.returncode is None:
            _, status = os.waitpid(self.process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                self.process.returncode = os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End the process, stopped or not."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Entry(NamedTuple):
    """One line of a table to be: who does which job of which size."""

    worker: Worker
    job: str
    case: Case
    options: dict[str, Any] = {}  # noqa: RUF012 - never written


class Timing(NamedTuple):
    """What an entry took: seconds in each round, or why there are none."""

    entry: Entry
    seconds: list[float]
    error: str = ""


def take_turns(entries: list[Entry], rounds: int, turn: float, warm: int = 1) -> list[Timing]:
    """Time entries side by side, round by round, each for about `turn` seconds; `warm` rounds before do not count.

    What disturbs the machine for a while then disturbs everybody, and a ratio taken within a round leaves it out. The
    order moves on by one from round to round, so that nobody always follows the same neighbour.
    """
    timings = [Timing(entry, []) for entry in entries]
    times = dict.fromkeys(range(len(entries)), 1)

    def ask(number: int, **request: Any) -> float | None:
        answer = entries[number].worker.ask(job=str(number), **request)
        if "error" in answer:
            timings[number] = Timing(entries[number], [], answer["error"])
            del times[number]
        return answer.get("seconds")

    for number, entry in enumerate(entries):
        ask(number, make=entry.job, case=entry.case.as_dict(), options=entry.options)
    for played in range(-warm, rounds):
        order = sorted(times, key=lambda number: (number - played) % len(entries))
        for number in order:
            seconds = ask(number, times=times[number])
            if seconds is not None and played < 0:
                times[number] = min(100, max(1, round(turn / seconds)))
            elif seconds is not None:
                timings[number].seconds.append(seconds)
    for worker in {id(entry.worker): entry.worker for entry in entries}.values():
        worker.ask()
    return timings


def spread(values: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": median, "q1": q1, "q3": q3}
