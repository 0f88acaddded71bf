"""The face of the package: what it exports, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import fastcounts

HEAVY = ("numba", "zarr", "dask", "scipy", "pandas", "torch", "PIL", "tifffile", "rich")


def modules_after(code: str) -> set[str]:
    """The heavy libraries that are loaded after some code has run in a fresh process."""
    probe = f"import sys\n{code}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_loads_nothing_heavy():
    assert modules_after("import fastcounts") == set()


def test_help_loads_nothing_heavy():
    code = (
        "import fastcounts.cli\n"
        "try: fastcounts.cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0"
    )
    assert modules_after(code) == set()


def test_a_count_of_an_array_loads_no_zarr():
    code = "import numpy, fastcounts; fastcounts.count(numpy.zeros(3, 'u1'))"
    assert modules_after(code) & {"zarr", "dask", "rich"} == set()


def every_module() -> list[str]:
    found = pkgutil.walk_packages(fastcounts.__path__, "fastcounts.")
    return sorted(module.name for module in found if not module.name.endswith("__main__"))


@pytest.mark.parametrize("name", ["fastcounts", *every_module()])
def test_exports_exist_once(name):
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))
    assert len(exported) == len(set(exported))
    assert [missing for missing in exported if not hasattr(module, missing)] == []


@pytest.mark.parametrize("name", ["fastcounts", *every_module()])
def test_public_names_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{public}"


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert version("fastcounts") == fastcounts.__version__


def test_the_error_tree_in_the_docstring_is_the_one_there_is():
    tree = fastcounts.errors.__doc__
    for name in fastcounts.errors.__all__:
        error = getattr(fastcounts.errors, name)
        assert name in tree
        for base in error.__bases__:
            if base.__module__ == "builtins" and base is not Exception:
                line = next(line for line in tree.splitlines() if f" {name} " in f"{line} ")
                assert base.__name__ in line, name
