"""Names of the analyzers, what each is, and how each is made: the one list of them."""

import inspect
from dataclasses import dataclass
from functools import partial

from hcreg.analyzers import gradient, relevance
from hcreg.analyzers.activation_maps import ActivationMap
from hcreg.analyzers.base import near
from hcreg.analyzers.innvestigate import InnvestigateAnalyzer
from hcreg.analyzers.occlusion import Occlusion

ENGINES = ("native", "innvestigate")


@dataclass(frozen=True)
class Entry:
    """An analyzer that can be made by name.

    Attributes
    ----------
    description : str
    make : callable
        Takes (model, output, neuron, compat, **options).
    options : tuple of str
        Names of the options it takes.
    """

    description: str
    make: object
    options: tuple


def create_analyzer(name, model, engine="native", compat=None, neuron=None, output=None, **options):
    """Make an analyzer.

    Parameters
    ----------
    name : str
        One of `ANALYZERS`.
    model : keras.Model
        Of one input, built, trained. It is not changed.
    engine : {"native", "innvestigate"}
        "innvestigate" runs the original package in a process of its own (``requirements-innvestigate.txt``); it serves
        those of its analyzers that bear its names, for the models that it can read.
    compat : {None, "innvestigate"}
        The methods as defined, or with the numbers of iNNvestigate 2.1.2, its defects included.
    neuron : int, optional
        Which element of the output is explained, where it has several.
    output : str, optional
        Name of the output that is explained, where the model has several.
    **options
        Of the analyzer, with iNNvestigate's names where it has them; the error for an unknown one lists them all.

    Returns
    -------
    Analyzer
        Its ``analyze(images)`` gives one map for each image.

    Raises
    ------
    ValueError
        For an unknown name, engine or option, an output that is not one number per image, or a method that is not
        defined for a layer of the model; the message names it.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.array([[2.0], [-1.0]])])
    >>> create_analyzer("input_t_gradient", model).analyze(np.array([[3.0, 4.0]])).tolist()
    [[6.0, -4.0]]
    """
    if name not in _ENTRIES:
        raise ValueError(f"Unknown analyzer {name!r}.{near(name, _ENTRIES)} There are {', '.join(_ENTRIES)}.")
    if engine not in ENGINES:
        raise ValueError(f'engine is "native" or "innvestigate". Received: {engine!r}.')
    if compat not in (None, "innvestigate"):
        raise ValueError(f'compat is None or "innvestigate". Received: {compat!r}.')
    if engine == "innvestigate":
        return InnvestigateAnalyzer(name, model, neuron=neuron, output=output, **options)
    entry = _ENTRIES[name]
    unknown = sorted(set(options) - set(entry.options))
    if unknown:
        takes = ", ".join(entry.options) if entry.options else "no options"
        raise ValueError(f"{name} takes {takes}. Received: {unknown[0]!r}.{near(unknown[0], entry.options)}")
    return entry.make(model, output=output, neuron=neuron, compat=compat, **options)


def _plain(cls, description, **fixed):
    """An entry of an analyzer class, whose options are its own arguments."""
    own = [argument for argument in inspect.signature(cls).parameters if argument not in ("model", "output", "neuron")]
    takes_compat = "compat" in own

    def make(model, output, neuron, compat, **options):
        compat = {"compat": compat} if takes_compat else {}
        return cls(model, output=output, neuron=neuron, **fixed, **compat, **options)

    return Entry(description, make, tuple(name for name in own if name not in ("compat", *fixed)))


def _relevance(name, description, composite, *extra, **fixed):
    """An entry of a composite of rules, whose options are the composite's and the bounds."""
    fixed_here = {"compat", *getattr(composite, "keywords", {})}
    own = [argument for argument in inspect.signature(composite).parameters if argument not in fixed_here]

    def make(model, output, neuron, compat, **options):
        of_analyzer = {key: options.pop(key) for key in extra if key in options}
        rule = options.get("input_layer_rule")
        if isinstance(rule, (tuple, list)) and len(rule) == 2:
            of_analyzer["low"], of_analyzer["high"] = rule
        return relevance.Relevance(
            model,
            composite(compat, **options),
            name,
            output=output,
            neuron=neuron,
            compat=compat,
            **fixed,
            **of_analyzer,
        )

    return Entry(description, make, (*own, *extra))


def _entries():
    alpha_beta, preset = relevance.lrp_alpha_beta, relevance.lrp_preset

    def lrp(name, description, composite):
        return name, _relevance(name, description, composite)

    def taylor(name, description, composite, *extra):
        return name, _relevance(name, description, composite, "lowest_output", *extra, positive_only=True)

    return dict(
        [
            ("gradient", _plain(gradient.Gradient, "gradient of the prediction")),
            ("smoothgrad", _plain(gradient.SmoothGrad, "mean gradient over noisy copies")),
            ("input_t_gradient", _plain(gradient.InputTimesGradient, "image times gradient")),
            ("integrated_gradients", _plain(gradient.IntegratedGradients, "mean gradient on a path, times its length")),
            ("deconvnet", _plain(gradient.ModifiedGradient, "gradient through ReLUs turned round", name="deconvnet")),
            (
                "guided_backprop",
                _plain(gradient.ModifiedGradient, "gradient of what only adds", name="guided_backprop"),
            ),
            taylor("deep_taylor", "z+ rule", partial(relevance.deep_taylor, bounded=False)),
            taylor(
                "deep_taylor.bounded",
                "z+ rule, z^B rule at the input",
                partial(relevance.deep_taylor, bounded=True),
                "low",
                "high",
            ),
            lrp("lrp.z", "shares of what was added up", relevance.lrp_z),
            lrp("lrp.epsilon", "as lrp.z, with a stabiliser", relevance.lrp_epsilon),
            lrp("lrp.w_square", "shares of squared weights", relevance.lrp_w_square),
            lrp("lrp.flat", "equal shares", relevance.lrp_flat),
            lrp("lrp.alpha_beta", "alpha of what adds, beta of what subtracts", alpha_beta),
            lrp("lrp.alpha_2_beta_1", "twice what adds less what subtracts", partial(alpha_beta, alpha=2, beta=1)),
            lrp("lrp.alpha_1_beta_0", "what adds", partial(alpha_beta, alpha=1, beta=0)),
            lrp("lrp.z_plus", "what adds, without biases", partial(alpha_beta, alpha=1, beta=0, bias=False)),
            lrp("lrp.sequential_preset_a", "epsilon, then alpha 1 beta 0", partial(preset, 1, 0)),
            lrp("lrp.sequential_preset_b", "epsilon, then alpha 2 beta 1", partial(preset, 2, 1)),
            lrp(
                "lrp.sequential_preset_a_flat",
                "as preset a, flat at the input",
                partial(preset, 1, 0, input_layer_rule="Flat"),
            ),
            lrp(
                "lrp.sequential_preset_b_flat",
                "as preset b, flat at the input",
                partial(preset, 2, 1, input_layer_rule="Flat"),
            ),
            ("hires_cam", _plain(ActivationMap, "activations times gradients", name="hires_cam")),
            ("grad_cam", _plain(ActivationMap, "activations times mean gradients", name="grad_cam")),
            ("occlusion", _plain(Occlusion, "fall of the prediction when a patch is covered")),
        ]
    )


_ENTRIES = _entries()
ANALYZERS = {name: entry.description for name, entry in _ENTRIES.items()}
