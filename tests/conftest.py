import os
import shutil
from pathlib import Path

# Read by the libraries when they are imported, here and in the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched by a test, and no test waits for a network
# On tensors as small as the tests', threads only wait for each other: with busy cores twenty times longer.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")
    parser.addoption("--interop", action="store_true", help="compare with other libraries, installing them")


# A process takes a file whole: what takes longest begins first, so that the last process does not work alone at the end.
LONGEST = (
    "tests/companion/book/test_built_book.py",
    "tests/companion/book/test_snakefile.py",
    "tests/companion/synthetic/test_memory.py",
    "tests/companion/test_probes.py",
    "tests/companion/denoising/test_runs.py",
    "tests/companion/performance/test_benchmarks.py",
    "tests/companion/synthetic/test_same_results.py",
    "tests/companion/end_to_end/test_runs.py",
)


def pytest_collection_modifyitems(config, items):
    files = [item.nodeid.split("::")[0] for item in items]
    slow = {file for file, item in zip(files, items, strict=True) if "slow" in item.keywords}
    place = {file: n for n, file in enumerate(LONGEST)}
    order = {file: (place.get(file, len(place)), file not in slow, n) for n, file in enumerate(dict.fromkeys(files))}
    items.sort(key=lambda item: order[item.nodeid.split("::")[0]])
    for kind in ("slow", "interop"):
        if not config.getoption(f"--{kind}"):
            for item in items:
                if kind in item.keywords:
                    item.add_marker(pytest.mark.skip(reason=f"{kind}: run with --{kind}"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a file's tests to one process, for the sake of their fixtures, in the order above."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    """No test reads or writes the developer's run store."""
    monkeypatch.setenv("MFR_CACHE", str(tmp_path / "store"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real data, where there is one."""
    folder = os.environ.get("MFR_DATA")
    if not folder:
        pytest.skip("needs real data: set MFR_DATA to a folder laid out as the README says")
    return Path(folder)


@pytest.fixture
def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def tiny_lm():
    """The language model in the package."""
    pytest.importorskip("transformer_lens")
    from mfrlib.language_models.language_model import LanguageModel

    return LanguageModel.load("tiny-lm")


@pytest.fixture(scope="session")
def stories():
    """A real pretrained model of another architecture, Llama's."""
    pytest.importorskip("transformer_lens")
    folder = Path(os.environ.get("MFR_DATA") or "/nowhere") / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("needs real data: set MFR_DATA to a folder with models/stories260K")
    from mfrlib.language_models.language_model import LanguageModel

    return LanguageModel.load("stories260K")


@pytest.fixture(scope="session")
def small_lm_folder(tmp_path_factory):
    """The folder of a language model trained for seconds: what takes a language model takes this one."""
    pytest.importorskip("transformer_lens")
    from mfrbook.chapters.tiny_lm import runs as tiny_lm
    from mfrbook.store.store import Store

    place = tmp_path_factory.mktemp("lm")
    tiny_lm.run(tiny_lm.configure({"export": str(place / "small")}, "smoke"), Store(place / "store"), progress=False)
    return place / "small"


@pytest.fixture(scope="session")
def small_lm(small_lm_folder):
    """That model, opened."""
    from mfrlib.language_models.language_model import LanguageModel

    return LanguageModel.load(str(small_lm_folder))


def new_random_lm():
    """Make a GPT-2 of three tiny blocks, its random weights large enough for predictions to be far from even."""
    pytest.importorskip("transformer_lens")
    from transformers import GPT2Config, GPT2LMHeadModel

    from mfrlib.language_models.language_model import LanguageModel

    size = {"vocab_size": 23, "n_positions": 12, "n_embd": 8, "n_layer": 3, "n_head": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(**size, initializer_range=0.5, bos_token_id=0, eos_token_id=0))
    return LanguageModel(model.eval(), None, "random")


@pytest.fixture(scope="session")
def random_lm():
    return new_random_lm()


@pytest.fixture
def double_lm():
    """The same in double precision, where rounding does not hide a mistake."""
    model = new_random_lm()
    model.bridge.double()
    return model


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; without one, skipped at home and failed where CI is set."""
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    sync_api = pytest.importorskip("playwright.sync_api")
    from mfrbook.pages.pdf import CHROMIUM, QUIET  # here, since above HF_HUB_OFFLINE is not yet set

    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        except sync_api.Error as error:
            missing(f"no browser to look at the book with: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()
