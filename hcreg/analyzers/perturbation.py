"""AOPC for regression: how fast the error grows when the regions an analyzer calls relevant are replaced by noise.

The papers' procedure exactly, ``aopc(model, analyzer, images, targets, **PAPER_PROTOCOL)``, and a sound one by default:
several noise draws, intervals over images, baselines in random and in reversed order with the same noise.
"""

import math
import weakref
from types import MappingProxyType

import numpy as np

from hcreg import backend
from hcreg.analyzers.aopc_regions import REGION_SCORES, RegionGrid, ranked
from hcreg.analyzers.aopc_results import AOPC, NORMALIZATIONS, ErrorCurves, aopc_scores, compare_analyzers, curves_of
from hcreg.analyzers.aopc_stream import Perturbation, Plan, predict_plan
from hcreg.analyzers.base import check_images, check_model, select_target

__all__ = ["AOPC", "PAPER_PROTOCOL", "ErrorCurves", "aopc", "aopc_scores", "compare_analyzers", "perturbation_sequence"]

_COMPILED = weakref.WeakKeyDictionary()
_IMAGES_AT_ONCE = 64  # handed to an analyzer: whatever the batch size here, since some draw noise of their own

ORDERS = ("most_relevant_first", "least_relevant_first", "random")
ERRORS = MappingProxyType(
    {
        "absolute": lambda y_true, y_pred: np.abs(y_pred - y_true),
        "squared": lambda y_true, y_pred: (y_pred - y_true) ** 2,
    }
)
PAPER_PROTOCOL = MappingProxyType(
    {
        "regions": (4, 4),
        "steps": 15,
        "regions_per_step": 1,
        "noise": 0.3,
        "noise_scale": "absolute",
        "draws": 1,
        "normalization": "samek",
        "error": "absolute",
        "order": "most_relevant_first",
        "channels": "all",
        "region_score": "mean",
        "baselines": (),
    }
)
"""Arguments of `aopc` that make it the procedure behind zhang2021biometrics, Table 8.

Its images are 128 x 128 x 3, its errors in pixels (give `scale` and `targets` in px). ``PAPER_PROTOCOL | {"channels":
"first"}`` is what the perturbation tool of that time did to images of three channels; ``| {"normalization": "paper"}``
follows equation (9) as printed.
"""


