"""Analyzers made of gradients: plain, times the input, averaged over noise or a path, and with modified ReLUs."""

import numpy as np
from keras import ops

from hcreg import backend
from hcreg.analyzers import rules
from hcreg.analyzers.base import Analyzer
from hcreg.analyzers.canonization import keep
from hcreg.analyzers.parts import read_parts
from hcreg.analyzers.walk import Composite, Walk, derivative

_POSTPROCESSING = {None: lambda x: x, "abs": ops.abs, "square": ops.square}


class Gradient(Analyzer):
    """Gradient of the explained number with respect to the image.

    Parameters
    ----------
    model, output, neuron
        As of `Analyzer`.
    postprocess : {None, "abs", "square"}
        Applied to the gradient.

    References
    ----------
    .. [1] simonyan2014saliency
    """

    name = "gradient"

    def __init__(self, model, output=None, neuron=None, postprocess=None):
        super().__init__(model, output, neuron)
        if postprocess not in _POSTPROCESSING:
            raise ValueError(f'postprocess is None, "abs" or "square". Received: {postprocess!r}.')
        self._postprocess = _POSTPROCESSING[postprocess]

    def _explain(self, images):
        return self._postprocess(backend.gradient(self._predict, images))


class InputTimesGradient(Gradient):
    """Image times gradient.

    On networks of ReLU and linear layers this is lrp.z, and its sum is the prediction without what biases add.
    """

    name = "input_t_gradient"

    def _explain(self, images):
        return images * super()._explain(images)


