"""What the machine can do, as far as kernels are written for it."""

import os
from typing import Any

import llvmlite.binding as llvm
import numba

_settings: Any = numba.config


def _vector_width():
    asked = os.environ.get("DLN_VECTOR_WIDTH")
    if asked is not None:
        if asked not in ("4", "8"):
            raise ValueError(f"DLN_VECTOR_WIDTH must be 4 or 8, got {asked!r}; without it the machine decides")
        return int(asked)
    if not _settings.ENABLE_AVX or _settings.CPU_NAME == "generic":
        return 4
    if _settings.CPU_FEATURES is not None:
        return 8 if "+avx512f" in _settings.CPU_FEATURES.split(",") else 4
    return 8 if llvm.get_host_cpu_features().get("avx512f", False) else 4


#: How many floats the vectors of single runs hold: 8 where one register does (AVX-512), else 4.  In which order sums are taken
#: depends on it, and so do last digits; the environment variable DLN_VECTOR_WIDTH makes machines agree.
VECTOR_WIDTH = _vector_width()
