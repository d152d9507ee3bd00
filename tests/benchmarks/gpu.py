"""Times the two large runs of the papers on a GPU, with the repository and PyTorch alone: `OUT=folder python -m tests.benchmarks.gpu`.

It fits nine minutes: a run that would not is cut to the steps that do, and its time for all of them is extrapolated, which
its row says. `gpu.json` in the folder named by the environment variable `OUT` is written anew after each part, so that a run
that is cut off leaves what it has measured. `--toy` checks the machinery, on a processor too.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from .cases import Case, G, S

LIMIT = 510.0  # seconds for everything, below the nine minutes that a machine may be lent for
TRIAL = 100  # steps from which the time of a run is foreseen


def main() -> None:
    """Measure part after part, and write after each."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--toy", action="store_true", help="sizes that take seconds on a processor")
    toy = parser.parse_args().toy
    end = time.monotonic() + LIMIT
    stand_in()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not toy:
        parser.error("device: a CUDA GPU, and PyTorch finds none here; --toy runs on a processor")
    output = Path(os.environ.get("OUT", ".")) / "gpu.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name() if device == "cuda" else "none: a processor"
    found: dict[str, Any] = {"card": card, "torch": torch.__version__, "cuda": torch.version.cuda, "toy": toy}

    small = Case("toy", batch=64, d_in=16, n_features=48, k=4)
    s, s_steps = (replace(small if toy else S, n_saes=2, penalty=True), 20 if toy else 10_000)  # 100 M samples
    five = replace(replace(small, size="G") if toy else G, n_saes=5, k=(2, 3, 4, 5, 6) if toy else (6, 12, 18, 24, 30))
    g_steps = 20 if toy else 4000  # 2 M tokens
    parts = {
        "peak_flops": lambda: peak(256 if toy else 8192, device),
        "agreement": lambda: [agreement(case, device) for case in (s, five)],
        "S, two MFR SAEs": lambda: long_run(s, s_steps, device, end, found["peak_flops"]),
        "G, five SAEs": lambda: long_run(five, g_steps, device, end, found["peak_flops"]),
        "G, five MFR SAEs": lambda: long_run(replace(five, penalty=True), g_steps, device, end, found["peak_flops"]),
    }
    for part, measure in parts.items():
        found[part] = measure()
        print(part, json.dumps(found[part]), flush=True)
        output.write_text(json.dumps(found, indent=1) + "\n")


def stand_in() -> None:
    """Let the library be imported without what reads and writes files, shows progress and matches one-to-one: none is done here."""
    for name in ("tqdm", "scipy", "safetensors", "filelock"):
        if importlib.util.find_spec(name) is None:
            module = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None))
            sys.modules |= dict.fromkeys((name, f"{name}.optimize", f"{name}.torch"), module)


def peak(n: int, device: str) -> float:
    """Return the highest rate at which products of square matrices in float32 ran, in operations a second."""
    a, best = torch.randn(n, n, device=device), 0.0
    for _ in range(5):
        start = now(device)
        a @ a
        best = max(best, 2 * n**3 / (now(device) - start))
    return best


def agreement(case: Case, device: str) -> dict[str, Any]:
    """Hold loss, gradient and penalty on the device to the plain form in double precision on the processor."""
    import mfrlib
    from mfrlib.models.sparse import reference

    draws = torch.Generator().manual_seed(0)
    sae = mfrlib.TopKSAE(case.n_saes, case.d_in, case.n_features, case.k, generator=draws)
    x = torch.randn(min(case.batch, 500), case.d_in, generator=draws)
    weight, bias = (one.detach().double().requires_grad_() for one in (sae.weight, sae.bias))
    codes = reference(x.double(), weight, bias, sae.k, unit_rows=True, relu=False)
    loss, penalty = (codes.sums - x).square().sum(), mfrlib.mutual_feature_penalty(weight)
    there = sae.to(device)
    ours = there.squared_error(x.to(device)).error.sum(), mfrlib.mutual_feature_penalty(there.weight)
    gradients = torch.autograd.grad(loss + penalty, weight)[0], torch.autograd.grad(sum(ours), there.weight)[0]
    return {
        "size": case.size,
        "loss": abs(ours[0].item() / loss.item() - 1),
        "penalty": abs(ours[1].item() / penalty.item() - 1),
        "gradient": ((gradients[1].cpu() - gradients[0]).norm() / gradients[0].norm()).item(),
    }


class Noise:
    """A source of as many Gaussian rows as a run sees, all on the device."""

    def __init__(self, case: Case, steps: int, device: str) -> None:
        self.d_in, self.id, self.batch_size = case.d_in, "noise", case.batch
        draws = torch.Generator(device).manual_seed(0)
        self.x = torch.randn(steps * case.batch, case.d_in, generator=draws, device=device)

    def batch(self, step: int) -> torch.Tensor:
        """Return the batch of a step."""
        return self.x[step * self.batch_size : (step + 1) * self.batch_size]


def long_run(case: Case, steps: int, device: str, end: float, flops: float) -> dict[str, Any]:
    """Train the whole loop from data to weights, without a folder, in the faster of two forms: as it is, or compiled."""
    import mfrlib
    from mfrlib.data.synthetic import SyntheticData, SyntheticSpec

    source: Any = Noise(case, steps, device)
    if case.size != "G":
        active = min(36, case.n_features // 12)
        spec = SyntheticSpec(d_in=case.d_in, n_input_features=case.n_features, n_active=active)
        source = SyntheticData(spec, 0, case.batch, steps * case.batch, device)

    def train(n: int, compiled: bool) -> float:
        config = mfrlib.TrainingConfig(
            steps=n, batch_size=case.batch, n_saes=case.n_saes, n_features=case.n_features, k=case.k, log_every=1000,
            alpha=1.0 if case.penalty else 0.0, reinit="window" if case.penalty else "off", reinit_threshold=10.0,
            device=device, compiled=compiled,
        )  # fmt: skip
        start = now(device)
        mfrlib.train(config, source, progress=False)
        return now(device) - start

    trial, said = {}, {}
    for compiled in (False, True):
        try:
            train(min(steps, 5), compiled)  # compiles, and fills the caches
            trial[compiled] = train(min(steps, TRIAL), compiled)
        except Exception as error:  # no compiler, or a graph that it cannot make: the other form serves
            said["error"] = f"{type(error).__name__}: {str(error)[:200]}"
    if not trial:
        raise RuntimeError(f"{case}: {said['error']}")
    compiled = min(trial, key=trial.__getitem__)
    foreseen = trial[compiled] / min(steps, TRIAL)
    taken = max(1, min(steps, int(0.45 * (end - time.monotonic()) / foreseen)))
    seconds = train(taken, compiled) * steps / taken
    return {
        "steps": steps, "steps_taken": taken, "extrapolated": taken < steps, "seconds": seconds, "compiled": compiled,
        "trial_seconds": list(trial.values()), "share_of_peak": case.products * steps / seconds / flops, **said,
    }  # fmt: skip


def now(device: str) -> float:
    """Return the time once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
