"""Figure 15: the images of the perturbation test, regions replaced by noise from the most relevant one on.

python -m experiments.zhang2021.figure15 run --models-root runs/zhang2020
python -m experiments.zhang2021.figure15 run --models-root runs/zhang2020 --data HC18 --subject 138_HC
python -m experiments.zhang2021.figure15 report
"""

import sys

from experiments.zhang2021 import pictures
from experiments.zhang2021.explanations import ANALYZERS, MODELS, NUM_SAMPLES, execute, make_analyzer, parser_of
from hcreg.analyzers.perturbation import PAPER_PROTOCOL, aopc, perturbation_sequence
from hcreg.plotting.perturbation import perturbation_pictures

FIGURE = "figure15"


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser, run, _ = parser_of(FIGURE, "the perturbation sequence of one image", pictures=True)
    run.add_argument("--model", choices=MODELS, default=MODELS[0], help="by default %(default)s")
    run.add_argument("--analyzer", choices=list(ANALYZERS), default="lrp.z", help="by default %(default)s")
    return execute(FIGURE, parser, run_sequence, report, arguments)


def run_sequence(options):
    """Perturb the image in the paper's protocol, unless that is done, and draw the sequence.

    Parameters
    ----------
    options : argparse.Namespace
    """
    subject, networks = pictures.material(options, [options.model])
    path = pictures.path_of(options, FIGURE, subject, f"{options.model}__{options.analyzer}")
    if not path.is_file():
        (found,) = networks
        analyzer = make_analyzer(options.analyzer, found.network, 2 if options.smoke else NUM_SAMPLES)
        targets, scale = found.hc_mm / found.pixel_size_mm, found.mm_per_output / found.pixel_size_mm
        protocol = dict(PAPER_PROTOCOL)
        result = aopc(
            found.network, analyzer, found.images, targets, scale=scale, unit="px", seed=options.seed, **protocol
        )
        arrays = {
            "sequence": perturbation_sequence(result, found.images[0]),
            "region_order": result.region_order[0],
            "errors_px": result.errors[0],
        }
        pictures.keep(path, arrays)
    report(options)


def report(options):
    """Draw the sequence of each subject.

    Parameters
    ----------
    options : argparse.Namespace
    """
    for subject, paths in pictures.subjects(options, FIGURE).items():
        for path in paths:
            found, part = pictures.kept(path), path.stem.partition("__")[2].replace("__", "_")
            drawn = perturbation_pictures(
                found["sequence"],
                found["region_order"],
                PAPER_PROTOCOL["regions"],
                errors=found["errors_px"],
                unit="px",
            )
            pictures.draw(options, f"{FIGURE}_{part}", subject, drawn)


if __name__ == "__main__":
    sys.exit(main())
