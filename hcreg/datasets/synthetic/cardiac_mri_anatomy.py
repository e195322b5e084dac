"""What is decided about each synthetic heart before it is drawn: disease, sex, sizes, fat and texture."""

from typing import NamedTuple

import numpy as np

CLASSES = ("NOR", "DCM", "HCM", "ARV")
IMAGE_SHAPE = (105, 135)
STRIP_HEIGHT_PX = 4
# The two discs share one column of pixels, so that no slit of background lies between them.
OVERLAP_PX = 1

MYOCARDIUM_LEVEL = 0.2 * 255
FAT_LEVEL = 0.9 * 255

# RV radius, RV wall, LV radius, LV wall: stated lengths in px of a heart of size 1, before they are doubled.
_BASE_PX = 25 * np.array([2.5, 1.0, 3.5, 1.5]) / 17
# The authors' jitter adds N(value, 2 % of value) to the value instead of replacing it.
_DOUBLING = 2.0
_JITTER = 0.02
# The same four lengths as parts of a healthy heart's.
_FACTORS = np.array(
    [
        [1.0, 1.0, 1.0, 1.0],  # NOR
        [1.2, 0.9, 1.8, 0.8],  # DCM
        [1.0, 1.0, 0.4, 2.2],  # HCM
        [1.2, 1.0, 0.4, 2.2],  # HCM, right ventricle dilated too
        [1.5, 1.0, 1.0, 1.0],  # ARV, fatty
        [1.5, 1.0, 1.0, 0.9],  # ARV, fibro-fatty
        [1.5, 1.0, 1.2, 0.9],  # ARV, fibro-fatty, left ventricle dilated too
    ]
)
_P_HCM_LARGE_RV = 0.16
_P_ARV_FATTY = 0.5
_P_FIBRO_LARGE_LV = 0.1
_P_ARV_LEFT_WALL = 0.1
_P_MALE = np.array([0.5, 0.5, 0.6, 2.7 / 3.7])

_SIZE_SD = 0.15
_MIN_SIZE = 0.3
# Mean and deviation of the body fat by sex (female, male), and what DCM adds to the mean.
_FAT_PERCENT = {1: ((36.4, 9.7), (26.0, 7.9)), 2: ((31.0, 9.0), (31.0, 9.0))}
_DCM_FAT_PERCENT = 2.0
_STRIP_PX_AT_80_PERCENT = 70
_GAP_PX = {1: 10.0, 2: 18.0}

_MARGIN_PX = 1


class Anatomy(NamedTuple):
    """Everything decided about a set of hearts, one value an image.

    Parameters
    ----------
    labels : int64 array of shape (num_images,)
        0 NOR, 1 DCM, 2 HCM, 3 ARV.
    sex : int64 array of shape (num_images,)
        1 male, 0 female.
    strip_px : int64 array of shape (num_images,), px
        Length of the strip of body fat.
    gap_px : float array of shape (num_images,), px
        From the strip to the top of the left ventricle.
    rv_radius_px, rv_wall_px, lv_radius_px, lv_wall_px : float arrays of shape (num_images,), px
        Radius of each cavity and thickness of the wall around it.
    rv_span, lv_span : float arrays of shape (num_images,), grey levels
        The wall's pixels are spread evenly from the level of myocardium to that much above it; 0 in a wall
        without fat.
    """

    labels: np.ndarray
    sex: np.ndarray
    strip_px: np.ndarray
    gap_px: np.ndarray
    rv_radius_px: np.ndarray
    rv_wall_px: np.ndarray
    lv_radius_px: np.ndarray
    lv_wall_px: np.ndarray
    rv_span: np.ndarray
    lv_span: np.ndarray

    @property
    def height_px(self):
        """Height of fat strip, gap and heart together."""
        lv = self.lv_radius_px + self.lv_wall_px
        return STRIP_HEIGHT_PX + self.gap_px + lv + np.maximum(lv, self.rv_radius_px + self.rv_wall_px)

    @property
    def width_px(self):
        """Width of the two discs together."""
        lv, rv = self.lv_radius_px + self.lv_wall_px, self.rv_radius_px + self.rv_wall_px
        return 2 * (lv + rv) - OVERLAP_PX


def draw_anatomy(rng, num_images, experiment, difference):
    """Draw the hearts of a set of images.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same numbers are taken from it whatever `difference` is.
    num_images : int
    experiment : {1, 2}
    difference : float
        Scales how far the classes are from NOR; see `hcreg.datasets.synthetic.cardiac_mri`.

    Returns
    -------
    Anatomy

    Notes
    -----
    A heart that would not fit into the image with its gap (a very large DCM of experiment 1, one image in
    40,000; one in 400 at a `difference` of 1.5) is scaled down until it does.
    """
    labels = rng.permutation(np.arange(num_images) % len(CLASSES))
    sex = (rng.random(num_images) < _P_MALE[labels]).astype(np.int64)

    kind, second = rng.random((2, num_images))
    variant = np.select(
        [labels < 2, labels == 2],
        [labels, 2 + (kind < _P_HCM_LARGE_RV)],
        np.where(kind < _P_ARV_FATTY, 4, 5 + (second < _P_FIBRO_LARGE_LV)),
    )
    size = np.ones(num_images)
    z = rng.standard_normal(num_images)
    if experiment == 1:
        size = np.maximum(np.where(sex == 1, 1.3, 1.0) + _SIZE_SD * z, _MIN_SIZE)
    factors = 1 + difference * (_FACTORS[variant] - 1)
    jitter = _DOUBLING + _JITTER * rng.standard_normal((num_images, 4))
    lengths = _BASE_PX * factors * jitter * size[:, None]

    fat = np.array(_FAT_PERCENT[experiment])[sex]
    percent = fat[:, 0] + difference * _DCM_FAT_PERCENT * (labels == 1) + fat[:, 1] * rng.standard_normal(num_images)
    strip = np.rint(percent * size / 80 * _STRIP_PX_AT_80_PERCENT)
    strip = np.clip(strip, 1, IMAGE_SHAPE[1] - 2 * _MARGIN_PX).astype(np.int64)

    diseased = labels == 3
    fatty = variant == 4
    rv_part = np.where(fatty, rng.uniform(0.7, 0.9, num_images), rng.uniform(0.3, 0.8, num_images))
    left_too = rng.random(num_images) < _P_ARV_LEFT_WALL
    lv_part = np.where(left_too, rng.uniform(0.0, 0.4, num_images), 0.0)
    # Not above the level of pure fat, whatever the difference.
    spans = np.minimum(1, difference * diseased * np.stack([rv_part, lv_part])) * (FAT_LEVEL - MYOCARDIUM_LEVEL)

    anatomy = Anatomy(labels, sex, strip, _GAP_PX[experiment] * size, *lengths.T, *spans)
    room_y = (IMAGE_SHAPE[0] - 2 * _MARGIN_PX - STRIP_HEIGHT_PX) / (anatomy.height_px - STRIP_HEIGHT_PX)
    room_x = (IMAGE_SHAPE[1] - 2 * _MARGIN_PX) / anatomy.width_px
    fit = np.minimum(1, np.minimum(room_y, room_x))
    return anatomy._replace(
        gap_px=anatomy.gap_px * fit,
        **{name: getattr(anatomy, name) * fit for name in ("rv_radius_px", "rv_wall_px", "lv_radius_px", "lv_wall_px")},
    )
