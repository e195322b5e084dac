"""What every analyzer shares: which number of the model is explained, checked images, batches of bounded memory."""

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import keras
import numpy as np

from hcreg import backend
from hcreg.progress import progress_bar

BATCH_SIZE = 8


@dataclass(frozen=True)
class Target:
    """The one number per image that is explained.

    Attributes
    ----------
    index : int
        Of the output, in the order of `model.outputs`.
    neuron : int
        Of the element, where the output has several.
    """

    index: int
    neuron: int

    def take(self, outputs):
        """Pick the number from what the model gives.

        Parameters
        ----------
        outputs : tensor, or list, tuple or dict of tensors
            Of a call of the model.

        Returns
        -------
        tensor of shape (batch,)
        """
        output = keras.tree.flatten(outputs)[self.index]
        return self.pick(output)

    def pick(self, output):
        """Pick the number from the chosen output.

        Parameters
        ----------
        output : tensor of shape (batch, ...)

        Returns
        -------
        tensor of shape (batch,)
        """
        return keras.ops.reshape(output, (-1, int(np.prod(output.shape[1:]))))[:, self.neuron]


def select_target(model, output=None, neuron=None):
    """Find which number of a model is to be explained.

    Parameters
    ----------
    model : keras.Model
    output : str, optional
        Name of the output. By default the only one, or the only one with one element per image.
    neuron : int, optional
        Which element of that output, counted over the flattened output. Needed where it has several.

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        If there is no such output or element, or if the choice is not clear.

    Examples
    --------
    >>> inputs = keras.Input((4,))
    >>> model = keras.Model(inputs, keras.layers.Dense(3, name="volumes")(inputs))
    >>> select_target(model, neuron=2)
    Target(index=0, neuron=2)
    """
    names, sizes = _outputs(model)
    described = ", ".join(f"{name!r} with {size} elements" for name, size in zip(names, sizes, strict=True))
    if output is not None:
        if output not in names:
            raise ValueError(
                f"The model {model.name!r} has no output {output!r}. It has {described}.{near(output, names)}"
            )
        index = names.index(output)
    elif len(names) == 1:
        index = 0
    else:
        scalar = [number for number, size in enumerate(sizes) if size == 1]
        if len(scalar) != 1:
            raise ValueError(
                f"An analyzer explains one number per image, and the model {model.name!r} has several outputs: "
                f"{described}. Name one: output={names[0]!r}."
            )
        (index,) = scalar
    size = sizes[index]
    if neuron is None and size != 1:
        raise ValueError(
            f"An analyzer explains one number per image. Received: output {names[index]!r} of model {model.name!r}, "
            f"which has {size if size else 'an unknown number of'} elements. Say which: neuron=0. A segmentation "
            "network is explained through the circumference of its mask: end it with hcreg.layers.EllipseMoments, or "
            'build it with head="ellipse".'
        )
    neuron = 0 if neuron is None else neuron
    if isinstance(neuron, bool) or not isinstance(neuron, (int, np.integer)):
        raise ValueError(f"neuron is the number of an element of the output, an integer. Received: {neuron!r}.")
    if neuron < 0 or (size is not None and neuron >= size):
        raise ValueError(
            f"Output {names[index]!r} of model {model.name!r} has elements 0 to {(size or 0) - 1}. "
            f"Received: neuron={neuron}."
        )
    return Target(index, int(neuron))


