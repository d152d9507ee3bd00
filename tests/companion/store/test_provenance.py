"""What a run says of its origin."""

import subprocess
import sys
from pathlib import Path

from mfrbook.chapters.registry import MODULES
from mfrbook.store import provenance

# Parts of the package that an experiment imports and that decide none of its numbers.
BYSTANDERS = {"__init__", "config", "provenance", "runs", "experiments/__init__", "places", "extras", "data/identity"}


def hashed(experiment, monkeypatch):
    """The files that the source hash reads."""
    read, plain = [], Path.read_bytes

    def spy(path):
        read.append(path)
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    provenance.source_hash.__wrapped__(experiment)
    package = Path(provenance.__file__).parent
    return {path.relative_to(package).with_suffix("").as_posix() for path in read}


def imported(experiment):
    """The files of the package that importing an experiment loads."""
    code = f"import sys, {MODULES[experiment]}; print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('mfr')))"
    files = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    package = Path(provenance.__file__).parent
    return {Path(file).relative_to(package).with_suffix("").as_posix() for file in files}


def test_the_source_hash_covers_all_that_an_experiment_imports(monkeypatch):
    for experiment in ("synthetic", "gpt2", "end-to-end", "eeg", "denoising"):
        assert imported(experiment.replace("-", "_")) - BYSTANDERS == hashed(experiment, monkeypatch) - BYSTANDERS


def test_the_source_hash_of_a_recipe_covers_what_it_imports(monkeypatch):
    """Besides, `import mfrlib` loads the mathematics of SAEs, and the recipe takes two names from modules that load models and text."""
    unrelated = imported("synthetic") - {"randomness"} | {"pretrained", "data/text"}
    assert imported("tiny_lm") - BYSTANDERS - unrelated == hashed("tiny-lm", monkeypatch)


def test_commit_of_this_checkout_is_named():
    found = provenance.commit()
    assert found["commit"] is None or len(found["commit"]) == 40
