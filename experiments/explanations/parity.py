"""Does hcreg give iNNvestigate's numbers where it is asked to? Its analyzers on networks of every style.

python -m experiments.explanations.parity --models-root runs/zhang2020

iNNvestigate is in ``requirements-innvestigate.txt``. ``--quick`` compares the small networks only.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from experiments.explanations import networks
from experiments.explanations.tables import Table
from hcreg.analyzers import create_analyzer
from hcreg.analyzers.innvestigate import InnvestigateError
from hcreg.analyzers.innvestigate_process import Worker

LIMIT = 1e-5
# Rules that divide by sums which cancel: of iNNvestigate's batch normalisation, nearly to 0 somewhere.
ILL_CONDITIONED_LIMIT = 5e-3
ILL_CONDITIONED = ("lrp.z", "lrp.alpha_2_beta_1")


@dataclass(frozen=True)
class Comparison:
    """An analyzer, of one name and the same options in iNNvestigate and in hcreg."""

    name: str
    options: dict = field(default_factory=dict)

    @property
    def label(self):
        """Name and options, as they stand in the table."""
        return ", ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


COMPARISONS = (
    Comparison("gradient"),
    Comparison("gradient", {"postprocess": "abs"}),
    Comparison("smoothgrad", {"augment_by_n": 8, "postprocess": "square"}),
    Comparison("input_t_gradient"),
    Comparison("integrated_gradients", {"steps": 16, "reference_inputs": -1}),
    Comparison("deconvnet"),
    Comparison("guided_backprop"),
    Comparison("deep_taylor"),
    Comparison("deep_taylor.bounded", {"low": -6, "high": 6}),
    Comparison("lrp.z"),
    Comparison("lrp.epsilon"),
    Comparison("lrp.epsilon", {"epsilon": 0.1}),
    Comparison("lrp.w_square"),
    Comparison("lrp.flat"),
    Comparison("lrp.alpha_beta", {"alpha": 3, "beta": 2}),
    Comparison("lrp.alpha_2_beta_1"),
    Comparison("lrp.alpha_beta", {"alpha": 2, "beta": 1, "bias": False}),  # alpha_2_beta_1_IB in iNNvestigate
    Comparison("lrp.alpha_1_beta_0"),
    Comparison("lrp.z_plus"),
    Comparison("lrp.sequential_preset_a"),
    Comparison("lrp.sequential_preset_b"),
    Comparison("lrp.sequential_preset_a_flat"),
    Comparison("lrp.sequential_preset_b_flat"),
)


def compare(comparison, model, images, worker, dtype="float32"):
    """Relative L2 difference of the two engines' maps, of the image where it is largest.

    Parameters
    ----------
    comparison : Comparison
    model : keras.Model
        That computes in `dtype`.
    images : ndarray
    worker : Worker
    dtype : {"float32", "float64"}

    Returns
    -------
    difference : float
        NaN where one of the two gives no finite map, or iNNvestigate none that is not 0.
    remark : str
        Why, in the words of the one that does not.
    """
    name, options = comparison.name, dict(comparison.options)
    if name == "smoothgrad":
        shape = (options["augment_by_n"], *images.shape[1:])
        options["noise"] = np.random.default_rng(2).standard_normal(shape)
    try:
        with create_analyzer(name, model, "innvestigate", dtype=dtype, worker=worker, **options) as reference:
            expected = reference.analyze(images)
    except InnvestigateError as error:
        return float("nan"), "iNNvestigate: " + _own_words(error)
    if not expected.any():
        return float("nan"), "iNNvestigate: all its maps are 0"
    if not np.isfinite(expected).all():
        return float("nan"), "iNNvestigate: its map is not finite"
    try:
        found = create_analyzer(name, model, compat="innvestigate", **options).analyze(images)
    except FloatingPointError as error:
        return float("nan"), f"hcreg: {error}"
    return max(relative_difference(*maps) for maps in zip(found, expected, strict=True)), ""


def relative_difference(found, wanted):
    """Length of the difference of two maps over the length of the second; of a map of zeros, 0 or infinity."""
    difference = np.linalg.norm(np.subtract(found, wanted, dtype="float64"))
    length = np.linalg.norm(np.asarray(wanted, "float64"))
    if length == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return float(difference / length)


def verdict(row):
    """Whether a row of the table meets its limit.

    Parameters
    ----------
    row : dict

    Returns
    -------
    str
        "agrees", "agrees in float64" where that is enough, "differs", or "not in iNNvestigate".
    """
    single, double = row["difference_float32"], row["difference_float64"]
    if np.isnan(single) and np.isnan(double):
        return "not in iNNvestigate"
    if single <= row["limit_float32"]:
        return "agrees"
    return "agrees in float64" if row["ill_conditioned"] == "yes" and double <= LIMIT else "differs"


def rows_of(name, models_root=(), comparisons=COMPARISONS):
    """The rows of one network.

    Parameters
    ----------
    name : str
    models_root : sequence of path-like
    comparisons : sequence of Comparison

    Yields
    ------
    dict
    """
    model, images = networks.build(name, models_root)
    precise = networks.in_float64(model)
    normalised = any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    with Worker() as worker:
        for comparison in comparisons:
            started = time.perf_counter()
            single, remark = compare(comparison, model, images, worker)
            double, remark_double = compare(comparison, precise, images.astype("float64"), worker, "float64")
            hard = normalised and comparison.name in ILL_CONDITIONED
            row = {
                "model": name,
                "analyzer": comparison.label,
                "difference_float32": single,
                "difference_float64": double,
                "limit_float32": ILL_CONDITIONED_LIMIT if hard else LIMIT,
                "ill_conditioned": "yes" if hard else "no",
            }
            remark = remark or remark_double
            yield {**row, "verdict": verdict(row), "remark": remark}
            print(
                f"{name:16} {comparison.label:55} {single:.1e} {double:.1e} {verdict(row)} {remark[:80]}"
                f" ({time.perf_counter() - started:.0f} s)",
                flush=True,
            )


def _own_words(error):
    """The first line of what iNNvestigate says, without what hcreg says around it."""
    return str(error).removeprefix("iNNvestigate itself failed: ").splitlines()[0]


def main(arguments=None):
    """Compare and write results/parity.csv."""
    every = [*networks.SMALL, *networks.LARGE, *networks.TRAINED]
    parser = argparse.ArgumentParser(prog="python -m experiments.explanations.parity")
    parser.add_argument("--quick", action="store_true", help="small networks only")
    parser.add_argument("--models", nargs="+", choices=every, help="by default all; rows of others are kept")
    parser.add_argument("--models-root", nargs="+", type=Path, default=[], help="folders of trained runs")
    parser.add_argument("--out", type=Path, help="by default results beside this script")
    options = parser.parse_args(arguments)
    names = options.models or (list(networks.SMALL) if options.quick else every)
    table = Table("parity", options.out, key="model")
    for name in names:
        table.replace(name, list(rows_of(name, options.models_root)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