def aopc(
    model,
    analyzer,
    images,
    targets=None,
    regions=(4, 4),
    steps=15,
    *,
    noise=0.3,
    noise_scale="image",
    draws=3,
    regions_per_step=1,
    normalization="samek",
    error="absolute",
    scale=1.0,
    unit="",
    order="most_relevant_first",
    baselines=("random", "least_relevant_first"),
    random_orders=2,
    channels="all",
    region_score="mean",
    groups=None,
    confidence=0.95,
    seed=0,
    batch_size=32,
    output=None,
    neuron=None,
    name=None,
    progress=False,
):
    r"""Area over the perturbation curve of an analyzer on a regressor.

    Each image is cut into regions, which are ranked once by the analyzer's map. Step k takes the clean image and
    replaces its first k regions by fresh noise; E_k is the error of the prediction. Where the map shows what the
    network uses, the error grows early:

    .. math:: \mathrm{AOPC} = \frac{1}{K + 1} \sum_{k=0}^{K} (E_0 - E_k)

    Parameters
    ----------
    model : keras.Model
        Maps images to one number each, or has such an output (see `output` and `neuron`).
    analyzer : object with ``analyze(images)``, or array-like of shape (num_images, spatial..., map_channels), or None
        An analyzer of `hcreg.analyzers`, or maps it has made. None only with ``order="random"``.
    images : array-like of shape (num_images, spatial..., channels)
        As the network takes them.
    targets : array-like of shape (num_images,), optional
        True values in the unit of ``scale * output``. By default the predictions of the clean images: the error is then
        the change of the prediction, E_0 is 0.
    regions : int or tuple of int
        Regions along each spatial axis; sizes that they do not divide give regions that differ by a pixel.
    steps : int
        K. ``steps * regions_per_step`` is at most the number of regions.
    noise : float
        Standard deviation of the normal noise.
    noise_scale : {"image", "absolute"}
        ``"image"``: `noise` is a fraction of the standard deviation of each channel of each image, around its mean.
        ``"absolute"``: `noise` is in grey values of the network's input, around 0. For images that are standardised one
        by one, as hcreg's are, the two agree; the first means the same for inputs of any scaling.
    draws : int
        Noise draws, of which the errors are averaged.
    regions_per_step : int
    normalization : {"samek", "paper"}
        See `aopc_scores`.
    error : {"absolute", "squared"} or callable
        ``error(y_true, y_pred)`` on arrays of one shape, element by element.
    scale : float or array-like of shape (num_images,)
        What one unit of the network's output is for each image: mm or px of head circumference.
    unit : str
        Of ``scale * output``, for labels: "mm", "px".
    order : {"most_relevant_first", "least_relevant_first", "random"}
    baselines : sequence of str
        Other orders to run with the same noise, out of the same three.
    random_orders : int
        Random orders per image, of which the errors are averaged; each image has its own.
    channels : {"all", "first"}
        Which channels noise replaces. ``"first"`` leaves the others clean, and shows the network most of the region.
    region_score : {"mean", "mean_absolute", "sum", "max"}
        What a region's relevance is; see `hcreg.analyzers.aopc_regions.RegionGrid.scores`.
    groups : array-like of shape (num_images,), optional
        Examination of each image: intervals then draw whole examinations.
    confidence : float
    seed : int
    batch_size : int
    output : str, optional
        Name of the output of a model with several; by default the only one that gives one number per image.
    neuron : int, optional
        Which element of an image's output, where that has several.
    name : str, optional
        Name of the result; by default the analyzer's.
    progress : bool

    Returns
    -------
    AOPC

    Raises
    ------
    ValueError
        If an argument is unknown or does not fit the others; if an image, target, map or output is not finite; if an
        image is smaller than the grid, or constant where the noise is a fraction of its contrast.

    Notes
    -----
    The numbers of an image depend on the seed, the image and its place in `images`, and on nothing else: images can be
    appended and batches resized without changing the others, but for the last digits of a float32 output. Two analyzers
    see the same noise at the same pixel, so that their scores can be compared in pairs (`compare_analyzers`).

    Departures from the paper in the default (``**PAPER_PROTOCOL`` undoes them): noise relative to the image, three
    draws, baselines. Regions of equal score go in random order, here and with ``PAPER_PROTOCOL``: a map without
    information then scores like a random order instead of like one that starts in a corner.

    Stronger noise is another question: no network was trained on it. With a trained cnn_1m and 60 images of HC18, clean
    error 9.5 mm, 15 regions of noise 0.3 gave 44 mm and of noise 1.0 gave 87 mm, and the AOPC of an occlusion map was
    64 % and 23 % beyond that of a random order. Three draws are plenty there: the standard error of the mean AOPC was
    0.03 mm by noise (`AOPC.noise_sd`) and 3.3 mm over images. More images narrow the interval, more draws do not.

    The model sees ``num_images * (1 + draws * steps * num_orders)`` images, in one stream of batches; memory does not
    grow with their number.

    References
    ----------
    .. [1] samek2017evaluating: the measure, for classifiers.
    .. [2] zhang2021biometrics, section 4, Eq. 9 and Table 8: its transfer to regression.

    Examples
    --------
    >>> import keras
    >>> inputs = keras.Input((8, 8, 1))
    >>> model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    >>> images = np.random.default_rng(0).normal(size=(3, 8, 8, 1))
    >>> found = aopc(model, np.abs(images), images, [0.0, 0.1, 0.2], regions=(2, 2), steps=3, unit="px")
    >>> found.errors.shape, sorted(found.baselines)
    ((3, 4), ['least_relevant_first', 'random'])
    """
    check_model(model)
    images = check_images(model, images)
    grid = RegionGrid(images.shape[1:-1], regions)
    orders = tuple(dict.fromkeys((order, *((baselines,) if isinstance(baselines, str) else baselines))))
    _one_of("order", order, ORDERS)
    for baseline in orders[1:]:
        _one_of("baselines", baseline, ORDERS)
    error_of = error if callable(error) else ERRORS[_one_of("error", error, ERRORS)]
    _one_of("noise_scale", noise_scale, ("image", "absolute"))
    _one_of("normalization", normalization, NORMALIZATIONS)
    _one_of("channels", channels, ("all", "first"))
    _one_of("region_score", region_score, REGION_SCORES)
    _check_numbers(noise, confidence, steps=steps, draws=draws, random_orders=random_orders, batch_size=batch_size)
    _check_steps(grid, steps, regions_per_step)
    targets = None if targets is None else _per_image("targets", targets, len(images))
    scale = _per_image("scale", scale, len(images)) if np.ndim(scale) else np.full(len(images), float(scale))
    if not np.all(scale > 0):
        raise ValueError(f"scale is positive: mm or px per unit of the output. Received: {scale.min()} at the least.")
    if groups is not None and np.shape(groups) != (len(images),):
        raise ValueError(
            f"groups must name one group for each of the {len(images)} images. Received shape: {np.shape(groups)}."
        )
    if noise_scale == "image":
        _check_contrast(images)
    target = select_target(model, output, neuron)
    perturbation = Perturbation(grid, float(noise), noise_scale, channels, int(regions_per_step), int(seed))

    region_scores = _region_scores(analyzer, images, grid, region_score)
    if region_scores is None and orders != ("random",):
        raise ValueError(
            f"Only a random order needs no analyzer. Received: analyzer=None for the orders {', '.join(orders)}. "
            'Pass an analyzer, or order="random", baselines=().'
        )
    arms = {known: _orders(known, region_scores, perturbation, len(images), random_orders) for known in orders}
    plan = Plan(perturbation, images, np.concatenate(list(arms.values()), axis=1), int(draws), int(steps))
    outputs = predict_plan(_compiled(model, target), plan, int(batch_size), progress).reshape(
        len(images), plan.per_image
    )

    y_pred = outputs * scale[:, None]
    y_true = y_pred[:, 0] if targets is None else targets
    errors = _errors(error_of, y_true, y_pred)
    clean, after = errors[:, 0], errors[:, 1:].reshape(len(images), draws, steps, -1)
    ends = np.cumsum([arm.shape[1] for arm in arms.values()])
    parts = dict(zip(orders, np.split(after, ends[:-1], axis=-1)))  # one order's, or several random ones'
    curves = {
        known: curves_of(_with_clean(clean, part.mean(axis=(1, 3))), normalization, groups, confidence, seed)
        for known, part in parts.items()
    }
    by_draw = parts[order].mean(axis=3).swapaxes(0, 1)
    draw_means = [aopc_scores(_with_clean(clean, part), normalization).mean() for part in by_draw]
    predicted = y_pred[:, 1:].reshape(after.shape)[..., : ends[0]].mean(axis=(1, 3))
    return AOPC(
        **curves[order],
        name=name if name is not None else getattr(analyzer, "name", None) or (order if analyzer is None else "maps"),
        order=order,
        region_scores=None if region_scores is None else region_scores.reshape(len(images), *grid.shape),
        region_order=arms[order][:, 0],
        baselines={known: ErrorCurves(**curves[known]) for known in orders[1:]},
        predictions=_with_clean(y_pred[:, 0], predicted),
        noise_sd=float(np.std(draw_means, ddof=1) / math.sqrt(draws)) if draws > 1 else math.nan,
        unit=unit,
        normalization=normalization,
        confidence=confidence,
        perturbation=perturbation,
        draws=int(draws),
        groups=None if groups is None else np.asarray(groups),
    )


