"""The compiled kernels `native*.c` of this folder: built on first use with the machine's C compiler, else absent.

Absent is fine: `mfrlib.models.sparse` then runs in plain PyTorch, which is the reference. `MFR_NATIVE=0` asks for that. Where
the processor multiplies bytes and bfloat16 (AVX512_VNNI, AVX512_BF16), searches for the largest are done in them and certified;
`MFR_NATIVE=fp32` asks for the kernels without that. Results are the same. The library shares PyTorch's own pool of
OpenMP threads, so the two never compete for cores. A forked child of a process that used several threads must call
`torch.set_num_threads(1)` first, as for PyTorch's own products (a DataLoader's workers do): else it waits for ever.
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
from typing import Any

import torch

from mfrlib.config import ConfigError, require
from mfrlib.data.files import sha256
from mfrlib.environment import user_cache

SOURCES = sorted(Path(__file__).parent.glob("native*.c"))
# What PyTorch found the processor to have, in the compiler's words. A fixed list, not "whatever this processor has":
# on a cluster one cache serves unlike machines.
_INSTRUCTIONS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
}
# With AVX512, and only both: the sources ask for the first.
_FEW_BITS = {"avx512_bf16": "-mavx512bf16", "avx512_vnni": "-mavx512vnni"}


class NativeUnavailable(RuntimeError):
    """No kernel could be built or loaded here; the message says why."""


@functools.cache
def available() -> bool:
    """Tell whether the kernels can be had, building them if need be; if not, say so once. ConfigError for an unknown `MFR_NATIVE`."""
    wanted = os.environ.get("MFR_NATIVE") or ""
    require(wanted in ("", "0", "fp32"), "MFR_NATIVE", wanted, "must be 0, fp32, or not set")
    if wanted == "0":
        return False
    try:
        kernels()
    except NativeUnavailable as error:
        warnings.warn(f"mfrlib runs in plain PyTorch, with the same results but slower: {error}", stacklevel=2)
        return False
    return True


@functools.cache
def certifies() -> bool:
    """Tell whether the kernels search in bytes and bfloat16, which takes a processor and a compiler that know both."""
    return available() and hasattr(kernels(), "search_rows")


def watched() -> bool:
    """Tell whether a trace, mode or transform of PyTorch's looks on, to which tensors may be without values."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return traced or torch._C._len_torch_dispatch_stack() > 0 or torch._C._are_functorch_transforms_active()


def serve(*tensors: torch.Tensor) -> bool:
    """Tell whether the kernels can compute with tensors: float32 in the CPU's memory, and not `watched`."""
    plain = (torch.Tensor, torch.nn.Parameter)
    on_cpu = all(one.device.type == "cpu" and one.dtype == torch.float32 and type(one) in plain for one in tensors)
    return on_cpu and not watched() and available()


def keep_memory() -> None:
    """Have freed memory stay with the process, for the rest of its life.

    By default glibc gives every block above 32 MB back to the system and has the next step fault it in again, page by
    page: a twentieth of a step of five SAEs at GPT-2 size. Elsewhere nothing happens.
    """
    trim, threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] == "glibc":
        for option in (trim, threshold):
            ctypes.CDLL(None).mallopt(option, 2**30)


@functools.cache
def kernels() -> ctypes.CDLL:
    """Return the library, its functions declared."""
    try:
        library = ctypes.CDLL(str(_built()))
    except OSError as error:
        raise NativeUnavailable(f"the kernels cannot be loaded ({error})") from None
    array, size, flag, number, wide = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float, ctypes.c_double
    for name, (arguments, returns) in {
        "select_rows": ([array, *[size] * 3, *[array] * 2, flag], None),
        "sum_rows": ([*[array] * 4, *[size] * 3, array, flag], None),
        "draw_shards": ([*[array] * 2, *[size] * 3, *[array] * 3, flag], None),
        "drawn_sums": ([*[array] * 6, *[size] * 5, number, array, flag], None),
        "gradient_rows": ([*[array] * 5, *[size] * 3, flag, *[array] * 2, flag], None),
        "error_rows": ([*[array] * 4, *[size] * 4, flag, number, *[array] * 6, flag], None),
        "accumulate": ([*[array] * 8, *[size] * 4, flag, *[array] * 2, flag], None),
        "pack_rows": ([array, *[size] * 2, flag, *[array] * 2, flag], None),
        "search_rows": ([*[array] * 5, flag, array, *[size] * 5, flag, number, *[array] * 7, flag], None),
        "move_rows": ([*[array] * 2, *[size] * 2, *[array] * 2, flag], wide),
        "memory_size": ([], size),
        "match_rows": ([*[array] * 4, flag, *[size] * 3, *[array] * 2, wide, *[array] * 2, flag], size),
        "match_gradient": ([*[array] * 4, *[size] * 4, *[array] * 2, flag], None),
    }.items():
        if kernel := getattr(library, name, None):  # those that certify may be absent
            kernel.argtypes, kernel.restype = arguments, returns
    return library


def _built() -> Path:
    """Return the compiled library, from the user's cache or built now."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise NativeUnavailable("no C compiler was found (cc, gcc or clang; CC names another)")
    capability = torch.backends.cpu.get_cpu_capability()
    flags = ["-O3", "-shared", "-fPIC", "-ffp-contract=fast", *_INSTRUCTIONS.get(capability, ())]
    told: Any = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of PyTorch do not tell
    wanted = capability == "AVX512" and os.environ.get("MFR_NATIVE") != "fp32"
    few_bits = [*_FEW_BITS.values()] if wanted and all(map(told.get, _FEW_BITS)) else []
    sources = "".join(one.read_text() for one in SOURCES)
    identity = f"{sources}|{compiler}|{flags + few_bits}|{platform.machine()}|{platform.system()}"
    try:
        folder = user_cache()
    except ConfigError:
        raise NativeUnavailable("there is no home directory to keep the kernels in: set XDG_CACHE_HOME") from None
    name = f"native-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    own = getattr(os, "getuid", int)  # Windows has no such numbers, and 0 for every file
    try:
        # The name has the file's hash: loading a damaged one could end the process.
        for library in folder.glob(f"{name}-*.so"):
            if library.stat().st_uid == own() and library.stem == f"{name}-{sha256(library)[:16]}":
                return library
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            output = Path(temporary) / "native.so"
            # Some compilers do not know these, and some come without OpenMP: one thread then.
            for more in ([*few_bits, "-fopenmp"], ["-fopenmp"], []):
                command = [compiler, *flags, *more, "-o", str(output), *map(str, SOURCES), "-lm"]
                found = subprocess.run(command, capture_output=True, text=True, timeout=120)
                if found.returncode == 0:
                    library = folder / f"{name}-{sha256(output)[:16]}.so"
                    return output.replace(library)  # in one step: others may be building it too
    except (OSError, subprocess.SubprocessError) as error:
        way_out = "XDG_CACHE_HOME names another place"
        raise NativeUnavailable(f"building the kernels in {folder} failed: {error}; {way_out}") from None
    raise NativeUnavailable(f"{compiler} could not build the kernels: {found.stderr.strip()[-500:]}")
