"""An example of 31 classes: one has 60 % of all pixels, as in the question; the tail is assumed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.counts import Counts
from fastcounts.engine import count
from fastcounts.engine.events import Listener
from fastcounts.kernels.jit import on_compiling
from fastcounts.solvers import solve
from fastcounts.weights import Weights

__all__ = [
    "CLASSES",
    "KEPT",
    "Demonstration",
    "demonstrate",
    "draw_mask",
    "write_masks",
    "write_pngs",
]

CLASSES = 31
SIDE = 2048
KEPT = ("masks.zarr", "masks", "counts.json")
"""What is kept, by name: the Zarr array, smaller masks as a folder of PNG files, and the counts."""

_PNG_FILES = 64
_PNG_STEP = 4
"""Files, and the pixel that is taken of so many along each axis: written in about a second."""

_COARSE = 256
_BACKGROUND = 0.6
_CELLS = 240
_TAIL = 0.8
"""Each class but the first has this share of the pixels of the one before."""


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration found.

    Attributes
    ----------
    counts : of all masks.
    inverse : max(count) / count, the weights of the question.
    equal_cost : the same family with the pixel mean 1.
    seconds : that counting took.
    """

    counts: Counts
    inverse: Weights
    equal_cost: Weights
    seconds: float


def demonstrate(
    folder: Path,
    images: int = 64,
    *,
    workers: int | None = None,
    progress: Listener | None = None,
    say: Callable[[str], None] | None = None,
    keep: bool = False,
) -> Demonstration:
    """Make the masks, count them, and solve for the weights.

    Parameters
    ----------
    folder : where the masks are written, as ``masks.zarr``.
    images : how many masks of 2048 x 2048 pixels.
    workers : threads.
    progress : listens to the count.
    say : called with a line of text before each step.
    keep : whether to write ``masks/``, a folder of PNG files made from the masks, and
        ``counts.json`` as well.
    """
    path = folder / "masks.zarr"

    def tell(line: str) -> None:
        if say is not None:
            say(line)

    tell(f"drawing {images} masks of {SIDE} x {SIDE} pixels, {CLASSES} classes, as {path}")
    try:
        write_masks(path, images)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)  # masks that are not complete are of no use
        raise
    with on_compiling(lambda: tell("compiling the kernels, once on a machine")):
        count(path, classes=CLASSES, items=0, region=slice(0, 1), workers=1)
    begun = time.perf_counter()
    counts = count(
        path, classes=CLASSES, items=0, keep_items=True, workers=workers, progress=progress
    )
    seconds = time.perf_counter() - begun
    if keep:
        tell(f"writing {min(images, _PNG_FILES)} PNG files and the counts")
        write_pngs(path, folder / "masks")
        counts.save(folder / "counts.json")
    return Demonstration(counts, solve(counts, "inverse"), solve(counts, "equal_cost"), seconds)


def write_masks(path: Path, images: int, seed: int = 31) -> None:
    """Write masks as one Zarr array (images, 2048, 2048) of uint8, zstd, in chunks of 1 MiB."""
    import zarr
    from zarr.codecs import ZstdCodec

    classes = _cell_classes(images, np.random.default_rng(seed))
    array = zarr.create_array(
        path,
        shape=(images, SIDE, SIDE),
        chunks=(1, SIDE // 2, SIDE // 2),
        dtype=np.uint8,
        compressors=ZstdCodec(level=3),
    )

    def draw(image: int) -> None:
        array[image] = draw_mask(classes[image], np.random.default_rng([seed, image]))

    with ThreadPoolExecutor(2) as pool:
        try:
            list(pool.map(draw, range(images)))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # an interrupted demonstration ends soon
            raise


def write_pngs(path: Path, folder: Path) -> None:
    """Write the first 64 masks as PNG files, at a quarter of their width and height."""
    import zarr
    from PIL import Image

    masks = zarr.open_array(path, mode="r")
    folder.mkdir()
    try:
        for image in range(min(masks.shape[0], _PNG_FILES)):
            small = np.asarray(masks[image])[::_PNG_STEP, ::_PNG_STEP]
            Image.fromarray(np.ascontiguousarray(small)).save(folder / f"{image:03}.png")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # a folder without some of its files misleads
        raise


def _cell_classes(images: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """The class of every cell of every image: (images, cells).

    The shares of the classes 1 to 30 fall off geometrically; each has a cell at least.
    """
    shares = _TAIL ** np.arange(CLASSES - 1)
    ends = np.cumsum(shares) / shares.sum()
    cells = images * _CELLS
    classes = np.searchsorted(ends, (np.arange(cells) + 0.5) / cells) + 1
    rare = min(CLASSES - 1, cells)
    classes[:rare] = np.arange(CLASSES - rare, CLASSES)
    return generator.permutation(classes.astype(np.uint8)).reshape(images, _CELLS)


def draw_mask(classes: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one mask: regions with smooth outlines on a background of 60 % of its pixels.

    Parameters
    ----------
    classes : (cells,) the classes of the regions.
    generator : of random numbers.

    Returns
    -------
    The mask, (2048, 2048) uint8.
    """
    cells = np.repeat(np.repeat(_cells(classes, generator), SIDE // _COARSE, 0), SIDE // _COARSE, 1)
    height = _smooth(24, SIDE, generator)
    level = np.quantile(height[::8, ::8], _BACKGROUND)
    cells[height < level] = 0
    return cells


def _cells(classes: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Every coarse pixel has the class of the nearest centre, on axes that are bent a little."""
    centres = generator.uniform(0, _COARSE, (classes.size, 2)).astype(np.float32)
    grid = np.arange(_COARSE, dtype=np.float32)
    rows = grid[:, None] + 8 * _smooth(20, _COARSE, generator)
    columns = grid[None, :] + 8 * _smooth(20, _COARSE, generator)
    nearest = np.full(rows.shape, np.inf, np.float32)
    drawn = np.zeros(rows.shape, np.uint8)
    for label, (row, column) in zip(classes.tolist(), centres, strict=True):
        distance = (rows - row) ** 2 + (columns - column) ** 2
        closer = distance < nearest
        nearest[closer] = distance[closer]
        drawn[closer] = label
    return drawn


def _smooth(knots: int, side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """A smooth random field (side, side): random knots, interpolated along both axes."""
    values = generator.standard_normal((knots, knots)).astype(np.float32)
    weights = _interpolation(knots, side)
    field: NDArray[Any] = weights @ values @ weights.T
    return field


def _interpolation(knots: int, side: int) -> NDArray[np.float32]:
    """The matrix (side, knots) that interpolates with a raised cosine."""
    place = np.linspace(0, knots - 1.001, side)
    left = place.astype(int)
    share = (1 - np.cos(np.pi * (place - left))) / 2
    matrix = np.zeros((side, knots), np.float32)
    matrix[np.arange(side), left] = 1 - share
    matrix[np.arange(side), left + 1] = share
    return matrix
