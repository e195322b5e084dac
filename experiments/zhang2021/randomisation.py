"""Model randomisation: do the maps of an analyzer change when what the network has learned is destroyed?

python -m experiments.zhang2021.randomisation run --data HC18 --models-root runs/zhang2020 --out runs/table8
python -m experiments.zhang2021.randomisation report --out runs/table8 --save results

Not in the paper. From the head down the weights are drawn anew, one part of the network after the other, and the maps
of the network so far destroyed are compared with those of the trained one: a map that stays as it was says nothing of
the network (Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity checks for saliency maps, NeurIPS 2018). An image
times anything resembles itself: the correlation of the first map with the image's absolute values is the control, of
integrated gradients with those of the image less the reference.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from scipy.stats import rankdata

from experiments.zhang2021.explanations import (
    ANALYZERS,
    NUM_SAMPLES,
    execute,
    explained,
    find_model,
    make_analyzer,
    parser_of,
    test_images,
)
from hcreg import models, runs
from hcreg.analyzers.aopc_results import bootstrap_means
from hcreg.files import plain, read_json, read_rows, write_json, write_rows
from hcreg.provenance import provenance
from hcreg.tables.comparing import aligned

NETWORK = "cnn_1m_mae"
NUM_IMAGES, NUM_DRAWS = 32, 3
CONTROL = "abs_image"
RESULT, RECORD = "randomisation.csv", "randomisation.json"
_TEXT = ("subject_id", "examination_id", "analyzer", "part", "verdict")
_INTEGERS = ("draw", "step", "num_images", "num_draws")
_NONE, _MUCH = 0.2, 0.5  # rank correlations


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser, run, _ = parser_of("randomisation", f"maps of {NETWORK} as its weights are drawn anew")
    run.add_argument("--images", type=int, help=f"test images of the fold, drawn by seed; by default {NUM_IMAGES}")
    return execute("randomisation", parser, run_analyzers, report, arguments)


def parts_of(network):
    """Names of the layers with weights, in parts that are destroyed one after the other, the head first.

    Parameters
    ----------
    network : keras.Model

    Returns
    -------
    dict of str to list of str
        A convolution or dense layer goes with its batch normalisation.

    Examples
    --------
    >>> {part: len(layers) for part, layers in parts_of(models.cnn_1m()).items()}
    {'head': 1, 'dense3': 1, 'dense2': 1, 'dense1': 2, 'block3': 2, 'block2': 2, 'block1': 2}
    """
    found = {}
    for layer in reversed([layer for layer in network.layers if layer.weights]):
        part = layer.name.partition("_")[0] if found else "head"
        found.setdefault(part, []).append(layer.name)
    return found


def run_analyzers(options):
    """Compute the analyzers that are not there yet, each into a file of its own.

    Parameters
    ----------
    options : argparse.Namespace

    Raises
    ------
    ValueError
        If ``--data`` is missing.
    """
    if options.data is None:
        raise ValueError("run needs --data, the HC18 folder as downloaded (or --smoke, for synthetic images).")
    folder = find_model(options.models_root, NETWORK)
    num_images = options.images or (2 if options.smoke else NUM_IMAGES)
    records = test_images(options.data, {NETWORK: folder}, num_images, options.seed)
    subject = explained(folder, records)
    trained = runs.read_run(folder)
    num_draws, num_samples = (1, 2) if options.smoke else (NUM_DRAWS, NUM_SAMPLES)
    arguments = {"seed": options.seed, "num_draws": num_draws, "num_samples": num_samples, "analyzers": ANALYZERS}
    arguments |= {"network": NETWORK, "network_commit": trained["commit"], "network_started": trained["started"]}
    _open(options.out, plain({**arguments, "images": [record.subject_id for record in records]}))
    build = getattr(models, trained["arguments"]["builder"])
    draws = [
        build(input_shape=subject.network.input_shape[1:], seed=options.seed + number + 1)
        for number in range(num_draws)
    ]
    for name in ANALYZERS:
        path = _path(options.out, name)
        if not path.is_file():
            rows = correlations(subject, name, draws, num_samples)
            write_rows(path, rows)
            print(f"{name}: {len(rows)} maps compared", flush=True)


def correlations(subject, name, draws, num_samples):
    """Rank correlation of each map with the trained network's, as more and more of the weights are drawn anew.

    Parameters
    ----------
    subject : Explained
    name : str
        Of the analyzer.
    draws : list of keras.Model
        Networks of the same layers with weights drawn anew.
    num_samples : int

    Returns
    -------
    list of dict
        A row for each draw, image and step; step 0 is the control, the image's absolute values.
    """
    original = np.abs(make_analyzer(name, subject.network, num_samples).analyze(subject.images))
    destroyed = keras.models.clone_model(subject.network)
    rows = []
    for number, fresh in enumerate(draws):
        destroyed.set_weights(subject.network.get_weights())
        steps = [(CONTROL, np.abs(subject.images - ANALYZERS[name].get("reference_inputs", 0.0)))]
        for part, layers in parts_of(subject.network).items():
            for layer in layers:
                destroyed.get_layer(layer).set_weights(fresh.get_layer(layer).get_weights())
            steps.append((part, np.abs(_maps(name, destroyed, subject.images, num_samples))))
        for step, (part, maps) in enumerate(steps):
            rows += [
                {
                    "subject_id": record.subject_id,
                    "examination_id": record.examination_id,
                    "draw": number,
                    "step": step,
                    "part": part,
                    "rank_correlation": round(rank_correlation(before, after), 5),
                }
                for record, before, after in zip(subject.records, original, maps)
            ]
    return rows


def _maps(name, network, images, num_samples):
    if name.startswith("deep_taylor"):
        # explains what lies above a number: for a prediction below 0 it would have nothing to give
        network = _shifted(network, images)
    return make_analyzer(name, network, num_samples).analyze(images)


def _shifted(network, images):
    """The network with a bias of its head that keeps predictions above 0; deep Taylor's map only changes its size."""
    lowest = float(np.min(network.predict(images, verbose=0)))
    if lowest > 0:
        return network
    shifted = keras.models.clone_model(network)
    shifted.set_weights(network.get_weights())
    bias = shifted.get_layer(parts_of(network)["head"][0]).bias
    bias.assign(bias + (1.0 - lowest))
    return shifted


