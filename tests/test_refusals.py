"""What cannot be counted says why, and what it advises works."""

from __future__ import annotations

import array
import gzip
import io
import json
import mmap
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_sources import mask

import fastcounts as fc
from fastcounts.errors import ReadError, SourceNotFound, UnsupportedSource

LABELS = mask(6, 7)
STACK = np.stack([LABELS, LABELS[::-1]])


def advice(target: Any, *says: str) -> str:
    """The code that a refusal advises."""
    with pytest.raises(UnsupportedSource) as caught:
        fc.count(target)
    for text in says:
        assert text in str(caught.value)
    (code,) = re.findall(r"count it with: (.+)$", str(caught.value))
    assert "\n" not in str(caught.value)
    return str(code)


def result(code: str, **names: Any) -> fc.Counts:
    """Run the code; returns the counts that its last expression gives."""
    *first, last = code.split("; ")
    space: dict[str, Any] = {"np": np, "fc": fc, **names}
    exec("\n".join(first), space)
    counts = eval(last, space)
    assert isinstance(counts, fc.Counts)
    return counts


def check(counts: fc.Counts, *arrays: np.ndarray) -> None:
    together = np.concatenate([one.ravel() for one in arrays])
    assert np.array_equal(counts.pixels, np.unique(together, return_counts=True)[1])
    assert np.array_equal(counts.labels, np.unique(together))


# ---- objects ----


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    code = advice(torch.from_numpy(LABELS.copy()), "torch.Tensor", "tensor")
    check(result(code, tensor=torch.from_numpy(LABELS.copy())), LABELS)


def test_torch_data_sets_and_loaders() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data

    class Images(data.Dataset):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return len(STACK)

        def __getitem__(self, number: int) -> Any:
            return torch.zeros(3), torch.from_numpy(STACK[number].copy())

    code = advice(Images(), "Images", "yields more than masks")
    check(result(code, dataset=Images()), *STACK)
    loader = data.DataLoader(Images(), batch_size=2)
    check(result(advice(loader, "DataLoader"), loader=loader), *STACK)

    class Stream(data.IterableDataset):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Any:
            return iter([(torch.zeros(3), torch.from_numpy(STACK[0].copy()))])

    check(result(advice(Stream(), "Stream"), dataset=Stream()), STACK[0])


def test_hdf5_objects(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = LABELS
        check(result(advice(file["labels"], "h5py", "Dataset"), dataset=file["labels"]), LABELS)
        check(result(advice(file, "several arrays"), group=file), LABELS)


def test_pictures_and_tables() -> None:
    pd = pytest.importorskip("pandas")
    image = Image.fromarray(LABELS)
    check(result(advice(image, "PIL.Image.Image"), image=image), LABELS)
    frame = pd.DataFrame(LABELS)
    check(result(advice(frame, "DataFrame"), frame=frame), LABELS)
    check(result(advice(frame[0], "Series"), series=frame[0]), LABELS[:, 0])


def test_tensorflow_objects() -> None:
    tf = pytest.importorskip("tensorflow")
    tensor = tf.constant(LABELS)
    check(result(advice(tensor, "tensor"), tensor=tensor), LABELS)
    dataset = tf.data.Dataset.from_tensor_slices((STACK, STACK))
    check(result(advice(dataset, "Dataset"), dataset=dataset), *STACK)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: memoryview(LABELS), LABELS),
        (lambda: memoryview(LABELS.ravel()), LABELS),
        (lambda: bytearray(LABELS.tobytes()), LABELS),
        (lambda: array.array("H", [1, 1, 2]), np.array([1, 1, 2])),
    ],
    ids=["memoryview", "memoryview of one axis", "bytearray", "array"],
)
def test_buffers(make: Callable[[], Any], expected: np.ndarray) -> None:
    target = make()
    check(result(advice(target, "buffer"), **{type(target).__name__: target}), expected)


def test_a_map_of_memory() -> None:
    with mmap.mmap(-1, 4) as target:
        assert result(advice(target, "buffer"), mmap=target).ledger.total == 4


def test_containers() -> None:
    masks = {"a": STACK[0], "b": STACK[1]}
    check(result(advice(masks, "dict"), it=masks), *STACK)
    check(result(advice(masks.values(), "dict_values"), it=masks.values()), *STACK)


def test_lazy_arrays_in_lists() -> None:
    da = pytest.importorskip("dask.array")
    xarray = pytest.importorskip("xarray")
    for arrays in ([da.from_array(one) for one in STACK], [xarray.DataArray(one) for one in STACK]):
        for target in (arrays, iter(arrays)):
            check(result(advice(target, "within a list"), arrays=arrays), *STACK)


def test_an_open_file_is_no_list_of_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("b.png\n")
    with (
        (tmp_path / "a.txt").open() as file,
        pytest.raises(UnsupportedSource, match=r"open file.*path"),
    ):
        fc.count(file)


class Odd:
    """Raises whatever is asked of it."""

    def __iter__(self) -> Any:
        raise NotImplementedError("no")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Endless:
    """Fails to be iterated over."""

    def __iter__(self) -> Any:
        raise ValueError("no")


