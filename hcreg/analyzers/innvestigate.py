"""iNNvestigate itself, the reference for hcreg's analyzers, behind the same interface.

Its 2.1.2 needs an older Keras without eager execution, which cannot live in one process with Keras 3. So the model goes
to another process as architecture and weights, images follow as arrays, and maps come back.
"""

import keras
import numpy as np

from hcreg.analyzers.base import BATCH_SIZE, check_images, check_model, full_precision, near, select_target
from hcreg.analyzers.innvestigate_architecture import describe
from hcreg.analyzers.innvestigate_process import InnvestigateError, Worker
from hcreg.progress import progress_bar

# Between the predictions of the two versions of Keras, relative L2 norm.
PREDICTION_TOLERANCE = 1e-5
# These put many copies of an image through the network at once: the option that says how many, and its default.
_COPIES = {"smoothgrad": ("augment_by_n", 64), "integrated_gradients": ("steps", 64)}


class InnvestigateAnalyzer:
    """An analyzer of iNNvestigate 2.1.2 [1]_.

    Parameters
    ----------
    name : str
        As iNNvestigate calls it.
    model : keras.Model
        Functional or sequential, of Keras's own layers. Its weights are taken over as they are now.
    neuron, output
        As of `hcreg.analyzers.base.select_target`.
    dtype : {"float32", "float64"}
        That everything is computed in there.
    noise : array-like of shape (num_samples, *spatial, channels), optional
        What smoothgrad adds to each image, sample by sample, in place of its random numbers: for comparing it with
        another implementation, and for nothing else. It sets the number of samples.
    inference_only : bool
        Whether the older Keras is told beforehand that nothing is trained. The numbers are the same either way, but
        iNNvestigate by itself does not tell it: on networks with BatchNormalization its graph then takes two to three
        times as long to build, and smoothgrad and integrated_gradients end with a TypeError. False shows that.
    worker : Worker, optional
        A process to share, which stays open. By default the analyzer has one of its own.
    python : path, optional
        As of `Worker`.
    **options
        iNNvestigate's own, as ``steps=64`` or ``low=-1, high=1``.

    Attributes
    ----------
    name : str
    model : keras.Model
    worker : Worker

    Raises
    ------
    ValueError
        If iNNvestigate has no such analyzer, or the model has a layer that cannot be handed over.
    ImportError
        If iNNvestigate cannot be imported.
    InnvestigateError
        If it refuses the model or the options, or predicts otherwise than the model.

    Notes
    -----
    iNNvestigate's graph is built here, once: seconds for VGG16, up to minutes for ResNet50. For a model that leaves the
    size of its images open it is built by the first `analyze`, for images of that size and no others.

    iNNvestigate gets plain layers: nested models are taken apart, and a layer ReLU becomes an Activation, since it
    refuses both. Every analyzer has a copy of the model for itself, so that none disturbs another. All else is as
    iNNvestigate does it, and its maps are given back as they are, infinite ones too. Before anything is explained, its
    predictions are compared with the model's, on random images.

    References
    ----------
    .. [1] alber2019innvestigate.

    Examples
    --------
    >>> with InnvestigateAnalyzer("lrp.z", model) as analyzer:  # doctest: +SKIP
    ...     maps = analyzer.analyze(images)
    """

    def __init__(
        self,
        name,
        model,
        neuron=None,
        output=None,
        dtype="float32",
        noise=None,
        inference_only=True,
        worker=None,
        python=None,
        **options,
    ):
        check_model(model)
        if dtype not in {"float32", "float64"}:
            raise ValueError(f'dtype is "float32" or "float64". Received: {dtype!r}.')
        if "neuron_selection_mode" in options:
            raise ValueError(
                "Which element of the output is explained is said by neuron=0, say. Received: "
                f"neuron_selection_mode={options['neuron_selection_mode']!r}. Leave it out."
            )
        self.name, self.model = name, model
        self._dtype, self._inference_only = dtype, bool(inference_only)
        self._options, self._noise = dict(options), None
        if noise is not None:
            self._noise = _checked_noise(name, noise, model, options, dtype)
            self._options["augment_by_n"] = len(self._noise)
        self._target = select_target(model, output, neuron)
        self._precise = full_precision(model)
        describe(self._precise, self._target.index)  # refuses before a process is started
        self._shape = None
        self._owns_worker = worker is None
        self.worker = Worker(python) if self._owns_worker else worker
        self._number = self.worker.new_number()
        try:
            names = self.worker.ask("names")
            if name not in names:
                hint = near(name, names)
                raise ValueError(f"iNNvestigate has no analyzer {name!r}.{hint} It has {', '.join(names)}.")
            shape = tuple(model.inputs[0].shape[1:])
            if None not in shape:
                self._build(shape)
        except BaseException:
            self.close()
            raise

    def analyze(self, images, batch_size=BATCH_SIZE, progress=False):
        """Explain images.

        Parameters
        ----------
        images : array-like of shape (num_images, *spatial, channels)
            As the model takes them.
        batch_size : int
            How many images, or perturbed copies of images, go through the model at a time; but the copies of one image
            go together, 64 by default for "smoothgrad" and "integrated_gradients".
        progress : bool
            Whether to show a progress bar.

        Returns
        -------
        ndarray of float32, shape (num_images, *spatial, channels)
            float64 with ``dtype="float64"``.

        Raises
        ------
        ValueError
            If the images are not of the model's input shape, or not all finite.
        InnvestigateError
            If iNNvestigate fails, or its process ends.
        """
        images = check_images(self.model, images).astype(self._dtype, copy=False)
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise ValueError(f"batch_size is a number of images, 1 or more. Received: {batch_size!r}.")
        if self._shape is None:
            self._build(images.shape[1:])
        if images.shape[1:] != self._shape:
            raise ValueError(
                f"This analyzer was built for images of shape {self._shape}, those that it explained first. "
                f"Received: {images.shape[1:]}. Make another analyzer for them."
            )
        option, num_copies = _COPIES.get(self.name, (None, 1))
        size = max(1, batch_size // self._options.get(option, num_copies))
        maps = np.empty(images.shape, self._dtype)
        with progress_bar(progress) as bar:
            task = bar.add_task(f"{self.name} (iNNvestigate)", total=len(images))
            for start in range(0, len(images), size):
                batch = images[start : start + size]
                maps[start : start + size] = self.worker.ask("explain", self._number, batch)
                bar.advance(task, len(batch))
        return maps

    def close(self):
        """End the process, or where it is shared, have the analyzer forgotten there; a second time is no error."""
        if self._owns_worker:
            self.worker.close()
        elif self.worker.is_open:
            self.worker.ask("forget", self._number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _build(self, shape):
        if self._precise is not self.model:
            self._precise.set_weights(self.model.get_weights())
        difference = self._translate(self._number, self._precise, shape, self._dtype)
        if not difference <= PREDICTION_TOLERANCE:  # NaN is no agreement either
            # where terms cancel, rounding in float32 may be more: in float64 it is not
            number = self.worker.new_number()
            difference = self._translate(number, _doubled(self._precise), shape, "float64")
            self.worker.ask("forget", number)
        if not difference <= PREDICTION_TOLERANCE:
            raise InnvestigateError(
                f"iNNvestigate would explain another model: rebuilt of layers of an older Keras, {self.model.name!r} "
                f"predicts otherwise, by {difference:.1e} of the prediction on random images, where up to "
                f"{PREDICTION_TOLERANCE:.0e} is rounding. Does a layer of a class of your own compute something else "
                "than the Keras layer that it inherits from?"
            )
        is_scalar = tuple(self.model.outputs[self._target.index].shape[1:]) in {(), (1,)}
        neuron = None if is_scalar else self._target.neuron
        self.worker.ask("create_analyzer", self._number, self.name, self._options, neuron, self._noise)
        self._shape = shape

    def _translate(self, number, model, shape, dtype):
        """Hand a model over, and find by how much of its predictions the other Keras's differ."""
        index = self._target.index
        self.worker.ask("translate", number, *describe(model, index, shape), dtype, self._inference_only)
        images = np.random.default_rng(0).standard_normal((2, *shape)).astype("float32")
        outputs = keras.tree.flatten(model(images, training=False))
        ours = np.asarray(keras.ops.convert_to_numpy(outputs[index]), "float64").reshape(2, -1)
        difference = np.linalg.norm(self.worker.ask("predict", number, images) - ours)
        with np.errstate(divide="ignore"):
            return difference / np.linalg.norm(ours) if difference else 0.0


def _doubled(model):
    """The same model in float64."""

    def copy(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    double = keras.models.clone_model(model, clone_function=copy, recursive=True)
    double.set_weights(model.get_weights())
    return double


def _checked_noise(name, noise, model, options, dtype):
    noise = np.asarray(noise, dtype)
    if name != "smoothgrad":
        raise ValueError(f'noise is what "smoothgrad" adds. Received: noise for {name!r}, which adds none.')
    shape = tuple(model.inputs[0].shape[1:])
    fits = noise.ndim == len(shape) + 1 and all(side in (None, got) for side, got in zip(shape, noise.shape[1:]))
    if not fits or not len(noise) or len(noise) != options.get("augment_by_n", len(noise)):
        wanted = options.get("augment_by_n", "num_samples")
        raise ValueError(
            f"noise is of shape ({wanted}, {', '.join(map(str, shape))}), one array for each sample. "
            f"Received: {noise.shape}."
        )
    return noise
