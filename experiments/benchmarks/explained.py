"""One network, explained by hcreg's analyzers and by Captum, Zennit and iNNvestigate in turns."""

import statistics
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from experiments.benchmarks.common import seconds_of
from experiments.benchmarks.networks import bare_pass, built, distance
from experiments.benchmarks.processes import Process
from hcreg.analyzers import create_analyzer

SCRIPTS = {
    "torch": Path(__file__).parent / "peers" / "explain_torch.py",
    "innvestigate": Path(__file__).parent / "peers" / "explain_innvestigate.py",
}
ONE_PASS = ("gradient", "input_t_gradient", "deconvnet", "guided_backprop")
RELEVANCE = (
    "lrp.z",
    "lrp.epsilon",
    "lrp.alpha_2_beta_1",
    "lrp.alpha_1_beta_0",
    "lrp.sequential_preset_a",
    "lrp.sequential_preset_b",
    "deep_taylor",
    "deep_taylor.bounded",
)
MANY_PASSES = {"smoothgrad": "augment_by_n", "integrated_gradients": "steps"}  # and what they call their samples
OPTIONS = {"deep_taylor.bounded": {"low": -1.0, "high": 1.0}, "smoothgrad": {"noise_scale": 0.05}}
PASS_GOAL, RELEVANCE_GOAL, MANY_PASSES_GOAL, BUILD_GOAL_S = 1.1, 3.0, 1.05, 10.0
ZENNIT_GOAL, CAPTUM_GOAL, INNVESTIGATE_GOAL = 1.0, 1.0, 0.5
BATCH_SIZES = (1, 2, 4, 8, 16)
IMAGES_OF_MANY_PASSES = 2  # of iNNvestigate's one: it takes all samples of all images at once
TUNING_ROUNDS = 3
SHARE_OF_PASSES = 4  # one in so many of the bare passes is timed beside them
LARGEST_DIFFERENCE_OF_PREDICTIONS = 1e-4
LARGEST_DIFFERENCE_OF_GRADIENTS = 1e-2  # a rounding may open or close a ReLU, seldom
NAMES = {"torch": "PyTorch", "innvestigate": "iNNvestigate"}
NEEDS = {
    "torch": "--torch-python needs a Python with PyTorch, Captum and Zennit, see experiments/benchmarks/README.rst.",
    "innvestigate": "--innvestigate-python needs a Python with the packages of requirements-innvestigate.txt; "
    "--peers torch does without.",
}


