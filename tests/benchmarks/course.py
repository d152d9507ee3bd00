"""What the penalty costs over a whole training, and how many rows are searched for their matches on the way.

Five SAEs are trained with the penalty as the chapters train them, on the chapters' data. Between the steps that count, the
same five take steps without the penalty: with the search as it is here, and, in a process of its own, with the search in fp32.
The results join the processor's part of `book/results/performance.json`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.chapters.gpt2.activation_cache import cached
from mfrbook.chapters.gpt2.smollm2 import runs as smollm2
from mfrbook.command.numbers import positive_integer
from mfrbook.experiments.archived import default_data
from mfrbook.store import provenance
from mfrlib.data.batches import Batches
from mfrlib.environment import cache_folder
from mfrlib.language_models.activations import ActivationBatches, ModelReader
from mfrlib.method.penalty import warmup
from mfrlib.models.kernels import compiled
from mfrlib.randomness import WEIGHTS, generator
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import reconstruct
from mfrlib.training.state import TrainingState

from . import __main__ as command
from .cases import Case
from .contestants import OURS
from .referee import Worker

STEPS = 4000
BLOCK = 100  # steps between two looks
BESIDE = 5  # steps without the penalty in each block


def language_model() -> tuple[TrainingConfig, Batches]:
    """Return the penalty's run on SmolLM2 of seed 0, and its activations."""
    config = smollm2.config_of("penalty", 0)
    opened = gpt2.open_text(config)
    reader = cached(ModelReader(opened.model, opened.train, [config.hook]), cache_folder() / "activations")
    return config, ActivationBatches(reader, config.hook, batch_size=config.batch_size, seed=config.seed)


def recordings() -> tuple[TrainingConfig, Batches]:
    """Return the penalty's run on EEG of seed 0, and its windows."""
    config = eeg.configure({"alpha": "calibrate", "data": default_data("published")}, "published")
    return config, eeg.open_split(config, "train")


RUNS: dict[str, Callable[[], tuple[TrainingConfig, Batches]]] = {"SmolLM2": language_model, "EEG": recordings}


class Stack:
    """Five SAEs that take steps as `mfrlib.training.loop.train` has them."""

    def __init__(self, config: TrainingConfig, d_in: int, *, penalised: bool) -> None:
        sae = config.new_stack(d_in, generator(config.seed, WEIGHTS, 0))
        self.state, self.penalised, self.step = TrainingState(sae, config), penalised, 0

    def take(self, x: torch.Tensor) -> float:
        """Take one step and return its seconds."""
        start, state = time.perf_counter(), self.state
        own = reconstruct(state.sae, x)[0]
        total = own.sum()
        if self.penalised:
            penalty = state.penalty()
            if state.alpha is None:
                state.alpha = state.config.first_alpha(own.mean().item(), penalty.item())
            total = total + state.alpha * warmup(self.step, state.config.warmup) * penalty
        gradients = torch.autograd.grad(total, [*state.sae.parameters()])
        state.optimizer_step(gradients, state.config.learning_rate_at(self.step))
        self.step += 1
        return time.perf_counter() - start


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a worker's answer unless it tells of an error."""
    if "error" in answer:
        raise RuntimeError(f"the steps in fp32 could not be timed: {answer['error']}")
    return answer


def measure(
    name: str, config: TrainingConfig, source: Batches, worker: Worker, steps: int, block: int
) -> dict[str, Any]:
    """Return what each block of steps took, a step, and which share of its rows was searched."""
    k = tuple(config.k) if isinstance(config.k, Sequence) else config.k
    case = Case(name, config.batch_size, source.d_in, config.n_features, k, config.n_saes)
    with_it, without = (Stack(config, source.d_in, penalised=on) for on in (True, False))
    told(worker.ask(job=name, make="step", case=case.as_dict(), options={}))
    rows, beside, asked, searched = [], max(1, min(BESIDE, block)), 0, 0
    for start in tqdm(range(0, steps, block), desc=name, unit="block"):
        batches = [source.batch(step) for step in range(start, min(start + block, steps))]
        taken = [with_it.take(x) for x in batches]
        matches = with_it.state.matches
        rows.append({
            "step": start + len(batches), "with": statistics.mean(taken),
            "without": statistics.mean([without.take(x) for x in batches[:beside]]),
            "fp32": told(worker.ask(job=name, times=beside))["seconds"],
            "searched": (matches.searched - searched) / max(1, matches.asked - asked),
        })  # fmt: skip
        asked, searched = matches.asked, matches.searched
    worker.ask()
    return case.as_dict() | {"alpha": with_it.state.alpha, "searched": searched / max(1, asked), "blocks": rows}


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.course", description=__doc__)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="which (default: all)")
    parser.add_argument("--threads", type=positive_integer, default=os.cpu_count() or 1, help="default: all cores")
    parser.add_argument("--steps", type=positive_integer, default=STEPS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compiled.keep_memory()
    document, before = json.loads(command.RESULT.read_text()), provenance.commit()
    for name in options.runs:
        with tempfile.TemporaryDirectory() as logs, Worker(
            OURS, options.threads, "cpu", Path(logs) / "fp32.log", {"MFR_NATIVE": "fp32"}
        ) as worker:  # fmt: skip
            found = measure(name, *RUNS[name](), worker, options.steps, BLOCK)
        document["cpu"].setdefault("course", {})[name] = found | {
            "made": command.circumstances("tests.benchmarks.course", options.threads, before)
        }
        command.RESULT.write_text(command.text(document))


if __name__ == "__main__":
    main()
