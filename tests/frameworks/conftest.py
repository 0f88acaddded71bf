"""Order of imports of the frameworks.

PyTorch with CUDA imports Triton when an optimizer is made. If TensorFlow was imported before it,
the process crashes, because both contain LLVM. The other order works.
"""

from __future__ import annotations

import contextlib
import warnings

with warnings.catch_warnings(), contextlib.suppress(ImportError):
    warnings.simplefilter("ignore")
    import triton  # noqa: F401
