"""Figure 14: what eight analyzers show of one head, for each of the six networks.

python -m experiments.zhang2021.figure14 run --models-root runs/zhang2020 runs/zhang2021
python -m experiments.zhang2021.figure14 run --models-root runs/zhang2020 runs/zhang2021 --data HC18 --subject 138_HC
python -m experiments.zhang2021.figure14 report
"""

import sys

import keras

from experiments.zhang2021 import pictures, smoke_models
from experiments.zhang2021.explanations import ANALYZERS, MODELS, NUM_SAMPLES, execute, make_analyzer, parser_of
from hcreg.plotting.saliency import saliency_grid

FIGURE = "figure14"


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser, run, _ = parser_of(FIGURE, "maps of eight analyzers on six networks", pictures=True)
    run.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"of {', '.join(MODELS)}")
    return execute(FIGURE, parser, run_maps, report, arguments)


def run_maps(options):
    """Compute the maps that are not there yet, network by network, and draw them.

    Parameters
    ----------
    options : argparse.Namespace
    """
    chosen = options.models or (smoke_models.NAMES if options.smoke else MODELS)
    num_samples = 2 if options.smoke else NUM_SAMPLES
    subject, networks = pictures.material(options, [name for name in MODELS if name in chosen])
    for network in networks:
        path = pictures.path_of(options, FIGURE, subject, network.name)
        if path.is_file():
            continue
        arrays = {"image": network.images[0]}
        for name in ANALYZERS:
            arrays[name] = make_analyzer(name, network.network, num_samples).analyze(network.images)[0]
        pictures.keep(path, arrays)
        print(f"maps: {path}", flush=True)
        keras.utils.clear_session()
    report(options)


def report(options):
    """Draw the grid of each subject.

    Parameters
    ----------
    options : argparse.Namespace
    """
    for subject, paths in pictures.subjects(options, FIGURE).items():
        found = {path.stem.partition("__")[2]: pictures.kept(path) for path in paths}
        found = {name: found[name] for name in MODELS if name in found}
        images = {name: arrays["image"] for name, arrays in found.items()}
        maps = {name: [arrays[name] for arrays in found.values()] for name in ANALYZERS}
        pictures.draw(options, FIGURE, subject, saliency_grid(images, maps))


if __name__ == "__main__":
    sys.exit(main())
