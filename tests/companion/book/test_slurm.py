"""Jobs on a real SLURM, where one answers here and Snakemake has its plugin for it; one node on loopback is enough."""

import json
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from tests.companion.book.test_snakefile import Copy

KEY = "993da9c8bca349f4"  # of profile quick: 400 steps, a checkpoint after 200
# As for a cluster of one's own: these nodes have fewer cores, and no accounts are kept.
MINE = ("--profile", "book/profiles/slurm", "--set-threads", "run=1", "--jobs", "2", "--slurm-status-command", "squeue")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("needs Snakemake's plugin: pip install snakemake-executor-plugin-slurm")
    if not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("needs a SLURM that answers here")
    return Copy(tmp_path_factory.mktemp("cluster") / "project")


def wait_for(holds, seconds=300):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_job_that_is_killed_is_sent_again_and_goes_on_from_its_checkpoint(cluster):
    marker, log = (
        cluster.store / "done" / "synthetic" / f"{KEY}.json",
        cluster.store / "logs" / "synthetic" / f"{KEY}.log",
    )
    line = [sys.executable, "-m", "snakemake", "--snakefile", "book/Snakefile", *MINE, str(marker)]
    told = cluster.folder / "told.log"
    with told.open("w") as output:
        calling = subprocess.Popen(
            [*line, "--config", "profile=quick"],
            cwd=cluster.folder,
            env=cluster.variables,
            stdout=output,
            stderr=output,
        )
        wait_for((cluster.store / "unfinished" / KEY / "checkpoint.safetensors").exists)
        assert subprocess.run(["pkill", "-KILL", "-f", f"mfrbook compute .*{KEY}"]).returncode == 0
        assert calling.wait(600) == 0, told.read_text()
    assert "Trying to restart job" in told.read_text()
    assert "200/400" in log.read_text(), "it did not begin at its checkpoint"
    assert json.loads(marker.read_text())["entry"].endswith(KEY)


@pytest.mark.slow
def test_two_processes_of_one_job_train_one_stack(cluster):
    """As the page says it, within a job: its run is that of one process, up to rounding."""
    pairs = ["-p", "alpha=3", "-p", "steps=12", "-p", "warmup=3"]  # few steps: rounding grows with them
    found = []
    for n in (1, 2):
        store = cluster.folder / f"store-{n}"
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={n}", "-m", "mfrbook", "train"]
        line = ["srun", "-n1", f"-c{n}", *command, "synthetic", "--profile", "smoke", *pairs]
        variables = cluster.variables | {"MFR_CACHE": str(store), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, cwd=cluster.folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(next(store.glob("synthetic/*/run.json")).read_text())["results"])
    assert found[0]["mmcs_input"] == pytest.approx(found[1]["mmcs_input"], rel=1e-4)
