"""A trained run and its analyzers: maps of relevance of new images, in millimetres, one image after another."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hcreg import geometry, models
from hcreg.analyzers import ANALYZERS, create_analyzer
from hcreg.analyzers.base import near
from hcreg.measurement import Measurement, Prepared, TrainedRegressor
from hcreg.preprocessing.frames import place
from hcreg.preprocessing.maps import relevance_to_image

DEFAULT_ANALYZERS = (
    "gradient",
    "guided_backprop",
    "integrated_gradients",
    "lrp.epsilon",
    "lrp.sequential_preset_a",
    "hires_cam",
)
ALL_ANALYZERS = tuple(name for name in ANALYZERS if name != "lrp.alpha_beta")  # whose alpha must be said
# of what is not relevance of a pixel of the input, that which a value belongs to
_PER = {
    **dict.fromkeys(("gradient", "smoothgrad", "deconvnet", "guided_backprop"), "unit of input"),
    **dict.fromkeys(("hires_cam", "grad_cam"), "pixel of the layer"),
    "occlusion": "patch",
}
_BATCH_SIZE = 8


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the network said what it said of one image.

    Attributes
    ----------
    image_id : str
        The image's path, or "image 2" for the third array.
    image : ndarray of shape (height_px, width_px)
        As it was handed in.
    inputs : ndarray of float32, shape (height, width, channels)
        What the network saw: `image` with a border that gives it the frame's proportions, resized and normalised.
    prediction_mm : float
        The number that is explained.
    measurement : Measurement
        What `hcreg.measure` says of the image. Of a network that predicts a mask only, its length is that of the
        ellipse fitted to the mask's outline, and `prediction_mm` that of the ellipse with the mask's moments.
    maps : dict of str to ndarray of float32, shape (height, width, channels)
        By analyzer, on the network's frame; one channel where the analyzer does not tell channels apart.
    units : dict of str to str
        Of each map: "mm" of relevance, which can be added up; "mm per unit of input" of gradients, a unit being one
        standard deviation of the image's grey values where the run's normalisation is "standardise"; "mm per pixel of
        the layer" where the map of a coarser layer was enlarged; "mm per patch" of occlusion.
    reasons : dict of str to str
        Why an analyzer gave no map.
    mm_per_output : float
        What a unit of the network's output is, in this image.
    square_shape : tuple of int (height_px, width_px)
        Of the image once its pixels are square.
    """

    image_id: str
    image: np.ndarray = field(repr=False)
    inputs: np.ndarray = field(repr=False)
    prediction_mm: float
    measurement: Measurement = field(repr=False)
    maps: dict = field(repr=False)
    units: dict = field(repr=False)
    reasons: dict
    mm_per_output: float = field(repr=False)
    square_shape: tuple = field(repr=False)

    def at_image(self, name):
        """A map at the image's own size, its channels summed, for looking at.

        Parameters
        ----------
        name : str
            Of the analyzer.

        Returns
        -------
        ndarray of float32, shape (height_px, width_px)
            Values are per pixel of the network's frame, as in `maps`, and interpolated; what lies on the border that
            the image was given is cut off.
        """
        return relevance_to_image(_summed(self.maps[name]), self.square_shape, self.image.shape)

    def sum_of_absolutes(self, name):
        """Sum of the absolute values of a map, its channels summed.

        Parameters
        ----------
        name : str
            Of the analyzer.

        Returns
        -------
        float
            In the map's unit. Many times the sum of the map where relevance of both signs cancels.
        """
        return float(_magnitudes(self.maps[name]).sum())

    def share_inside(self, name, ellipse=None):
        """Share of a map's absolute relevance inside the head.

        Parameters
        ----------
        name : str
            Of the analyzer.
        ellipse : Ellipse, optional
            In pixels of the image. By default the measured one, which direct regressors do not have.

        Returns
        -------
        float
            From 0 to 1. Compare it with `area_inside`: an even map has that share. NaN where there is no ellipse, or
            the map is 0 everywhere.
        """
        ellipse = self.measurement.ellipse if ellipse is None else ellipse
        return float("nan") if ellipse is None else _share(self.maps[name], self._coverage(ellipse))

    def area_inside(self, ellipse=None):
        """Share of the frame's area inside the head.

        Parameters
        ----------
        ellipse : Ellipse, optional
            As in `share_inside`.

        Returns
        -------
        float
            NaN where there is no ellipse.
        """
        ellipse = self.measurement.ellipse if ellipse is None else ellipse
        return float("nan") if ellipse is None else float(self._coverage(ellipse).mean())

    def share_on_border(self, name):
        """Share of a map's absolute relevance on the black border that the image was given, which no picture shows.

        Parameters
        ----------
        name : str
            Of the analyzer.

        Returns
        -------
        float
            0 for images of the frame's proportions; NaN where the map is 0 everywhere.
        """
        return _share(self.maps[name], 1.0 - _of_image(place(self.square_shape), self.inputs.shape[:2]))

    @property
    def frame_matrix(self):
        """Affine map (2, 3) from pixels (x, y) of the image to those of the network's frame, by pixel centres."""
        to_square = np.vstack([geometry.resize_matrix(self.image.shape, self.square_shape), [0.0, 0.0, 1.0]])
        return place(self.square_shape).matrix_to(self.inputs.shape[:2]) @ to_square

    def _coverage(self, ellipse):
        return ellipse.transformed(self.frame_matrix).coverage(self.inputs.shape[:2])