def near(name, names):
    """A hint at names like a misspelt one.

    Parameters
    ----------
    name : str
    names : iterable of str

    Returns
    -------
    str
        ``" Did you mean 'gradient'?"``, or empty where none is near.

    Examples
    --------
    >>> near("gradiant", ["gradient", "lrp.z"])
    " Did you mean 'gradient'?"
    """
    found = difflib.get_close_matches(str(name), list(names), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


class Analyzer(ABC):
    """Explains one number of a model, image by image.

    Parameters
    ----------
    model : keras.Model
        Of one input, built. Nothing of it is changed, neither its layers nor its weights; weights that change later,
        by training, are seen by the next `analyze`.
    output, neuron
        As of `select_target`.

    Attributes
    ----------
    model : keras.Model
    name : str
        Under which `create_analyzer` made it.

    Notes
    -----
    The images of a batch are explained apart from each other, each as if it were alone. A model in mixed precision is
    computed in float32: eight bits of mantissa are too few for differences of relevances.
    """

    name = ""
    channels_out = None  # of the maps; those of the images where None

    def __init__(self, model, output=None, neuron=None):
        check_model(model)
        self.model = model
        self._target = select_target(model, output, neuron)
        self._precise = full_precision(model)
        self._compiled = None

    def analyze(self, images, batch_size=BATCH_SIZE, progress=False):
        """Explain images.

        Parameters
        ----------
        images : array-like of shape (num_images, *spatial, channels)
            As the model takes them.
        batch_size : int
            How many images, or perturbed copies of images, go through the model at a time: memory grows with it.
        progress : bool
            Whether to show a progress bar.

        Returns
        -------
        ndarray of float32, shape (num_images, *spatial, channels)
            Relevance of each number of each image; one channel for analyzers that locate but do not tell channels
            apart. Analyzers say in which unit. float64 for a model of float64.

        Raises
        ------
        ValueError
            If the images are not of the model's input shape, or not all finite.
        FloatingPointError
            If a map is not finite.
        """
        images = check_images(self.model, images)
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise ValueError(f"batch_size is a number of images, 1 or more. Received: {batch_size!r}.")
        if self._precise is not self.model:
            self._precise.set_weights(self.model.get_weights())
        if self._compiled is None:
            self._compiled = backend.compile_function(self._explain, variables=self._precise.variables)
        maps, size = None, min(batch_size, len(images))
        with progress_bar(progress) as bar:
            task = bar.add_task(self.name or type(self).__name__, total=len(images))
            for start in range(0, len(images), size):
                count = min(size, len(images) - start)
                batch = images[start : start + count]
                if count < size:  # one shape of batches, so that one graph is compiled
                    batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
                found = self._explain_batch(batch, batch_size, start)[:count]
                self._check_maps(found, start)
                if maps is None:
                    maps = np.empty((len(images), *found.shape[1:]), found.dtype)
                maps[start : start + count] = found
                bar.advance(task, count)
        return maps

    @abstractmethod
    def _explain(self, images):
        """Maps of a batch; tensors in, a tensor or a tuple of tensors out; compiled once per shape."""

    def _explain_batch(self, batch, batch_size, first):
        """Maps of a batch, arrays in and out; `batch_size` bounds the copies, `first` numbers its first image."""
        return keras.ops.convert_to_numpy(self._compiled(batch))

    def _predict(self, images):
        model = self._precise
        if not isinstance(model, keras.Sequential):  # the input may be asked for in a list or a dict
            images = keras.tree.pack_sequence_as(model.input, [images])
        return self._target.take(model(images, training=False))

    def _check_maps(self, maps, first):
        finite = np.isfinite(maps).reshape(len(maps), -1).all(axis=1)
        if not finite.all():
            raise FloatingPointError(
                f"{self.name} gave a map that is not finite for image number {first + int(np.argmin(finite))}. "
                "Check that the model's weights and its prediction for that image are finite."
            )


def check_model(model):
    """Refuse what is not a model with a known input.

    Parameters
    ----------
    model : keras.Model

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"An analyzer explains a keras.Model. Received: {type(model).__name__}.")
    if not model.built:
        raise ValueError(f"The model {model.name!r} is not built: call it on an image once before explaining it.")
    num_inputs = len(getattr(model, "inputs", None) or ())  # 0 of a class of its own, which select_target refuses
    if num_inputs > 1:
        raise ValueError(
            f"An analyzer explains models of one input. Received: model {model.name!r} with {num_inputs} inputs. "
            "Build a functional model of the input to be explained."
        )


def check_images(model, images):
    """Images as an array of the model's floating-point type.

    Parameters
    ----------
    model : keras.Model
    images : array-like of shape (num_images, *spatial, channels)

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If there are none, they are of another shape than the model's input, or not all finite.
    """
    images = np.asarray(images)
    wanted = tuple(model.inputs[0].shape) if model.inputs else None
    fits = wanted is None or (
        images.ndim == len(wanted)
        and all(side in (None, got) for side, got in zip(wanted[1:], images.shape[1:], strict=True))
    )
    if not fits or images.ndim < 2 or images.dtype.kind not in "fiub":
        shape = "" if wanted is None else ", ".join("any" if side is None else str(side) for side in wanted[1:])
        raise ValueError(
            f"The model {model.name!r} takes images of shape (num_images, {shape}). Received: an array of shape "
            f"{images.shape} and type {images.dtype}. A single image needs a first axis: image[None]."
        )
    if not len(images):
        raise ValueError("There is nothing to explain. Received: 0 images.")
    dtype = "float64" if keras.backend.standardize_dtype(model.compute_dtype) == "float64" else "float32"
    images = images.astype(dtype, copy=False)
    finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"Images must be finite numbers. Received: NaN or infinity in image number {int(np.argmin(finite))}."
        )
    return images


def full_precision(model):
    """The model itself, or, in mixed precision, a copy of it that computes in float32.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    keras.Model
        The copy's weights are its own: set them to the model's before use.
    """
    dtypes = {keras.backend.standardize_dtype(layer.compute_dtype) for layer in _layers(model)}
    if not dtypes & {"float16", "bfloat16"}:
        return model

    def copy(layer):
        own_dtype = {"dtype": "float32"} if isinstance(layer, keras.layers.Layer) else {}  # none of x + y
        return type(layer).from_config({**layer.get_config(), **own_dtype})

    try:
        return keras.models.clone_model(model, clone_function=copy, recursive=True)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The model {model.name!r} computes in {' and '.join(sorted(dtypes))}, and is explained in float32 by a "
            f"copy, which could not be made: {error}. Rebuild it with the float32 policy and load its weights."
        ) from error


def _layers(model):
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else (layer,)


def _outputs(model):
    structure = getattr(model, "outputs" if isinstance(model, keras.Sequential) else "output", None)
    if structure is None or not model.inputs:  # a model written as a class: known once called
        raise ValueError(
            f"The outputs of model {model.name!r} are not known: it is a class of its own. Wrap it: "
            "keras.Model(inputs, model(inputs)) of inputs = keras.Input(shape)."
        )
    tensors = keras.tree.flatten(structure)
    if isinstance(structure, dict):
        names = sorted(structure)
    elif isinstance(model, keras.Sequential):  # it knows no names of outputs
        names = [model.layers[-1].name]
    else:
        names = list(model.output_names)
    sizes = [None if None in tensor.shape[1:] else int(np.prod(tensor.shape[1:])) for tensor in tensors]
    return names, sizes
