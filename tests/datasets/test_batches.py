"""The image cache and its batches: decoded once, labelled exactly, reproducible from seed, epoch and image."""

import math
import threading
import time
from dataclasses import dataclass, field

import keras
import numpy as np
import pytest

from hcreg.augmentation import (
    CropResize,
    GainGamma,
    HorizontalFlip,
    Speckle,
    default_augmentation,
    zhang2021_augmentation,
)
from hcreg.augmentation.spatial import about_center
from hcreg.datasets.batches import Batches, ImageCache, read_images
from hcreg.geometry import Ellipse
from hcreg.preprocessing.frames import REFERENCE_SHAPE, normalise

SIZE = (45, 50)  # a 540 x 800 image is averaged over blocks of 12 x 16 pixels
HEAD = Ellipse(390.0, 285.0, 150.0, 110.0, 0.6)


@dataclass(frozen=True)
class FakeRecord:
    """A record that counts how often it is decoded."""

    subject_id: str
    pixels: np.ndarray
    outline: Ellipse = HEAD
    pixel_size_mm: float = 0.2
    hc_mm: float | None = 160.0
    decoded: list = field(default_factory=list)

    @property
    def image_path(self):
        return f"{self.subject_id}.png"

    def image(self):
        self.decoded.append(threading.get_ident())
        return self.pixels

    def ellipse(self):
        return self.outline


