"""Why a file or an object is refused, and one line of code that counts it all the same.

Nothing is imported to find out: files are recognised by their first bytes, objects by the names of
their classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import IOBase
from pathlib import Path
from typing import Any

from fastcounts.sources.archives import ZIP_MAGIC, zip_names
from fastcounts.sources.selection import abbreviate

__all__ = ["has", "refuse_file", "refuse_object"]

_HEAD = 1024
"""Bytes of a file that are looked at: as far as the signature of HDF5 behind a MATLAB header."""

_NUMPY = "import numpy as np, fastcounts as fc"
_PILLOW = f"from PIL import Image; {_NUMPY}; fc.count(np.asarray(Image.open({{path}})))"
_SITK = "import SimpleITK as sitk, fastcounts as fc; fc.count(sitk.GetArrayFromImage({}))"
_NIFTI = f"import nibabel; {_NUMPY}; fc.count(np.asanyarray(nibabel.load({{path}}).dataobj))"
_HDF5 = "import h5py, fastcounts as fc; fc.count(h5py.File({path})['labels'][...])"
_COCO = (
    f"from pycocotools.coco import COCO; {_NUMPY}; coco = COCO({{path}}); "
    "fc.count(np.max([np.zeros((image['height'], image['width']), np.uint16)] + "
    "[coco.annToMask(one) * np.uint16(one['category_id']) for one in coco.imgToAnns[number]], "
    "axis=0) for number, image in coco.imgs.items())"
)
_PARQUET = (
    f"import io, pandas as pd; from PIL import Image; {_NUMPY}; fc.count(np.asarray(Image.open("
    "io.BytesIO(mask['bytes']))) for mask in pd.read_parquet({path})['mask'])"
)
_UNPACK = (
    "import shutil, fastcounts as fc; shutil.unpack_archive({path}, {folder}, 'FORMAT'); "
    "fc.count({folder})"
)
_UNZIP = _UNPACK.replace("FORMAT'", "zip'")
_UNTAR = _UNPACK.replace("FORMAT'", "tar', filter='data'")  # no paths that lead out of the folder
_MATLAB = "import scipy.io, fastcounts as fc; fc.count(scipy.io.loadmat({path})['labels'])"
_DICOM = "import pydicom, fastcounts as fc; fc.count(pydicom.dcmread({path}).pixel_array)"
_BLOSC2 = "import blosc2, fastcounts as fc; fc.count(blosc2.open({path})[...])"
_NETCDF = "import xarray, fastcounts as fc; fc.count(xarray.open_dataset({path})['labels'])"
_GUNZIP = (
    "import gzip, pathlib, fastcounts as fc; pathlib.Path({folder}).write_bytes("
    "gzip.open({path}).read()); fc.count({folder})"
)

_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\xff\xd8\xff", "is a JPEG, which changes labels when it compresses; write PNG", ""),
    (0, b"GIF8", "is a GIF", _PILLOW),
    (0, b"BM", "is a BMP image", _PILLOW),
    (8, b"WEBP", "is a WebP image, which may have changed labels", _PILLOW),
    (344, b"n+1\0", "is NIfTI", _NIFTI),
    (344, b"ni1\0", "is the header of a NIfTI pair", _NIFTI),
    (4, b"n+2\0", "is NIfTI-2", _NIFTI),
    (0, b"\x89HDF\r\n\x1a\n", "is HDF5, which may contain several arrays; name one", _HDF5),
    (512, b"\x89HDF\r\n\x1a\n", "is HDF5, which may contain several arrays; name one", _HDF5),
    (0, b"CDF\x01", "is netCDF, which may contain several variables; name one", _NETCDF),
    (0, b"CDF\x02", "is netCDF, which may contain several variables; name one", _NETCDF),
    (0, b"PAR1", "is Parquet; name the column of its masks", _PARQUET),
    (0, b"MATLAB 5", "is a MATLAB file, which may contain several arrays; name one", _MATLAB),
    (128, b"DICM", "is DICOM", _DICOM),
    (2, b"b2frame", "is a Blosc2 array", _BLOSC2),
    (0, b"NRRD0", "is NRRD", _SITK.format("sitk.ReadImage({path})")),
    (0, b"ObjectType", "is MetaImage", _SITK.format("sitk.ReadImage({path})")),
    (257, b"ustar", "is a tar archive", _UNTAR),
)
"""Offset and bytes by which a format is known, what it is, and how to count it."""


def _with_code(reason: str, code: str, path: Path) -> str:
    if not code:
        return reason
    folder = path.with_suffix("") if path.suffix else path.with_name(f"{path.name}_unpacked")
    return f"{reason}; count it with: " + code.replace("{path}", repr(str(path))).replace(
        "{folder}", repr(str(folder))
    )


def refuse_file(path: Path) -> str | None:
    """Return why a file cannot be counted and what to do; None if its format is not known."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for offset, magic, reason, code in _SIGNATURES:
        if head.startswith(magic, offset):
            return _with_code(reason, code, path)
    name = path.name.lower()
    if head.startswith(b"\x1f\x8b"):
        if name.endswith(".nii.gz"):
            return _with_code("is NIfTI", _NIFTI, path)
        if name.endswith((".tar.gz", ".tgz")):
            return _with_code("is a tar archive", _UNTAR, path)
        return _with_code("is compressed with gzip", _GUNZIP, path)
    if head.startswith(ZIP_MAGIC):
        names = zip_names(path)
        shown = abbreviate(", ".join(names[:3])) + (", ..." if len(names) > 3 else "")
        return _with_code(
            f"is a zip file of {len(names)} members ({shown}), which are neither a Zarr array or "
            "group nor .npy arrays; unpack it",
            _UNZIP,
            path,
        )
    if name.endswith((".json", ".geojson")) and head.lstrip()[:1] in (b"{", b"["):
        return _with_code(
            "is JSON, not masks; polygons and run lengths, as in COCO, have to be drawn",
            _COCO,
            path,
        )
    return None