def perturbation_sequence(result, image, number=0, draw=0):
    """The pictures the network was shown of one image, from clean to the last step.

    Parameters
    ----------
    result : AOPC
    image : array-like of shape (spatial..., channels)
        As it was handed to `aopc`.
    number : int
        Its place among the images there: the noise depends on it.
    draw : int

    Returns
    -------
    ndarray of float32, shape (steps + 1, spatial..., channels)

    Raises
    ------
    ValueError
        If the image is not of the size of the result's, or there is no such image or draw.

    Examples
    --------
    >>> import keras
    >>> inputs = keras.Input((8, 8, 1))
    >>> model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    >>> images = np.random.default_rng(0).normal(size=(3, 8, 8, 1))
    >>> found = aopc(model, np.abs(images), images, [0.0, 0.1, 0.2], regions=(2, 2), steps=3)
    >>> perturbation_sequence(found, images[1], number=1).shape
    (4, 8, 8, 1)
    """
    image = np.asarray(image, np.float32)
    perturbation, (num_images, num_points) = result.perturbation, result.errors.shape
    if image.shape[:-1] != perturbation.grid.spatial_shape:
        raise ValueError(
            f"The result is of images of {perturbation.grid.spatial_shape} pixels and channels. Received: an image of "
            f"shape {image.shape}."
        )
    if not (0 <= number < num_images and 0 <= draw < result.draws):
        raise ValueError(
            f"The result has images 0 to {num_images - 1} and draws 0 to {result.draws - 1}. "
            f"Received: image {number}, draw {draw}."
        )
    sequence = np.repeat(image[None], num_points, axis=0)
    values = perturbation.noise_values(image)
    for step in range(1, num_points):
        field = perturbation.noise_field(image.shape, values, number, draw, step)
        perturbation.replace(sequence[step], result.region_order[number], step, field)
    return sequence


