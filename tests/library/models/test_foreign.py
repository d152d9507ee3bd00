"""SAEs on their way to other libraries' files and back: the formulas of those libraries, written out here.

`tests/interop` holds the same against the libraries themselves.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import mfrlib
from mfrbook.drawing.features import page as feature_page
from mfrlib import export
from mfrlib.config import ConfigError
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.evaluation import insertion_losses
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.models.sae import TopKSAE
from mfrlib.models.sae_files import SAEFileError

D, N, K = 6, 20, 3
HOOK = "blocks.0.hook_mlp_out"


@pytest.fixture
def x(draws):
    return torch.randn(40, D, generator=draws)


def shifted(sae, draws):
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws)
    return sae


def topk(n_saes=1, k=K, d_in=D, **options):
    draws = torch.Generator().manual_seed(0)
    return shifted(TopKSAE(n_saes, d_in, N, k, generator=draws, **options), draws)


def relu(n_saes=1):
    draws = torch.Generator().manual_seed(0)
    return shifted(ReLUSAE(n_saes, D, N, generator=draws), draws)


# The other libraries' arithmetic, from their sources.


def saelens(folder, x):
    config = json.loads((folder / "cfg.json").read_text())
    w = load_file(folder / "sae_weights.safetensors")
    assert {name: tuple(value.shape) for name, value in w.items()} == {
        "W_enc": (config["d_in"], config["d_sae"]), "b_enc": (config["d_sae"],),
        "W_dec": (config["d_sae"], config["d_in"]), "b_dec": (config["d_in"],)}  # fmt: skip
    hidden = (x - w["b_dec"] * config["apply_b_dec_to_input"]) @ w["W_enc"] + w["b_enc"]
    norm = w["W_dec"].norm(dim=-1) if config.get("rescale_acts_by_decoder_norm") else torch.ones(config["d_sae"])
    if config["architecture"] == "topk":
        found = (hidden * norm).topk(config["k"], dim=-1)
        codes = torch.zeros_like(hidden).scatter(-1, found.indices, found.values.relu())
    else:
        codes = hidden.relu()
    return (codes / norm) @ w["W_dec"] + w["b_dec"], codes


def sparsify(folder, x):
    config, w = json.loads((folder / "cfg.json").read_text()), load_file(folder / "sae.safetensors")
    hidden = torch.relu((x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"])
    found = hidden.topk(config["k"], dim=-1)
    codes = torch.zeros_like(hidden).scatter(-1, found.indices, found.values)
    return codes @ w["W_dec"] + w["b_dec"], codes


FORMATS = {"saelens": (export.to_saelens, saelens), "sparsify": (export.to_sparsify, sparsify)}
OURS = {
    "normalized": lambda: topk(activation="relu"),
    "raw": lambda: topk(activation="relu", decoder="raw"),
    "with a shift": lambda: topk(activation="relu", decoder="raw", decoder_bias=True),
    "ReLU": relu,
}


@pytest.fixture(params=FORMATS)
def to(request):
    return FORMATS[request.param]


class TestExport:
    @pytest.mark.parametrize("name", OURS)
    def test_outputs_are_those_of_the_other_library_s_formula(self, to, name, x, tmp_path):
        write, formula = to
        sae = OURS[name]()
        (written,) = write(sae, tmp_path / "sae", sample=x)
        assert written == (tmp_path / "sae", 0, 0, 0.0)
        expected, codes = formula(written.folder, x)
        torch.testing.assert_close(sae(x).reconstruction[0], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(sae.encode(x)[0], codes, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("name", OURS)
    def test_and_those_of_the_file_opened_again(self, to, name, x, tmp_path):
        sae = OURS[name]()
        to[0](sae, tmp_path)
        found = mfrlib.load_foreign(str(tmp_path))
        torch.testing.assert_close(found(x).reconstruction, sae(x).reconstruction, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.encode(x), sae.encode(x), rtol=0, atol=1e-5)
        assert torch.equal(found.dictionary, sae.dictionary)

    def test_a_stack_has_a_folder_for_each_with_its_own_k(self, to, x, tmp_path):
        write, formula = to
        sae = topk(3, k=(2, 5, 3), activation="relu")
        written = write(sae, tmp_path)
        assert [one.folder for one in written] == [tmp_path / "0", tmp_path / "1", tmp_path / "2"]
        assert {one.rows for one in written} == {None}
        for number, one in enumerate(written):
            torch.testing.assert_close(formula(one.folder, x)[0], sae(x).reconstruction[number], rtol=0, atol=1e-5)

    def test_what_the_reader_loses_is_counted_and_said(self, to, tmp_path, x):
        write, formula = to
        sae = topk(k=15)
        output = sae(x)
        negative = output.values[0] < 0
        with pytest.warns(
            UserWarning, match=r"of 40 rows of the sample keep negative activations.*cuts them at 0"
        ) as told:
            (found,) = write(sae, tmp_path / "a", sample=x.double().numpy())
        assert len(told) == 1
        assert told[0].filename == __file__
        assert found.entries == negative.sum() > 0
        assert found.rows == negative.any(-1).sum()
        lost = (formula(found.folder, x)[0] - output.reconstruction[0]).abs().max().item()
        assert found.largest == pytest.approx(lost, abs=1e-5)
        assert lost > 0.01
        (plain,) = write(sae, tmp_path / "b")  # without a sample nobody can know
        assert plain == (tmp_path / "b", None, None, None)

    def test_where_the_sae_belongs_is_noted(self, tmp_path):
        export.to_saelens(topk(), tmp_path, model="tiny-lm", hook=HOOK)
        about = json.loads((tmp_path / "cfg.json").read_text())["metadata"]
        assert int(about["sae_lens_version"].split(".")[0]) >= 6  # else SAELens drops all of it
        assert (about["model_name"], about["hook_name"]) == ("tiny-lm", HOOK)
        found = mfrlib.load_foreign(tmp_path)
        assert (found.model, found.hook, found.library) == ("tiny-lm", HOOK, "SAELens")

    def test_files_are_float32_whatever_the_weights_are(self, to, tmp_path):
        to[0](topk().double(), tmp_path)
        assert {value.dtype for value in load_file(next(tmp_path.glob("*.safetensors"))).values()} == {torch.float32}

    def test_a_folder_with_an_sae_in_another_format_is_refused(self, tmp_path):
        topk().save(tmp_path / "ours")
        export.to_saelens(topk(), tmp_path / "theirs")
        for write, folder in (
            (export.to_saelens, "ours"),
            (export.to_sparsify, "ours"),
            (export.to_sparsify, "theirs"),
        ):
            with pytest.raises(SAEFileError, match="in another format; take another folder"):
                write(topk(), tmp_path / folder)
        export.to_saelens(topk(), tmp_path / "theirs")
        assert len(list((tmp_path / "theirs").iterdir())) == 2
        topk().save(tmp_path / "two" / "1")  # of two, the second has no place: neither is written
        with pytest.raises(SAEFileError, match="in another format; take another folder"):
            export.to_saelens(topk(2), tmp_path / "two")
        assert [one.name for one in (tmp_path / "two").iterdir()] == ["1"]

    def test_no_sae_of_another_export_is_left_beside_new_ones(self, tmp_path):
        export.to_saelens(topk(2), tmp_path / "two")
        export.to_saelens(topk(1), tmp_path / "one")
        export.to_saelens(topk(2), tmp_path / "two")
        for sae, folder in ((topk(1), "two"), (topk(2), "one"), (topk(3)[:1], "two")):
            with pytest.raises(SAEFileError, match="holds an SAE of another export"):
                export.to_saelens(sae, tmp_path / folder)

    def test_what_is_no_sae_and_a_sample_of_another_width_are_refused(self, to, x, tmp_path):
        with pytest.raises(TypeError, match="sae: a TopKSAE"):
            to[0](torch.nn.Linear(2, 2), tmp_path)
        for sae in (topk(), relu()):
            with pytest.raises(ValueError, match=r"d_in = 6.*\(40, 5\)"):
                to[0](sae, tmp_path / "no", sample=x[:, :5])
        with pytest.raises(ValueError, match="sample: must be of floating point"):
            to[0](topk(), tmp_path / "no", sample=x.long())
        assert not (tmp_path / "no").exists()

    def test_from_one_library_to_the_other(self, x, tmp_path):
        for name, make in OURS.items():
            export.to_saelens(make(), tmp_path / name / "saelens")
            export.to_sparsify(mfrlib.load_foreign(tmp_path / name / "saelens"), tmp_path / name / "sparsify")
            expected = saelens(tmp_path / name / "saelens", x)[0]
            torch.testing.assert_close(sparsify(tmp_path / name / "sparsify", x)[0], expected, rtol=0, atol=1e-5)

    def test_nothing_is_written_of_what_is_refused(self, tmp_path):
        diverged = topk()
        with torch.no_grad():
            diverged.weight[0, 0, 0] = torch.nan
        huge = topk(2, decoder="raw").double()
        huge.bias.data[1, 0] = 1e200
        for sae, options, words in (
            (topk(), {"hook": 3}, "hook: must be a string, given 3"),
            (topk(), {"model": None}, "model: must be a string, given None"),
            (diverged, {}, "sae: must have finite weights"),
            (huge, {}, "sae: must have weights that stay finite in float32"),
        ):
            with pytest.raises(ConfigError, match=words):
                mfrlib.export.to_saelens(sae, tmp_path / "new", **options)
        assert not (tmp_path / "new").exists()
        (tmp_path / "file").touch()
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "1").touch()
        for sae, name in ((topk(), "file"), (topk(2), "file"), (topk(2), "two")):
            with pytest.raises(SAEFileError, match="is a file; save to a folder"):
                export.to_saelens(sae, tmp_path / name)
        assert [one.name for one in (tmp_path / "two").iterdir()] == ["1"]


def theirs(folder, library="saelens", tensors=None, **changes):
    """Write a folder as those libraries do, with weights of any norm."""
    draws = torch.Generator().manual_seed(1)
    folder.mkdir(exist_ok=True)
    names = {
        "saelens": ("W_enc", "b_enc", "W_dec", "b_dec"),
        "sparsify": ("encoder.weight", "encoder.bias", "W_dec", "b_dec"),
    }
    shapes = {"W_enc": (D, N), "encoder.weight": (N, D), "W_dec": (N, D), "b_dec": (D,)}
    own = {name: torch.randn(shapes.get(name, (N,)), generator=draws) for name in names[library]}
    save_file(
        own | (tensors or {}), folder / ("sae_weights" if library == "saelens" else "sae").__add__(".safetensors")
    )
    config = (
        {"architecture": "topk", "k": K, "d_in": D, "d_sae": N, "dtype": "float32", "device": "cpu",
         "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
         "rescale_acts_by_decoder_norm": False, "metadata": {"sae_lens_version": "6.54.12", "hook_name": HOOK}}
        if library == "saelens" else
        {"activation": "topk", "expansion_factor": 3, "normalize_decoder": True, "num_latents": N, "k": K,
         "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": D}
    )  # fmt: skip
    config |= changes
    (folder / "cfg.json").write_text(json.dumps({name: value for name, value in config.items() if value != "absent"}))
    return folder


class TestLoadForeign:
    @pytest.mark.parametrize(
        ("library", "changes"),
        [
            ("saelens", {}),
            ("saelens", {"apply_b_dec_to_input": False}),
            ("saelens", {"rescale_acts_by_decoder_norm": True}),
            ("saelens", {"architecture": "standard", "k": "absent", "rescale_acts_by_decoder_norm": "absent"}),
            ("saelens", {"architecture": "standard", "k": "absent", "apply_b_dec_to_input": False}),
            ("sparsify", {}),
        ],
    )
    def test_outputs_are_those_of_their_formula(self, library, changes, x, tmp_path):
        folder = theirs(tmp_path, library, **changes)
        found = mfrlib.load_foreign(folder)
        expected, codes = FORMATS[library][1](folder, x)
        torch.testing.assert_close(found(x).reconstruction[0], expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(found.encode(x)[0], codes, rtol=1e-5, atol=1e-4)
        assert found.encode(x.view(4, 10, D)).shape == (1, 4, 10, N)
        assert not any(one.requires_grad for one in found.parameters())
        assert f"library='{'SAELens' if library == 'saelens' else library}'" in repr(found)

    def test_a_configuration_of_saelens_before_six(self, x, tmp_path):
        old = {"metadata": "absent", "sae_lens_version": "3.9.0", "hook_point": HOOK, "hook_point_layer": 0, "k": "absent",
               "architecture": "absent", "apply_b_dec_to_input": "absent", "normalize_activations": False}  # fmt: skip
        found = mfrlib.load_foreign(theirs(tmp_path / "relu", activation_fn_str="relu", **old))
        assert (found.k, found.subtracts, found.hook) == (None, True, HOOK)
        kept = mfrlib.load_foreign(
            theirs(tmp_path / "topk", activation_fn_str="topk", activation_fn_kwargs={"k": 4}, **old)
        )
        assert kept.k == (4,)
        for changes, words in (
            ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
            ({"activation_fn_str": "tanh-relu"}, "activation 'tanh-relu'"),
            ({"normalize_activations": True}, "normalize_activations = 'expected_average_only_in'"),
            ({"hook_point": "blocks.0.attn.hook_z", "reshape_activations": "absent"}, "reshape_activations = 'hook_z'"),
        ):
            with pytest.raises(SAEFileError, match=words):
                mfrlib.load_foreign(theirs(tmp_path / "no", **(old | changes)))

    @pytest.mark.parametrize("about", ["absent", {}])
    @pytest.mark.parametrize("rescale", [False, True])
    @pytest.mark.parametrize(
        "k", [{"k": 4}, {"k": "absent", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}}]
    )
    def test_a_configuration_without_a_version_is_read_whole(self, about, rescale, k, x, tmp_path):
        folder = theirs(tmp_path, metadata=about, rescale_acts_by_decoder_norm=rescale, **k)
        found = mfrlib.load_foreign(folder)
        config = json.loads((folder / "cfg.json").read_text())
        (folder / "cfg.json").write_text(json.dumps(config | {"k": 4}))  # as the formula reads it
        torch.testing.assert_close(found(x).reconstruction[0], saelens(folder, x)[0], rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize(
        ("library", "changes", "words"),
        [
            (
                "saelens",
                {"architecture": "jumprelu"},
                "'jumprelu' is not supported; supported are SAELens's 'standard'",
            ),
            ("saelens", {"architecture": "gated"}, "'gated' is not supported; supported"),
            ("saelens", {"architecture": "transcoder"}, "'transcoder' is not supported; supported"),
            ("saelens", {"architecture": "abstopk"}, "'abstopk' is not supported; supported"),
            (
                "saelens",
                {"normalize_activations": "layer_norm"},
                "normalize_activations = 'layer_norm' is not supported",
            ),
            ("saelens", {"reshape_activations": "hook_z"}, "reshape_activations = 'hook_z' is not supported"),
            ("saelens", {"metadata": {"sae_lens_version": "6.1", "hook_name_out": "b"}}, "a transcoder to 'b'"),
            ("saelens", {"future_switch": True}, "unknown future_switch; supported"),
            ("saelens", {"k": "absent"}, "'k' is missing; supported"),
            ("saelens", {"k": 2.5}, r"k: must be int, given 2\.5"),
            ("sparsify", {"k": True}, "k: must be int, given True"),
            ("saelens", {"apply_b_dec_to_input": "false"}, "apply_b_dec_to_input: must be bool, given 'false'"),
            ("saelens", {"d_in": D + 1}, "d_in is .* but .* in the weights: of another SAE"),
            ("sparsify", {"num_latents": N - 1}, "num_latents is .* in the weights"),
            ("saelens", {"metadata": "6.1"}, "metadata: must be an object"),
            (
                "saelens",
                {"tensors": {"b_dec": torch.ones(D).long()}},
                "b_dec: must be finite numbers of floating point, given torch.int64",
            ),
            ("sparsify", {"tensors": {"W_dec": torch.full((N, D), torch.nan)}}, "W_dec: must be finite numbers"),
            ("sparsify", {"tensors": {"W_dec": torch.ones(N * D)}}, r"weights: must be .* 'W_dec': 'fd'"),
            ("saelens", {"tensors": {"W_dec": torch.ones(N)}, "rescale_acts_by_decoder_norm": True}, "'W_dec': .20,"),
            ("saelens", {"tensors": {"W_dec": torch.ones(0, D)}}, r"1 or more, given .*'W_dec': \(0, 6\)"),
            (
                "saelens",
                {"tensors": {"W_dec": torch.ones(N - 1, D)}, "rescale_acts_by_decoder_norm": True},
                "weights: must",
            ),
            ("saelens", {"k": 21}, "k: between 1 and n_features = 20"),
            ("saelens", {"tensors": {"threshold": torch.zeros(N)}}, "weights: must be .* given .*threshold"),
            ("saelens", {"tensors": {"W_enc": torch.zeros(N, D)}}, r"weights: must be .*'W_enc': \(20, 6\)"),
            ("sparsify", {"transcode": True}, "a transcoder is not supported; supported"),
            ("sparsify", {"skip_connection": True}, "a skip connection is not supported"),
            ("sparsify", {"signed": True}, "signed activations is not supported"),
            ("sparsify", {"activation": "groupmax"}, "activation 'groupmax' is not supported"),
            ("sparsify", {"future_switch": 1}, "unknown future_switch"),
        ],
    )
    def test_what_is_not_supported_is_refused_with_what_is(self, library, changes, words, tmp_path):
        with pytest.raises(SAEFileError, match=words):
            mfrlib.load_foreign(theirs(tmp_path, library, **changes))

    def test_the_folder_of_a_stack_says_where_its_saes_are(self, tmp_path):
        export.to_saelens(TopKSAE(2, 8, 16, 4), tmp_path)
        with pytest.raises(SAEFileError, match="its subfolders hold SAEs"):
            mfrlib.load_foreign(tmp_path)

    def test_a_device_that_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match=r"device: must be cpu, or cuda .*given 'gpu'"):
            mfrlib.load_foreign(theirs(tmp_path), "gpu")

    def test_what_is_not_there_or_damaged_is_said(self, tmp_path):
        with pytest.raises(SAEFileError, match="there is no such folder"):
            mfrlib.load_foreign(tmp_path / "no")
        with pytest.raises(SAEFileError, match=r"no cfg\.json in it; supported"):
            mfrlib.load_foreign(tmp_path)
        topk().save(tmp_path / "ours")
        with pytest.raises(SAEFileError, match=r"mfrlib\.load\(folder\) opens"):
            mfrlib.load_foreign(tmp_path / "ours")
        folder = theirs(tmp_path / "theirs")
        (folder / "ae.pt").touch()  # a pickle beside is not looked at
        mfrlib.load_foreign(folder)
        path = folder / "sae_weights.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(SAEFileError, match=r"folder .*theirs: "):
            mfrlib.load_foreign(folder)
        for text in ("{", "[]", 100_000 * "["):
            (folder / "cfg.json").write_text(text)
            with pytest.raises(SAEFileError, match=r"theirs.cfg\.json: "):
                mfrlib.load_foreign(folder)

    def test_half_precision_is_opened_in_single(self, x, tmp_path):
        folder = theirs(tmp_path, tensors={"W_dec": torch.randn(N, D).bfloat16()})
        assert mfrlib.load_foreign(folder)(x).reconstruction.dtype == torch.float32


@pytest.fixture(params=["topk", "standard"])
def foreign(request, tmp_path):
    changes = {} if request.param == "topk" else {"architecture": "standard", "k": "absent"}
    return mfrlib.load_foreign(theirs(tmp_path, **changes))


class TestMeasures:
    def test_likeness_of_dictionaries(self, foreign):
        ours = topk()
        assert -1 < mfrlib.mmcs(ours.dictionary[0], foreign.dictionary[0]) < 1
        assert mfrlib.matched_cosine(foreign.dictionary[0], foreign.weight[0]) == pytest.approx(1)

    def test_evaluate(self, foreign, x):
        found = mfrlib.evaluate(foreign, x.numpy())
        output = foreign(x)
        assert found.results["loss"][0] == pytest.approx(
            (output.reconstruction[0] - x).square().mean().item(), rel=1e-5
        )
        active = (foreign.encode(x)[0] > 0).float()
        assert found.results["l0"] == pytest.approx([active.sum(1).mean().item()])
        np.testing.assert_allclose(found.rate[0], active.mean(0), atol=1e-6)

    def test_evaluate_takes_rows_loaders_and_both_kinds_of_ours(self, x):
        for sae in (topk(2), relu(2)):
            expected = mfrlib.evaluate(sae, [x]).results
            for data in (
                x,
                x.double().numpy(),
                [x[:9].double(), x[9:].double()],
                torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), 16),
            ):
                found = mfrlib.evaluate(sae, data).results
                assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
                assert found["l0"] == expected["l0"]
            with pytest.raises(ConfigError, match="batches: must give a batch"):
                mfrlib.evaluate(sae, [])

    def test_insertion_into_a_language_model(self, random_lm, tmp_path):
        sae = topk(d_in=random_lm.d_model, activation="relu", decoder_bias=True)
        export.to_saelens(sae, tmp_path)
        tokens = np.random.default_rng(0).integers(random_lm.vocabulary, size=(3, 12)).astype(np.uint16)
        sequences, mean = Sequences(tokens, "test", False, 3), torch.zeros(random_lm.d_model)
        ours, theirs = (
            insertion_losses(random_lm, one, sequences, HOOK, mean, skip=1)
            for one in (sae, mfrlib.load_foreign(tmp_path))
        )
        np.testing.assert_allclose(ours["ce"], theirs["ce"], atol=1e-5)
        assert np.abs(ours["ce"] - ours["ce_unmodified"]).max() > 0.01

    def test_pages_of_features(self, tiny_lm, tmp_path, draws):
        sae = topk(d_in=tiny_lm.d_model, activation="relu")
        export.to_saelens(sae, tmp_path / "sae", hook=HOOK)
        found = mfrlib.load_foreign(tmp_path / "sae")
        shown = [feature_page.Shown("ours", sae, 0, HOOK), feature_page.Shown("theirs", found, 0, found.hook)]
        texts = [torch.randint(tiny_lm.vocabulary, (4, 30), generator=draws)]
        page = feature_page.fragment(shown, tiny_lm, texts, n_features=3, n_passages=1, skip=1)
        assert page.count("<details") == 6
        assert "Nearest: theirs #" in page
        assert page.count("(cosine 1.00)") == 6
        feature_page.write(tmp_path / "features.html", shown, tiny_lm, texts, n_features=2, skip=1)
