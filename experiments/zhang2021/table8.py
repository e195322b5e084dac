"""Table 8: how well eight analyzers explain six networks, by AOPC in the paper's protocol and in a sound one.

python -m experiments.zhang2021.table8 run --data HC18 --models-root runs/zhang2020 runs/zhang2021 --out runs/table8
python -m experiments.zhang2021.table8 report --out runs/table8 --save runs/table8/tables

``run`` writes a file for each network and analyzer and skips those that are there; ``--models`` and ``--analyzers``
name a part, so that several processes can share the work in one folder. ``report`` stops while any of the 48 cells is
missing. It also reads a folder that it has saved.
"""

import sys
import time

import keras

from experiments.zhang2021 import smoke_models
from experiments.zhang2021.explanations import (
    ANALYZERS,
    MODELS,
    NUM_SAMPLES,
    execute,
    explained,
    find_model,
    make_analyzer,
    parser_of,
    test_images,
)
from experiments.zhang2021.table8_report import RANDOM, Chosen, cell_path, report_table
from hcreg import runs
from hcreg.analyzers.perturbation import PAPER_PROTOCOL, aopc
from hcreg.files import plain, read_json, write_json, write_rows
from hcreg.provenance import provenance

NUM_IMAGES = 64
SETTINGS = {"draws": 4, "random_orders": 2, "num_samples": NUM_SAMPLES, "regions": (4, 4), "steps": 15}
SMOKE_SETTINGS = {"draws": 1, "random_orders": 1, "num_samples": 2, "regions": (2, 2), "steps": 3}
_PAPER_RANDOM_ORDERS = 4  # for one draw each, as many images through the network as four analyzers
_BATCH_SIZE = 32
_DIGITS = 5


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser, run, report = parser_of("table8", "AOPC of eight analyzers on six networks")
    add_arguments(run, report)
    return execute("table8", parser, run_cells, _report, arguments)


def add_arguments(run, report):
    """The arguments by which part of the table is named, for the scripts that share its cells.

    Parameters
    ----------
    run, report : argparse.ArgumentParser
    """
    run.add_argument("--images", type=int, help=f"test images of the fold, drawn by seed; by default {NUM_IMAGES}")
    run.add_argument("--draws", type=int, help=f"of noise in the sound protocol; by default {SETTINGS['draws']}")
    for command in (run, report):
        command.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"of {', '.join(MODELS)}")
        names = list(ANALYZERS)
        command.add_argument("--analyzers", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")


def chosen_part(options):
    """The part of the table that a command line names.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    Chosen
    """
    models = options.models or (smoke_models.NAMES if options.smoke else MODELS)
    analyzers = options.analyzers or ANALYZERS
    return Chosen([name for name in MODELS if name in models], [name for name in ANALYZERS if name in analyzers])


def _report(options):
    report_table(options.out, chosen_part(options), options.save or options.out)


def run_cells(options):
    """Compute the cells that are not there yet.

    Parameters
    ----------
    options : argparse.Namespace

    Raises
    ------
    ValueError
        If ``--data`` is missing, or the folder holds cells of other settings.
    """
    if options.data is None:
        raise ValueError("run needs --data, the HC18 folder as downloaded (or --smoke, for synthetic images).")
    chosen = chosen_part(options)
    folders = {name: find_model(options.models_root, name) for name in chosen.models}
    settings = dict(SMOKE_SETTINGS if options.smoke else SETTINGS)
    settings["draws"] = options.draws or settings["draws"]
    num_images = options.images or (4 if options.smoke else NUM_IMAGES)
    records = test_images(options.data, folders, num_images, options.seed)
    _open(options, settings, records, folders)
    for model in chosen.models:
        missing = [name for name in (RANDOM, *chosen.analyzers) if not cell_path(options.out, model, name).is_file()]
        if not missing:
            continue
        keras.utils.clear_session()
        subject = explained(folders[model], records)
        for name in missing:
            started = time.perf_counter()
            rows = cell(subject, name, settings, options.seed)
            write_rows(cell_path(options.out, model, name), rows)
            print(f"{model}, {name}: {time.perf_counter() - started:.0f} s", flush=True)


def cell(subject, name, settings, seed):
    """Errors of one network as regions are replaced in the order of one analyzer, in both protocols.

    Parameters
    ----------
    subject : Explained
    name : str
        Of the analyzer, or `RANDOM`.
    settings : dict
        As `SETTINGS`.
    seed : int

    Returns
    -------
    list of dict
        For each image, protocol and order its score and the error after each step: of the paper's protocol in px of the
        image, of the sound one in mm.
    """
    maps = None
    if name != RANDOM:
        maps = make_analyzer(name, subject.network, settings["num_samples"]).analyze(subject.images)
    size = {"regions": settings["regions"], "steps": settings["steps"], "seed": seed, "batch_size": _BATCH_SIZE}
    in_px = {
        "targets": subject.hc_mm / subject.pixel_size_mm,
        "scale": subject.mm_per_output / subject.pixel_size_mm,
        "unit": "px",
    }
    in_mm = {"targets": subject.hc_mm, "scale": subject.mm_per_output, "unit": "mm", "draws": settings["draws"]}
    if name == RANDOM:
        random = {"order": "random", "baselines": ()}
        paper = dict(PAPER_PROTOCOL) | random | {"random_orders": _PAPER_RANDOM_ORDERS}
        sound = random | {"random_orders": settings["random_orders"]}
    else:
        paper, sound = PAPER_PROTOCOL, {"baselines": ("least_relevant_first",)}
    images, network = subject.images, subject.network
    rows = []
    for protocol, found in (
        ("paper", aopc(network, maps, images, **(dict(paper) | size | in_px))),
        ("sound", aopc(network, maps, images, **(sound | size | in_mm))),
    ):
        for order, curves in {found.order: found, **found.baselines}.items():
            rows += _rows(subject.records, protocol, order, curves)
    return rows


def _rows(records, protocol, order, curves):
    return [
        {
            "subject_id": record.subject_id,
            "examination_id": record.examination_id,
            "trimester": int(record.trimester),
            "protocol": protocol,
            "order": order,
            "score": round(float(score), _DIGITS),
            **{f"error_{step}": round(float(error), _DIGITS) for step, error in enumerate(errors)},
        }
        for record, score, errors in zip(records, curves.scores, curves.errors)
    ]


def _open(options, settings, records, folders):
    """Begin the folder or go on with it, if it is of the same settings."""
    path = options.out / runs.RUN_FILE
    arguments = plain(
        {
            **settings,
            "seed": options.seed,
            "paper_protocol": dict(PAPER_PROTOCOL),
            "analyzers": ANALYZERS,
            "images": [record.subject_id for record in records],
        }
    )
    trained = {}
    for name, folder in folders.items():
        run = runs.read_run(folder)
        trained[name] = {key: run.get(key) for key in ("commit", "started", "split_checksum")}
    record = read_json(path) if path.is_file() else {"arguments": arguments, "networks": {}, **provenance()}
    unlike = [key for key in arguments if record["arguments"].get(key) != arguments[key]]
    unlike += [name for name in trained if record["networks"].get(name, trained[name]) != trained[name]]
    if unlike:
        raise ValueError(
            f"{options.out} holds cells of other settings: {', '.join(unlike)} differ(s). Name another folder in "
            "--out, or use the same settings to go on with it."
        )
    write_json(path, record | {"networks": record["networks"] | trained})


if __name__ == "__main__":
    sys.exit(main())
