"""Reading memory and nothing else: the limit of what counting can do."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.jit import compiled

__all__ = ["fold_words"]


@compiled
def fold_words(words: Any) -> Any:
    """The exclusive or of all words, 64 bits each."""
    result = np.uint64(0)
    for i in range(words.size):
        result ^= words[i]
    return result