def picture(seed=0, shape=(540, 800)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def record(number, **changes):
    head = Ellipse(380.0 + 2 * number, 270.0, 120.0 + 3 * number, 100.0, 0.1 * number)
    values = {"pixels": picture(number), "outline": head, "hc_mm": head.circumference_px * 0.2}
    return FakeRecord(f"{number:03d}_HC", **{**values, **changes})


@pytest.fixture(scope="module")
def cache():
    return ImageCache([record(number) for number in range(11)], SIZE)


def arrays_of(batches):
    images, targets = zip(*batches)
    return np.concatenate(images), np.concatenate(targets)[:, 0]


class Fixed:
    """One affine map for every draw."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, float)

    def draw(self, rng, shape):
        return self.matrix.copy()


# --- the cache ---


def test_lengths_in_reference_pixels_by_hand():
    cache = ImageCache(
        [
            record(0, hc_mm=180.0, pixel_size_mm=0.2),  # 900 px
            record(1, hc_mm=180.0, pixel_size_mm=0.4, pixels=picture(1, (270, 400))),  # 450 px of twice the size
            record(2, hc_mm=180.0, pixel_size_mm=0.2, pixels=picture(2, (540, 400))),  # border left and right
            record(3, hc_mm=90.0, pixel_size_mm=0.1, pixels=picture(3, (1080, 1600))),
        ],
        SIZE,
    )
    assert cache.hc_px == pytest.approx([900, 900, 900, 450])
    assert cache.reference_px_per_mm == pytest.approx([5, 5, 5, 5])
    assert len(cache) == 4


def test_ellipses_in_reference_pixels_by_hand():
    head = Ellipse(100.0, 120.0, 60.0, 50.0, 0.3)
    pixels = picture(0, (540, 400)), picture(1, (270, 400))
    cache = ImageCache([record(n, pixels=image, outline=head) for n, image in enumerate(pixels)], SIZE)
    moved, doubled = cache.ellipses
    assert (moved.center_x_px, moved.center_y_px) == pytest.approx((300, 120))  # 200 px of border to the left
    assert moved.circumference_px == pytest.approx(head.circumference_px)
    assert (doubled.center_x_px, doubled.center_y_px) == pytest.approx((100.5 * 2 - 0.5, 120.5 * 2 - 0.5))
    assert doubled.circumference_px == pytest.approx(2 * head.circumference_px)


def test_images_are_kept_at_twice_the_input_size_and_8_bits():
    pixels = picture()
    cache = ImageCache([record(0, pixels=pixels)], (*SIZE, 3))
    assert cache.input_shape == SIZE
    assert (cache.images.shape, cache.images.dtype) == ((1, 90, 100), np.uint8)
    blocks = pixels.reshape(90, 6, 100, 8).mean(axis=(1, 3))
    assert np.abs(cache.images[0] - blocks).max() <= 0.5 + 1e-4


def test_each_image_is_decoded_once_however_many_folds_and_epochs_use_it():
    records = [record(number) for number in range(6)]
    cache = ImageCache(records, SIZE, num_workers=3)
    for fold in range(3):
        training = Batches(cache, range(fold, 6), 900.0, batch_size=2, spatial=default_augmentation(), shuffle=True)
        validation = Batches(cache, range(fold), 900.0) if fold else training
        for epoch in range(3):
            training.epoch = epoch
            arrays_of(training)
        validation.arrays()
    assert [len(each.decoded) for each in records] == [1] * 6


def test_several_threads_decode():
    records = [record(number) for number in range(6)]
    barrier = threading.Barrier(2, timeout=20)

    class Waiting(FakeRecord):
        def image(self):
            if int(self.subject_id[:3]) < 2:
                barrier.wait()  # passes only if two are decoded at once
            return super().image()

    records = [Waiting(each.subject_id, each.pixels) for each in records]
    assert len(ImageCache(records, SIZE, num_workers=2)) == 6


def test_progress_counts_the_images():
    seen = []
    ImageCache([record(number) for number in range(4)], SIZE, progress=seen.append)
    assert seen == [1, 2, 3, 4]


def test_read_images_reads_a_data_set():
    records = [record(number) for number in range(3)]
    cache = read_images(records, (*SIZE, 1))
    assert np.array_equal(cache.images, ImageCache(records, SIZE).images)
    assert cache.records == records


def test_annotations_are_read_only_where_wanted():
    class Unannotated(FakeRecord):
        def ellipse(self):
            raise ValueError("has no annotation")

    records = [Unannotated("001_HC", picture(), hc_mm=None)]
    cache = ImageCache(records, SIZE, with_ellipses=False)
    assert cache.ellipses == [None]
    assert np.isnan(cache.hc_px).all()
    assert cache.reference_px_per_mm == pytest.approx([5.0])
    with pytest.raises(ValueError, match="has no annotation"):
        ImageCache(records, SIZE)


def test_failure_in_one_thread_is_raised_and_ends_the_reading():
    class Slow(FakeRecord):
        def image(self):
            if self.subject_id == "003_HC":
                raise ValueError("003_HC.png is truncated")
            time.sleep(0.005)
            return super().image()

    records = [Slow(f"{number:03d}_HC", picture(number, (54, 80))) for number in range(200)]
    with pytest.raises(ValueError, match=r"003_HC\.png is truncated"):
        ImageCache(records, SIZE)
    assert sum(len(each.decoded) for each in records) < 150


def test_no_records():
    with pytest.raises(ValueError, match="no image to read: the list of records is empty"):
        ImageCache([], SIZE)


@pytest.mark.parametrize("shape", [(540, 800), (541, 738)])  # the second gets a black border
def test_constant_image_is_named(shape):
    records = [record(0), record(1, pixels=np.full(shape, 7, np.uint8))]
    with pytest.raises(ValueError, match=r"001_HC\.png: every pixel is 7; there is nothing to measure"):
        ImageCache(records, SIZE)


def test_image_without_contrast_at_the_input_size_is_named():
    pixels = np.zeros((540, 800), np.uint8)
    pixels[100, 100] = 3
    with pytest.raises(ValueError, match=r"000_HC\.png: every pixel is 0 at the network's input size"):
        ImageCache([record(0, pixels=pixels)], SIZE)


def test_image_of_another_dtype_is_named():
    with pytest.raises(ValueError, match=r"000_HC\.png: grey values must be of dtype uint8. Received: uint16"):
        ImageCache([record(0, pixels=picture().astype(np.uint16))], SIZE)


def test_index_of_subjects(cache):
    assert cache.index_of(["007_HC", "002_HC"]).tolist() == [7, 2]
    with pytest.raises(ValueError, match=r"2 subject\(s\) are not in the cache, the first: \['900_HC', '901_HC'\]"):
        cache.index_of(["900_HC", "001_HC", "901_HC"])


# --- batches without augmentation ---


def test_unaugmented_arrays_are_block_means_standardised_and_scaled_labels(cache):
    images, targets = Batches(cache, [4, 0, 7], 800.0).arrays()
    assert (images.shape, images.dtype) == ((3, *SIZE, 1), np.float32)
    assert (targets.shape, targets.dtype) == ((3, 1), np.float32)
    for row, number in enumerate((4, 0, 7)):
        blocks = cache.records[number].pixels.reshape(45, 12, 50, 16).mean(axis=(1, 3))
        expected = (blocks - blocks.mean()) / blocks.std()
        assert np.abs(images[row, ..., 0] - expected).max() < 1.05 / blocks.std()  # two roundings to 8 bits
        hc_px = cache.records[number].hc_mm / 0.2
        assert targets[row, 0] == pytest.approx(hc_px / 800.0, rel=1e-6)


def test_target_by_hand():
    cache = ImageCache([record(0, hc_mm=150.0, pixel_size_mm=0.25)], SIZE)  # 600 px
    batches = Batches(cache, [0], 1200.0)
    assert batches.arrays()[1].tolist() == [[0.5]]
    assert batches[0][1].tolist() == [[0.5]]


def test_unaugmented_batches_keep_the_given_order(cache):
    batches = Batches(cache, [4, 0, 7, 2, 9], 800.0, batch_size=2)
    images, targets = batches.arrays()
    served = list(batches)
    assert [len(batch[1]) for batch in served] == [2, 2, 1]
    assert np.array_equal(np.concatenate([batch[0] for batch in served]), images)
    assert np.array_equal(np.concatenate([batch[1] for batch in served]), targets)


@pytest.mark.parametrize("how", ["standardise", "caffe", "torch"])
def test_normalisation_and_channels_are_passed_on(cache, how):
    plain = Batches(cache, [1, 2], 800.0, normalisation=how, num_channels=3)
    augmented = Batches(cache, [1, 2], 800.0, normalisation=how, num_channels=3, spatial=Fixed([[1, 0, 0], [0, 1, 0]]))
    expected = normalise(np.stack([plain.sample(index)[0] for index in (1, 2)]), how, 3)
    assert plain[0][0].shape == (2, *SIZE, 3)
    assert np.array_equal(plain[0][0], expected)
    assert np.array_equal(augmented[0][0], expected)
    assert augmented[0][1] == pytest.approx(plain[0][1])


# --- an epoch ---


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
@pytest.mark.parametrize("spatial", [None, default_augmentation()])
def test_each_image_is_served_once_an_epoch(cache, batch_size, spatial):
    batches = Batches(cache, range(11), 800.0, batch_size=batch_size, spatial=spatial, shuffle=True)
    for epoch in range(3):
        batches.epoch = epoch
        sizes = [len(targets) for _, targets in batches]
        assert sizes == [batch_size] * (11 // batch_size) + [11 % batch_size] * (11 % batch_size > 0)
        assert batches.num_batches == len(sizes)
        assert sorted(batches.order()) == list(range(11))


def test_shuffled_images_keep_their_own_labels(cache):
    batches = Batches(cache, [3, 5, 8, 10], 800.0, batch_size=3, shuffle=True)
    images, targets = batches.arrays()
    for epoch in range(3):
        batches.epoch = epoch
        served_images, served_targets = arrays_of(batches)
        order = batches.order()
        assert np.array_equal(served_images, images[order])
        assert np.array_equal(served_targets, targets[order, 0])


def test_order_changes_with_the_epoch_and_is_that_of_the_seed(cache):
    def orders(seed):
        batches = Batches(cache, range(11), 800.0, shuffle=True, seed=seed)
        for batches.epoch in range(6):
            yield tuple(batches.order())

    assert len(set(orders(0))) == 6
    assert list(orders(0)) == list(orders(0))
    assert not set(orders(0)) & set(orders(1))


def test_epochs_may_be_asked_for_in_any_order(cache):
    batches = Batches(cache, range(11), 800.0, batch_size=4, spatial=default_augmentation(), shuffle=True)
    seen = {}
    for epoch in (0, 1, 2, 1, 0, 2):
        batches.epoch = epoch
        images, targets = arrays_of(batches)
        if epoch in seen:
            assert np.array_equal(images, seen[epoch][0])
            assert np.array_equal(targets, seen[epoch][1])
        seen[epoch] = images, targets
    assert not np.array_equal(np.sort(seen[0][1]), np.sort(seen[1][1]))


def test_order_does_not_use_the_random_numbers_of_the_first_image(cache):
    # default_rng([seed, epoch]) and default_rng([seed, epoch, 0]) are one stream
    batches = Batches(cache, range(11), 800.0, shuffle=True, seed=5)
    batches.epoch = 3
    assert batches.order().tolist() != np.random.default_rng([5, 3, 0]).permutation(11).tolist()


def test_epoch_set_while_a_batch_is_made_does_not_mix_epochs(cache):
    class Meddling:
        """Sets the epoch as another thread might."""

        def __init__(self):
            self.batches, self.inner = None, default_augmentation()

        def draw(self, rng, shape):
            if self.batches is not None:
                self.batches.epoch += 1
            return self.inner.draw(rng, shape)

    meddling = Meddling()
    batches = Batches(cache, range(11), 800.0, batch_size=11, spatial=meddling, shuffle=True)
    images, targets = batches[0]
    meddling.batches = batches
    meddled_images, meddled_targets = batches[0]
    assert batches.epoch > 0
    assert np.array_equal(images, meddled_images)
    assert np.array_equal(targets, meddled_targets)


# --- augmentation ---


@pytest.mark.parametrize("augmentation", [default_augmentation(), zhang2021_augmentation()])
def test_sample_depends_on_seed_epoch_and_image_only(cache, augmentation):
    intensity = (GainGamma(), Speckle())
    first = Batches(
        cache, range(11), 800.0, batch_size=4, spatial=augmentation, intensity=intensity, shuffle=True, seed=2
    )
    second = Batches(cache, [9, 5, 1], 800.0, batch_size=2, spatial=augmentation, intensity=intensity, seed=2)
    for first.epoch in range(3):
        second.epoch = first.epoch
        images, targets = arrays_of(first)
        other_images, other_targets = arrays_of(second)
        for row, number in enumerate((9, 5, 1)):
            position = first.order().tolist().index(number)
            assert np.array_equal(images[position], other_images[row])
            assert targets[position] == other_targets[row]


def test_sample_changes_with_seed_epoch_and_image(cache):
    def labels(seed, epoch):
        batches = Batches(cache, range(11), 800.0, spatial=default_augmentation(), seed=seed)
        batches.epoch = epoch
        return [batches.sample(index)[1] / cache.hc_px[index] for index in range(11)]  # the zoom, nearly

    ratios = labels(0, 0), labels(0, 1), labels(1, 0), labels(1, 1)
    assert len(set(np.ravel(ratios))) == 44


def test_label_of_a_zoom_by_hand(cache):
    halved = Batches(cache, [0], 800.0, spatial=Fixed(about_center(0.5 * np.eye(2), REFERENCE_SHAPE)))
    assert halved.sample(0)[1] == pytest.approx(0.5 * cache.hc_px[0], rel=1e-12)


def test_label_of_an_anisotropic_crop_by_hand():
    head = Ellipse(400.0, 270.0, 120.0, 90.0, 0.0)
    cache = ImageCache([record(0, outline=head, hc_mm=head.circumference_px * 0.2)], SIZE)
    batches = Batches(cache, [0], 1000.0, spatial=CropResize(shift_px=0.0))
    h = ((160 - 108) / (160 + 108)) ** 2  # semi-axes 120 x 4/3 and 90 x 1.2
    expected = math.pi * 268 * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
    assert batches[0][1][0, 0] == pytest.approx(expected / 1000, rel=1e-6)


def test_augmented_label_is_the_csvs_times_the_change_of_the_ellipse():
    # the CSV's circumference need not be the annotation's to the last digit; the CSV's is what is learnt
    matrix = np.array([[0.9, 0.2, -30.0], [-0.1, 1.05, 40.0]])
    cache = ImageCache([record(0, hc_mm=161.0, outline=HEAD)], SIZE)
    ratio = HEAD.transformed(matrix).circumference_px / HEAD.circumference_px
    hc_px = Batches(cache, [0], 800.0, spatial=Fixed(matrix)).sample(0)[1]
    assert hc_px == pytest.approx(161.0 / 0.2 * ratio, rel=1e-12)
    assert abs(ratio - 1) > 0.01


def test_flip_flips_the_sample(cache):
    plain = Batches(cache, [3], 800.0)
    flipped = Batches(cache, [3], 800.0, spatial=HorizontalFlip(1.0))
    assert np.array_equal(flipped.sample(3)[0], plain.sample(3)[0][:, ::-1])
    assert flipped.sample(3)[1] == pytest.approx(plain.sample(3)[1], rel=1e-12)


def test_head_that_would_leave_stays_as_it_is(cache):
    away = Batches(cache, [3], 800.0, spatial=Fixed([[1, 0, 600], [0, 1, 0]]))
    plain = Batches(cache, [3], 800.0)
    assert np.array_equal(away.sample(3)[0], plain.sample(3)[0])
    assert away.sample(3)[1] == plain.sample(3)[1]


def test_intensity_changes_grey_values_and_no_label(cache):
    plain = Batches(cache, range(5), 800.0)
    loud = Batches(cache, range(5), 800.0, intensity=(GainGamma((2.0, 2.0), (1.0, 1.0)),))
    for index in range(5):
        doubled = np.minimum(2 * plain.sample(index)[0].astype(int), 255)
        assert np.array_equal(loud.sample(index)[0], doubled)
    assert np.array_equal(arrays_of(loud)[1], arrays_of(plain)[1])
    assert not np.array_equal(arrays_of(loud)[0], arrays_of(plain)[0])


def test_cache_is_not_written_to(cache):
    before = cache.images.copy(), cache.hc_px.copy()
    batches = Batches(cache, range(11), 800.0, spatial=default_augmentation(), intensity=(Speckle(),))
    arrays_of(batches)
    assert np.array_equal(cache.images, before[0])
    assert np.array_equal(cache.hc_px, before[1])


# --- with Keras ---


def model_whose_loss_is_the_mean_label():
    model = keras.Sequential([keras.Input((*SIZE, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", lambda y_true, y_pred: keras.ops.mean(y_true) + 0.0 * keras.ops.mean(y_pred))
    return model


def mean_labels(cache, epochs):
    batches = Batches(cache, range(8), 800.0, batch_size=2, spatial=default_augmentation(), shuffle=True)
    for batches.epoch in epochs:
        yield arrays_of(batches)[1].mean(dtype=float)


def test_keras_fit_sees_the_epoch_a_callback_sets(cache):
    batches = Batches(cache, range(8), 800.0, batch_size=2, spatial=default_augmentation(), shuffle=True)
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    fitted = model_whose_loss_is_the_mean_label().fit(
        batches, initial_epoch=3, epochs=6, verbose=0, shuffle=False, callbacks=[callback]
    )
    assert fitted.history["loss"] == pytest.approx(list(mean_labels(cache, range(3, 6))), rel=1e-5)


def test_plain_keras_fit_sees_another_augmentation_in_each_epoch(cache):
    batches = Batches(cache, range(8), 800.0, batch_size=2, spatial=default_augmentation(), shuffle=True)
    fitted = model_whose_loss_is_the_mean_label().fit(batches, epochs=2, verbose=0)
    first, second = fitted.history["loss"]
    assert abs(first - second) > 1e-4
    assert [first, second] == pytest.approx(list(mean_labels(cache, (1, 2))), rel=1e-5)


def test_plain_keras_fit_and_predict_without_augmentation(cache):
    batches = Batches(cache, range(8), 800.0, batch_size=3)
    model = keras.Sequential([keras.Input((*SIZE, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    assert len(model.fit(batches, epochs=2, verbose=0, validation_data=batches).history["val_loss"]) == 2
    from_arrays = model.predict(batches.arrays()[0], verbose=0)
    assert model.predict(batches, verbose=0) == pytest.approx(from_arrays, abs=1e-5)


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([], "This part of the split has no images"),
        ([True, False, True], r"positions of its images, a list of integers.*bool.*np.flatnonzero\(mask\)"),
        ([0.0, 1.0], r"a list of integers. Received: float64 of shape \(2,\)"),
        ([[0, 1]], r"a list of integers. Received: int64 of shape \(1, 2\)"),
        ([0, 11], "cache holds the images 0 to 10. Received: 0 to 11"),
        ([-1, 3], "cache holds the images 0 to 10. Received: -1 to 3"),
    ],
)
def test_indices_that_are_none(cache, indices, words):
    with pytest.raises(ValueError, match=words):
        Batches(cache, indices, 800.0)


@pytest.mark.parametrize("scale", [0.0, -3.0, float("nan"), float("inf")])
def test_scale_of_the_labels_must_be_positive(cache, scale):
    with pytest.raises(ValueError, match=rf"divided by a positive number of pixels. Received: {scale}"):
        Batches(cache, [0], scale)


def test_batch_of_no_images(cache):
    with pytest.raises(ValueError, match=r"holds one sample or more. Received: batch_size=0"):
        Batches(cache, [0], 800.0, batch_size=0)


def test_augmentation_without_ellipses():
    cache = ImageCache([record(0)], SIZE, with_ellipses=False)
    with pytest.raises(ValueError, match=r"needs the annotated ellipses.*with_ellipses=True"):
        Batches(cache, [0], 800.0, spatial=default_augmentation())


@pytest.mark.parametrize("how", [{"shuffle": True}, {"spatial": default_augmentation()}])
def test_training_without_labels(how):
    cache = ImageCache([record(0), record(1, hc_mm=None)], SIZE)
    with pytest.raises(ValueError, match=r"a head circumference for each image; 1 have none, .*\['001_HC'\]"):
        Batches(cache, [0, 1], 800.0, **how)
    assert np.isnan(Batches(cache, [0, 1], 800.0).arrays()[1][1, 0])  # to predict from, none is needed


@pytest.mark.parametrize("batch", [3, -1])
@pytest.mark.parametrize("spatial", [None, default_augmentation()])
def test_batch_beyond_the_epoch(cache, batch, spatial):
    batches = Batches(cache, range(11), 800.0, batch_size=4, spatial=spatial)
    with pytest.raises(IndexError, match=rf"batches 0 to 2. Received: {batch}"):
        batches[batch]


# --- real images ---


@pytest.mark.data
def test_real_images(hc18_root):
    from hcreg.datasets import HC18

    dataset = HC18(hc18_root)
    odd = next(each for each in dataset if each.image().shape != REFERENCE_SHAPE)
    records = [dataset[0], dataset[1], odd]
    cache = ImageCache(records, (128, 128))
    assert cache.hc_px[:2] == pytest.approx([each.hc_mm / each.pixel_size_mm for each in records[:2]])
    for each, ellipse, factor in zip(records, cache.ellipses, cache.reference_px_per_mm):
        assert ellipse.circumference_px / factor == pytest.approx(each.hc_mm, abs=0.1)
    batches = Batches(cache, range(3), 2000.0, spatial=default_augmentation(), shuffle=True)
    images, targets = arrays_of(batches)
    assert images.shape == (3, 128, 128, 1)
    assert np.isfinite(images).all()
    assert np.all((targets > 0) & (targets < 2))
