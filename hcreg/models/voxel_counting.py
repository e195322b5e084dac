"""Networks that measure by counting: a segmentation network of slices, and the stack of slices it adds up."""

from dataclasses import replace

import keras
from keras import ops

from hcreg.graph import read_graph
from hcreg.layers import SoftVoxelCount

SHARPNESS = 2.0  # a background of 0.001 adds 0.8 cm² to a slice of 160 x 160 pixels of 1.75 mm, and 0.001 cm² with it


def with_areas(model, pixel_mm) -> keras.Model:
    """A segmentation network that gives the area of each structure too.

    Parameters
    ----------
    model : keras.Model
        Its output "mask" is (batch, height, width, classes), the first class the background: `hcreg.models.unet` or
        `backbone_unet` with ``activation="softmax"``.
    pixel_mm : float, mm
        Side of a square pixel.

    Returns
    -------
    keras.Model
        The same layers, and so the same weights, with the outputs "mask" and "areas_cm2" (batch, classes - 1): the
        probabilities of each structure, sharpened and summed (`hcreg.layers.SoftVoxelCount`). It can be trained on
        either or both.

    Raises
    ------
    ValueError
        If the model does not end with a mask of two classes or more, or the pixel has no size.

    Examples
    --------
    >>> from hcreg import models
    >>> network = models.unet(input_shape=(32, 48, 3), filters=4, classes=4, activation="softmax")
    >>> {name: output.shape for name, output in models.with_areas(network, 1.5).output.items()}
    {'mask': (None, 32, 48, 4), 'areas_cm2': (None, 3)}
    """
    mask = model.output
    if isinstance(mask, (dict, list, tuple)) or len(mask.shape) != 4 or mask.shape[-1] < 2:
        raise ValueError(
            "Areas are counted in one mask of a background and one or more structures, of (batch, height, width, "
            "classes). "
            f"Received: the model {model.name!r}, which gives {model.output_shape}."
        )
    if not pixel_mm > 0:
        raise ValueError(f"A pixel has a side of more than 0 mm. Received: pixel_mm={pixel_mm!r}.")
    areas = SoftVoxelCount(pixel_mm**2 / 100, sharpness=SHARPNESS, name="areas_cm2")(mask)
    return keras.Model(model.input, {"mask": mask, "areas_cm2": areas}, name=model.name)


def volumes_of_slices(model, slice_shape=None):
    """Volumes of a whole stack by a network that measures slices: their areas times the distance of the slices, summed.

    Parameters
    ----------
    model : keras.Model
        With an output "areas_cm2", as `with_areas` gives.
    slice_shape : tuple of int (height, width, channels), optional
        By default the model's own input; needed where that varies.

    Returns
    -------
    keras.Model
        Takes a dict of "slices" (batch, slices, height, width, channels), any number of slices, and "slice_mm" (batch,
        1), their distance in mm; gives "volumes_ml" (batch, structures), float32. The weights are the model's. A stack
        shorter than the batch's longest is filled up at its end with slices of NaN, which count nothing.

    Raises
    ------
    ValueError
        If the model has no such output, or the size of a slice is not known; on call in training, if the network has
        layers whose graph is not known (`hcreg.graph.read_graph`).

    Notes
    -----
    A slice stands for the slab half-way to its neighbours, as voxel counting does: areas of the end slices count whole.

    Only slices of nothing but NaN at the end of a stack are filling. A NaN anywhere else is a mistake in the image, and
    the volumes of that stack are NaN, as they are for a stack of filling alone.

    Filling has no influence in training either: batch normalisation takes its moments, and moves its statistics, over
    the slices that there are. For that it is called with a mask, by Keras's plain formula, which is slower than the
    fused one. Dropout's random masks do depend on how many slices there are with the filling.

    Examples
    --------
    >>> import numpy as np
    >>> from hcreg import models
    >>> network = models.unet(input_shape=(32, 48, 3), filters=4, classes=4, activation="softmax")
    >>> stacks = models.volumes_of_slices(models.with_areas(network, 1.5))
    >>> stacks({"slices": np.zeros((1, 5, 32, 48, 3)), "slice_mm": np.full((1, 1), 10.0)}).shape
    TensorShape([1, 3])
    """
    if not isinstance(model.output, dict) or "areas_cm2" not in model.output:
        raise ValueError(
            "Volumes are added up from an output 'areas_cm2': give models.with_areas(network, pixel_mm). "
            f"Received: the model {model.name!r}, which gives {model.output_shape}."
        )
    shape = tuple(slice_shape or model.input_shape[1:])
    if None in shape:
        raise ValueError(f"The size of a slice must be known: pass slice_shape. The model takes {shape}.")
    measuring = keras.Model(model.input, model.output["areas_cm2"], name=f"{model.name}_areas")
    slices = keras.Input((None, *shape), name="slices")
    slice_mm = keras.Input((1,), name="slice_mm")
    volumes = _AddedSlices(measuring, name="volumes_ml")(slices, slice_mm)
    return keras.Model({"slices": slices, "slice_mm": slice_mm}, volumes, name=f"{model.name}_volumes")


