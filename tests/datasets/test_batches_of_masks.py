"""Masks as labels: those of the very head that the augmented image shows, whatever was done to it."""

from dataclasses import astuple
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.augmentation import GainGamma, Speckle, default_augmentation, zhang2021_augmentation
from hcreg.augmentation.spatial import about_center
from hcreg.datasets.batches import Batches, ImageCache
from hcreg.geometry import Ellipse, fit_ellipse
from hcreg.preprocessing.frames import REFERENCE_SHAPE

COARSE = (45, 50)  # a pixel is 12 x 16 of the frame's
FINE = (96, 128)
FINE_PIXEL = (800 / 128, 540 / 96)  # its size (x, y) in pixels of the frame
BOTH = ("mask", "hc_fraction")
DRAWN = 0.5 / 12 + 1e-3  # a drawn border is off by half a pixel of the frame at most, of the 12 in a row


def record(number, head, shape=(540, 800), pixels=None):
    if pixels is None:
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    return SimpleNamespace(
        subject_id=f"{number:03d}_HC",
        image_path=f"{number:03d}_HC.png",
        pixel_size_mm=0.2,
        hc_mm=head.circumference_px * 0.2,
        image=lambda: pixels,
        ellipse=lambda: head,
    )


HEADS = [Ellipse(380.0 + 10 * n, 270.0, 150.0 + 10 * n, 120.0, 0.3 * n) for n in range(7)]


@pytest.fixture(scope="module")
def cache():
    return ImageCache([record(number, head) for number, head in enumerate(HEADS)], FINE)


class Fixed:
    """One affine map for every draw."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, float)

    def draw(self, rng, shape):
        return self.matrix.copy()


def share_inside(inside, shape):
    """Share of each pixel of `shape` in which a picture of the frame is True: plain means over blocks."""
    rows, columns = inside.shape[0] // shape[0], inside.shape[1] // shape[1]
    return inside.reshape(shape[0], rows, shape[1], columns).mean(axis=(1, 3))


def drawn(head, matrix=((1, 0, 0), (0, 1, 0)), shape=REFERENCE_SHAPE):
    """Picture of a head after an affine map: each pixel asks where it came from, by the ellipse's equation."""
    matrix = np.asarray(matrix, float)
    y, x = np.mgrid[: shape[0], : shape[1]]
    back = np.linalg.inv(matrix[:, :2]) @ (np.stack([x.ravel(), y.ravel()]) - matrix[:, 2:])
    dx, dy = back - np.array([[head.center_x_px], [head.center_y_px]])
    cos, sin = np.cos(head.angle_rad), np.sin(head.angle_rad)
    along, across = (cos * dx + sin * dy) / head.semi_axis_a_px, (cos * dy - sin * dx) / head.semi_axis_b_px
    return (along**2 + across**2 <= 1).reshape(shape)


# --- what is served ---


@pytest.mark.parametrize("spatial", [None, default_augmentation()])
@pytest.mark.parametrize("targets", [("mask",), ("hc_fraction",), BOTH, BOTH[::-1]])
def test_one_target_is_an_array_and_two_are_a_dict(cache, targets, spatial):
    batches = Batches(cache, range(7), 800.0, targets=targets, batch_size=3, spatial=spatial)
    shapes = {"mask": (3, *FINE, 1), "hc_fraction": (3, 1)}
    for images, labels in (batches[0], batches[1]):
        assert (images.shape, images.dtype) == ((3, *FINE, 1), np.float32)
        if len(targets) == 1:
            labels = {targets[0]: labels}
        assert {name: label.shape for name, label in labels.items()} == {name: shapes[name] for name in targets}
        assert all(label.dtype == np.float32 for label in labels.values())
    images, labels = batches[2]  # the last is smaller
    assert len(images) == 1
    assert all(len(label) == 1 for label in (labels.values() if isinstance(labels, dict) else [labels]))


def test_without_a_word_the_target_is_the_circumference(cache):
    assert Batches(cache, [0], 800.0).targets == ("hc_fraction",)
    assert Batches(cache, [0], 800.0)[0][1].shape == (1, 1)


def test_each_target_alone_is_what_it_is_beside_the_other(cache):
    """Masks use up no random numbers: images and lengths are those of a regressor, bit for bit."""
    options = {"spatial": default_augmentation(), "intensity": (GainGamma(), Speckle()), "shuffle": True, "seed": 4}
    lengths, masks, both = (
        Batches(cache, range(7), 800.0, targets=targets, batch_size=4, **options)
        for targets in (("hc_fraction",), ("mask",), BOTH)
    )
    for epoch in (0, 3):
        lengths.epoch = masks.epoch = both.epoch = epoch
        for batch in range(2):
            images, labels = both[batch]
            assert np.array_equal(lengths[batch][0], images)
            assert np.array_equal(lengths[batch][1], labels["hc_fraction"])
            assert np.array_equal(masks[batch][0], images)
            assert np.array_equal(masks[batch][1], labels["mask"])