class Explainer:
    """A trained run and its analyzers, made once to explain many images.

    Parameters
    ----------
    model : path-like or TrainedRegressor
        As in `hcreg.measure`.
    analyzers : sequence of str, or dict of str to dict
        Names of `hcreg.analyzers.ANALYZERS`; of a dict, each with its options.
    compat : {None, "innvestigate"}
        As in `hcreg.analyzers.create_analyzer`. Maps with iNNvestigate's numbers keep the network's unit.

    Attributes
    ----------
    regressor : TrainedRegressor
    model : keras.Model
        The network that is explained: the run's own, with its mask measured by `hcreg.models.with_ellipse` where it
        predicts nothing else.
    analyzers : dict of str to Analyzer
    reasons : dict of str to str
        Why the others cannot explain this network.

    Raises
    ------
    ValueError
        If there is no analyzer, or one of that name or option.
    """

    def __init__(self, model, analyzers=DEFAULT_ANALYZERS, compat=None):
        options = _checked(analyzers)
        self.regressor = model if isinstance(model, TrainedRegressor) else TrainedRegressor(model)
        self.model = models.with_ellipse(self.regressor.model) if self.regressor.segments else self.regressor.model
        self.compat = compat
        self.analyzers, self.reasons = {}, {}
        for name, own in options.items():
            try:
                self.analyzers[name] = create_analyzer(name, self.model, compat=compat, **own)
            except ValueError as error:
                if own:
                    raise
                self.reasons[name] = str(error)

    def explain_each(self, images, pixel_sizes_mm, batch_size=_BATCH_SIZE):
        """Explain many images in batches, one by one to the caller; a bad one fails alone.

        Parameters
        ----------
        images : sequence of path-like or ndarray of shape (height_px, width_px)
        pixel_sizes_mm : sequence of float or (float, float)
            As in `hcreg.measure`.
        batch_size : int
            How many images, or perturbed copies of images, go through the network at a time.

        Yields
        ------
        Explanation, ValueError or OSError
            In the order of the images; the error, not raised, of one that cannot be read or measured.
        """
        if len(images) != len(pixel_sizes_mm):
            raise ValueError(f"{len(images)} images need as many pixel sizes. Received: {len(pixel_sizes_mm)}.")
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            ids = [_name(image, start + number) for number, image in enumerate(images[part])]
            batch = [self.regressor.prepared_or_error(*pair) for pair in zip(images[part], pixel_sizes_mm[part])]
            good = [number for number, item in enumerate(batch) if isinstance(item, Prepared)]
            for number, found in zip(good, self.regressor.measure_prepared([batch[number] for number in good])):
                batch[number] = self._measured(ids[number], batch[number], found)
            measured = [number for number in good if not isinstance(batch[number], Exception)]
            explained = self._explain(
                [(ids[number], *batch[number]) for number in measured], min(batch_size, len(images))
            )
            for number, found in zip(measured, explained):
                batch[number] = found
            yield from batch

    def _measured(self, image_id, prepared, measurement):
        if measurement.failure:
            return ValueError(f"{image_id}: there is no circumference to explain: {measurement.failure}")
        return prepared, measurement

    def _explain(self, items, size):
        if not items:
            return []
        inputs = np.concatenate([prepared.inputs for _, prepared, _ in items])
        # graphs are compiled for one size of batches
        padded = np.concatenate([inputs, np.repeat(inputs[-1:], size - len(inputs), axis=0)])
        mm_per_output = np.array([self.regressor.scale_px / prepared.reference_px_per_mm for _, prepared, _ in items])
        outputs = self.model.predict_on_batch(padded)
        outputs = outputs["hc_fraction"] if isinstance(outputs, dict) else outputs
        predictions_mm = np.asarray(outputs, float).reshape(-1)[: len(items)] * mm_per_output
        found = {name: _maps(analyzer, padded, size)[: len(items)] for name, analyzer in self.analyzers.items()}
        explanations = []
        for number, (image_id, prepared, measurement) in enumerate(items):
            maps, reasons = {}, dict(self.reasons)
            for name, of_images in found.items():
                if isinstance(of_images[number], str):
                    reasons[name] = of_images[number]
                else:
                    maps[name] = of_images[number] * np.float32(1.0 if self.compat else mm_per_output[number])
            explanations.append(
                Explanation(
                    image_id=image_id,
                    image=prepared.image,
                    inputs=prepared.inputs[0],
                    prediction_mm=float(predictions_mm[number]),
                    measurement=measurement,
                    maps=maps,
                    units={name: self._unit(name) for name in maps},
                    reasons=reasons,
                    mm_per_output=float(mm_per_output[number]),
                    square_shape=prepared.square_shape,
                )
            )
        return explanations

    def _unit(self, name):
        of_prediction = "unit of output" if self.compat else "mm"
        return f"{of_prediction} per {_PER[name]}" if name in _PER else of_prediction


