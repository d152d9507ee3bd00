"""How much memory training takes, and that it does not grow: the largest resident size of fresh processes."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from .cases import Case
from .environments import PROJECT

# The system's own record of a process that is about to end; what `wait` tells would count the parent's memory too.
CHILD = """
import json, sys
import mfrbook.chapters.synthetic.runs
from mfrbook.command import cli
status = cli.main(sys.argv[1:]) if sys.argv[1:] else 0
with open("/proc/self/status") as file:
    (peak,) = [line.split()[1] for line in file if line.startswith("VmHWM")]
print("\\n" + json.dumps({"status": status, "bytes": 1024 * int(peak)}))
"""


def measure(case: Case, steps: tuple[int, ...], threads: int) -> list[dict[str, Any]]:
    """Return a row for each number of steps of `mfr train synthetic`, and for a process that only imports what it needs."""
    n_saes = max(case.n_saes, 2)  # the experiment compares SAEs
    parameters = n_saes * case.n_features * (case.d_in + 1)
    values = {
        "batch_size": case.batch, "d_in": case.d_in, "n_features": case.n_features, "n_input_features": case.n_features,
        "n_active": min(36, case.n_features // 12), "n_saes": n_saes, "k": case.k,
    }  # fmt: skip
    rows = [{"steps": 0, "bytes": peak([], threads)}]
    for n in steps:
        pairs = [part for name, value in (values | {"steps": n}).items() for part in ("-p", f"{name}={value}")]
        rows.append({"steps": n, "bytes": peak(["train", "synthetic", *pairs], threads)})
    # Weights, their gradient and the optimiser's two moments, fp32.
    return [
        {**case.as_dict(), "n_saes": n_saes, **row, "weights_bytes": 16 * parameters * bool(row["steps"])}
        for row in rows
    ]


def peak(arguments: list[str], threads: int) -> int:
    """Return the largest resident size, in bytes, of a fresh process that runs `mfr` with these arguments."""
    with tempfile.TemporaryDirectory() as store:
        variables = os.environ | {"MFR_CACHE": store, "OMP_NUM_THREADS": str(threads)}
        line = [sys.executable, "-c", CHILD, *arguments]
        done = subprocess.run(line, cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"mfr {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["status"]:
        raise RuntimeError(f"mfr {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    return told["bytes"]
