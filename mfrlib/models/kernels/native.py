"""The compiled kernels of `mfrlib/native*.c`: built on first use with the machine's C compiler, else absent.

Absent is fine: `mfrlib.models.sparse` then runs in plain PyTorch, which is the reference. `MFR_NATIVE=0` asks for that. Where
the processor multiplies in bfloat16 (AVX512_BF16), searches for the largest are done in it and certified;
`MFR_NATIVE=fp32` asks for the kernels without that. Results are the same. The library shares PyTorch's own pool of
OpenMP threads, so the two never compete for cores.
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
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfrlib.config import ConfigError
from mfrlib.environment import user_cache

SOURCES = [Path(__file__).with_name(f"{name}.c") for name in ("native", "native_search", "native_match")]
# What PyTorch found the processor to have, in the compiler's words. A fixed list, not "whatever this processor has":
# on a cluster one cache serves unlike machines.
_INSTRUCTIONS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
}
_BF16 = "-mavx512bf16"  # with AVX512


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


class Packed(NamedTuple):
    """A dictionary rounded to bfloat16, as the search reads it, and bounds `(feature, 2)` of each row: length, rounding."""

    panels: Tensor
    bounds: Tensor


def pack(rows: Tensor) -> Packed:
    """Round a dictionary `(feature, d)` for the search."""
    features, d = rows.shape
    panels = torch.empty(-(-features // 32) * -(-d // 2) * 32, dtype=torch.int32)
    found = Packed(panels, rows.new_empty(features, 2))
    _kernels().pack_rows(_at(rows), features, d, *map(_at, found), torch.get_num_threads())
    return found


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


class Searched(NamedTuple):
    """What a search leaves: the numbers of rows without a certificate, and of the others what `error_rows` returns."""

    left: Tensor
    error: Tensor
    d_sums: Tensor
    gradient: Gradient


def search(x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, values: Tensor, indices: Tensor) -> Tensor:
    """Write the k largest pre-activations `(row, k)` of each row of `x (row, d)`; return the rows left without a certificate."""
    return _search(x, weight, bias, packed, None, False, 1.0, values, indices, [None] * 4)


def search_errors(
    x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, scale: Tensor | None, relu: bool, factor: float,
    values: Tensor, indices: Tensor,
) -> Searched:  # fmt: skip
    """Search, decode and compare: `error_rows`, without pre-activations of all features."""
    found = Gradient(torch.empty_like(values), torch.empty_like(values))
    d_sums, error = torch.empty_like(x), x.new_zeros(len(x))
    written = [d_sums, error, *found]
    left = _search(x, weight, bias, packed, scale, relu, factor, values, indices, written)
    return Searched(left, error, d_sums, found)


def _search(
    x: Tensor, weight: Tensor, bias: Tensor, packed: Packed, scale: Tensor | None, relu: bool, factor: float,
    values: Tensor, indices: Tensor, written: list[Any],
) -> Tensor:  # fmt: skip
    (rows, d), (features, k) = x.shape, (len(weight), values.shape[1])
    limit = k + features // 8  # with more candidates than that, a row is left to the search in float32
    failed = torch.empty(rows, dtype=torch.uint8)
    arrays = [_at(one) for one in (x, weight, bias, *packed, scale)]
    codes = [_at(one) for one in (values, indices, failed, *written)]
    _kernels().search_rows(*arrays, rows, features, k, d, limit, relu, factor, *codes, torch.get_num_threads())
    return failed.nonzero()[:, 0]


def move(weight: Tensor, norm: Tensor, unit: Tensor, way: Tensor) -> float:
    """Replace `unit (row, d)` by the rows of `weight` over `norm (row,)`, and add to `way (row,)` how far each moved.

    Returns the farthest; ways and it are bounds from above, float64.
    """
    rows, d = weight.shape
    return _kernels().move_rows(_at(weight), _at(norm), rows, d, _at(unit), _at(way), torch.get_num_threads())


def memories(rows: int) -> Tensor:
    """Return what `match` keeps of each of so many rows, before their first search."""
    return torch.zeros(rows, _kernels().memory_size(), dtype=torch.uint8)


def match(
    a: Tensor, b: Tensor, packed: Packed, ways: tuple[Tensor, Tensor], farthest: float, kept: Tensor, rows: Tensor
) -> int:
    """Write for each unit row of `a (n, d)` the one of `b (f, d)` with the largest cosine; return how many were searched.

    `ways` are those of `a` and `b` from `move`, `farthest` the sum of what it returned for `b`, `kept` as of `memories`.
    """
    arrays = [_at(one) for one in (a, b, *packed)]
    state = [*(_at(one) for one in ways), farthest, _at(kept), _at(rows)]
    return _kernels().match_rows(*arrays, len(a), len(b), a.shape[1], *state, torch.get_num_threads())


def match_gradient(unit: Tensor, norm: Tensor, pairs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the matched cosines' sum by the rows before scaling `(s, f, d)`, and its part `(s, f)` of twice the sum.

    `pairs (pair, 2)` of SAEs; `rows (pair, f)`: with which row of the second each row of the first is matched.
    """
    gradient, along = torch.empty_like(unit), torch.empty_like(norm)
    arrays = [_at(one) for one in (unit, norm, pairs, rows)]
    _kernels().match_gradient(*arrays, len(pairs), *unit.shape, _at(gradient), _at(along), torch.get_num_threads())
    return gradient, along


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


