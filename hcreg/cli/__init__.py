"""The command ``hcreg``: quickstart, check, measure, explain, export, tune, trials.

::

    hcreg quickstart --data HC18
    hcreg check HC18
    hcreg check ACDC
    hcreg measure image.png --pixel-size-mm 0.12 --model runs/hc18
    hcreg explain image.png --pixel-size-mm 0.12 --model runs/hc18 --output explanations
    hcreg export runs/hc18 --output head.onnx

With the run of a segmentation network, the unlabelled test images of the HC18 challenge give its submission, and every
predicted mask can be looked at::

    hcreg measure test_set/*.png --pixel-size-csv test_set_pixel_size.csv --model runs/unet/fold_0 \
        --submission submission.csv --masks masks --output measured.csv

A search for the best learning rate, by as many terminals at once as the machine bears, and what came of it::

    hcreg tune night --data HC18
    hcreg trials list night
"""

import faulthandler
import os
import sys
from pathlib import Path

from hcreg.cli.parser import command_line


def console():
    """Run `main` as the installed command, without the start-up log of TensorFlow's native code.

    That log goes to file descriptor 2, past Python, at any log level, and speaks of errors on every machine without a
    GPU. It is dropped; Python's own messages still go to the terminal, and a crash of native code shows where it was.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    faulthandler.enable(file=sys.stderr)
    dropped = os.open(os.devnull, os.O_WRONLY)
    os.dup2(dropped, 2)
    os.close(dropped)
    sys.exit(main())


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0 for success, 1 where a problem was found, 130 after Ctrl-C.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = command_line().parse_args(arguments)
    try:
        return _COMMANDS[options.name](options)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"hcreg {options.name}: {error}", file=sys.stderr)
        return 1


def _quickstart(options):
    from hcreg.quickstart import quickstart

    output = options.output or Path("runs", "quickstart" if options.data is None else "hc18")
    result = quickstart(output, data=options.data, epochs=options.epochs, seed=options.seed)
    print(result)
    return 0


def _check(options):
    from hcreg.cli.check_command import check

    return check(options)


def _measure(options):
    from hcreg.cli.measure_command import measure

    return measure(options)


def _explain(options):
    from hcreg.cli.explain_command import explain

    return explain(options)


def _export(options):
    from hcreg.exported import checked_path

    checked_path(options.output)
    from hcreg.measurement import TrainedRegressor

    path = TrainedRegressor(options.model).export(options.output)
    print(f"{path}, and {path.name}.json beside it: hcreg measure IMAGE --pixel-size-mm X --model {path}")
    return 0


def _tune(options):
    from hcreg.cli.tune_command import tune

    return tune(options)


def _trials(options):
    from hcreg.cli.trials_command import trials

    return trials(options)


_COMMANDS = {
    "quickstart": _quickstart,
    "check": _check,
    "measure": _measure,
    "explain": _explain,
    "export": _export,
    "tune": _tune,
    "trials": _trials,
}
