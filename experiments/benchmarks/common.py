"""What every benchmark does: repeat in turns, take the best, and write the figures with their circumstances."""

import shlex
import sys
import time
from pathlib import Path

from hcreg.files import write_json
from hcreg.provenance import provenance

RESULTS = Path(__file__).parent / "results"


def seconds_of(function, repeats):
    """Seconds of each call.

    Parameters
    ----------
    function : callable
    repeats : int

    Returns
    -------
    list of float
    """
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return found


def in_turns(functions, repeats):
    """Time several functions in turns, so that a slow moment of the machine hits all alike.

    Parameters
    ----------
    functions : dict of str to callable
    repeats : int

    Returns
    -------
    dict of str to list of float
    """
    found = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            found[name] += seconds_of(function, 1)
    return found


def save(name, goals):
    """Print the figures and write them to ``results/<name>.json``.

    Parameters
    ----------
    name : str
    goals : list of dict
        Each with ``goal``, ``measured`` and ``met``, and whatever else explains it.

    Returns
    -------
    pathlib.Path
    """
    for goal in goals:
        print(f"{'met ' if goal['met'] else 'MISSED'} {goal['goal']}: {goal['measured']:.2f} ({goal['explanation']})")
    path = RESULTS / f"{name}.json"
    arguments = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    command = shlex.join(["python", "-m", f"experiments.benchmarks.{name}", *arguments])
    write_json(path, {"command": command, **provenance(), "goals": goals})
    return path
