"""The compiled kernels of `mfrlib/native.c`: built on first use with the machine's C compiler, else absent.

Absent is fine: `mfrlib.sparse` then runs in plain PyTorch, which is the reference. `MFR_NATIVE=0` asks for that. The
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


def backward(
    x: Tensor,
    d_sums: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    indices: Tensor,
    values: Tensor,
    d_values: Tensor,
    relu: bool,
    d_weight: Tensor,
    d_bias: Tensor,
) -> None:
    """Write the gradient of one SAE's weight and bias; `d_values` becomes that of its pre-activations (see the source)."""
    rows, k = indices.shape
    features, d = weight.shape
    tile = 128  # rows whose x and gradient stay in the cache of one core
    arrays = [_at(one) for one in (x, d_sums, weight, scale, indices, values, d_values)]
    sizes = rows, k, features, d, tile, relu
    _kernels().backward(*arrays, *sizes, _at(d_weight), _at(d_bias), torch.get_num_threads())


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
    array, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    kernels.select_rows.argtypes = [array, size, size, size, array, array, flag]
    kernels.sum_rows.argtypes = [array] * 4 + [size] * 3 + [array, flag]
    kernels.backward.argtypes = [array] * 7 + [size] * 5 + [flag, array, array, flag]
    for name in ("select_rows", "sum_rows", "backward"):
        getattr(kernels, name).restype = None
    return kernels


def _built() -> Path:
    """Return the compiled library, from the user's cache or built now."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise NativeUnavailable("no C compiler was found (cc, gcc or clang; CC names another)")
    capability = torch.backends.cpu.get_cpu_capability()
    flags = ["-O3", "-shared", "-fPIC", "-ffp-contract=fast", *_INSTRUCTIONS.get(capability, ())]
    identity = f"{SOURCE.read_text()}|{compiler}|{flags}|{platform.machine()}|{platform.system()}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfrlib"
    library = folder / f"native-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if library.is_file() and library.stat().st_uid == os.getuid():
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
