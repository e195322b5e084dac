"""Deep Dream: what an image becomes when it is changed so that chosen layers answer more strongly."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import keras
import numpy as np

from hcreg import backend
from hcreg.analyzers.base import check_model, full_precision, near
from hcreg.graph import read_graph
from hcreg.progress import progress_bar

_OBJECTIVES = ("mean", "l2")
_NORMALIZATIONS = ("mean_absolute", "rms")
# Of a mean over a million activations, a pixel's gradient may be 1e-12 and still point somewhere; only 0 does not.
_SMALLEST_GRADIENT = 1e-30


@dataclass(frozen=True)
class Octave:
    """One scale of a deep dream.

    Attributes
    ----------
    image : float32 array of shape ([num_images,] octave_height, octave_width, channels)
        What was dreamt at this scale.
    activation : float array of shape ([num_images,] steps + 1)
        The objective before the first step and after each.
    """

    image: np.ndarray
    activation: np.ndarray


def deep_dream(
    model,
    image,
    layers,
    octaves=3,
    octave_scale=1.4,
    steps=20,
    step_size=0.01,
    objective="mean",
    normalization="mean_absolute",
    clip=None,
    jitter_px=0,
    equal_channels=False,
    multiple_of=None,
    seed=0,
    return_octaves=False,
    progress=False,
):
    r"""Change an image by gradient ascent so that the named layers of a network answer more strongly.

    Parameters
    ----------
    model : keras.Model
        Functional or Sequential, of one two-dimensional input ``(batch, height, width, channels)``. It is left as it
        is, and runs in inference mode and float32. The layers up to those named run at the size of each octave,
        whatever size the network was built for; what cannot, such as a dense layer on flattened maps, is refused.
    image : array-like of shape (height, width, channels) or (num_images, height, width, channels)
        As the network takes it; each image is dreamt by itself.
    layers : str, sequence of str, or mapping of str to float
        Names of the layers, with the weight of each in the objective (1 by default). A negative weight lowers a
        layer's activation. A layer inside a nested model is named with it, "encoder/conv1".
    octaves : int, at least 1
        Number of scales, the image's own the last.
    octave_scale : float above 1
        Ratio of the sides of two scales that follow each other.
    steps : int
        Steps of each octave; with 0 the image comes back as it is.
    step_size : float above 0, in units of the image's intensities
        By how much a step changes the image, in the mean that `normalization` names.
    objective : {"mean", "l2"}
        Mean of a layer's activations, or of their squares, summed over the layers with their weights. "l2" also grows
        what is negative, and layers of large activations rule it.
    normalization : {"mean_absolute", "rms"}
        What of the gradient is 1 at each step: the mean of its absolute values, or its root mean square.
    clip : None, "image" or (low, high)
        Intensities to stay within, or "image" for the range of the image itself. By default there is no limit.
    jitter_px : int
        Before each step the image is rolled by up to so many pixels along both axes, and back after it: patterns then
        keep to no grid.
    equal_channels : bool
        Whether all channels change alike, by the mean of their gradients: a grey image that is repeated in three
        channels, as networks on ImageNet's weights take it, then stays grey.
    multiple_of : int, optional
        What height and width of the smaller scales must be multiples of. Found from the strides where not given: the
        coarsest that the named layers bring back up, 16 for the decoder of `hcreg.models.unet`, or 1 without a way up.
    seed : int
        Of the jitter, the only chance there is.
    return_octaves : bool
        Whether to return every scale as well.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dreamt : float32 array of the shape of `image`
    octaves : list of Octave
        Only with `return_octaves`; the smallest first.

    Raises
    ------
    ValueError
        For names the model does not have or that the image does not reach, images of another shape or not finite,
        numbers out of range, scales that the network cannot run at, and layers that no pixel moves.

    Notes
    -----
    With :math:`I_k` the image at the k-th size, each octave starts from

    .. math:: x_k = I_k + \uparrow (\hat x_{k-1} - I_{k-1}),

    where :math:`\hat x_{k-1}` is what was dreamt one size below. Since enlarging is linear this is the enlarged dream
    plus the detail :math:`I_k - \uparrow I_{k-1}` that was lost by down-scaling. Deep Dream is often written so that
    the detail joins after the ascent of an octave; here it is there before, so that the last ascent sees the image that
    is returned. Sizes are rounded to what the network needs, the last one is exactly the image's. Images are shrunk by
    area and enlarged linearly.

    What a layer measures in the frame's own units, such as the circumference of `hcreg.layers.EllipseMoments`, is that
    of a smaller frame at the smaller scales; its direction of ascent is what counts there.

    Rolling wraps around the border, and so does what is dreamt there.

    References
    ----------
    .. [1] zhang2021biometrics, section 4.3 and figure 17: shallow, deep and all layers of the U-Net's encoder and
       decoder.

    Examples
    --------
    A layer that sums the channels answers more strongly to a brighter image, by 20 steps of 0.01 in each octave:

    >>> brightness = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="brightness")
    >>> model = keras.Sequential([keras.Input((32, 32, 1)), brightness])
    >>> dreamt = deep_dream(model, np.zeros((32, 32, 1), "float32"), "brightness")
    >>> print(dreamt.shape, dreamt.mean().round(3))
    (32, 32, 1) 0.6
    """
    weights = _checked_layers(layers)
    _check_numbers(octaves, octave_scale, steps, step_size, jitter_px, multiple_of)
    if objective not in _OBJECTIVES or normalization not in _NORMALIZATIONS:
        raise ValueError(
            f"objective is one of {', '.join(_OBJECTIVES)} and normalization one of {', '.join(_NORMALIZATIONS)}. "
            f"Received: {objective!r} and {normalization!r}."
        )
    tapped = _Tapped(model, weights)
    image = _checked_image(image, tapped)
    single, images = image.ndim == 3, image if image.ndim == 4 else image[None]
    shapes = _octave_shapes(images.shape[1:3], octaves, octave_scale, multiple_of or tapped.multiple())
    climb = _Ascent(tapped, objective, normalization, steps, step_size, jitter_px, equal_channels)
    dreams = []
    with progress_bar(progress) as bar:
        task = bar.add_task("deep dream", total=len(images) * octaves * steps)
        for number, original in enumerate(images):
            climb.has_moved, limits = False, _limits(clip, original)
            generator = np.random.default_rng(seed)  # anew for each: an image's dream does not depend on its company
            dream = []
            base = dreamt = _resized(original, shapes[0])
            for shape in shapes:
                smaller, base = base, _resized(original, shape)
                dreamt = base + _resized(dreamt - smaller, shape)
                dreamt, activation = climb(dreamt, limits, generator, lambda: bar.advance(task))
                dream.append(Octave(dreamt, activation))
            if steps and not climb.has_moved:
                raise ValueError(
                    f"No pixel of image {number} moves the activation of {tapped.named}: its gradient is 0 at every "
                    "step of every octave. Take other layers, or an image to which they answer."
                )
            dreams.append(dream)
    dreamt = np.stack([dream[-1].image for dream in dreams])
    if not return_octaves:
        return dreamt[0] if single else dreamt
    found = [
        Octave(np.stack([octave.image for octave in same]), np.stack([octave.activation for octave in same]))
        for same in zip(*dreams)
    ]
    if single:
        return dreamt[0], [Octave(octave.image[0], octave.activation[0]) for octave in found]
    return dreamt, found


class _Ascent:
    """Gradient ascent on one image, by one compiled function for each size."""

    def __init__(self, tapped, objective, normalization, steps, step_size, jitter_px, equal_channels):
        self.equal_channels = equal_channels
        self.tapped, self.squared, self.rms = tapped, objective == "l2", normalization == "rms"
        self.steps, self.step_size, self.jitter_px = steps, step_size, jitter_px
        self.has_moved = False
        self._compiled = {}

    def __call__(self, image, limits, generator, advance):
        """Dreamt image, and the activation before the first step and after each."""
        activation = []
        for _ in range(self.steps):
            shift = generator.integers(-self.jitter_px, self.jitter_px + 1, 2)
            value, gradient = self._evaluate(np.roll(image, shift, (0, 1)))
            gradient = np.roll(gradient, -shift, (0, 1))
            if self.equal_channels:
                gradient = np.repeat(gradient.mean(axis=-1, keepdims=True), gradient.shape[-1], axis=-1)
            size = np.sqrt(np.mean(gradient**2)) if self.rms else np.mean(np.abs(gradient))
            self.has_moved |= bool(size > 0)
            image = (image + self.step_size / max(size, _SMALLEST_GRADIENT) * gradient).astype(np.float32)
            image = image if limits is None else np.clip(image, *limits)
            activation.append(value)
            advance()
        activation.append(self._evaluate(image)[0])
        return image, np.array(activation)

    def _evaluate(self, image):
        """The objective, and its gradient in float64: squares of small gradients are 0 in float32."""
        shape = image.shape
        if shape not in self._compiled:
            # one function a size: one for all sizes would be compiled for sides of unknown length
            self._compiled[shape] = backend.compile_function(
                lambda x: backend.value_and_vjp(self._objective, x), variables=self.tapped.model.variables
            )
        try:
            value, gradient = self._compiled[shape](image[None])
        except (TypeError, ValueError) as error:
            if self.tapped.failed_at is None:
                raise
            raise ValueError(self.tapped.refusal(shape)) from error
        value, gradient = float(np.asarray(value)[0]), np.asarray(gradient, np.float64)[0]
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            raise ValueError(
                f"The activation of {self.tapped.named} or its gradient is not finite at {shape[0]} x {shape[1]} px. "
                "Check the network's weights, or take a smaller step_size or a clip."
            )
        return value, gradient

    def _objective(self, x):
        """(1,): the weighted sum over the layers, of a batch of one image."""
        total = 0.0
        for weight, maps in self.tapped.activations(x):
            maps = keras.ops.square(maps) if self.squared else maps
            total += weight * keras.ops.mean(maps, axis=tuple(range(1, len(maps.shape))))
        return total


class _Tapped:
    """The part of a network that leads to the named layers, run at any size the layers themselves can take."""

    def __init__(self, model, weights):
        check_model(model)
        self.model = full_precision(model)
        if self.model is not model:
            self.model.set_weights(model.get_weights())
        # of every output, since a layer need not lie before the first; tensors have the same numbers each time
        graphs = [read_graph(self.model, number) for number in range(max(1, len(model.outputs or ())))]
        nodes = {node.outputs: node for graph in graphs for node in graph.nodes}
        nodes = [nodes[outputs] for outputs in sorted(nodes)]
        self.shape = tuple(model.inputs[0].shape[1:])
        if len(self.shape) != 3:
            raise ValueError(
                "Deep Dream needs a network of two-dimensional images (batch, height, width, channels). "
                f"{model.name} takes {tuple(model.inputs[0].shape)}."
            )
        self.weights = {_only_output(nodes, name, model): weight for name, weight in weights.items()}
        self.named = ", ".join(repr(name) for name in weights)
        self.nodes = _leading_to(nodes, self.weights)
        self.input = graphs[0].input
        self.failed_at = None

    def activations(self, x):
        """Pairs of a layer's weight and its activations of images `x`."""
        values = {self.input: x}
        for node in self.nodes:
            self.failed_at = node  # until it has answered
            outputs = node.call([values[number] for number in node.inputs])
            values.update(zip(node.outputs, outputs, strict=True))
        self.failed_at = None
        return [(weight, values[number]) for number, weight in self.weights.items()]

    def refusal(self, shape):
        """Why the network does not run at a size."""
        built_for = " x ".join("any" if side is None else str(side) for side in self.shape[:2])
        layer = self.failed_at
        return (
            f"{self.model.name} cannot run at {shape[0]} x {shape[1]} px: its layer {layer.name!r} "
            f"({type(layer.layer).__name__}) does not take what it is given there. The network was built for "
            f"{built_for} px. Take layers before that one, or fewer octaves: octaves=1 keeps the image's own size."
        )

    def multiple(self):
        """How coarse the maps are that a way up makes finer again: sides must be multiples of that, 1 without one."""
        coarseness, needed = {self.input: 1}, 1
        for node in self.nodes:
            pixels = max((coarseness[number] for number in node.inputs), default=1)
            if isinstance(node.layer, (keras.layers.UpSampling2D, keras.layers.Conv2DTranspose)):
                needed = max(needed, pixels)
                ratio = node.layer.size if isinstance(node.layer, keras.layers.UpSampling2D) else node.layer.strides
                pixels = max(1, pixels // max(ratio))
            else:
                strides = getattr(node.layer, "strides", 1)
                pixels *= strides if isinstance(strides, int) else max(strides)
            coarseness.update(dict.fromkeys(node.outputs, pixels))
        return needed


def _only_output(nodes, name, model):
    """Number of the tensor that a layer gives."""
    found = [node for node in nodes if node.name == name]
    if not found:
        raise ValueError(f"{model.name} has no layer {name!r}.{near(name, [node.name for node in nodes])}")
    if len(found) > 1 or len(found[0].outputs) != 1:
        reason = f"is called {len(found)} times" if len(found) > 1 else f"gives {len(found[0].outputs)} tensors"
        raise ValueError(f"The layer {name!r} {reason}. Take one that is called once and gives a single tensor.")
    return found[0].outputs[0]


def _leading_to(nodes, wanted):
    """The nodes on which tensors depend, in the order of computation."""
    wanted, kept = set(wanted), []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return kept[::-1]


def _checked_layers(layers):
    """Layer names with their weights."""
    if isinstance(layers, str):
        layers = [layers]
    weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    if not weights:
        raise ValueError("Deep Dream needs the name of at least one layer. Received: none.")
    for name, weight in weights.items():
        if not (isinstance(weight, (int, float, np.number)) and math.isfinite(weight) and weight):
            raise ValueError(f"The weight of the layer {name!r} must be a finite number, not 0. Received: {weight!r}.")
    return {name: float(weight) for name, weight in weights.items()}


def _check_numbers(octaves, octave_scale, steps, step_size, jitter_px, multiple_of):
    whole = (("octaves", octaves, 1), ("steps", steps, 0), ("jitter_px", jitter_px, 0), ("multiple_of", multiple_of, 1))
    for name, value, lowest in whole:
        if value is None and name == "multiple_of":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < lowest:
            raise ValueError(f"{name} must be a whole number, {lowest} or more. Received: {value!r}.")
    if not (math.isfinite(octave_scale) and octave_scale > 1):
        raise ValueError(
            f"octave_scale must be above 1, the ratio of a size to the next smaller. Received: {octave_scale}."
        )
    if not (math.isfinite(step_size) and step_size > 0):
        raise ValueError(
            f"step_size must be above 0. Received: {step_size}. To lower a layer's activation give it a negative "
            'weight: layers={"name": -1}.'
        )


def _checked_image(image, tapped):
    image = np.asarray(image, np.float32)
    expected = tapped.shape
    fits = image.ndim in {3, 4} and image.size > 0
    fits = fits and all(side in {None, found} for side, found in zip(expected, image.shape[-3:]))
    if not fits:
        raise ValueError(
            f"{tapped.model.name} takes images of shape {expected}, one or a batch of them. Received: {image.shape}."
        )
    if not np.isfinite(image).all():
        raise ValueError(f"An image must be finite. Received: {np.sum(~np.isfinite(image))} NaN or infinite values.")
    return image


def _limits(clip, image):
    if clip is None:
        return None
    if isinstance(clip, str) and clip == "image":
        return float(image.min()), float(image.max())
    if isinstance(clip, str) or np.shape(clip) != (2,) or not clip[0] < clip[1]:
        raise ValueError(f'clip is None, "image", or (low, high) with low < high. Received: {clip!r}.')
    return float(clip[0]), float(clip[1])


def _octave_shapes(shape, octaves, octave_scale, multiple):
    """(height, width) of each octave, the smallest first."""
    shapes = [tuple(shape)]
    for number in range(1, octaves):
        sides = [side / octave_scale**number for side in shape]
        rounded = tuple(round(side / multiple) * multiple for side in sides)
        if min(rounded) == 0:
            raise ValueError(
                f"Octave {octaves - number} of {octaves} would be of {sides[0]:.0f} x {sides[1]:.0f} px, too small for "
                f"the network, which needs multiples of {multiple}. Take at most octaves={number}, or an octave_scale "
                "nearer to 1."
            )
        shapes.insert(0, rounded)
    return shapes


def _resized(image, shape):
    """Image (height, width, channels) of another size; the same array where it has it already."""
    height, width = shape
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # channel by channel: OpenCV takes no more than four at once
    channels = [cv2.resize(channel, (width, height), interpolation=method) for channel in np.moveaxis(image, -1, 0)]
    return np.stack(channels, axis=-1)
