"""The names at the top: there, imported when first asked for, and no more than they need."""

import ast
import subprocess
import sys

import pytest

import mfrlib
from mfrbook.store.provenance import PROJECT


def test_every_name_is_there_and_listed():
    assert set(mfrlib.__all__) <= set(dir(mfrlib))
    for name in mfrlib.__all__:
        assert getattr(mfrlib, name) is not None


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PROJECT / "mfrlib" / "__init__.py").read_text())
    block = next(one for one in tree.body if isinstance(one, ast.If))
    assert {alias.name for one in block.body for alias in one.names} == set(mfrlib.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Sae'"):
        mfrlib.Sae  # noqa: B018


@pytest.mark.parametrize(
    ("asked", "without"),
    [
        ("mfrlib.__version__; dir(mfrlib)", ("torch", "numpy", "scipy", "transformers", "mne")),
        ("mfrlib.TopKSAE", ("scipy", "transformers", "transformer_lens", "mne", "pandas", "sklearn")),
        ("mfrlib.train, mfrlib.load, mfrlib.load_foreign, mfrlib.export, mfrlib.evaluate, mfrlib.TensorBatches",
         ("transformers", "transformer_lens", "mne", "pandas", "sklearn", "matplotlib", "papermill")),
        ("config = mfrlib.TrainingConfig(n_features=4, k=1, steps=1, batch_size=2, device='cpu')\n"
         "import torch; mfrlib.train(config, torch.ones(8, 2), progress=False)",
         ("torch._dynamo",)),
        ("mfrlib.LanguageModel", ("transformers", "transformer_lens", "mne", "pandas")),
    ],
)  # fmt: skip
def test_a_name_imports_only_what_it_needs(asked, without):
    program = f"import sys, mfrlib\n{asked}\nprint(*sorted(set({without!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_star_imports_what_the_base_install_has():
    program = """
import sys
sys.modules["sklearn"] = None
from mfrlib import *
print(TopKSAE.__name__, "EEGDenoiser" in dir())
import mfrlib
try:
    mfrlib.EEGDenoiser
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "TopKSAE False", "EEGDenoiser needs the package sklearn: pip install 'mfrlib[eeg]'"
    ]  # fmt: skip
