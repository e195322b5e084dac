"""Measure the head in a new image with a trained run: millimetres, interval, gestational age, outline.

Direct regressors and segmentation networks measure alike; only the latter know where the head lies::

    from hcreg.measurement import TrainedRegressor

    regressor = TrainedRegressor("runs/unet/fold_0")
    found = regressor.measure("image.png", pixel_size_mm=0.12)
    found.hc_mm, found.interval_mm, found.ellipse  # found.failure says why where there is no ellipse
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from hcreg import evaluation, exported, geometry, models, presets, runs, statistics, training
from hcreg.files import read_rows
from hcreg.mask_measures import predicted_length
from hcreg.preprocessing.frames import input_image, normalise, place, working_image
from hcreg.preprocessing.images import read_image
from hcreg.preprocessing.maps import map_to_image

PIXEL_SIZE_RANGE_MM = (0.005, 2.0)  # HC18 has 0.049 to 0.393; beyond ten times that, the unit is wrong


@dataclass(frozen=True)
class Measurement:
    """What was measured in one image.

    Attributes
    ----------
    hc_mm : float
        Head circumference: the network's own number where it gives one, else that of `ellipse`, and then NaN where
        there is none.
    hc_px : float
        The same in pixels of the image, or of the finer axis where pixels are not square.
    interval_mm : tuple of float (low, high)
        Split-conformal prediction interval; NaN where `hc_mm` is.
    coverage : float
        Nominal coverage of the interval.
    gestational_age_weeks : float
        From `hcreg.geometry.gestational_age_weeks`; NaN outside its range.
    ellipse : Ellipse or None
        The ellipse fitted to the predicted mask, in pixels of the image as it was handed in. None for direct
        regression, and where `failure` says why.
    failure : str
        Why the predicted mask has no usable outline, or the network no finite number; empty where all went well.
    mask : ndarray of bool, shape (height_px, width_px), or None
        The predicted mask as it is, at the image's own size; None for direct regression.
    """

    hc_mm: float
    hc_px: float
    interval_mm: tuple
    coverage: float
    gestational_age_weeks: float
    ellipse: geometry.Ellipse | None = None
    failure: str = ""
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)


class Regressor:
    """What measures heads: it brings images to a network's input, and its outputs back to millimetres.

    Attributes
    ----------
    folder : pathlib.Path
        Where the network comes from.
    name : str
        Of the network's builder.
    input_shape : tuple of int (height_px, width_px, channels)
    normalisation : str
    scale_px : float, reference px
        What an output of 1 is.
    scores_px : ndarray, reference px
        Absolute errors that calibrate the intervals.
    trained_on_synthetic : bool
        Whether the run's images were drawn by a program.
    segments : bool
        Whether the network predicts a mask, so that measurements have an ellipse.
    """

    def measure(self, image, pixel_size_mm, coverage=evaluation.COVERAGE) -> Measurement:
        """Measure one image.

        Parameters
        ----------
        image, pixel_size_mm, coverage
            As in `measure`.

        Returns
        -------
        Measurement
        """
        return self.measure_many([image], [pixel_size_mm], coverage)[0]

    def measure_many(self, images, pixel_sizes_mm, coverage=evaluation.COVERAGE, batch_size=16) -> list[Measurement]:
        """Measure several images in batches.

        Parameters
        ----------
        images : sequence of path-like or ndarray of shape (height_px, width_px)
        pixel_sizes_mm : sequence of float or (float, float)
        coverage : float
        batch_size : int

        Returns
        -------
        list of Measurement
        """
        measurements = []
        for measured in self.measure_each(images, pixel_sizes_mm, coverage, batch_size):
            if isinstance(measured, Exception):
                raise measured
            measurements.append(measured)
        return measurements

    def measure_each(self, images, pixel_sizes_mm, coverage=evaluation.COVERAGE, batch_size=16):
        """Measure many images in batches, one by one to the caller; a bad one fails alone.

        Parameters
        ----------
        images, pixel_sizes_mm, coverage, batch_size
            As in `measure_many`.

        Yields
        ------
        Measurement, ValueError or OSError
            In the order of the images; the error, not raised, of one that cannot be read or measured.

        Notes
        -----
        A measurement's mask takes as much memory as its image: half a megabyte at 800 x 540. Here no more than a batch
        of them is kept, in `measure_many` all.
        """
        if len(images) != len(pixel_sizes_mm):
            raise ValueError(f"{len(images)} images need as many pixel sizes. Received: {len(pixel_sizes_mm)}.")
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            batch = [self.prepared_or_error(*pair) for pair in zip(images[part], pixel_sizes_mm[part])]
            measured = iter(self.measure_prepared([item for item in batch if isinstance(item, Prepared)], coverage))
            for item in batch:
                yield next(measured) if isinstance(item, Prepared) else item

    def measure_prepared(self, prepared, coverage=evaluation.COVERAGE):
        """Measure a batch of images as the network takes them.

        Parameters
        ----------
        prepared : list of Prepared
        coverage : float

        Returns
        -------
        list of Measurement
        """
        half_width_px = statistics.conformal_quantile(self.scores_px, coverage)
        pairs = zip(prepared, self._predict(prepared))
        return [_measurement(item, outputs, half_width_px, coverage) for item, outputs in pairs]

    def _outputs(self, images):
        """Arrays by name, "mask" and "hc_fraction" or one of them, of a batch of inputs."""
        raise NotImplementedError

    def _predict(self, prepared):
        """One dict an image: the circumference in reference px, the probabilities, or both."""
        if not prepared:
            return []
        outputs = self._outputs(np.concatenate([item.inputs for item in prepared]))
        if "hc_fraction" in outputs:
            outputs["hc_px"] = outputs.pop("hc_fraction").astype(float).reshape(-1) * self.scale_px
        return [{name: values[index] for name, values in outputs.items()} for index in range(len(prepared))]

    def prepared_or_error(self, image, pixel_size_mm):
        """Bring an image to the network's input, or say why it cannot be.

        Parameters
        ----------
        image, pixel_size_mm
            As in `measure`.

        Returns
        -------
        Prepared, ValueError or OSError
            The error is not raised, so that a bad image among many fails alone.
        """
        try:
            return self._prepare(image, pixel_size_mm)
        except (ValueError, OSError) as error:
            return error

    def _prepare(self, image, pixel_size_mm):
        grey = _as_grey(image)
        pixels, spacing_mm = _square_pixels(grey, pixel_size_mm, image)
        size = self.input_shape[:2]
        resized = input_image(working_image(pixels, size), size)
        # the image itself too, since a border that pads a constant image gives it a contrast
        for seen, where in ((pixels, ""), (resized, " at the network's input size")):
            if seen.min() == seen.max():
                raise ValueError(f"{_describe(image)}: every pixel is the same{where}; there is nothing to measure.")
        if len(np.unique(pixels)) == 2:
            raise ValueError(
                f"{_describe(image)} has only two grey values: it looks like an annotation or a mask. Name the "
                "ultrasound image itself."
            )
        inputs = normalise(resized[None], self.normalisation, self.input_shape[2])
        return Prepared(inputs, grey, pixels.shape, spacing_mm)


class TrainedRegressor(Regressor):
    """A finished run, ready to measure: of a network that predicts the circumference, or a mask, or both.

    Parameters
    ----------
    folder : path-like
        A run folder, a folder that holds exactly one, or the name of a preset (`hcreg.presets.NAMES`).

    Attributes
    ----------
    model : keras.Model
        With the best weights.
    record : dict
        The run's ``run.json``.
    """

    def __init__(self, folder):
        self.folder = runs.find_run(presets.located(folder))
        self.record = runs.read_run(self.folder)
        if self.record["status"] != "finished":
            raise ValueError(
                f"{self.folder} is not finished (status {self.record['status']!r}): run the training command again; "
                "it goes on where it stopped."
            )
        arguments = self.record["arguments"]
        needed = {"input_shape", "normalisation", "builder", "build_arguments"}
        if not needed <= set(arguments) or "target_scale_px" not in self.record:
            raise ValueError(
                f"{self.folder} is a run of another kind: its {runs.RUN_FILE} does not describe a network that "
                "measures head circumference. Name a run folder of `hcreg quickstart` or of a table of such networks."
            )
        self.name = arguments["builder"]
        self.input_shape = tuple(arguments["input_shape"])
        self.normalisation = arguments["normalisation"]
        self.scale_px = self.record["target_scale_px"]
        self.trained_on_synthetic = bool(arguments.get("data", {}).get("synthetic", False))
        build = getattr(models, arguments["builder"], None)
        if build is None:
            version = self.record.get("versions", {}).get("hcreg", "unknown")
            raise ValueError(
                f"{self.folder / runs.RUN_FILE} names the builder {arguments['builder']!r}, which this version of "
                f"hcreg does not have. The run was made with hcreg {version}."
            )
        build_arguments = {**arguments["build_arguments"]}
        if "weights" in build_arguments:
            build_arguments["weights"] = None  # the trained weights follow
        self.model = build(input_shape=self.input_shape, **build_arguments)
        outputs = training.outputs_of(self.model)
        self.segments = "mask" in outputs
        if not set(outputs) <= {"mask", "hc_fraction"} or (self.segments and _num_masks(self.model) != 1):
            raise ValueError(
                f"{self.folder} is a run of another kind: its network does not end with a head circumference or the "
                f"mask of one head, but with {self.model.output_shape}."
            )
        training.load_weights(self.model, self.folder / training.BEST_WEIGHTS)
        self.scores_px = evaluation.conformal_scores(read_rows(self.folder / "validation_predictions.csv"))

    def export(self, path):
        """Write the network as ONNX, with what measuring with it needs beside it.

        Parameters
        ----------
        path : path-like
            Ending in ``.onnx``.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        ValueError, ImportError
            As `hcreg.exported.write`.
        """
        return exported.write(
            self.model,
            path,
            name=self.name,
            input_shape=list(self.input_shape),
            normalisation=self.normalisation,
            target_scale_px=self.scale_px,
            segments=self.segments,
            scores_px=[float(score) for score in self.scores_px],
            synthetic=self.trained_on_synthetic,
        )

    def _outputs(self, images):
        outputs = self.model.predict_on_batch(images)
        if not isinstance(outputs, dict):
            outputs = {"mask" if self.segments else "hc_fraction": outputs}
        return {name: np.asarray(values) for name, values in outputs.items()}


class ExportedRegressor(Regressor):
    """A network that `TrainedRegressor.export` wrote, run by onnxruntime.

    Parameters
    ----------
    path : path-like
        The ``.onnx`` file; its description lies beside it.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As `hcreg.exported.read_description` and `hcreg.exported.Session`.
    """

    def __init__(self, path):
        self.folder = Path(path)
        described = exported.read_description(path)
        self.name = described["name"]
        self.input_shape = tuple(described["input_shape"])
        self.normalisation = described["normalisation"]
        self.scale_px = described["target_scale_px"]
        self.segments = described["segments"]
        self.trained_on_synthetic = described["synthetic"]
        self.scores_px = np.array(described["scores_px"], float)
        self._session = exported.Session(path)

    def _outputs(self, images):
        return self._session.outputs(images)


def load_regressor(model) -> Regressor:
    """What measures with a run folder, a preset or an exported file.

    Parameters
    ----------
    model : path-like or Regressor

    Returns
    -------
    Regressor
    """
    if isinstance(model, Regressor):
        return model
    return ExportedRegressor(model) if Path(model).suffix == exported.ENDING else TrainedRegressor(model)


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image as the network takes it, and the way back to its pixels.

    Attributes
    ----------
    inputs : ndarray of float32, shape (1, height, width, channels)
    image : ndarray of shape (height_px, width_px)
        Grey values as they were handed in.
    square_shape : tuple of int (height_px, width_px)
        After the resampling to square pixels, the smaller of the two sizes.
    spacing_mm : tuple of float (x, y)
        Of `image`.
    """

    inputs: np.ndarray = field(repr=False)
    image: np.ndarray = field(repr=False)
    square_shape: tuple
    spacing_mm: tuple

    @property
    def image_shape(self):
        """(height_px, width_px) of the image as it was handed in."""
        return self.image.shape

    @property
    def pixel_size_mm(self):
        """Of the square pixels."""
        return min(self.spacing_mm)

    @property
    def reference_px_per_mm(self):
        """What turns the network's reference pixels into millimetres."""
        return place(self.square_shape).reference_px_per_image_px / self.pixel_size_mm