class _Averaged(Gradient):
    """Mean of gradients at points around an image or on a path to it.

    All points of a batch of images form one stream: `batch_size` of them go through the model at a time.
    """

    def _explain(self, images, fractions, noise, weights):
        """Weighted sum of gradients at some points of each image; the points lie on the second axis."""
        points = self._points(images, fractions, noise)
        shape = ops.shape(points)
        flat = ops.reshape(points, (-1, *shape[2:]))
        gradients = self._postprocess(backend.gradient(self._predict, flat))
        gradients = ops.reshape(gradients, shape)
        return ops.sum(gradients * ops.reshape(weights, (1, -1) + (1,) * (len(shape) - 2)), axis=1)

    def _explain_batch(self, batch, batch_size, first):
        num_points = self._num_points
        at_once = min(num_points, max(1, batch_size // len(batch)))
        total = None
        for start in range(0, num_points, at_once):
            numbers = np.arange(start, start + at_once)
            weights = (numbers < num_points).astype(batch.dtype)  # the last group may be smaller, its shape not
            numbers = np.minimum(numbers, num_points - 1)
            found = self._compiled(batch, *self._inputs_of_points(numbers, batch), weights)
            total = found if total is None else total + found
        return self._finish(ops.convert_to_numpy(total) / num_points, batch)

    def _finish(self, mean, batch):
        return mean


class SmoothGrad(_Averaged):
    """Mean gradient over noisy copies of the image.

    Parameters
    ----------
    model, output, neuron
        As of `Analyzer`.
    augment_by_n : int
        Number of noisy copies.
    noise_scale : float
        Standard deviation of the noise as a fraction of each image's range, maximum less minimum.
    postprocess : {None, "abs", "square"}
        Applied to each copy's gradient, before the mean.
    seed : int
        Of the noise. All images get the same noise, each scaled by its own range, so that an image's map does not
        depend on which others are explained with it.
    noise : array-like of shape (augment_by_n, *image), optional
        Noise of standard deviation 1 to use in the place of drawn one.
    compat : {None, "innvestigate"}
        iNNvestigate ignores `noise_scale` and adds noise of standard deviation 1, whatever the range.

    Notes
    -----
    zhang2021biometrics uses noise 0.2 and squares; 0.2 is the default here, where iNNvestigate's is 1.

    References
    ----------
    .. [1] smilkov2017smoothgrad
    """

    name = "smoothgrad"

    def __init__(
        self,
        model,
        output=None,
        neuron=None,
        augment_by_n=64,
        noise_scale=0.2,
        postprocess=None,
        seed=0,
        noise=None,
        compat=None,
    ):
        super().__init__(model, output, neuron, postprocess)
        self._num_points = check_count("augment_by_n", augment_by_n)
        if not np.isfinite(noise_scale) or noise_scale < 0:
            raise ValueError(f"noise_scale is a fraction of the image's range, 0 or more. Received: {noise_scale!r}.")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed is a whole number, 0 or more. Received: {seed!r}.")
        self._noise_scale, self._seed, self._compat = float(noise_scale), int(seed), compat
        self._noise = None if noise is None else np.asarray(noise)

    def _points(self, images, fractions, noise):
        axes = tuple(range(1, len(images.shape)))
        if self._compat:
            sigma = ops.ones_like(ops.max(images, axes, keepdims=True))
        else:
            sigma = self._noise_scale * (ops.max(images, axes, keepdims=True) - ops.min(images, axes, keepdims=True))
        return images[:, None] + sigma[:, None] * noise[None]

    def _inputs_of_points(self, numbers, batch):
        if self._noise is not None:
            if self._noise.shape != (self._num_points, *batch.shape[1:]):
                raise ValueError(
                    f"noise holds an image of noise for each of the augment_by_n={self._num_points} copies: an array "
                    f"of shape {(self._num_points, *batch.shape[1:])}. Received: shape {self._noise.shape}."
                )
            noise = self._noise[numbers]
        else:
            drawn = [
                np.random.default_rng((self._seed, int(n))).standard_normal(batch.shape[1:], "float32") for n in numbers
            ]
            noise = np.stack(drawn)
        return np.zeros(len(numbers), batch.dtype), noise.astype(batch.dtype)


class IntegratedGradients(_Averaged):
    """Image less reference, times the mean gradient on the straight path between them.

    Parameters
    ----------
    model, output, neuron
        As of `Analyzer`.
    steps : int
        Number of gradients.
    reference_inputs : float or array-like that broadcasts to an image
        Where the path begins.
    postprocess : {None, "abs", "square"}
        Applied to each gradient, before the mean.
    compat : {None, "innvestigate"}
        The gradients are taken in the middle of each step; iNNvestigate takes them at its beginning.

    Notes
    -----
    The sum of a map tends to the prediction for the image less that for the reference as `steps` grows.

    References
    ----------
    .. [1] sundararajan2017integrated
    """

    name = "integrated_gradients"

    def __init__(self, model, output=None, neuron=None, steps=64, reference_inputs=0.0, postprocess=None, compat=None):
        super().__init__(model, output, neuron, postprocess)
        self._num_points = check_count("steps", steps)
        self._reference = np.asarray(reference_inputs, dtype="float64")
        if not np.isfinite(self._reference).all():
            raise ValueError("reference_inputs must be finite numbers. Received: NaN or infinity.")
        self._compat = compat

    def _points(self, images, fractions, noise):
        fractions = ops.reshape(fractions, (1, -1) + (1,) * (len(images.shape) - 1))
        return noise + (images[:, None] - noise) * fractions

    def _inputs_of_points(self, numbers, batch):
        fractions = (numbers + (0.0 if self._compat else 0.5)) / self._num_points
        return fractions.astype(batch.dtype), self._start(batch)

    def _start(self, batch):
        try:
            return np.broadcast_to(self._reference, batch.shape[1:]).astype(batch.dtype)
        except ValueError:
            raise ValueError(
                f"reference_inputs must broadcast to an image of shape {batch.shape[1:]}. "
                f"Received: shape {self._reference.shape}."
            ) from None

    def _finish(self, mean, batch):
        return mean * (batch - self._start(batch))


class ModifiedGradient(Analyzer):
    """Guided backpropagation and DeConvNet: the gradient with other backward ReLUs.

    Parameters
    ----------
    model, output, neuron
        As of `Analyzer`.
    name : {"guided_backprop", "deconvnet"}
        Guided backpropagation drops negative numbers at each ReLU on the way back, and where the ReLU was closed;
        DeConvNet drops negative ones only.
    compat : {None, "innvestigate"}
        The way back begins with 1; iNNvestigate begins with the prediction, which multiplies the map by it.

    Raises
    ------
    ValueError
        If an activation between the input and the last layer with weights is not a ReLU.

    References
    ----------
    .. [1] springenberg2015striving (guided backpropagation)
    .. [2] zeiler2014visualizing (DeConvNet)
    """

    def __init__(self, model, output=None, neuron=None, name="guided_backprop", compat=None):
        super().__init__(model, output, neuron)
        self.name = name
        gradient = rules.Derivative()
        composite = Composite(
            *[gradient] * 5,
            activation=_guided if name == "guided_backprop" else _deconvolved,
            times_value=bool(compat),
            needs_relu=True,
            opaque=True,
        )
        canonized = keep(read_parts(self._precise, self._target.index))
        self._walk = Walk(canonized, self._target, composite, name, linearised_end=compat is None)

    def _explain(self, images):
        return self._walk.backward(self._walk.forward(images))


def _guided(part, x, y, cotangent):
    return derivative(part, x, y, rules.positive(cotangent))


def _deconvolved(part, x, y, cotangent):
    return rules.positive(cotangent)


def check_count(name, count):
    """Refuse what is not a whole number of 1 or more.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    count : int

    Returns
    -------
    int
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(f"{name} is a whole number, 1 or more. Received: {count!r}.")
    return int(count)
