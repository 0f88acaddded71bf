"""Schemes of one formula: one function each, from a tally to one raw value a class.

A scheme need not care for classes without pixels: their values are replaced afterwards.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from fastcounts.errors import OptionError, PresenceNeeded
from fastcounts.messages import argument, variants
from fastcounts.solvers.options import at_least, choice, flag, number, per_class
from fastcounts.solvers.register import scheme
from fastcounts.solvers.tally import Tally
from fastcounts.weights import Floats, weights_from_prior

__all__ = [
    "balanced",
    "balanced_softmax",
    "effective_number",
    "enet",
    "generalised_dice",
    "idf",
    "inverse",
    "inverse_log_count",
    "inverse_offset",
    "label_smoothing",
    "ldam",
    "log_inverse",
    "logit_adjustment",
    "median_frequency",
    "neg_log",
    "one_minus",
    "pos_weight",
    "power",
    "target_prior",
    "uniform",
]


@scheme(
    formula="1",
    tex=r"1",
    source="no weights",
    absent="1",
)
def uniform(tally: Tally) -> Floats:
    """Leave the loss as it is: every pixel counts the same."""
    return np.ones(tally.labels.size)


@scheme(
    formula="max(n) / n",
    tex=r"\frac{\max_j n_j}{n_c}",
    source="the plainest form of inverse frequency; the largest class weighs 1",
    absent="infinite",
)
def inverse(tally: Tally) -> Floats:
    """Largest count over the count of the class: 1 for the largest class."""
    return np.asarray(tally.pixels.max() / tally.pixels)


@scheme(
    formula="N / (K * n)",
    tex=r"\frac{N}{K\,n_c}",
    source="King and Zeng (2001), Political Analysis 9(2), 137-163; 'balanced' of scikit-learn",
    absent="infinite; K counts the classes that have pixels",
)
def balanced(tally: Tally) -> Floats:
    """Inverse frequency on the scale that keeps the mean over the pixels at 1."""
    return np.asarray(1 / (tally.frequencies * tally.classes))


@scheme(
    formula="p ** -exponent",
    tex=r"p_c^{-\gamma}",
    source="folklore; the square root as in Mahajan et al. (2018), arXiv:1805.00932",
    absent="infinite",
    exponent="0 gives no weights, 0.5 the square root, 1 inverse frequency",
    void="ignored pixels are part of N in p = n / N",
)
def power(tally: Tally, *, exponent: float = 0.5, void: bool = False) -> Floats:
    """Frequency to a negative power: half-way between no weights and inverse frequency."""
    return np.asarray(_shares(tally, void) ** -at_least("exponent", exponent, 0))


@scheme(
    formula="median(f) / f, with f = n / (pixels of the images that contain the class)",
    tex=r"\frac{\operatorname{median}_j f_j}{f_c},\quad f_c = \frac{n_c}{P_c}",
    source="Eigen and Fergus (2015), arXiv:1411.4734, section 6.3.2; SegNet",
    absent="undefined, and left out of the median",
    needs="presence",
    differentiable=False,
    presence="f is taken over the images that contain the class, not over all",
    void="ignored pixels are part of the denominators of f",
    void_in_median="the ignored labels are classes to the median, though they get no weight",
    of="'frequencies': median(f) / f; 'inverses': (1 / f) / median(1 / f); they differ for even K",
)
def median_frequency(
    tally: Tally,
    *,
    presence: bool = True,
    void: bool = False,
    void_in_median: bool = False,
    of: Literal["frequencies", "inverses"] = "frequencies",
) -> Floats:
    """Frequency of the class in the images that contain it, against the median of all."""
    everywhere = tally.counted + tally.void
    voids = [(pixels, images) for pixels, images in tally.ignored.values() if pixels]
    if flag("presence", presence):
        column = "presence_pixels_total" if flag("void", void) else "presence_pixels"
        tally.need_presence(f"median_frequency (with {argument('presence', True)})", column)
        held: Any = getattr(tally, column)
        if flag("void_in_median", void_in_median) and any(n > images for n, images in voids):
            raise PresenceNeeded(
                f"{argument('void_in_median')} needs the pixels of the images that hold "
                "each ignored label: "
                + variants(
                    "give ignored={label: Ignored(pixels, presence, presence_pixels_total)} to "
                    "Counts.from_pixels",
                    "count the masks",
                )
                + f", or give {argument('presence', False)}"
            )
        ignored = [pixels / max(images, 1) for pixels, images in voids]
    else:
        held = everywhere if flag("void", void) else tally.counted
        ignored = [pixels / everywhere for pixels, _ in voids]
    frequency = np.asarray(tally.pixels / held)
    seen = frequency[tally.present]
    if flag("void_in_median", void_in_median):
        seen = np.append(seen, ignored)
    if choice("of", of, "frequencies", "inverses") == "frequencies":
        return np.asarray(np.median(seen) / frequency)
    return np.asarray(1 / (frequency * np.median(1 / seen)))


@scheme(
    formula="1 / ln(c + p)",
    tex=r"\frac{1}{\ln(c + p_c)}",
    source="Paszke et al. (2016), ENet, arXiv:1606.02147, section 5.2",
    absent="finite, 1 / ln(c): 50.5 for c = 1.02",
    c="above 1; the weights lie between 1 / ln(c + 1) and 1 / ln(c). ERFNet and CGNet take 1.10",
    void="ignored pixels are part of N in p = n / N, as in the table of ERFNet",
)
def enet(tally: Tally, *, c: float = 1.02, void: bool = False) -> Floats:
    """Bounded inverse of the logarithm of the frequency."""
    return np.asarray(1 / np.log(number("c", c, above=1) + _shares(tally, void)))


def _shares(tally: Tally, void: Any) -> Floats:
    """Frequencies of the classes, ignored pixels in the denominator or not."""
    every = tally.counted + (tally.void if flag("void", void) else 0)
    return np.asarray(tally.pixels / every)


@scheme(
    formula="max(1, ln(mu * N / n))",
    tex=r"\max\left(1, \ln\frac{\mu N}{n_c}\right)",
    source="the create_class_weight function that Keras users hand on",
    absent="infinite",
    mu="above 0; the smaller, the more classes sit on the floor of 1",
    void="ignored pixels are part of N",
)
def log_inverse(tally: Tally, *, mu: float = 0.15, void: bool = False) -> Floats:
    """Logarithm of the inverse frequency, with a floor of 1."""
    return np.maximum(1.0, np.log(number("mu", mu, above=0) / _shares(tally, void)))


@scheme(
    formula="1 / (p + eps)",
    tex=r"\frac{1}{p_c + \varepsilon}",
    source="RangeNet++ and SalsaNext on SemanticKITTI (0.001), RandLA-Net (0.02)",
    absent="finite, 1 / eps",
    eps="above 0; no weight exceeds 1 / eps",
    void="ignored pixels are part of N in p = n / N, as in the table of SemanticKITTI",
)
def inverse_offset(tally: Tally, *, eps: float = 0.001, void: bool = False) -> Floats:
    """Inverse frequency, bounded by an offset."""
    return np.asarray(1 / (_shares(tally, void) + number("eps", eps, above=0)))


@scheme(
    formula="-ln(p)",
    tex=r"-\ln p_c",
    source="self-information of the class, in nats",
    absent="infinite",
    void="ignored pixels are part of N in p = n / N",
)
def neg_log(tally: Tally, *, void: bool = False) -> Floats:
    """Surprise of meeting the class; 0 where there is no other."""
    return np.asarray(0.0 - np.log(_shares(tally, void)))


@scheme(
    formula="1 - p",
    tex=r"1 - p_c",
    source="folklore; barely weighs anything when there are many classes",
    absent="finite, 1",
    void="ignored pixels are part of N in p = n / N",
)
def one_minus(tally: Tally, *, void: bool = False) -> Floats:
    """Share of all other classes."""
    more = tally.void if flag("void", void) else 0.0
    return np.asarray((tally.others + more) / (tally.counted + more))


@scheme(
    formula="1 / ln(n), scaled to mean 1",
    tex=r"\frac{1}{\ln n_c}",
    source="OCNet, by its author's statement; 0.8373, 0.918, ... on Cityscapes, as in HRNet",
    absent="0; infinite for a class of one pixel. Depends on the size of the data set",
    published="mean",
)
def inverse_log_count(tally: Tally) -> Floats:
    """Inverse of the logarithm of the count: changes when the same data are counted twice."""
    return np.asarray(0.0 + 1 / np.log(tally.pixels))


@scheme(
    formula="(1 - beta) / (1 - beta ** n), scaled to mean 1",
    tex=r"\frac{1-\beta}{1-\beta^{n_c}}",
    source="Cui et al. (2019), Class-balanced loss, arXiv:1901.05555",
    absent="undefined",
    published="mean",
    beta="between 0 (no weights) and 1 (inverse frequency); the paper takes 0.9 to 0.9999",
    prototypes="1 / (1 - beta) instead of beta; None for both takes the number of samples, which is"
    " inverse frequency to within a factor of 1.6: give one of the two for anything else",
    of="'pixels', or 'presence' to put the images that contain the class in the place of n",
)
def effective_number(
    tally: Tally,
    *,
    beta: float | None = None,
    prototypes: float | None = None,
    of: Literal["pixels", "presence"] = "pixels",
) -> Floats:
    """Inverse of the effective number of samples, which never exceeds 1 / (1 - beta)."""
    samples = tally.pixels
    if choice("of", of, "pixels", "presence") == "presence":
        tally.need_presence(f"effective_number (with {argument('of', 'presence')})")
        samples = tally.presence
    most = _prototypes(beta, prototypes, float(samples.sum(dtype=np.float64)))
    if samples[tally.present].min() > 5 * most:
        warnings.warn(
            f"every class has more than 5 times the {most:g} prototypes: all effective numbers are "
            "the same and nothing is weighted; give more prototypes=, or of='presence'",
            stacklevel=4,
        )
    return np.asarray(-1 / (most * np.expm1(samples * np.log1p(-1 / most))))


def _prototypes(beta: float | None, prototypes: float | None, samples: float) -> float:
    """Most that an effective number can be."""
    if beta is not None and prototypes is not None:
        raise OptionError(
            f"{argument('beta')} and {argument('prototypes')} are the same thing: give one of them"
        )
    if beta is not None:
        return 1 / (1 - at_least("beta", beta, 0, below=1))
    return samples if prototypes is None else at_least("prototypes", prototypes, 1)


@scheme(
    formula="prior * N / n",
    tex=r"\frac{\pi^*_c N}{n_c}",
    source="King and Zeng (2001), Political Analysis 9(2), 137-163",
    absent="no weight gives it a share; its prior is dealt out to the others in proportion",
    prior="one number a class in label order, or {label: number}; made to sum to 1",
)
def target_prior(tally: Tally, *, prior: Any = None) -> Floats:
    """Make training see the class prior that is named, that of deployment for example."""
    wanted = per_class("prior", prior, tally)
    return weights_from_prior(tally.pixels, np.where(tally.present, wanted, 0))


@scheme(
    formula="1 / n**2",
    tex=r"\frac{1}{n_c^2}",
    source="Sudre et al. (2017), generalised Dice, arXiv:1707.03237; there from every batch anew",
    absent="infinite",
)
def generalised_dice(tally: Tally) -> Floats:
    """Inverse square of the count, for a Dice loss; does not make constant answers cost equal."""
    return np.asarray(tally.pixels.astype(np.float64) ** -2)


@scheme(
    formula="ln((1 + B) / (1 + df)) + 1, or ln(B / df)",
    tex=r"\ln\frac{1+B}{1+\mathrm{df}_c} + 1",
    source="inverse document frequency of information retrieval, an image for a document",
    absent="ln(1 + B) + 1, or infinite without smoothing",
    needs="presence",
    smooth="False gives ln(B / df), which is 0 for a class that is in every image",
)
def idf(tally: Tally, *, smooth: bool = True) -> Floats:
    """Rarity among images, whatever the number of pixels."""
    tally.need_presence("idf")
    if flag("smooth", smooth):
        return np.asarray(np.log((1 + tally.items) / (1 + tally.presence)) + 1)
    return np.asarray(np.log(tally.items / tally.presence))


@scheme(
    formula="1 / ((1 - alpha) * n + alpha * N / K), scaled so that the mean over the pixels is 1",
    tex=r"\frac{1}{(1-\alpha)\,n_c + \alpha N / K}",
    source="derived from torch's CrossEntropyLoss(label_smoothing=alpha), which weighs the smoothed"
    " part by the weights of all classes",
    absent="finite",
    published="pixel_mean",
    per_output=True,
    alpha="what CrossEntropyLoss gets as label_smoothing, from 0 to below 1",
)
def label_smoothing(tally: Tally, *, alpha: float = 0.1) -> Floats:
    """Equal cost under the label smoothing of torch; that of Keras needs no such correction."""
    return np.asarray(1 / tally.under_label_smoothing(at_least("alpha", alpha, 0, below=1)))


@scheme(
    formula="(N - n) / n",
    tex=r"\frac{N - n_c}{n_c}",
    source="the pos_weight of torch.nn.BCEWithLogitsLoss: negatives over positives of each channel",
    absent="infinite",
    kind="pos_weight",
)
def pos_weight(tally: Tally) -> Floats:
    """Weight of the positive term of a sigmoid channel: always on costs as much as always off."""
    return np.asarray(tally.others / tally.pixels)


@scheme(
    formula="tau * ln(p) while training; -tau * ln(p) afterwards",
    tex=r"\tau \ln p_c",
    source="Menon et al. (2021), Long-tail learning via logit adjustment, arXiv:2007.07314",
    absent="minus infinity while training; plus infinity afterwards: use absent='mask'",
    kind="bias",
    tau="above 0; 1 is the choice that theory gives",
    post_hoc="the bias for the logits of a model that was trained without",
)
def logit_adjustment(tally: Tally, *, tau: float = 1.0, post_hoc: bool = False) -> Floats:
    """Logarithm of the prior, added to the logits."""
    bias = number("tau", tau, above=0) * np.log(tally.frequencies)
    return np.asarray(0.0 - bias if flag("post_hoc", post_hoc) else bias)


@scheme(
    formula="ln(n), while training only",
    tex=r"\ln n_c",
    source="Ren et al. (2020), Balanced meta-softmax, arXiv:2007.10740",
    absent="minus infinity: the class takes no part",
    kind="bias",
)
def balanced_softmax(tally: Tally) -> Floats:
    """Logarithm of the count, added to the logits while training."""
    return np.asarray(np.log(tally.pixels))


@scheme(
    formula="largest * (min(n) / n) ** (1 / 4)",
    tex=r"\Delta_{\max}\left(\frac{\min_j n_j}{n_c}\right)^{1/4}",
    source="Cao et al. (2019), LDAM, arXiv:1906.07413; logits are scaled by 30 there",
    absent="infinite",
    kind="margin",
    largest="margin of the rarest class",
)
def ldam(tally: Tally, *, largest: float = 0.5) -> Floats:
    """Margins by which the true class must win, larger where examples are few."""
    fewest = tally.pixels[tally.present].min()
    return np.asarray(number("largest", largest, above=0) * (fewest / tally.pixels) ** 0.25)