def test_a_regressors_batches_are_those_of_before_there_were_masks(cache):
    """Numbers of version 0.1's first table, computed before masks could be served."""
    batches = Batches(cache, range(4), 1500.0, batch_size=4, spatial=default_augmentation(), shuffle=True, seed=3)
    batches.epoch = 2
    images, labels = batches[0]
    stored = [0.7319850325584412, 0.6654870510101318, 0.6894581913948059, 0.6230424046516418]
    assert labels[:, 0].tolist() == pytest.approx(stored, rel=1e-6)
    assert np.abs(images).mean() == pytest.approx(0.6272140145301819, rel=1e-3)
    assert images[1, 40, 60:64, 0] == pytest.approx([-0.60287, 0.66715, 0.28229, 0.59018], abs=0.03)


def test_shuffled_images_keep_their_own_masks(cache):
    batches = Batches(cache, [3, 5, 0, 6, 2], 800.0, targets=BOTH, batch_size=2, shuffle=True)
    images, labels = batches.arrays()
    orders = set()
    for batches.epoch in range(3):
        order = batches.order()
        orders.add(tuple(order))
        served = list(batches)
        assert np.array_equal(np.concatenate([batch[0] for batch in served]), images[order])
        for name in BOTH:
            assert np.array_equal(np.concatenate([batch[1][name] for batch in served]), labels[name][order])
    assert len(orders) > 1


def test_sample_gives_the_head_after_augmentation(cache):
    matrix = about_center([[0.0, -0.9], [0.9, 0.0]], REFERENCE_SHAPE)
    moved = Batches(cache, [2], 800.0, spatial=Fixed(matrix)).sample(2)[2]
    assert astuple(moved) == pytest.approx(astuple(HEADS[2].transformed(matrix)))
    assert Batches(cache, [2], 800.0).sample(2)[2] == cache.ellipses[2]


# --- where the mask lies ---


@pytest.mark.parametrize("number", [0, 4])
def test_mask_is_the_share_of_each_pixel_inside_the_head(number):
    cache = ImageCache([record(number, HEADS[number])], COARSE)
    mask = Batches(cache, [0], 800.0, targets=("mask",)).arrays()[1][0, ..., 0]
    expected = share_inside(drawn(HEADS[number]), COARSE)
    assert np.abs(mask - expected).max() < DRAWN
    assert np.sum((mask > 0.05) & (mask < 0.95)) > 30  # a border in shares, not in steps
    assert mask.sum() * 12 * 16 == pytest.approx(np.pi * HEADS[number].semi_axis_a_px * 120, rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "shift", "scale"),
    [
        ((540, 400), (200, 0), 1),  # 200 columns of border on each side
        ((270, 400), (0, 0), 2),
        ((270, 200), (200, 0), 2),
        ((400, 800), (0, 70), 1),
    ],
)
def test_masks_of_padded_and_of_smaller_images(shape, shift, scale):
    head = Ellipse(shape[1] / 2 + 3, shape[0] / 2 - 5, 0.4 * min(shape), 0.3 * min(shape), 0.7)
    cache = ImageCache([record(0, head, shape)], COARSE)
    mask = Batches(cache, [0], 800.0, targets=("mask",)).arrays()[1][0, ..., 0]
    frame = np.zeros(REFERENCE_SHAPE, bool)
    image = np.kron(drawn(head, shape=shape), np.ones((scale, scale), bool))
    frame[shift[1] : shift[1] + image.shape[0], shift[0] : shift[0] + image.shape[1]] = image
    assert np.abs(mask - share_inside(frame, COARSE)).max() < DRAWN * scale


def test_a_head_that_leaves_the_image_is_cut_at_the_frame_only():
    """The padding belongs to the frame: a head may reach into it."""
    head = Ellipse(30.0, 270.0, 100.0, 80.0, 0.0)
    cache = ImageCache([record(0, head, (540, 400))], COARSE)
    mask = Batches(cache, [0], 800.0, targets=("mask",)).arrays()[1][0, ..., 0]
    expected = share_inside(drawn(Ellipse(230.0, 270.0, 100.0, 80.0, 0.0)), COARSE)
    assert np.abs(mask - expected).max() < DRAWN