def measure(image, model, pixel_size_mm, coverage=evaluation.COVERAGE) -> Measurement:
    """Measure the fetal head circumference in one ultrasound image.

    Parameters
    ----------
    image : path-like or ndarray of shape (height_px, width_px), uint8 or float in [0, 255]
        One grey image of any size, as the scanner gave it.
    model : path-like or Regressor
        A run folder of `hcreg quickstart` or of an experiment, "hc18_direct", which comes with the package, or an
        exported ``.onnx`` file. Load it once with `load_regressor` to measure many.
    pixel_size_mm : float or (float, float), mm
        Size of a pixel, or its width and height where they differ; the image is then resampled to square pixels.
    coverage : float
        Of the prediction interval.

    Returns
    -------
    Measurement
        A mask without a usable outline raises nothing: ``failure`` holds the reason, and ``hc_mm`` is NaN.

    Raises
    ------
    ValueError
        If the image cannot be read, has several channels or no contrast, or the pixel size is not positive.
    FileNotFoundError
        If the image or run does not exist.
    """
    return load_regressor(model).measure(image, pixel_size_mm, coverage)


def _measurement(prepared, outputs, half_width_px, coverage):
    hc_mm, outline = None, {"failure": ""}
    if "hc_px" in outputs:
        hc_mm = float(outputs["hc_px"] / prepared.reference_px_per_mm)
    if "mask" in outputs:
        fitted_mm, outline = _outline(outputs["mask"], prepared)
        hc_mm = predicted_length(hc_mm, fitted_mm, outline["failure"])
    if not np.isfinite(hc_mm) and not outline["failure"]:
        outline["failure"] = f"the network gave no finite number ({hc_mm})."
    return Measurement(
        hc_mm=hc_mm,
        hc_px=hc_mm / prepared.pixel_size_mm,
        interval_mm=evaluation.interval_mm(hc_mm, half_width_px, prepared.reference_px_per_mm),
        coverage=float(coverage),
        gestational_age_weeks=_gestational_age_or_nan(hc_mm),
        **outline,
    )


