"""What SAEs on a language model cost beside the bare model: activations read, and end-to-end training steps.

`measure` gives the numbers; run as a script, they are printed as JSON. Bare and with SAEs take turns, so that a busy
machine slows both.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from mfrbook.command.numbers import positive_integer
from mfrlib.language_models.end_to_end import Objective
from mfrlib.language_models.language_model import LanguageModel, next_token_loss
from mfrlib.models.relu_sae import ReLUSAE

LIMITS = {"activations": 1.2, "e2e step": 1.3}
"""How much longer than the bare model each may take."""


def measure(name: str = "tiny-lm", *, n_sequences: int = 8, rounds: int = 15, threads: int = 1) -> dict[str, Any]:
    """Return seconds of each, medians over rounds, and the ratios that have limits.

    The bare model's forward and backward pass is that of its own training, with the gradients of its weights.

    Parameters
    ----------
    name : str
        Language model.
    n_sequences : int
        Sequences of a pass, as long as the model's context.
    rounds : int
        Turns of each.
    threads : int
        Cores used.
    """
    torch.set_num_threads(threads)
    model = LanguageModel.load(name)
    tokens = torch.randint(model.vocabulary, (n_sequences, model.context), generator=torch.Generator().manual_seed(0))
    last, middle = f"blocks.{model.n_layers - 1}.hook_resid_post", f"blocks.{model.n_layers // 3}.hook_resid_pre"
    bare = model.bridge.original_model

    def forward() -> None:
        with torch.no_grad():
            model.logits(tokens)

    def forward_backward() -> None:
        """Train the bare model one step, short of the optimiser's."""
        bare.requires_grad_(True)
        next_token_loss(model.logits(tokens), tokens).mean().backward()
        bare.zero_grad()
        bare.requires_grad_(False)

    def backward_to_activation() -> None:
        """Leave out the gradients of the weights, as SAE training does."""
        x = model.activations(tokens, [middle])[middle].requires_grad_()
        next_token_loss(model.logits_with(tokens, {middle: x}), tokens).mean().backward()

    def step(kind: Any) -> Callable[[], None]:
        sae = ReLUSAE(1, model.d_model, 2 * model.d_model)
        objective = Objective(model, middle, kind, torch.ones(1), downstream=1.0, skip=1)

        def one() -> None:
            sae.zero_grad()
            objective(sae, tokens)[0].sum().backward()

        return one

    contestants = {
        "forward": forward,
        "activations": lambda: model.activations(tokens, [last]),
        "forward + backward": forward_backward,
        "forward + backward to the activation": backward_to_activation,
        "e2e step": step("e2e"),
        "downstream step": step("downstream"),
        "local step": step("local"),
    }
    taken: dict[str, list[float]] = {key: [] for key in contestants}
    for turn in range(rounds + 2):  # the first two turns warm up
        for key, call in contestants.items():
            start = time.perf_counter()
            call()
            if turn > 1:
                taken[key].append(time.perf_counter() - start)
    seconds = {key: statistics.median(values) for key, values in taken.items()}
    ratios = {
        "activations": seconds["activations"] / seconds["forward"],
        "e2e step": seconds["e2e step"] / seconds["forward + backward"],
    }
    return {
        "model": model.id, "sequences": n_sequences, "length": model.context, "threads": threads, "rounds": rounds,
        "seconds": seconds, "ratios": ratios, "limits": LIMITS,
    }  # fmt: skip


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.language_models", description=__doc__)
    parser.add_argument("--model", default="tiny-lm")
    parser.add_argument("--sequences", type=positive_integer, default=8)
    parser.add_argument("--rounds", type=positive_integer, default=15)
    parser.add_argument("--threads", type=positive_integer, default=os.cpu_count() or 1)
    options = parser.parse_args()
    found = measure(options.model, n_sequences=options.sequences, rounds=options.rounds, threads=options.threads)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