@keras.saving.register_keras_serializable(package="hcreg")
class _AddedSlices(keras.layers.Layer):
    """Measures the slices of stacks as one large batch, and adds up what is theirs."""

    def __init__(self, measuring, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.measuring = measuring

    def call(self, slices, slice_mm, training=None):
        shape = ops.shape(slices)
        voxels = ops.reshape(ops.isnan(slices), (shape[0], shape[1], -1))
        is_whole = ops.cast(ops.logical_not(ops.all(voxels, axis=-1)), "int32")
        # Of a stack of filling alone the first slice counts, so that it does not weigh 0 ml in silence.
        there = ops.logical_or(ops.flip(ops.cumsum(ops.flip(is_whole, 1), 1), 1) > 0, ops.arange(shape[1]) == 0)
        counts = ops.reshape(there, (-1,))
        flat = ops.reshape(slices, (-1, *slices.shape[2:]))
        flat = ops.where(ops.reshape(counts, (-1, *[1] * len(slices.shape[2:]))), flat, ops.zeros_like(flat))
        areas = self._masked(flat, counts) if training else self.measuring(flat, training=training)
        areas = ops.reshape(areas, (shape[0], shape[1], areas.shape[-1]))
        areas = ops.where(there[..., None], areas, ops.zeros_like(areas))
        # Said outright, for a ReLU or a pooling may swallow a NaN.
        is_damaged = ops.any(ops.logical_and(there, ops.any(voxels, axis=-1)), axis=1)
        volumes = ops.sum(areas, axis=1) * ops.cast(slice_mm, areas.dtype) / 10
        return ops.where(is_damaged[:, None], ops.full_like(volumes, float("nan")), volumes)

    def _masked(self, flat, counts):
        """Areas in training, the moments of batch normalisation over the slices that count alone."""
        graph = read_graph(self.measuring)
        values = {graph.input: flat}
        for node in graph.nodes:
            inputs = [values[number] for number in node.inputs]
            if isinstance(node.layer, keras.layers.BatchNormalization):
                mask = ops.reshape(counts, (-1, *[1] * (len(inputs[0].shape) - 2)))  # Keras's has no channels
                node = replace(node, layer=_with_mask(node.layer, mask))
            values.update(zip(node.outputs, node.call(inputs), strict=True))
        return values[graph.output]

    def compute_output_shape(self, slices_shape, slice_mm_shape):
        return (slices_shape[0], self.measuring.output_shape[-1])

    def get_config(self):
        return {**super().get_config(), "measuring": keras.saving.serialize_keras_object(self.measuring)}

    @classmethod
    def from_config(cls, config):
        measuring = keras.saving.deserialize_keras_object(config.pop("measuring"))
        return cls(measuring, **config)


def _with_mask(normalisation, mask):
    # `call` itself: by way of `__call__` the mask would go on to the next layer, which warns that it takes none
    def call(inputs, training=None, **_):  # the call as Keras recorded it has a mask of its own: None
        return normalisation.call(inputs, training=training is None or training, mask=mask)

    return call