@functools.cache
def certifies() -> bool:
    """Tell whether the kernels search in bfloat16, which takes a processor and a compiler that know it."""
    return available() and hasattr(_kernels(), "search_rows")


def keep_memory() -> None:
    """Have freed memory stay with the process, for the rest of its life.

    By default glibc gives every block above 32 MB back to the system and has the next step fault it in again, page by
    page: a twentieth of a step of five SAEs at GPT-2 size. Elsewhere nothing happens.
    """
    trim, threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] == "glibc":
        for option in (trim, threshold):
            ctypes.CDLL(None).mallopt(option, 2**30)


_TYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8)


def _at(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    if not tensor.is_contiguous() or tensor.dtype not in _TYPES:
        raise ValueError(f"tensor: contiguous, of {_TYPES}, given {tensor.dtype} of strides {tensor.stride()}")
    return tensor.data_ptr()


@functools.cache
def _kernels() -> ctypes.CDLL:
    try:
        kernels = ctypes.CDLL(str(_built()))
    except OSError as error:
        raise NativeUnavailable(f"the kernels cannot be loaded ({error})") from None
    array, size, flag, number, wide = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float, ctypes.c_double
    for name, (arguments, returns) in {
        "select_rows": ([array, *[size] * 3, *[array] * 2, flag], None),
        "sum_rows": ([*[array] * 4, *[size] * 3, array, flag], None),
        "gradient_rows": ([*[array] * 5, *[size] * 3, flag, *[array] * 2, flag], None),
        "error_rows": ([*[array] * 4, *[size] * 4, flag, number, *[array] * 6, flag], None),
        "accumulate": ([*[array] * 8, *[size] * 5, flag, *[array] * 2, flag], None),
        "pack_rows": ([array, *[size] * 2, *[array] * 2, flag], None),
        "search_rows": ([*[array] * 6, *[size] * 5, flag, number, *[array] * 7, flag], None),
        "move_rows": ([*[array] * 2, *[size] * 2, *[array] * 2, flag], wide),
        "memory_size": ([], size),
        "match_rows": ([*[array] * 4, *[size] * 3, *[array] * 2, wide, *[array] * 2, flag], size),
        "match_gradient": ([*[array] * 4, *[size] * 4, *[array] * 2, flag], None),
    }.items():
        if kernel := getattr(kernels, name, None):  # those in bfloat16 may be absent
            kernel.argtypes, kernel.restype = arguments, returns
    return kernels


def _built() -> Path:
    """Return the compiled library, from the user's cache or built now."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise NativeUnavailable("no C compiler was found (cc, gcc or clang; CC names another)")
    capability = torch.backends.cpu.get_cpu_capability()
    flags = ["-O3", "-shared", "-fPIC", "-ffp-contract=fast", *_INSTRUCTIONS.get(capability, ())]
    bf16 = [_BF16] if capability == "AVX512" and os.environ.get("MFR_NATIVE") != "fp32" and _multiplies_bf16() else []
    sources = "".join(one.read_text() for one in SOURCES)
    identity = f"{sources}|{compiler}|{flags + bf16}|{platform.machine()}|{platform.system()}"
    try:
        folder = user_cache()
    except ConfigError:
        raise NativeUnavailable("there is no home directory to keep the kernels in: set XDG_CACHE_HOME") from None
    library = folder / f"native-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    own = getattr(os, "getuid", lambda: library.stat().st_uid)  # Windows has no such numbers
    if library.is_file() and library.stat().st_uid == own():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            output = Path(temporary) / library.name
            # Some compilers do not know bfloat16, and some come without OpenMP: one thread then.
            for more in ([*bf16, "-fopenmp"], ["-fopenmp"], []):
                command = [compiler, *flags, *more, "-o", str(output), *map(str, SOURCES), "-lm"]
                found = subprocess.run(command, capture_output=True, text=True, timeout=120)
                if found.returncode == 0:
                    os.replace(output, library)  # in one step: others may be building it too
                    return library
    except (OSError, subprocess.SubprocessError) as error:
        raise NativeUnavailable(f"building the kernels failed: {error}") from None
    raise NativeUnavailable(f"{compiler} could not build the kernels: {found.stderr.strip()[-500:]}")


def _multiplies_bf16() -> bool:
    told: Any = getattr(torch.cpu, "get_capabilities", dict)  # older versions of PyTorch do not tell
    return bool(told().get("avx512_bf16"))
