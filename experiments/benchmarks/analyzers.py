"""What does each analyzer cost against one pass forward and backward, against Captum, Zennit and iNNvestigate?

python -m experiments.benchmarks.analyzers --torch-python ENVIRONMENT/bin/python

ENVIRONMENT has PyTorch, Captum and Zennit, see README.rst; iNNvestigate is in ``requirements-innvestigate.txt``.
"""

import argparse
import os
import sys
import tempfile

from experiments.benchmarks.common import save
from experiments.benchmarks.explained import MANY_PASSES, ONE_PASS, RELEVANCE, SCRIPTS, Comparison


def compare(name, options):
    """All goals of one network.

    Parameters
    ----------
    name : {"VGG16", "ResNet50"}
    options : argparse.Namespace

    Returns
    -------
    list of dict
        As `experiments.benchmarks.common.save` takes them.
    """
    goals = []
    with tempfile.TemporaryDirectory() as folder, Comparison(name, options, folder) as comparison:
        comparison.require_same_network()
        for analyzer in ONE_PASS:
            if analyzer in options.analyzers:
                goals += comparison.one_pass(analyzer)
        for analyzer in RELEVANCE:
            if analyzer in options.analyzers:
                goals += comparison.relevance(analyzer)
        if set(MANY_PASSES) & set(options.analyzers):
            batch, theirs, milliseconds = comparison.best_batch()
            for analyzer in MANY_PASSES:
                if analyzer in options.analyzers:
                    goals += comparison.many_passes(analyzer, batch, theirs)
            goals[-1]["pass_ms_per_image"] = milliseconds
        goals += comparison.building()
        about = {called: peer.about for called, peer in comparison.peers.items()}
    return [{**goal, "peers": about} for goal in goals]


def main(arguments=None):
    """Measure and write results/analyzers.json."""
    every = [*ONE_PASS, *RELEVANCE, *MANY_PASSES]
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.analyzers")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python with PyTorch, Captum and Zennit")
    parser.add_argument("--innvestigate-python", default=sys.executable, help="a Python with iNNvestigate")
    parser.add_argument("--peers", nargs="*", choices=list(SCRIPTS), default=list(SCRIPTS))
    parser.add_argument("--models", nargs="+", choices=["VGG16", "ResNet50"], default=["VGG16", "ResNet50"])
    parser.add_argument("--analyzers", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small images, few samples and turns: no result to keep")
    parser.add_argument("--size", type=int, help="height and width of the images (224)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--samples", type=int, help="of smoothgrad and integrated_gradients (64)")
    parser.add_argument("--rounds", type=int, nargs=3, metavar=("GRADIENTS", "RELEVANCE", "SAMPLES"), help="(7 3 3)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    options.size = options.size or (64 if options.quick else 224)
    options.samples = options.samples or (16 if options.quick else 64)
    options.rounds = options.rounds or ([3, 2, 2] if options.quick else [7, 3, 3])
    # read when TensorFlow starts its first operation, so not yet
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(options.threads)
    goals = [goal for name in options.models for goal in compare(name, options)]
    save("analyzers", goals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