class Comparison:
    """One network, explained by everyone.

    Parameters
    ----------
    name : {"VGG16", "ResNet50"}
    options : argparse.Namespace
    folder : path-like
        Where arrays are handed over.
    """

    def __init__(self, name, options, folder):
        self.name, self.options = name, options
        shape = (options.size, options.size, 3)
        self.images = np.random.default_rng(1).uniform(-1, 1, (options.batch_size, *shape)).astype(np.float32)
        self.model = built(name, shape)
        self.bare = bare_pass(self.model)
        self.size = f"{name}, {options.size} x {options.size}"
        self.peers, self.builds = {}, {}
        self.folder = Path(folder)
        weights = {f"{layer.name}/{w.name}": np.asarray(w) for layer in self.model.layers for w in layer.weights}
        np.savez(self.folder / "weights.npz", **weights)
        np.save(self.folder / "images.npy", self.images)

    def __enter__(self):
        arguments = self.folder / "weights.npz", self.folder / "images.npy", self.options.threads
        pythons = {"torch": self.options.torch_python, "innvestigate": self.options.innvestigate_python}
        with ExitStack() as started:  # ends the first where the second does not start
            for peer in self.options.peers:
                about = NAMES[peer], NEEDS[peer]
                self.peers[peer] = Process(pythons[peer], SCRIPTS[peer], arguments, self.folder, *about)
                started.callback(self.peers[peer].close)
            self._open = started.pop_all()
        return self

    def __exit__(self, *_):
        self._open.close()

    def require_same_network(self):
        """Compare the peers' predictions and gradients with Keras's.

        Raises
        ------
        AssertionError
            If it is not the same network: a ratio of times would mean nothing.
        """
        request = {"images": len(self.images), "repeats": 1, "format": "plain"}
        predictions = self.model.predict_on_batch(self.images)
        for called, peer in self.peers.items():
            difference = distance(peer.ask_array(do="predict", **request), predictions)
            if not difference <= LARGEST_DIFFERENCE_OF_PREDICTIONS:
                raise AssertionError(
                    f"{self.name}: predictions of {NAMES[called]} differ from Keras's by {difference:.2g}."
                )
        if "torch" in self.peers:
            theirs = self.peers["torch"].ask_array(do="explain", analyzer="gradient", **request)
            difference = distance(theirs, self.bare(self.images))
            if not difference <= LARGEST_DIFFERENCE_OF_GRADIENTS:
                raise AssertionError(f"{self.name}: gradients of Captum differ from Keras's by {difference:.2g}.")

    def best_batch(self):
        """Images per pass at which a bare pass takes the least time per image, ours and PyTorch's.

        Returns
        -------
        ours : int
        theirs : tuple of (str, int)
            Memory format and images per pass.
        milliseconds : dict of str to float
            Per image, for the results.
        """
        turns = {("keras", size): _once(bare_pass(self.model), self._some(size)) for size in BATCH_SIZES}
        if "torch" in self.peers:
            for memory_format in ("plain", "channels_last"):
                for size in BATCH_SIZES:
                    request = {"do": "pass", "format": memory_format, "images": size, "repeats": 1}
                    turns[memory_format, size] = partial(self.peers["torch"].ask, **request)
        in_turns(turns, 1)  # the first call compiles, and fills pools of memory
        found = in_turns(turns, TUNING_ROUNDS)
        per_image = {key: min(seconds) / key[1] for key, seconds in found.items()}
        ours = min((key for key in per_image if key[0] == "keras"), key=per_image.get)
        theirs = min((key for key in per_image if key[0] != "keras"), key=per_image.get, default=None)
        return ours[1], theirs, {f"{key[0]} {key[1]}": round(1000 * s, 1) for key, s in per_image.items()}

    def created(self, analyzer, images, batch_size, **options):
        """Create an analyzer and call it once, keeping the seconds.

        Parameters
        ----------
        analyzer : str
        images : ndarray
        batch_size : int
            Of `analyze`.
        **options
            Of `hcreg.analyzers.create_analyzer`, beside `OPTIONS`.

        Returns
        -------
        analyze : callable
            The same call once more.
        maps : ndarray
        """
        started = time.perf_counter()
        made = create_analyzer(analyzer, self.model, **OPTIONS.get(analyzer, {}), **options)
        maps = made.analyze(images, batch_size=batch_size)
        self.builds[analyzer] = time.perf_counter() - started
        return partial(made.analyze, images, batch_size=batch_size), maps

    def one_pass(self, analyzer):
        """Goals of an analyzer of one pass forward and backward.

        Parameters
        ----------
        analyzer : str

        Returns
        -------
        list of dict
        """
        analyze, maps = self.created(analyzer, self.images, len(self.images))
        turns = {"pass": _once(self.bare, self.images), "hcreg": _once(analyze)}
        found = in_turns(turns, self.options.rounds[0])
        extra = {}
        if "torch" in self.peers:
            theirs = self._explained("torch", analyzer, "plain")
            extra["difference_of_maps_from_captum"] = distance(theirs, maps)
        return [self._goal(f"{analyzer} over one pass", found, "hcreg", "pass", PASS_GOAL, extra)]

    def relevance(self, analyzer):
        """Goals of an analyzer of relevance, against a pass and against Zennit.

        Parameters
        ----------
        analyzer : str

        Returns
        -------
        list of dict
        """
        analyze, maps = self.created(analyzer, self.images, len(self.images))
        turns = {"pass": _once(self.bare, self.images), "hcreg": _once(analyze)}
        extra = {}
        if "torch" in self.peers:
            request = {"do": "explain", "analyzer": analyzer, "images": len(self.images), "repeats": 1}
            for memory_format in ("plain", "channels_last"):
                theirs = self._explained("torch", analyzer, memory_format)
                turns[memory_format] = partial(self.peers["torch"].ask, format=memory_format, **request)
            extra["difference_of_maps_from_zennit"] = distance(theirs, maps)
        found = in_turns(turns, self.options.rounds[1])
        goals = [self._goal(f"{analyzer} over one pass", found, "hcreg", "pass", RELEVANCE_GOAL, extra)]
        if "torch" in self.peers:
            best = min(("plain", "channels_last"), key=lambda name: statistics.median(found[name]))
            goals.append(self._goal(f"{analyzer} over Zennit's", found, "hcreg", best, ZENNIT_GOAL, extra))
        return goals

    def many_passes(self, analyzer, batch, theirs):
        """Goals of an analyzer that averages over samples.

        Parameters
        ----------
        analyzer : str
        batch : int
            Images per bare pass at its best.
        theirs : tuple of (str, int) or None
            As given by `best_batch`.

        Returns
        -------
        list of dict
        """
        samples = self.options.samples
        few = self.images[:IMAGES_OF_MANY_PASSES]
        named = {MANY_PASSES[analyzer]: samples}
        analyze, maps = self.created(analyzer, few, batch, **named)
        passes = max(1, len(few) * samples // batch // SHARE_OF_PASSES)
        bare, images = bare_pass(self.model), self._some(batch)
        bare(images)  # compiles
        turns = {"passes": partial(self._passes, bare, images, passes), "hcreg": _once(analyze)}
        scale = {"passes": len(few) * samples / (passes * batch)}
        extra = {"samples": samples, "images": len(few), "best_images_per_pass": {"keras": batch, "torch": theirs}}
        if "torch" in self.peers:
            request = {"do": "explain", "analyzer": analyzer, "images": len(few), "repeats": 1, "format": theirs[0]}
            request["options"] = {"samples": samples, "batch": theirs[1]}
            if analyzer == "integrated_gradients":
                extra["difference_of_maps_from_captum"] = distance(self.peers["torch"].ask_array(**request), maps)
            turns["captum"] = partial(self.peers["torch"].ask, **request)
        if "innvestigate" in self.peers and self.name == "VGG16":
            request = {"analyzer": analyzer, "images": 1, "repeats": 1}
            answer = self.peers["innvestigate"].ask(do="build", options=named, **request)
            extra["innvestigate_build"] = answer  # seconds, or the words with which it fails
            if isinstance(answer, list):
                turns["innvestigate"] = partial(self.peers["innvestigate"].ask, do="explain", **request)
                scale["innvestigate"] = len(few)
        found = in_turns(turns, self.options.rounds[2])
        for name, factor in scale.items():
            found[name] = [seconds * factor for seconds in found[name]]
        # the samples of the first call are no part of building
        self.builds[analyzer] = max(0.0, self.builds[analyzer] - statistics.median(found["hcreg"]))
        called = f"{analyzer} of {samples} samples"
        goals = [self._goal(f"{called} over so many passes", found, "hcreg", "passes", MANY_PASSES_GOAL, extra)]
        for peer, name, goal in (
            ("captum", "Captum", CAPTUM_GOAL),
            ("innvestigate", "iNNvestigate", INNVESTIGATE_GOAL),
        ):
            if peer in found:
                goals.append(self._goal(f"{called} over {name}'s", found, "hcreg", peer, goal, extra))
        return goals

    def building(self):
        """The goal for the time from asking for an analyzer to the end of its first call.

        Returns
        -------
        list of dict
        """
        if not self.builds:
            return []
        slowest = max(self.builds, key=self.builds.get)
        explanation = f"the slowest of {len(self.builds)}: {slowest}"
        extra = {"seconds": {name: round(seconds, 2) for name, seconds in self.builds.items()}}
        if not self.options.quick and "innvestigate" in self.peers:
            request = {"do": "build", "analyzer": "gradient", "images": len(self.images), "repeats": 1}
            answer = self.peers["innvestigate"].ask(**request)
            extra["innvestigate_gradient"] = answer
            explanation += f"; iNNvestigate's gradient {answer[0]:.0f} s" if isinstance(answer, list) else ""
        return [
            {
                "goal": f"seconds to build an analyzer, first call included, {self.size}, < {BUILD_GOAL_S:g}",
                "measured": self.builds[slowest],
                "met": self.builds[slowest] < BUILD_GOAL_S,
                "explanation": explanation,
                **extra,
            }
        ]

    def _some(self, count):
        return np.resize(self.images, (count, *self.images.shape[1:]))

    def _passes(self, bare, images, count):
        return [sum(seconds_of(partial(bare, images), count))]

    def _explained(self, peer, analyzer, memory_format):
        request = {"do": "explain", "analyzer": analyzer, "images": len(self.images), "repeats": 1}
        return self.peers[peer].ask_array(format=memory_format, **request)

    def _goal(self, called, found, ours, theirs, limit, extra):
        ratios = sorted(a / b for a, b in zip(found[ours], found[theirs], strict=True))
        medians = {name: statistics.median(seconds) for name, seconds in found.items()}
        ratio = medians[ours] / medians[theirs]
        return {
            "goal": f"{called}, {self.size}, <= {limit:g}",
            "measured": ratio,
            "met": ratio <= limit,
            "explanation": f"medians of {len(ratios)} turns, {1000 * medians[ours]:.0f} against "
            f"{1000 * medians[theirs]:.0f} ms ({theirs}); turn by turn {ratios[0]:.2f} to {ratios[-1]:.2f}",
            "median_ms": {name: round(1000 * seconds, 1) for name, seconds in medians.items()},
            **extra,
        }


def in_turns(turns, rounds):
    """Call everyone in turns, so that a slow moment of the machine hits all alike.

    Parameters
    ----------
    turns : dict of str to callable
        Each gives a list of seconds, ours taken here and a peer's those that it took itself.
    rounds : int

    Returns
    -------
    dict of str to list of float
    """
    found = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            found[name] += turn()
    return found


def _once(function, *arguments):
    return partial(seconds_of, partial(function, *arguments), 1)