def _compiled(model, target):
    """The number of the model that is looked at, compiled once for as long as the model lives."""
    functions = _COMPILED.setdefault(model, {})
    if target not in functions:
        reference = weakref.ref(model)  # what is kept here must not keep the model
        functions[target] = backend.compile_function(
            lambda batch: target.take(reference()(batch, training=False)), variables=model.variables
        )
    return functions[target]


def _region_scores(analyzer, images, grid, region_score):
    """Scores of the regions, map by map or batch by batch: maps of many images are never kept."""
    if analyzer is None:
        return None
    analyze = getattr(analyzer, "analyze", None)
    maps = None if analyze else np.asarray(analyzer)
    if maps is not None and (maps.shape[:-1] != images.shape[:-1] or maps.ndim != images.ndim):
        raise ValueError(
            "Maps must be an array of shape (num_images, *spatial, channels), of as many images and pixels as the "
            f"images, {images.shape[:-1]}. Received: {maps.shape}."
        )
    found = np.empty((len(images), grid.num_regions))
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        part = slice(start, start + _IMAGES_AT_ONCE)
        some = maps[part] if analyze is None else np.asarray(analyze(images[part]))
        if some.shape[:-1] != images[part].shape[:-1]:
            raise ValueError(
                f"The analyzer must give one map of the image's size for each image, {images[part].shape[:-1]} and "
                f"channels. Received: {some.shape}."
            )
        found[part] = grid.scores(some, region_score)
        finite = np.isfinite(found[part]).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"Maps must be finite. Received: NaN or infinity in the map of image {start + int(np.argmin(finite))}."
            )
    return found


def _orders(order, region_scores, perturbation, num_images, random_orders):
    """Orders of one kind: shape (num_images, num_orders, num_regions)."""
    if order == "random":
        return np.array(
            [[perturbation.random_order(image, n) for n in range(random_orders)] for image in range(num_images)]
        )
    ranking = [ranked(scores, perturbation.tie_breaks(image)) for image, scores in enumerate(region_scores)]
    ranking = np.array(ranking)[:, None]
    return ranking if order == "most_relevant_first" else ranking[..., ::-1]


def _errors(error_of, y_true, y_pred):
    errors = np.asarray(error_of(np.repeat(y_true[:, None], y_pred.shape[1], axis=1), y_pred), float)
    if errors.shape != y_pred.shape:
        raise ValueError(
            f"error(y_true, y_pred) must give one number for each of {y_pred.shape}. Received shape: {errors.shape}."
        )
    if not np.isfinite(errors).all():
        raise ValueError("error(y_true, y_pred) must be finite. Received: NaN or infinity.")
    return errors


def _with_clean(clean, after):
    return np.concatenate([clean[:, None], after], axis=1)


def _check_numbers(noise, confidence, **counts):
    for what, value in counts.items():
        _check_count(what, value)
    if not (np.isfinite(noise) and noise > 0):
        raise ValueError(f"noise is a positive standard deviation. Received: {noise}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, for instance 0.95 for 95 %. Received: {confidence}.")


def _check_steps(grid, steps, regions_per_step):
    _check_count("regions_per_step", regions_per_step)
    if steps * regions_per_step > grid.num_regions:
        raise ValueError(
            f"{steps} steps of {regions_per_step} region(s) replace {steps * regions_per_step} regions. "
            f"Received: a grid {grid.shape} of {grid.num_regions}. Take fewer steps or more regions."
        )


def _check_contrast(images):
    for number, image in enumerate(images):
        if image.min() == image.max():
            raise ValueError(
                f"Image {number} is constant, so noise relative to its contrast would change nothing. "
                'Leave the image out, or use noise_scale="absolute".'
            )


def _one_of(what, value, choices):
    if value not in choices:
        raise ValueError(f"{what}: one of {', '.join(choices)}. Received: {value!r}.")
    return value


def _check_count(what, value):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{what} is a whole number from 1 on. Received: {value!r}.")


def _per_image(what, values, num_images):
    values = np.asarray(values, float)
    if values.shape != (num_images,):
        raise ValueError(
            f"{what} must be of shape ({num_images},), one number for each image. Received: {values.shape}."
        )
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"{what} must be finite. Received: {values[~finite][0]} for image {int(np.argmin(finite))}.")
    return values