def test_augmented_mask_is_that_of_the_head_in_the_augmented_image():
    """The image is the drawn head itself: what is bright after augmentation must be what the mask says."""
    pictures = [record(number, head, pixels=drawn(head).astype(np.uint8) * 255) for number, head in enumerate(HEADS)]
    cache = ImageCache(pictures, FINE)
    moved = 0
    for augmentation in (default_augmentation(), zhang2021_augmentation()):
        batches = Batches(cache, range(7), 800.0, targets=("mask",), batch_size=7, spatial=augmentation, seed=1)
        for batches.epoch in range(4):
            masks = batches[0][1][..., 0]
            for number in range(7):
                image, _, ellipse = batches.sample(number)
                difference = np.abs(image / 255.0 - masks[number])
                assert difference.max() < 0.25  # the image was interpolated
                assert difference.mean() < 0.004
                moved += ellipse != cache.ellipses[number]
    assert moved > 25


def test_mask_of_a_sheared_and_mirrored_head_by_its_equation():
    matrix = np.array([[-0.8, 0.15, 720.0], [0.1, 1.1, -60.0]])
    cache = ImageCache([record(0, HEADS[3])], COARSE)
    mask = Batches(cache, [0], 800.0, targets=("mask",), spatial=Fixed(matrix))[0][1][0, ..., 0]
    assert np.abs(mask - share_inside(drawn(HEADS[3], matrix), COARSE)).max() < DRAWN
    assert np.abs(mask - share_inside(drawn(HEADS[3]), COARSE)).max() > 0.9


@settings(max_examples=25, deadline=None)
@given(
    epoch=st.integers(0, 10_000),
    x=st.floats(300, 500),
    y=st.floats(240, 300),
    a=st.floats(110, 220),
    ratio=st.floats(0.66, 0.96),
    angle=st.floats(0, 3.1),
)
def test_the_masks_outline_is_as_long_as_the_label_says(epoch, x, y, a, ratio, angle):
    """Within 0.2 %, in pixels of the frame, though the network's pixels are not square there."""
    cache = ImageCache([record(0, Ellipse(x, y, a, a * ratio, angle))], FINE)
    batches = Batches(cache, [0], 800.0, targets=BOTH, spatial=default_augmentation())
    batches.epoch = epoch
    labels = batches[0][1]
    fitted = fit_ellipse(labels["mask"][0, ..., 0], spacing_mm=FINE_PIXEL)
    assert fitted.circumference_mm(FINE_PIXEL) == pytest.approx(800 * labels["hc_fraction"][0, 0], rel=2e-3)


def test_grey_values_change_and_the_mask_does_not(cache):
    quiet = Batches(cache, range(7), 800.0, targets=BOTH, spatial=default_augmentation(), batch_size=7)
    loud = Batches(
        cache, range(7), 800.0, targets=BOTH, spatial=default_augmentation(), intensity=(Speckle(),), batch_size=7
    )
    assert not np.array_equal(loud[0][0], quiet[0][0])
    for name in BOTH:
        assert np.array_equal(loud[0][1][name], quiet[0][1][name])


# --- refused ---


@pytest.mark.parametrize("targets", [(), ("masks",), ("mask", "dense_3"), "mask", ("hc_mm",)])
def test_unknown_targets_are_refused_with_the_known(cache, targets):
    words = r"a tuple of 'hc_fraction', 'mask', the names of the network's output layers\. Received: "
    with pytest.raises(ValueError, match=words) as caught:
        Batches(cache, [0], 800.0, targets=targets)
    assert str(caught.value).endswith(f"Received: {targets!r}.")


def test_masks_need_the_annotations():
    cache = ImageCache([record(0, HEADS[0])], COARSE, with_ellipses=False)
    with pytest.raises(ValueError, match=r"^A mask needs the annotated ellipses: make .* with_ellipses=True"):
        Batches(cache, [0], 800.0, targets=("mask",))
    with pytest.raises(ValueError, match=r"^Augmentation needs the annotated ellipses: make .* with_ellipses=True"):
        Batches(cache, [0], 800.0, targets=("mask",), spatial=default_augmentation())
    Batches(cache, [0], 800.0)  # a length does not


# --- real images ---


@pytest.mark.data
def test_masks_of_real_heads_are_as_long_as_the_csv_says(hc18_root):
    from hcreg.datasets import HC18

    dataset = HC18(hc18_root)
    records = [dataset[index] for index in range(0, len(dataset), max(1, len(dataset) // 12))]
    records.append(next(each for each in dataset if each.image().shape != REFERENCE_SHAPE))
    cache = ImageCache(records, FINE)
    _, labels = Batches(cache, range(len(records)), 800.0, targets=BOTH).arrays()
    for mask, fraction in zip(labels["mask"][..., 0], labels["hc_fraction"][:, 0]):
        length_px = fit_ellipse(mask, spacing_mm=FINE_PIXEL).circumference_mm(FINE_PIXEL)
        assert length_px == pytest.approx(800 * fraction, rel=3e-3)