def rank_correlation(first, second):
    """Spearman's correlation of two maps, 0 where one is the same everywhere.

    Parameters
    ----------
    first, second : ndarray of one shape

    Returns
    -------
    float
        From -1 to 1.

    Examples
    --------
    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 200.0, 3000.0]))
    1.0
    """
    first, second = (rankdata(values) - (values.size + 1) / 2 for values in (first, second))
    size = float(np.sqrt(np.sum(first**2) * np.sum(second**2)))
    return float(np.sum(first * second)) / size if size else 0.0


def report(options):
    """Print and save the table: mean correlations over images and draws, with intervals over examinations.

    Parameters
    ----------
    options : argparse.Namespace

    Raises
    ------
    ValueError
        If an analyzer is missing.
    """
    rows = read_table(options.out)
    print(format_table(rows))
    save = options.save or options.out
    write_rows(save / RESULT, rows)
    for record in (options.out / "randomisation" / runs.RUN_FILE, options.out / RECORD):
        if record.is_file():
            write_json(save / RECORD, read_json(record))
            break


def read_table(folder):
    """Rows of the table, from the files of ``run`` or from a saved one.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of dict
        For each analyzer and part: ``mean``, ``lower``, ``upper`` of the rank correlation; the part "abs_image" is the
        control.

    Raises
    ------
    ValueError
        If an analyzer is missing.
    """
    missing = [name for name in ANALYZERS if not _path(folder, name).is_file()]
    if len(missing) == len(ANALYZERS) and (Path(folder) / RESULT).is_file():
        return read_rows(Path(folder) / RESULT, text=_TEXT, integers=_INTEGERS)
    if missing:
        raise ValueError(f"{folder} lacks the analyzer(s) {', '.join(missing)}. Run them.")
    table = []
    for name in ANALYZERS:
        rows = read_rows(_path(folder, name), text=_TEXT, integers=_INTEGERS)
        for step, part in dict.fromkeys((row["step"], row["part"]) for row in rows):
            values, examinations = [], []
            by_subject = {}
            for row in rows:
                if row["step"] == step:
                    by_subject.setdefault((row["subject_id"], row["examination_id"]), []).append(
                        row["rank_correlation"]
                    )
            for (_, examination), found in by_subject.items():
                values.append(np.mean(found))
                examinations.append(examination)
            (lower,), (upper,) = bootstrap_means(np.array(values)[:, None], examinations)
            table.append(
                {
                    "analyzer": name,
                    "step": step,
                    "part": part,
                    "num_images": len(values),
                    "num_draws": len(next(iter(by_subject.values()))),
                    "mean": float(np.mean(values)),
                    "lower": float(lower),
                    "upper": float(upper),
                }
            )
    return table


def format_table(rows):
    """The table as text, a line for each analyzer, with what its last column says.

    Parameters
    ----------
    rows : list of dict
        Of `read_table`.

    Returns
    -------
    str
    """
    parts = list(dict.fromkeys(row["part"] for row in rows))
    lines = [["analyzer", "|image|", *parts[1:], "verdict"]]
    for name in ANALYZERS:
        means = {row["part"]: row["mean"] for row in rows if row["analyzer"] == name}
        lines.append([name, *(f"{means[part]:.2f}" for part in parts), verdict(means)])
    return aligned(lines)


def verdict(means):
    """What the correlation with every weight drawn anew says of an analyzer.

    Parameters
    ----------
    means : dict of str to float
        By part, the control first, all weights last.

    Returns
    -------
    str

    Examples
    --------
    >>> verdict({"abs_image": 0.1, "head": 0.5, "block1": 0.0})
    'follows the network'
    >>> verdict({"abs_image": 0.6, "head": 0.9, "block1": 0.55})
    'keeps the image'
    >>> verdict({"abs_image": 0.1, "head": 1.0, "block1": 0.9})
    'blind to the network'
    """
    control, *_, last = means.values()
    if last <= _NONE:
        return "follows the network"
    if last <= control:
        return "keeps the image"
    return "blind to the network" if last > _MUCH else "keeps a part"


def _open(folder, arguments):
    """Begin the folder or go on with it, if it is of the same settings."""
    path = Path(folder) / "randomisation" / runs.RUN_FILE
    if not path.is_file():
        write_json(path, {"arguments": arguments, **provenance()})
    before = read_json(path)["arguments"]
    unlike = [key for key in arguments if before.get(key) != arguments[key]]
    if unlike:
        raise ValueError(
            f"{path.parent} was made with other settings: {', '.join(unlike)} differ(s). Name another folder in --out, "
            "or use the same settings to go on with it."
        )


def _path(folder, name):
    return Path(folder) / "randomisation" / f"{name}.csv"


if __name__ == "__main__":
    sys.exit(main())
