"""What iNNvestigate 2.1.2 gets wrong, measured: each defect as a number of its own beside hcreg's.

python -m experiments.explanations.defects run --models-root runs/zhang2020
python -m experiments.explanations.defects report

``run --quick`` measures on small networks only. ``report`` prints the table of docs/innvestigate.rst.
"""

import argparse
import re
import sys
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np

from experiments.explanations import networks
from experiments.explanations.parity import relative_difference
from experiments.explanations.tables import RESULTS, Table, read
from hcreg.analyzers import create_analyzer
from hcreg.analyzers.innvestigate import InnvestigateError
from hcreg.analyzers.innvestigate_architecture import describe
from hcreg.analyzers.innvestigate_process import Worker

BOUNDS = {"low": -6.0, "high": 6.0}


class Original:
    """iNNvestigate as it comes: all analyzers on one and the same model, which it may change.

    Parameters
    ----------
    worker : Worker
    model : keras.Model
    inference_only : bool
        As of `hcreg.analyzers.innvestigate.InnvestigateAnalyzer`.
    layers : dict of str to (str, dict), optional
        Class and configuration to hand over in the place of a layer's own.
    """

    def __init__(self, worker, model, inference_only=True, layers=None):
        self._worker, self._number = worker, worker.new_number()
        architecture, weights = describe(model)
        for layer in architecture["layers"]:
            replaced = (layers or {}).get(layer["name"].removeprefix("model."))
            if replaced:
                layer["class"], layer["config"] = replaced
        worker.ask("translate", self._number, architecture, weights, "float32", inference_only)

    def explain(self, name, images, **options):
        """Maps of an analyzer made anew."""
        self.create(name, **options)
        return self._worker.ask("explain", self._number, images)

    def create(self, name, **options):
        """Have an analyzer made."""
        self._worker.ask("create_analyzer", self._number, name, options)

    def refusal(self, name, images, **options):
        """The words with which it fails, or "explained"."""
        try:
            self.explain(name, images, **options)
        except InnvestigateError as error:
            return str(error).removeprefix("iNNvestigate itself failed: ").splitlines()[0]
        return "explained"


def ours(name, model, images, **options):
    """hcreg's maps."""
    return create_analyzer(name, model, **options).analyze(images)


def noise_scale_ignored(worker, names):
    """D1: smoothgrad with next to no noise is the gradient."""
    model, images = networks.build("vgg_flatten")
    theirs = Original(worker, model)
    gradient = ours("gradient", model, images)
    yield row(
        "D1",
        "vgg_flatten",
        "smoothgrad with noise_scale=1e-6: difference from the gradient",
        difference(theirs.explain("smoothgrad", images, noise_scale=1e-6), gradient),
        difference(ours("smoothgrad", model, images, noise_scale=1e-6), gradient),
    )


def normalisation_fused_wrongly(worker, names):
    """D2: on a network of ReLU, lrp.z is input times gradient."""
    for name in names:
        model, images = networks.build(name, names[name])
        if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
            continue
        product = ours("input_t_gradient", model, images)
        theirs, found = Original(worker, model).explain("lrp.z", images), ours("lrp.z", model, images)
        quantity = "lrp.z: difference from input times gradient"
        yield row("D2", name, quantity, difference(theirs, product), difference(found, product))
        quantity = "lrp.z: sum of absolute relevance, in units of the prediction"
        yield row("D2", name, quantity, inflation(theirs, model, images), inflation(found, model, images))


def averages_fail(worker, names):
    """D3: smoothgrad and integrated_gradients on batch normalisation."""
    model, images = networks.build("resnet")
    for name in ("smoothgrad", "integrated_gradients"):
        refusal = Original(worker, model, inference_only=False).refusal(name, images)
        explained = "explained" if np.any(ours(name, model, images)) else "all zero"
        yield row("D3", "resnet", f"{name} where nothing says that it is inference", refusal, explained)