def _outline(probabilities, prepared):
    """Circumference (mm), and ellipse, failure and mask in pixels of the image as it was handed in."""
    at_image = map_to_image(probabilities, prepared.square_shape)
    found = geometry.measure_mask(at_image, prepared.pixel_size_mm)
    hc_mm, ellipse = found.hc_mm, found.ellipse
    if prepared.square_shape != prepared.image_shape:
        at_image = cv2.resize(at_image, prepared.image_shape[::-1], interpolation=cv2.INTER_AREA)
        if ellipse is not None:
            ellipse = ellipse.transformed(geometry.resize_matrix(prepared.square_shape, prepared.image_shape))
            # measured here, whole pixels of the resampled image do not matter
            hc_mm = ellipse.circumference_mm(prepared.spacing_mm)
    return hc_mm, {"ellipse": ellipse, "failure": found.failure, "mask": at_image > 0.5}


def _num_masks(model):
    outputs = model.output
    return (outputs["mask"] if isinstance(outputs, dict) else outputs).shape[-1]


def _as_grey(image):
    if isinstance(image, (str, Path)):
        return read_image(image)
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim != 2:
        raise ValueError(
            f"An image has the shape (height_px, width_px). Received: an array of shape {image.shape}. "
            "Pass one grey image; for a batch use TrainedRegressor.measure_many."
        )
    if not image.size:
        raise ValueError(f"The image has no pixels: it is an array of shape {image.shape}.")
    if not np.all(np.isfinite(image)):
        raise ValueError("The image has pixels that are not finite (NaN or infinite).")
    if image.dtype != np.uint8:
        if image.min() < 0 or image.max() > 255 or image.max() <= 1:
            raise ValueError(
                f"Grey values must be from 0 to 255. Received: {image.dtype} from {image.min()} to {image.max()}. "
                "Scale them to 0..255 first."
            )
        image = image.astype(np.uint8 if image.dtype.kind in "iu" else np.float32)
    return image


