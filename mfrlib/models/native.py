"""The compiled kernels of `mfrlib/models/native.c`: built on first use with the machine's C compiler, else absent.

Absent is fine: `mfrlib.models.sparse` then runs in plain PyTorch, which is the reference. `MFR_NATIVE=0` asks for that. The
library shares PyTorch's own pool of OpenMP threads, so the two never compete for cores.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".c")
# What PyTorch found the processor to have, in the compiler's words. A fixed list, not "whatever this processor has":
# on a cluster one cache serves unlike machines.
_INSTRUCTIONS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
}


class NativeUnavailable(RuntimeError):
    """No kernel could be built or loaded here; the message says why."""


def select(hidden: Tensor, k: int, values: Tensor, indices: Tensor) -> None:
    """Write the k largest entries of each row of `hidden (row, n)` into `values` and `indices (row, k)`."""
    rows, n = hidden.shape
    _kernels().select_rows(_at(hidden), rows, n, k, _at(values), _at(indices), torch.get_num_threads())


def sum_rows(table: Tensor, scale: Tensor | None, indices: Tensor, coefficients: Tensor, sums: Tensor) -> None:
    """Write sums `(row, d)` of scaled rows of `table (any, d)`; `scale (any,)`, `indices`, `coefficients (row, k)`."""
    rows, k = indices.shape
    arguments = _at(table), _at(scale), _at(indices), _at(coefficients), rows, k, table.shape[1], _at(sums)
    _kernels().sum_rows(*arguments, torch.get_num_threads())


class Gradient(NamedTuple):
    """What the way back needs of each code, `(row, k)` both: its slope along the gradient, and its pre-activation's."""

    along: Tensor
    d_hidden: Tensor


def gradient_rows(
    d_sums: Tensor, weight: Tensor, scale: Tensor | None, indices: Tensor, values: Tensor, relu: bool, d_hidden: Tensor
) -> Gradient:
    """Go back from sums `(row, d)` to pre-activations; `d_hidden (row, k)` holds what reaches the values from elsewhere."""
    rows, k = indices.shape
    found = Gradient(torch.empty_like(values), d_hidden)
    arrays = [_at(one) for one in (d_sums, weight, scale, indices, values)]
    _kernels().gradient_rows(*arrays, rows, k, weight.shape[1], relu, *map(_at, found), torch.get_num_threads())
    return found


def error_rows(
    x: Tensor,
    hidden: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    relu: bool,
    factor: float,
    values: Tensor,
    indices: Tensor,
) -> tuple[Tensor, Tensor, Gradient]:
    """Select, decode and compare: write codes; return error `(row,)`, its gradient by the sums `(row, d)`, and further back."""
    (rows, d), k = x.shape, values.shape[1]
    d_sums, error = torch.empty_like(x), x.new_empty(rows)
    found = Gradient(torch.empty_like(values), torch.empty_like(values))
    arrays = [_at(one) for one in (x, hidden, weight, scale)]
    written = [_at(one) for one in (values, indices, d_sums, error, *found)]
    _kernels().error_rows(*arrays, rows, hidden.shape[1], k, d, relu, factor, *written, torch.get_num_threads())
    return error, d_sums, found


def accumulate(
    x: Tensor,
    d_sums: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    indices: Tensor,
    values: Tensor,
    gradient: Gradient,
    d_weight: Tensor,
    d_bias: Tensor,
    fresh: bool,
) -> None:
    """Add to the gradient of one SAE's weight `(feature, d)` and bias `(feature,)`; `fresh` ones hold nothing yet."""
    (rows, k), (features, d) = indices.shape, weight.shape
    tile = 128  # rows whose x and gradient stay in the cache of one core
    arrays = [_at(one) for one in (x, d_sums, weight, scale, indices, values, *gradient)]
    written = _at(d_weight), _at(d_bias), torch.get_num_threads()
    _kernels().accumulate(*arrays, rows, k, features, d, tile, fresh, *written)


@functools.cache
def available() -> bool:
    """Tell whether the kernels can be had, building them if need be; if not, say so once."""
    if os.environ.get("MFR_NATIVE") == "0":
        return False
    try:
        _kernels()
    except NativeUnavailable as error:
        warnings.warn(f"mfrlib runs in plain PyTorch, with the same results but slower: {error}", stacklevel=2)
        return False
    return True


def keep_memory() -> None:
    """Have freed memory stay with the process, for the rest of its life.

    By default glibc gives every block above 32 MB back to the system and has the next step fault it in again, page by
    page: a twentieth of a step of five SAEs at GPT-2 size. Elsewhere nothing happens.
    """
    trim, threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] == "glibc":
        for option in (trim, threshold):
            ctypes.CDLL(None).mallopt(option, 2**30)


def _at(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    if not tensor.is_contiguous() or tensor.dtype not in (torch.float32, torch.int64):
        raise ValueError(f"tensor: contiguous, float32 or int64, given {tensor.dtype} of strides {tensor.stride()}")
    return tensor.data_ptr()


@functools.cache
def _kernels() -> ctypes.CDLL:
    try:
        kernels = ctypes.CDLL(str(_built()))
    except OSError as error:
        raise NativeUnavailable(f"the kernels cannot be loaded ({error})") from None
    array, size, flag, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
    for name, arguments in {
        "select_rows": [array, *[size] * 3, *[array] * 2, flag],
        "sum_rows": [*[array] * 4, *[size] * 3, array, flag],
        "gradient_rows": [*[array] * 5, *[size] * 3, flag, *[array] * 2, flag],
        "error_rows": [*[array] * 4, *[size] * 4, flag, number, *[array] * 6, flag],
        "accumulate": [*[array] * 8, *[size] * 5, flag, *[array] * 2, flag],
    }.items():
        kernel = getattr(kernels, name)
        kernel.argtypes, kernel.restype = arguments, None
    return kernels


def _built() -> Path:
    """Return the compiled library, from the user's cache or built now."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise NativeUnavailable("no C compiler was found (cc, gcc or clang; CC names another)")
    capability = torch.backends.cpu.get_cpu_capability()
    flags = ["-O3", "-shared", "-fPIC", "-ffp-contract=fast", *_INSTRUCTIONS.get(capability, ())]
    identity = f"{SOURCE.read_text()}|{compiler}|{flags}|{platform.machine()}|{platform.system()}"
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfrlib"
    except RuntimeError:
        raise NativeUnavailable("there is no home directory to keep them in: set XDG_CACHE_HOME") from None
    library = folder / f"native-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    own = getattr(os, "getuid", lambda: library.stat().st_uid)  # Windows has no such numbers
    if library.is_file() and library.stat().st_uid == own():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            output = Path(temporary) / library.name
            for threads in (["-fopenmp"], []):  # some compilers come without OpenMP: one thread then
                command = [compiler, *flags, *threads, "-o", str(output), str(SOURCE), "-lm"]
                found = subprocess.run(command, capture_output=True, text=True, timeout=120)
                if found.returncode == 0:
                    os.replace(output, library)  # in one step: others may be building it too
                    return library
    except (OSError, subprocess.SubprocessError) as error:
        raise NativeUnavailable(f"building the kernels failed: {error}") from None
    raise NativeUnavailable(f"{compiler} could not build the kernels: {found.stderr.strip()[-500:]}")
