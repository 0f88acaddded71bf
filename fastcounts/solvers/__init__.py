"""From counts to weights: one function a scheme, one entry, :func:`solve`.

A scheme is a function from a :class:`Tally` (what it may know of the counts) to one raw value a
class. The decorator :func:`~fastcounts.solvers.register.scheme` adds it to the register together
with its formula, its source and what it does to a class without pixels; help texts and
documentation are made from the register.

::

    solving  intervals            solve() and bootstrap()
    diagnosis                     what stands beside the weights
    formulas  costs  sampling     the schemes; costs has equal_cost
    masses  shares                the mathematics of equal_cost, on plain arrays
    register  options             what a scheme states of itself; how its options are read
    tally                         what a scheme may know of the counts
"""

from fastcounts.solvers import formulas  # noqa: F401  # the register lists schemes in this order

# isort: split
from fastcounts.solvers import costs  # noqa: F401

# isort: split
from fastcounts.solvers import sampling  # noqa: F401

# isort: split
from fastcounts.solvers.intervals import Intervals, bootstrap
from fastcounts.solvers.masses import equal_masses
from fastcounts.solvers.options import read_option
from fastcounts.solvers.register import Option, Scheme, describe_scheme, schemes
from fastcounts.solvers.sampling import rare_class_chances
from fastcounts.solvers.shares import per_image_weights
from fastcounts.solvers.solving import solve
from fastcounts.solvers.tally import Tally

__all__ = [
    "Intervals",
    "Option",
    "Scheme",
    "Tally",
    "bootstrap",
    "describe_scheme",
    "equal_masses",
    "per_image_weights",
    "rare_class_chances",
    "read_option",
    "schemes",
    "solve",
]