def _square_pixels(image, pixel_size_mm, name):
    sizes = np.atleast_1d(np.asarray(pixel_size_mm, float))
    if sizes.shape not in ((1,), (2,)) or not np.all(np.isfinite(sizes)) or not np.all(sizes > 0):
        raise ValueError(
            f"{_describe(name)}: a pixel size is one positive number of mm, or two (width, height). "
            f"Received: {pixel_size_mm!r}."
        )
    low, high = PIXEL_SIZE_RANGE_MM
    if not np.all((low <= sizes) & (sizes <= high)):
        raise ValueError(
            f"{_describe(name)}: a pixel of ultrasound is {low} to {high} mm wide. Received: {pixel_size_mm!r}. Is it "
            "in another unit? 135 µm are 0.135 mm."
        )
    spacing_mm = (float(sizes[0]), float(sizes[-1]))
    if spacing_mm[0] == spacing_mm[1]:
        return image, spacing_mm
    size = float(sizes.min())
    height, width = image.shape
    shape = max(1, round(width * sizes[0] / size)), max(1, round(height * sizes[1] / size))
    return cv2.resize(image, shape, interpolation=cv2.INTER_LINEAR), spacing_mm


def _gestational_age_or_nan(hc_mm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # outside Hadlock's range the age is NaN, and shown as such
        return float(geometry.gestational_age_weeks(hc_mm))


def _describe(image):
    return str(image) if isinstance(image, (str, Path)) else "the image"
