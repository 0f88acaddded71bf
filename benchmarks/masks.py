"""Masks to measure with, made from a seed.

Natural-looking masks: every class has a smooth random field, rarer classes finer ones,
and a pixel belongs to the class whose field is largest there. Class sizes have a long
tail. The fields are stretched until the mean run length along a row is the one stated;
37 px is that of CamVid, 144 px that of Pascal VOC, as examples of street scenes and of
photographs of single objects.

Noise and adversarial inputs are here as well: each defeats one way of counting fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CAMVID_RUN = 37.0
VOC_RUN = 144.0


def mean_run(mask: NDArray[Any]) -> float:
    """Return the mean length of runs of one label along rows, in pixels."""
    changes = np.count_nonzero(mask[..., 1:] != mask[..., :-1])
    return float(mask.size / (changes + mask.size / mask.shape[-1]))


def run_lengths(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Return the length of every run along rows, in pixels."""
    rows = mask.reshape(-1, mask.shape[-1])
    starts = np.ones(rows.shape, np.bool_)
    starts[:, 1:] = rows[:, 1:] != rows[:, :-1]
    return np.diff(np.append(np.flatnonzero(starts), rows.size))


def _stretch(knots: NDArray[np.float32], length: int, shift: float) -> NDArray[np.float32]:
    """Draw a smooth curve through knots (n, ...): cubic splines at ``length`` places."""
    place = np.linspace(shift, len(knots) - 4 + shift, length, endpoint=False)
    first = np.minimum(place.astype(np.int64), len(knots) - 4)
    t = (place - first).astype(np.float32)
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)
    curve = np.zeros((length, *knots.shape[1:]), np.float32)
    for k, weight in enumerate(weights):
        curve += weight.reshape(-1, *[1] * (knots.ndim - 1)) / 6 * knots[first + k]
    return curve


def _field(rng: np.random.Generator, shape: tuple[int, int], spacing: float) -> NDArray[np.float32]:
    """Return a smooth random field with some detail at its edges."""
    field = np.zeros(shape, np.float32)
    for octave, weight in ((1.0, 1.0), (4.0, 0.22), (9.0, 0.08)):
        step = max(spacing / octave, 3.0)
        rows, columns = (int(np.ceil(length / step)) + 4 for length in shape)
        knots = rng.standard_normal((rows, columns), np.float32)
        down = _stretch(knots, shape[0], rng.random())
        field += np.float32(weight) * _stretch(down.T, shape[1], rng.random()).T
    return field


def _natural_image(
    rng: np.random.Generator, shape: tuple[int, int], classes: int, spacing: float
) -> NDArray[np.uint8]:
    best = np.full(shape, -np.inf, np.float32)
    mask = np.zeros(shape, np.uint8)
    for label in range(classes):
        field = _field(rng, shape, spacing / (1 + label) ** 0.35)
        field -= np.float32(0.4 * np.log1p(label))
        larger = field > best
        best[larger] = field[larger]
        mask[larger] = label
    return mask


def natural(
    run: float,
    *,
    images: int = 8,
    shape: tuple[int, int] = (720, 960),
    classes: int = 31,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Make natural-looking masks (images, rows, columns) of a stated mean run length.

    Parameters
    ----------
    run : the mean run length along rows, in pixels; it is met within 15 %, mostly 4 %.
    images : how many.
    shape : rows and columns of one.
    classes : how many labels there are, from 0.
    seed : the same seed makes the same masks.
    """
    spacing = 2.5 * run
    for attempt in range(12):
        rng = np.random.default_rng(seed)
        masks = np.stack([_natural_image(rng, shape, classes, spacing) for _ in range(images)])
        ratio = run / mean_run(masks)
        if abs(ratio - 1) < 0.04 + 0.01 * attempt:
            return masks
        spacing *= ratio**0.8
    raise RuntimeError(f"no masks of mean run {run} px within {classes} classes and {shape}")


def noise(size: int, classes: int, *, dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    """Make independent, uniformly random labels."""
    return np.random.default_rng(seed).integers(0, classes, size, dtype=dtype)


def periodic(size: int, period: int) -> NDArray[np.uint8]:
    """Make labels that repeat 0, 1, ... with a period."""
    return np.resize(np.arange(period, dtype=np.uint8), size)


def alternating(size: int, tile: int, *, classes: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """Make noise and constant runs that take turns, ``tile`` pixels each."""
    labels = noise(size, classes, seed=seed)
    turns = np.arange(size) // tile
    constant = turns % 2 == 1
    labels[constant] = (turns[constant] % 251).astype(np.uint8)
    return labels


def odd_pixels(size: int, every: int = 64, *, seed: int = 0) -> NDArray[np.uint8]:
    """Make one constant region with a random odd pixel in every ``every`` pixels."""
    rng = np.random.default_rng(seed)
    labels = np.full(size, 7, np.uint8)
    starts = np.arange(0, size - every + 1, every)
    places = starts + rng.integers(0, every, starts.size)
    labels[places] = rng.integers(0, 256, starts.size)
    return labels


def segments(
    size: int,
    ids: int,
    *,
    run: float = 24.0,
    dtype: Any = np.uint64,
    nearby: int = 40,
    seed: int = 0,
) -> NDArray[Any]:
    """Make ids as in a volume of neurons: geometric runs of ids that recur nearby.

    Parameters
    ----------
    size : pixels.
    ids : how many distinct ids may occur, drawn from all that the type can hold.
    run : mean run length, in pixels.
    nearby : so many ids take turns for a while.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(rng.integers(1, np.iinfo(dtype).max, 2 * ids, dtype=dtype))
    names = rng.permutation(names)[:ids]
    runs = int(size / run * 1.2) + 16
    lengths = rng.geometric(1 / run, runs)
    drift = np.cumsum(rng.integers(0, 2, runs) * rng.integers(0, 3, runs)) // 24
    chosen = (drift + rng.integers(0, min(nearby, ids), runs)) * 7919 % ids
    return np.repeat(names[chosen], lengths)[:size]
