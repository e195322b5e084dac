"""Run the benchmarks one after another, and put what is in ``results`` into one table.

python -m experiments.benchmarks                      # all that need nothing more; hours
python -m experiments.benchmarks --data HC18 --acdc ACDC --torch-python ENVIRONMENT/bin/python
python -m experiments.benchmarks --only evaluation masks
python -m experiments.benchmarks --report             # run nothing, write results/summary.csv anew

Each is a process of its own. One that fails is said at the end, and does not stop the others.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from experiments.benchmarks import common
from hcreg.files import read_json, write_rows

# name -> options that it takes of ours
BENCHMARKS = {
    "training": ("data",),
    "evaluation": (),
    "masks": (),
    "measuring": (),
    "surface": (),
    "heatmap": (),
    "tuning": (),
    "tuning_search": (),
    "segmentation": ("torch_python",),
    "volumes": ("torch_python", "acdc"),
    "usegnet": ("torch_python",),
    "analyzers": ("torch_python",),
}
FLAGS = {"data": "--data", "acdc": "--data", "torch_python": "--torch-python"}
SUMMARY = "summary.csv"
VERSIONS = ("hcreg", "keras", "tensorflow", "torch")


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
        1 where a benchmark failed; a goal that was missed is no failure.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--data", type=Path, help="HC18 folder; synthetic images without")
    parser.add_argument("--acdc", type=Path, help="ACDC folder; synthetic hearts without")
    parser.add_argument("--torch-python", type=Path, help="Python with PyTorch; without it what compares is left out")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    failed = []
    for name in () if options.report else options.only:
        needed = BENCHMARKS[name]
        if "torch_python" in needed and options.torch_python is None:
            print(f"{name}: left out, it needs --torch-python")
            continue
        given = [(FLAGS[need], getattr(options, need)) for need in needed if getattr(options, need) is not None]
        command = [
            sys.executable,
            "-m",
            f"experiments.benchmarks.{name}",
            *(str(word) for pair in given for word in pair),
        ]
        print(f"{name}:", flush=True)
        if subprocess.run(command).returncode:
            failed.append(name)
    rows = summary_rows(common.RESULTS)
    write_rows(common.RESULTS / SUMMARY, rows)
    print(
        f"{len(rows)} figures in {common.RESULTS / SUMMARY}, {sum(row['met'] == 'missed' for row in rows)} goals missed"
    )
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def summary_rows(folder):
    """One row for each figure in the results of a folder.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    list of dict
        Benchmark, what was measured, the figure, "met", "missed" or "no goal", the day, versions and command.
    """
    rows = []
    for path in sorted(folder.glob("*.json")):
        result = read_json(path)
        versions = ", ".join(f"{name} {result['versions'][name]}" for name in VERSIONS if name in result["versions"])
        for goal in result["goals"]:
            judged = "met" if goal["met"] else "missed"
            rows.append(
                {
                    "benchmark": path.stem,
                    "what": goal["goal"],
                    "measured": f"{goal['measured']:.3g}",
                    "met": "no goal" if "no goal" in goal["goal"] else judged,
                    "day": result["started"][:10],
                    "versions": versions,
                    "command": result["command"],
                }
            )
    return rows


if __name__ == "__main__":
    sys.exit(main())