def input_rule_lost(worker, names):
    """D4: the rule for bounded inputs behind padding."""
    for name, pad in (("resnet without padding", False), ("resnet", True)):
        model, images = built(partial(networks.resnet, pad=pad))
        images = images[positive(model, images)]
        plain, bounded = (Original(worker, model).explain(name, images, **options) for name, options in TAYLOR.items())
        our_plain, our_bounded = (ours(name, model, images, **options) for name, options in TAYLOR.items())
        quantity = "deep_taylor.bounded: difference from deep_taylor"
        yield row("D4", name, quantity, difference(bounded, plain), difference(our_bounded, our_plain))


def order_matters(worker, names):
    """D5: an analyzer alone on a model, and after another one ran on it."""
    model, images = networks.build("vgg_flatten")
    images = images[positive(model, images)]
    name = "lrp.sequential_preset_a_flat"
    alone, after = Original(worker, model), Original(worker, model)
    after.explain("integrated_gradients", images)
    analyzer = create_analyzer(name, model)
    before = analyzer.analyze(images)
    ours("integrated_gradients", model, images)
    yield row(
        "D5",
        "vgg_flatten",
        f"{name}: change by having run integrated_gradients on the model",
        difference(after.explain(name, images), alone.explain(name, images)),
        max(difference(maps, before) for maps in (analyzer.analyze(images), ours(name, model, images))),
    )
    model, images = networks.build("resnet")
    images = images[positive(model, images)]
    theirs = Original(worker, model)
    theirs.explain("deep_taylor", images)
    ours("deep_taylor", model, images)
    found = "explained" if np.any(ours("deep_taylor.bounded", model, images, **BOUNDS)) else "all zero"
    refusal = re.sub(r"\d{6,}", "...", theirs.refusal("deep_taylor.bounded", images, **BOUNDS))
    yield row("D5", "resnet", "deep_taylor.bounded, having run deep_taylor on the model", refusal, found)


def building_is_slow(worker, names):
    """D6: processor time until the first map."""
    for name in ["resnet", *(name for name in names if name == "ResNet50")]:
        model, images = networks.build(name)
        with Worker() as own:
            original = Original(own, model, inference_only=False)
            before = processor_seconds(own.pid)
            original.create("gradient")
            theirs = processor_seconds(own.pid) - before
        started = time.process_time()
        ours("gradient", model, images)
        yield row("D6", name, "gradient: processor seconds to build", theirs, time.process_time() - started)


def bias_counted_twice(worker, names):
    """D7: the size of alpha-beta maps."""
    for name in names:
        if name in ("ResNet50", "densenet121_mae"):
            continue  # so deep a network takes iNNvestigate too long to build
        model, images = networks.build(name, names[name])
        theirs = Original(worker, model).explain("lrp.alpha_2_beta_1", images)
        found = ours("lrp.alpha_2_beta_1", model, images)
        quantity = "lrp.alpha_2_beta_1: sum of absolute relevance, in units of the prediction"
        yield row("D7", name, quantity, inflation(theirs, model, images), inflation(found, model, images))


def negative_predictions_vanish(worker, names):
    """D8: deep Taylor decomposition of a prediction below 0."""
    model, images = networks.build("resnet")
    images = images[~positive(model, images)]
    prediction = model.predict_on_batch(images)[:, 0]
    lowest = float(prediction.min()) - 1.0
    theirs = Original(worker, model).explain("deep_taylor", images)
    found = ours("deep_taylor", model, images, lowest_output=lowest)
    quantity = "deep_taylor of a prediction f below 0: sum of relevance over f (hcreg: over f - f_min)"
    shares = theirs.sum() / prediction.sum(), found.sum() / (prediction - lowest).sum()
    yield row("D8", "resnet", quantity, *(abs(float(share)) for share in shares))


def layers_refused(worker, names):
    """D9: networks that are refused."""
    for label, layer in (
        ("layers.ReLU", keras.layers.ReLU()),
        ("layers.DepthwiseConv2D", keras.layers.DepthwiseConv2D(3)),
        ("layers.Rescaling", keras.layers.Rescaling(0.5)),
        ("layers.Normalization", keras.layers.Normalization(mean=0.1, variance=2.0)),
    ):
        image = keras.Input((8, 8, 2))
        x = keras.layers.Flatten()(layer(keras.layers.Conv2D(3, 3)(image)))
        model = networks.randomised(keras.Model(image, keras.layers.Dense(1)(x)))
        images = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype("float32")
        # hcreg hands a ReLU over as an Activation; not so here
        plain = {layer.name: ("ReLU", {})} if label == "layers.ReLU" else {}
        explained = "explained" if np.any(ours("lrp.z", model, images)) else "all zero"
        yield row("D9", label, "lrp.z", Original(worker, model, layers=plain).refusal("lrp.z", images), explained)


