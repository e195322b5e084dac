"""Figure 17: Deep Dream of one head on shallow, deep and all layers of a U-Net's encoder and decoder.

python -m experiments.zhang2021.figure17 run --models-root runs/zhang2021
python -m experiments.zhang2021.figure17 run --models-root runs/zhang2021 --data HC18 --subject 138_HC
python -m experiments.zhang2021.figure17 report
"""

import sys

from experiments.zhang2021 import pictures
from experiments.zhang2021.explanations import execute, parser_of
from hcreg.analyzers.deep_dream import deep_dream
from hcreg.plotting.dreams import deep_dream_sheet

FIGURE = "figure17"
NETWORK = "unet_ellipse"
_SHALLOW, _DEEP = ("1", "2"), ("3", "4")


def _convolutions(*parts):
    return [f"{part}_conv{number}" for part in parts for number in (1, 2)]


_DOWN = {depth: [f"down{level}" for level in levels] for depth, levels in (("shallow", _SHALLOW), ("deep", _DEEP))}
_UP = {depth: [f"up{level}" for level in levels] for depth, levels in (("shallow", _SHALLOW), ("deep", _DEEP))}
# the two levels at full and half resolution are the shallow ones, on the way down as on the way up
LAYERS = {
    "encoder, shallow": _convolutions(*_DOWN["shallow"]),
    "encoder, deep": _convolutions(*_DOWN["deep"], "bottom"),
    "encoder, all": _convolutions(*_DOWN["shallow"], *_DOWN["deep"], "bottom"),
    "decoder, shallow": _convolutions(*_UP["shallow"]),
    "decoder, deep": _convolutions(*_UP["deep"]),
    "decoder, all": _convolutions(*_UP["shallow"], *_UP["deep"]),
}
SETTINGS = {"octaves": 3, "octave_scale": 1.4, "steps": 20, "step_size": 0.03}
SMOKE_SETTINGS = {"octaves": 2, "octave_scale": 1.4, "steps": 1, "step_size": 0.03}


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser, _, _ = parser_of(FIGURE, "Deep Dream on layers of the U-Net", pictures=True)
    return execute(FIGURE, parser, run_dreams, report, arguments)


def run_dreams(options):
    """Dream the pictures, unless that is done, and draw them.

    Parameters
    ----------
    options : argparse.Namespace
    """
    subject, networks = pictures.material(options, [NETWORK])
    path = pictures.path_of(options, FIGURE, subject)
    if not path.is_file():
        (found,) = networks
        settings = SMOKE_SETTINGS if options.smoke else SETTINGS
        arrays = {"image": found.images[0]}
        for title, layers in LAYERS.items():
            arrays[title] = deep_dream(found.network, found.images[0], layers, **settings)
            print(f"dream: {title}", flush=True)
        pictures.keep(path, arrays)
    report(options)


def report(options):
    """Draw the sheet of each subject.

    Parameters
    ----------
    options : argparse.Namespace
    """
    note = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    for subject, (path,) in pictures.subjects(options, FIGURE).items():
        dreams = pictures.kept(path)
        image = dreams.pop("image")
        pictures.draw(options, FIGURE, subject, deep_dream_sheet(image, dreams, note=f"{NETWORK}: {note}"))


if __name__ == "__main__":
    sys.exit(main())