_OBJECTS: tuple[tuple[str, str, str, str], ...] = (
    ("torch", "Tensor", "a tensor", "{it}.cpu().numpy()"),
    ("torch", "DataLoader", "it yields more than masks", "(mask.numpy() for _, mask in {it})"),
    ("torch", "IterableDataset", "it yields more than masks",
     "(np.asarray(mask) for _, mask in {it})"),
    ("torch", "Dataset", "it yields more than masks",
     "(np.asarray({it}[number][1]) for number in range(len({it})))"),
    ("tensorflow", "Tensor", "a tensor", "{it}.numpy()"),
    ("tensorflow", "DatasetV2", "it yields more than masks",
     "(mask for _, mask in {it}.as_numpy_iterator())"),
    ("jax", "Array", "an array on a device", "np.asarray({it})"),
    ("jaxlib", "ArrayImpl", "an array on a device", "np.asarray({it})"),
    ("cupy", "ndarray", "an array on a device", "{it}.get()"),
    ("dask", "Array", "a Dask array is not counted within a list or iterator",
     "sum(map(fc.count, arrays))"),
    ("xarray", "DataArray", "a DataArray is not counted within a list or iterator",
     "sum(map(fc.count, arrays))"),
    ("h5py", "Dataset", "an array in an HDF5 file", "{it}[...]"),
    ("h5py", "Group", "it may contain several arrays; name one", "{it}['labels'][...]"),
    ("netCDF4", "Variable", "a variable in a netCDF file", "{it}[...]"),
    ("netCDF4", "Dataset", "it may contain several variables; name one", "{it}['labels'][...]"),
    ("PIL", "Image", "an image", "np.asarray({it})"),
    ("pandas", "DataFrame", "a table", "{it}.to_numpy()"),
    ("pandas", "Series", "a column of a table", "{it}.to_numpy()"),
    ("polars", "DataFrame", "a table", "{it}.to_numpy()"),
    ("polars", "Series", "a column of a table", "{it}.to_numpy()"),
    ("nibabel", "SpatialImage", "an image", "np.asanyarray({it}.dataobj)"),
    ("SimpleITK", "Image", "an image", "SimpleITK.GetArrayFromImage({it})"),
    ("rasterio", "DatasetReader", "a raster file", "{it}.read(1, masked=True)"),
    ("datasets", "Dataset", "it yields more than masks",
     "(np.asarray(row['mask']) for row in {it})"),
    ("builtins", "memoryview", "a buffer", "np.asarray({it})"),
    ("builtins", "bytearray", "a buffer without a shape", "np.frombuffer({it}, np.uint8)"),
    ("array", "array", "a buffer", "np.asarray({it})"),
    ("mmap", "mmap", "a buffer without a shape", "np.frombuffer({it}, np.uint8)"),
)  # fmt: skip
"""Package and class, what it is, and an expression for its masks that can be counted."""


def has(target: Any, name: str) -> bool:
    """Return whether an object has an attribute, also if asking for it raises."""
    try:
        return hasattr(target, name)
    except Exception:  # noqa: BLE001  a foreign object may do anything
        return False


def refuse_object(target: Any) -> str:
    """Return why an object cannot be counted, and what to do."""
    kind = f"{type(target).__module__}.{type(target).__qualname__}"
    if isinstance(target, IOBase):
        return f"{kind}: an open file is not counted; give its path"
    if kind == "fastcounts.counts.Counts":
        return f"{kind}: these are counts already; add them to others with +"
    for package, name, what, code in _OBJECTS:
        if any(
            one.__name__ == name and one.__module__.split(".")[0] == package
            for one in type(target).__mro__
        ):
            if code.startswith("sum("):
                return f"{kind}: {what}; count it with: {code}"
            expression = code.replace("{it}", _variable(name))
            return (
                f"{kind}: is not counted directly ({what}); count it with: fc.count({expression})"
            )
    if has(target, "__array__"):
        return (
            f"{kind}: converting it to a NumPy array could lose what its elements mean (masks, "
            "axes, device); convert it yourself and pass the array: fc.count(np.asarray(it))"
        )
    if isinstance(target, Mapping):
        return f"{kind}: is not a source of masks; count it with: fc.count(list(it.values()))"
    if isinstance(target, Iterable):
        return (
            f"{kind}: is not a source of masks; if it yields masks, count it with: "
            "fc.count(np.asarray(mask) for mask in it)"
        )
    return f"{kind}: is not a source of masks; give an array, a path, or an open Zarr array"


def _variable(name: str) -> str:
    """Return what an example calls an object of a class."""
    return {"DatasetV2": "dataset", "DatasetReader": "dataset", "ArrayImpl": "array",
            "ndarray": "array", "Array": "array", "SpatialImage": "image", "DataLoader": "loader",
            "IterableDataset": "dataset", "DataFrame": "frame"}.get(name, name.lower())  # fmt: skip