MEASUREMENTS = (
    noise_scale_ignored,
    normalisation_fused_wrongly,
    averages_fail,
    input_rule_lost,
    order_matters,
    building_is_slow,
    bias_counted_twice,
    negative_predictions_vanish,
    layers_refused,
)
TAYLOR = {"deep_taylor": {}, "deep_taylor.bounded": BOUNDS}


def row(defect, network, quantity, innvestigate, hcreg):
    """A line of the table; numbers to two digits, the rest of which depends on the processor."""
    cells = {"innvestigate": innvestigate, "hcreg": hcreg}
    cells = {name: cell if isinstance(cell, str) else f"{cell:.1e}" for name, cell in cells.items()}
    return {"defect": defect, "network": network, "quantity": quantity, **cells}


def built(builder):
    """A network of random weights by its builder, with images, as `networks.build` makes them."""
    keras.utils.set_random_seed(0)
    model = networks.randomised(builder())
    images = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype("float32")
    return networks.with_a_negative_prediction(model, images), images


def positive(model, images):
    """Which predictions are above 0."""
    return model.predict_on_batch(images)[:, 0] > 0


def difference(found, wanted):
    """Relative L2 difference, of the image where it is largest; infinite where a map is not finite."""
    if not np.isfinite(found).all():
        return float("inf")
    return max(relative_difference(*maps) for maps in zip(found, wanted, strict=True))


def inflation(maps, model, images):
    """Sum of absolute relevance over the absolute prediction, of the image where it is largest."""
    sums = np.abs(maps.astype("float64")).reshape(len(maps), -1).sum(axis=1)
    return float(np.max(sums / np.abs(model.predict_on_batch(images)[:, 0])))


def processor_seconds(pid):
    """What a process has used of processors so far, by Linux's account."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def measure(measurement, names):
    """The rows of one defect, in a process of its own."""
    with Worker() as worker:
        for found in measurement(worker, names):
            print(" | ".join(found.values()), flush=True)
            yield found


def table_text(rows):
    """The table as restructured text.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    str
    """
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 6 16 38 25 15", ""]
    heads = {
        "defect": "",
        "network": "network",
        "quantity": "quantity",
        "innvestigate": "iNNvestigate",
        "hcreg": "hcreg",
    }
    rows = sorted(rows, key=lambda cells: cells["defect"])  # and within a defect as they were measured
    for cells in [heads, *({key: cells[key] for key in heads} for cells in rows)]:
        for number, cell in enumerate(cells.values()):
            lines.append(f"   {'* -' if not number else '  -'} {cell}".rstrip())
    return "\n".join(lines) + "\n"


def main(arguments=None):
    """Measure and write results/defects.csv, or print the table."""
    by_name = {measurement.__name__: measurement for measurement in MEASUREMENTS}
    parser = argparse.ArgumentParser(prog="python -m experiments.explanations.defects")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("--quick", action="store_true", help="small networks only")
    run.add_argument("--only", nargs="+", choices=by_name, help="some of the defects; rows of others are kept")
    run.add_argument("--models-root", nargs="+", type=Path, default=[], help="folders of trained runs")
    report = commands.add_parser("report", help="print the table of the documentation")
    for command in (run, report):
        command.add_argument("--out", type=Path, default=RESULTS, help="by default results beside this script")
    options = parser.parse_args(arguments)
    if options.command == "report":
        print(table_text(read(options.out / "defects.csv")), end="")
        return 0
    names = {"resnet": ()}
    if options.models_root:
        names |= dict.fromkeys(networks.TRAINED, options.models_root)
    if not options.quick:
        names |= dict.fromkeys(networks.LARGE, ())
    table = Table("defects", options.out, key="defect")
    for name in options.only or by_name:
        rows = list(measure(by_name[name], names))
        table.replace(rows[0]["defect"], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