def test_odd_objects() -> None:
    for target in (Odd(), Endless(), [Odd()], np.float16, NotImplemented, ...):
        with pytest.raises(UnsupportedSource):
            fc.count(target)


# ---- paths as bytes ----


def test_paths_may_be_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LABELS)
    path = os.fsencode(tmp_path / "a.npy")
    counts = fc.count(path)
    check(counts, LABELS)
    assert counts == fc.count([path]) == fc.count(tmp_path / "a.npy")
    assert fc.count(path, scheduler="synchronous") == counts
    with pytest.raises(SourceNotFound, match=r"gone\.npy"):
        fc.count(b"gone.npy")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0", b"a" * (1 << 16)])
def test_bytes_that_are_no_path(content: bytes) -> None:
    with pytest.raises(UnsupportedSource, match="taken for the path"):
        fc.count(content)


def test_a_path_that_no_file_can_have() -> None:
    for path in ("a\0b.png", "a\0b/c.png"):
        with pytest.raises(SourceNotFound):
            fc.count(path)


# ---- files ----


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_nifti(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    head = struct.pack("<i", 348) + bytes(340) + b"n+1\0"
    written(path, gzip.compress(head) if suffix == "nii.gz" else head)
    assert "nibabel.load" in advice(path, "is NIfTI")
    nibabel = pytest.importorskip("nibabel")
    nibabel.Nifti1Image(LABELS[..., None], np.eye(4)).to_filename(path)
    check(result(advice(path)), LABELS)


def test_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    for name, block in (("a.h5", 0), ("a.mat", 512)):
        with h5py.File(tmp_path / name, "w", userblock_size=block) as file:
            file["labels"] = LABELS
        check(result(advice(tmp_path / name, "is HDF5")), LABELS)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
def test_coco(tmp_path: Path) -> None:
    corners = [1.0, 1.0, 1.0, 4.0, 5.0, 4.0, 5.0, 1.0]
    one = {"id": 1, "image_id": 1, "category_id": 300, "segmentation": [corners]}
    one |= {"area": 12, "bbox": [1, 1, 4, 3], "iscrowd": 0}
    images = [{"id": 1, "height": 6, "width": 7}, {"id": 2, "height": 2, "width": 3}]
    content = {"images": images, "categories": [{"id": 300, "name": "x"}], "annotations": [one]}
    path = written(tmp_path / "a.json", json.dumps(content).encode())
    code = advice(path, "JSON", "drawn")
    pytest.importorskip("pycocotools")
    counts = result(code)
    assert counts.labels.tolist() == [0, 300]
    assert counts.items == 2
    assert counts.ledger.total == 48
    assert counts.pixels[1] == 12


def test_parquet(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", b"PAR1 and so on")
    code = advice(path, "is Parquet")
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    buffer = io.BytesIO()
    Image.fromarray(LABELS).save(buffer, "PNG")
    pd.DataFrame({"mask": [{"bytes": buffer.getvalue(), "path": "a.png"}]}).to_parquet(path)
    check(result(code), LABELS)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_of_pictures(tmp_path: Path, kind: str) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    path = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "a.png", "a.png")
        code = advice(path, "a.png", "unpack")
    else:
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "a.png", "a.png")
        code = advice(path, "tar archive")
    check(result(code), LABELS)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Pillow keeps a GIF open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_pictures_of_other_kinds(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.gif")
    Image.fromarray(LABELS).save(tmp_path / "a.bmp")
    for name in ("a.gif", "a.bmp"):
        check(result(advice(tmp_path / name)), LABELS)


def test_gzip(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LABELS)
    path = written(tmp_path / "b.npy.gz", gzip.compress((tmp_path / "a.npy").read_bytes()))
    check(result(advice(path, "gzip")), LABELS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"CDF\x01", "netCDF"),
        (b"NRRD0005", "NRRD"),
        (b"MATLAB 5.0 MAT-file", "MATLAB"),
        (b"RIFF\0\0\0\0WEBPVP8L", "WebP"),
        (b"\x9e\xa8b2frame\0", "Blosc2"),
    ],
)
def test_other_files_say_what_they_are(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UnsupportedSource, match=says):
        fc.count(written(tmp_path / "a", content))


def test_other_archives_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LABELS)
    with zipfile.ZipFile(tmp_path / "table.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "none")
    (tmp_path / "damaged.zip").write_bytes(b"PK\x03\x04")
    check(fc.count(tmp_path), LABELS)
    with pytest.raises(ReadError, match=r"damaged\.zip"):
        fc.count(tmp_path / "damaged.zip")


def test_a_folder_of_other_files_says_what_they_are(tmp_path: Path) -> None:
    written(tmp_path / "a.nii", struct.pack("<i", 348) + bytes(340) + b"n+1\0")
    with pytest.raises(SourceNotFound, match=r"only 1 other file.*a\.nii is NIfTI.*nibabel"):
        fc.count(tmp_path)