def explain(images, model, pixel_sizes_mm, analyzers=DEFAULT_ANALYZERS, compat=None, batch_size=_BATCH_SIZE):
    """Explain the head circumference that a trained run measures in ultrasound images.

    Parameters
    ----------
    images : sequence of path-like or ndarray of shape (height_px, width_px)
        Grey images as `hcreg.measure` takes them.
    model : path-like or TrainedRegressor
        A run folder of `hcreg quickstart` or of an experiment.
    pixel_sizes_mm : sequence of float or (float, float), mm
        Of each image, as in `hcreg.measure`.
    analyzers : sequence of str, or dict of str to dict
        Names of `hcreg.analyzers.ANALYZERS`; of a dict, each with its options.
    compat : {None, "innvestigate"}
        As in `hcreg.analyzers.create_analyzer`.
    batch_size : int

    Returns
    -------
    list of Explanation
        An analyzer that is not defined for the network, or for an image, has no map there but a reason.

    Raises
    ------
    ValueError
        If an image cannot be read, or nothing is measured in it; if an analyzer is unknown.
    FileNotFoundError
        If an image or the run does not exist.

    See Also
    --------
    Explainer.explain_each : for many images, of which a bad one shall not stop the others.

    Notes
    -----
    Maps are in mm of circumference. What a number means depends on the analyzer: those of "gradient" say how many mm
    the prediction grows with the grey value of a pixel; those of "integrated_gradients" add up to the prediction less
    that for a grey image, those of "lrp.z" and "input_t_gradient" to the prediction less what biases add. Behind the
    mask of a segmentation network a circumference is no sum of pixels, and no map adds up to it but that of
    "integrated_gradients".

    A map is evidence about the network and not about the head. "deep_taylor" and "lrp.z_plus" hardly depend on the
    network's weights; on networks of ReLUs "lrp.z" and "input_t_gradient" are one method.
    """
    explanations = []
    for found in Explainer(model, analyzers, compat).explain_each(images, pixel_sizes_mm, batch_size):
        if isinstance(found, Exception):
            raise found
        explanations.append(found)
    return explanations


def _checked(analyzers):
    if isinstance(analyzers, str):
        raise ValueError(f"analyzers is a sequence of names. Received: one str. Write [{analyzers!r}].")
    options = dict(analyzers) if hasattr(analyzers, "keys") else {name: {} for name in analyzers}
    if not options:
        raise ValueError(f"Name at least one analyzer, of {', '.join(ANALYZERS)}.")
    for name in options:
        if name not in ANALYZERS:
            raise ValueError(f"Unknown analyzer {name!r}.{near(name, ANALYZERS)} There are {', '.join(ANALYZERS)}.")
    return options


def _maps(analyzer, inputs, batch_size):
    """A map, or the reason why there is none, for each image."""
    try:
        return list(analyzer.analyze(inputs, batch_size=batch_size))
    except (ValueError, FloatingPointError) as error:
        if len(inputs) == 1:
            return [str(error)]
    return [
        found for number in range(len(inputs)) for found in _maps(analyzer, inputs[number : number + 1], batch_size)
    ]


def _summed(relevance):
    return relevance.sum(axis=-1)


def _magnitudes(relevance):
    return np.abs(_summed(relevance)).astype(float)


def _share(relevance, coverage):
    magnitudes = _magnitudes(relevance)
    total = magnitudes.sum()
    return float((magnitudes * coverage).sum() / total) if total > 0 else float("nan")


def _of_image(placement, shape):
    """Share of each pixel of the frame, resized to `shape`, that is image and not border."""
    starts = placement.top_px, placement.left_px
    covered = []
    for begin, length, padded, side in zip(starts, placement.image_shape, placement.padded_shape, shape):
        low, high = begin * side / padded, (begin + length) * side / padded
        pixels = np.arange(side)
        covered.append(np.clip(np.minimum(pixels + 1, high) - np.maximum(pixels, low), 0.0, 1.0))
    return np.outer(*covered)


def _name(image, number):
    return str(image) if isinstance(image, (str, Path)) else f"image {number}"
