"""SAEs in the form of the Hugging Face hub, in a local folder: nothing here asks a network."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("huggingface_hub")

from safetensors.torch import load_file, save_file

from mfrlib.hub import HubTopKSAE
from mfrlib.models.sae import TopKSAE
from mfrlib.models.sae_files import SAEFileError

FORMS = [{}, {"k": [2, 5]}, {"decoder": "raw", "activation": "relu", "decoder_bias": True}]


def make(**options):
    draws = torch.Generator().manual_seed(0)
    sae = TopKSAE(2, 6, 11, **{"k": 3, **options}, generator=draws)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws)
    return sae


@pytest.fixture
def x(draws):
    return torch.randn(30, 6, generator=draws)


@pytest.mark.parametrize("form", FORMS)
def test_a_stack_and_one_of_it_come_back_from_a_folder(form, x, tmp_path):
    for name, sae in (("whole", make(**form)), ("one", make(**form)[1])):
        HubTopKSAE.of_stack(sae).save_pretrained(tmp_path / name)
        found = HubTopKSAE.from_pretrained(str(tmp_path / name))
        assert found.settings == sae.settings
        for mine, theirs in zip(sae(x), found(x), strict=True):
            assert torch.equal(mine, theirs)
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["d_in"] == 6


def test_who_reads_the_configuration_reads_the_weights(tmp_path):
    HubTopKSAE.of_stack(make()).save_pretrained(tmp_path)
    assert len({(tmp_path / name).stat().st_mode for name in ("config.json", "model.safetensors")}) == 1


def test_a_model_card_says_what_it_is(tmp_path):
    HubTopKSAE.of_stack(make()).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "library_name: mfrlib" in card
    assert "sparse-autoencoder" in card


def test_it_is_a_topk_sae_made_and_trained_as_ever(x):
    sae = HubTopKSAE(1, 6, 11, 3, generator=torch.Generator().manual_seed(0))
    plain = TopKSAE(1, 6, 11, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sae(x).reconstruction, plain(x).reconstruction)
    assert isinstance(sae[0], HubTopKSAE)


@pytest.mark.parametrize(
    "changes", [{"k": 4}, {"activation": "relu"}, {"decoder": "raw"}, {"n_features": 12}, {"decoder_bias": True}]
)
def test_weights_never_load_into_another_configuration(changes, tmp_path):
    HubTopKSAE.of_stack(make()).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(SAEFileError, match=r"model\.safetensors"):
        HubTopKSAE.from_pretrained(tmp_path)


def test_missing_or_damaged_or_pickled_weights_are_refused(tmp_path):
    HubTopKSAE.of_stack(make()).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    save_file({name: value for name, value in load_file(path).items() if name != "bias"}, path)
    with pytest.raises(SAEFileError, match="bias"):
        HubTopKSAE.from_pretrained(tmp_path)
    path.write_bytes(whole[:-5])
    with pytest.raises(SAEFileError):
        HubTopKSAE.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numpy_s_numbers_and_the_type_of_the_weights_come_back(dtype, tmp_path):
    sae = HubTopKSAE(n_saes=np.int64(2), d_in=6, n_features=11, k=np.array([4, 3])).to(dtype)
    sae.save_pretrained(tmp_path)
    found = HubTopKSAE.from_pretrained(tmp_path)
    assert found.settings == sae.settings == json.loads((tmp_path / "config.json").read_text())
    assert found.weight.dtype == dtype
    assert torch.equal(found.weight, sae.weight)


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "{}", '{"d_in": 6}', '{"n_saes": 2, "d_in": 6, "k": 3, "n_features": "a"}']
)
def test_a_configuration_that_is_missing_or_broken_is_said_with_the_folder(text, tmp_path):
    HubTopKSAE.of_stack(make()).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(SAEFileError, match=rf"{tmp_path}: config\.json is missing, damaged, or not that of a TopKSAE"):
        HubTopKSAE.from_pretrained(str(tmp_path))
