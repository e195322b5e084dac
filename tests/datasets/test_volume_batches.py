"""Batches of slices and of stacks: areas and volumes are those of what is shown, whatever augmentation did."""

import doctest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hcreg.augmentation import HorizontalFlip, MRIContrast, Scaling, Translation, cardiac_augmentation, size_factor
from hcreg.datasets import volume_batches
from hcreg.datasets.volume_batches import SliceBatches, StackBatches, largest, target_values, with_neighbours
from hcreg.datasets.volume_cache import SHARE, FramePreparation, VolumeCache
from hcreg.preprocessing.nifti import Volume
from hcreg.preprocessing.volumes import Frame

PIXEL_MM, SPACING_MM = 2.0, (2.0, 2.0, 10.0)
SHAPE = (64, 72)


def record(name, num_slices, top, left, labelled=True):
    """A stack on the frame's own grid: discs of LV, wall and RV about (top, left), and an image that shows them."""
    row, column, number = np.indices((*SHAPE, num_slices))
    distance, beside = np.hypot(row - top, column - left), np.hypot(row - top, column - left + 12)
    labels = np.where(distance < 5, 3, np.where(distance < 8, 2, np.where(beside < 6, 1, 0))).astype(np.uint8)
    labels[:, :, 0] = 0  # above the valves
    image = labels * 50.0 + np.random.default_rng(num_slices).normal(size=labels.shape) + number
    volume, label_map = (Volume(array, SPACING_MM, np.eye(4), Path(f"{name}.nii")) for array in (image, labels))
    return SimpleNamespace(
        subject_id=name,
        image_path=f"{name}.nii",
        label_map_path=f"{name}_gt.nii" if labelled else None,
        image=lambda: volume,
        label_map=lambda: label_map,
    )


RECORDS = [record("a", 3, 30, 36), record("b", 4, 34, 40), record("c", 3, 20, 50), record("d", 3, 32, 36, False)]
PREPARE = FramePreparation(Frame(*SHAPE, PIXEL_MM))
DRAWN = cardiac_augmentation()


@pytest.fixture(scope="module")
def cache():
    return VolumeCache(RECORDS, PREPARE)


def all_of(batches):
    """A whole epoch, in the samples' own order."""
    parts = [batches[number] for number in range(batches.num_batches)]
    order = np.argsort(batches.order())
    targets = [part[1] for part in parts]
    if isinstance(targets[0], dict):
        joined = {name: np.concatenate([target[name] for target in targets])[order] for name in targets[0]}
    else:
        joined = np.concatenate(targets)[order]
    return np.concatenate([part[0] for part in parts])[order], joined


# Slices


def test_each_slice_is_a_sample_with_its_neighbours(cache):
    batches = SliceBatches(cache, [0, 1], batch_size=3)
    images, targets = all_of(batches)
    assert batches.samples == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert images.shape == (7, *SHAPE, 3)
    stack = cache.stacks[1]["image"]
    np.testing.assert_array_equal(images[4], stack[..., :3])
    np.testing.assert_array_equal(images[3], stack[..., [0, 0, 1]])
    np.testing.assert_array_equal(images[6], stack[..., [2, 3, 3]])
    np.testing.assert_array_equal(targets["mask"].argmax(-1)[4], RECORDS[1].label_map().array[..., 1])


def test_areas_are_those_of_the_label_map(cache):
    _, targets = SliceBatches(cache, [1]).arrays()
    counts = [np.bincount(RECORDS[1].label_map().array[..., n].ravel(), minlength=4)[1:] for n in range(4)]
    np.testing.assert_allclose(targets["areas_cm2"], np.array(counts) * 0.04, rtol=1e-6)
    assert targets["areas_cm2"][0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(targets["areas_cm2"].sum(0) * 1.0, cache.volumes_ml[1], rtol=1e-6)  # slices of 1 cm


def test_one_target_alone_may_be_asked_for(cache):
    assert set(SliceBatches(cache, [0], targets=("mask",))[0][1]) == {"mask"}
    assert set(SliceBatches(cache, [0], targets=("areas_cm2",), contrast=MRIContrast())[0][1]) == {"areas_cm2"}


def test_areas_of_augmented_slices_are_those_of_their_masks_and_of_their_maps(cache):
    batches = SliceBatches(cache, [0, 1, 2], spatial=Scaling(0.8, 1.2), contrast=MRIContrast(), seed=3)
    _, targets = all_of(batches)
    np.testing.assert_allclose(targets["mask"].sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(targets["areas_cm2"], targets["mask"][..., 1:].sum((1, 2)) * 0.04, rtol=1e-5)
    plain = batches.arrays()[1]["areas_cm2"]
    for row in range(batches.num_samples):
        matrix = Scaling(0.8, 1.2).draw(batches.generator(0, row), SHAPE)
        assert targets["areas_cm2"][row].sum() == pytest.approx(size_factor(matrix) * plain[row].sum(), rel=0.01)


def test_image_and_mask_move_alike(cache):
    """The image is fifty times the label: where it moved to, the mask did."""
    batches = SliceBatches(cache, [0, 1, 2], spatial=DRAWN, seed=1)
    images, targets = all_of(batches)
    for image, mask in zip(images, targets["mask"]):
        if mask[..., 1:].sum() > 0:
            cavity = image[..., 1][mask[..., 3] > 0.95].mean()
            wall = image[..., 1][mask[..., 2] > 0.95].mean()
            outside = image[..., 1][mask[..., 0] > 0.95].mean()
            assert cavity > wall > outside + 1


@pytest.mark.parametrize(
    "options", [{"spatial": DRAWN}, {"contrast": MRIContrast()}, {"crop_px": 32, "spatial": DRAWN}]
)
def test_a_resumed_epoch_is_the_same(cache, options):
    batches = SliceBatches(cache, [0, 1], shuffle=True, seed=5, batch_size=4, **options)
    epochs = []
    for _ in range(3):
        epochs.append([batches[0], batches[1]])
        batches.on_epoch_end()
    resumed = SliceBatches(cache, [0, 1], shuffle=True, seed=5, batch_size=4, **options)
    resumed.epoch = 2
    for number in (1, 0):  # in whatever order they are asked for
        np.testing.assert_array_equal(resumed[number][0], epochs[2][number][0])
        np.testing.assert_array_equal(resumed[number][1]["mask"], epochs[2][number][1]["mask"])
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])
    other = SliceBatches(cache, [0, 1], shuffle=True, seed=6, batch_size=4, **options)
    assert not np.array_equal(other[0][0], epochs[0][0][0])


def test_a_crop_about_the_heart_holds_it_wherever_it_lies(cache):
    whole = SliceBatches(cache, [0, 1, 2]).arrays()[1]["areas_cm2"]
    about = SliceBatches(cache, [0, 1, 2], crop_px=36)
    images, targets = all_of(about)
    assert images.shape == (10, 36, 36, 3)
    np.testing.assert_allclose(targets["areas_cm2"], whole, rtol=0.01, atol=0.01)
    structures = targets["mask"][..., 1:].sum((0, 3))
    np.testing.assert_allclose((structures.sum(0) @ np.arange(36)) / structures.sum(), 17.5, atol=0.1)
    # about the frame's middle the third heart, at (50, 20), is cut
    _, cut = all_of(SliceBatches(cache, [2], crop_px=36, crop_about="frame"))
    assert cut["areas_cm2"].sum() < 0.9 * whole[7:].sum()


def test_a_stack_whose_heart_lies_beyond_the_frame_is_cropped_about_the_frame():
    cache = VolumeCache([record("aside", 3, 8, 8)], FramePreparation(Frame(20, 20, PIXEL_MM)))
    images, targets = SliceBatches(cache, [0], crop_px=10)[0]
    np.testing.assert_allclose(images[1], cache.stacks[0]["image"][5:15, 5:15], atol=1e-5)
    assert targets["areas_cm2"].max() == 0


def test_arrays_are_whole_and_unaugmented(cache):
    plain = SliceBatches(cache, [0, 1])
    augmented = SliceBatches(cache, [0, 1], spatial=DRAWN, contrast=MRIContrast(), crop_px=32, shuffle=True)
    for found, expected in zip(augmented.arrays()[:1], plain.arrays()[:1]):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(augmented.arrays()[1]["mask"], plain.arrays()[1]["mask"])
    shares = cache.stacks[0]["shares"][:, :, 1].astype(np.float32) / SHARE
    np.testing.assert_array_equal(plain.arrays()[1]["mask"][1], shares)
    np.testing.assert_array_equal(all_of(plain)[0], plain.arrays()[0])


@pytest.mark.parametrize(
    ("indices", "options", "words"),
    [
        ([], {}, "This part of the split has no stacks"),
        ([0, 3], {}, r"Training needs label maps; 1 stacks have none: \['d'\]"),
        ([0], {"targets": ()}, r"Targets of slices are of mask, areas_cm2\. Received: \(\)"),
        ([0], {"targets": ("volume",)}, r"Targets of slices are of mask, areas_cm2\. Received: \('volume',\)"),
        ([0], {"crop_about": "mask"}, r"about the 'heart' or the 'frame'\. Received: crop_about='mask'"),
        ([0], {"batch_size": 0}, r"one sample or more\. Received: batch_size=0"),
    ],
)
def test_slices_that_cannot_be_served(cache, indices, options, words):
    with pytest.raises(ValueError, match=words):
        SliceBatches(cache, indices, **options)


# Stacks


@pytest.fixture(scope="module")
def stacks():
    """Stacks of as many slices, as a network of whole stacks needs."""
    return VolumeCache(RECORDS, FramePreparation(Frame(*SHAPE, PIXEL_MM, 4, 10.0)))


def test_stacks_of_two_and_of_three_dimensions(stacks):
    scale = np.array([10.0, 20.0, 40.0])
    images, values = StackBatches(stacks, [0, 2], scale, ndim=3)[0]
    assert images.shape == (2, *SHAPE, 4, 1)
    np.testing.assert_array_equal(images[1, ..., 0], stacks.stacks[2]["image"])
    np.testing.assert_allclose(values, stacks.volumes_ml[[0, 2]] / scale, rtol=1e-6)
    flat, _ = StackBatches(stacks, [0, 2], scale, ndim=2)[0]
    np.testing.assert_array_equal(flat, images[..., 0])


def test_targets_in_ml_and_in_voxels_each_and_in_all(stacks):
    counts = np.bincount(RECORDS[1].label_map().array.ravel(), minlength=4)[1:]
    np.testing.assert_array_equal(target_values(stacks, "pixel", False)[1], counts)
    np.testing.assert_allclose(target_values(stacks, "volume", False)[1], counts * 0.04)
    np.testing.assert_allclose(target_values(stacks, "volume", True)[1], [counts.sum() * 0.04])
    assert target_values(stacks, "pixel", True).shape == (4, 1)


def test_the_largest_of_a_part_becomes_one(stacks):
    scale = largest(stacks, [0, 1], "pixel", False)
    values = StackBatches(stacks, [0, 1], scale, target="pixel").values
    np.testing.assert_allclose(values.max(0), 1.0)
    assert largest(stacks, [0, 1], "volume", True).shape == (1,)


def test_volumes_follow_the_map_exactly(stacks):
    batches = StackBatches(stacks, [0, 1, 2], np.ones(3), spatial=Scaling(0.7, 1.4), seed=2, shuffle=True)
    batches.epoch = 4
    images, values = all_of(batches)
    for row in range(3):
        factor = size_factor(Scaling(0.7, 1.4).draw(batches.generator(4, row), SHAPE))
        np.testing.assert_allclose(values[row], stacks.volumes_ml[row] * factor, rtol=1e-6)
    assert not np.array_equal(images[0, ..., 0], stacks.stacks[0]["image"])


def test_flips_and_shifts_leave_volumes_alone(stacks):
    for spatial in (HorizontalFlip(1.0), Translation(5.0, 5.0)):
        batches = StackBatches(stacks, [0, 1], np.ones(3), spatial=spatial)
        np.testing.assert_allclose(all_of(batches)[1], stacks.volumes_ml[:2], rtol=1e-6)
    flipped = StackBatches(stacks, [0], np.ones(3), spatial=HorizontalFlip(1.0), ndim=2)[0][0][0]
    np.testing.assert_allclose(flipped, stacks.stacks[0]["image"][:, ::-1], atol=1e-4)


def test_every_slice_of_a_stack_moves_alike():
    """A stack of one slice four times over stays one slice four times over."""
    single = record("single", 4, 30, 36)
    single.image().array[:] = single.image().array[..., [1]]
    cache = VolumeCache([single], FramePreparation(Frame(*SHAPE, PIXEL_MM)))
    moved = StackBatches(cache, [0], np.ones(3), spatial=DRAWN)[0][0][0, ..., 0]
    for number in range(1, 4):
        np.testing.assert_array_equal(moved[..., number], moved[..., 0])


def test_a_resumed_epoch_of_stacks_is_the_same(stacks):
    def batches():
        return StackBatches(stacks, [0, 1, 2], np.ones(3), spatial=DRAWN, shuffle=True, seed=9, batch_size=2)

    first, resumed = batches(), batches()
    first.on_epoch_end()
    resumed.epoch = 1
    np.testing.assert_array_equal(resumed[1][0], first[1][0])
    np.testing.assert_array_equal(resumed[0][1], first[0][1])
    np.testing.assert_array_equal(batches()[0][0], batches()[0][0])
    assert not np.array_equal(all_of(first)[0], all_of(batches())[0])


def test_arrays_of_stacks_are_unaugmented_and_in_order(stacks):
    batches = StackBatches(stacks, [2, 0], np.ones(3), spatial=DRAWN, shuffle=True)
    images, values = batches.arrays()
    np.testing.assert_array_equal(images[..., 0], [stacks.stacks[2]["image"], stacks.stacks[0]["image"]])
    np.testing.assert_allclose(values, stacks.volumes_ml[[2, 0]], rtol=1e-6)
    assert batches.spatial is DRAWN


def test_stacks_without_volumes_may_be_measured_but_not_trained_on(stacks):
    assert np.isnan(StackBatches(stacks, [3], np.ones(3))[0][1]).all()
    for options in ({"shuffle": True}, {"spatial": DRAWN}):
        with pytest.raises(ValueError, match="Training needs label maps to know the volumes"):
            StackBatches(stacks, [0, 3], np.ones(3), **options)


@pytest.mark.parametrize(
    ("indices", "options", "words"),
    [
        ([], {}, "This part of the split has no stacks"),
        ([0], {"target": "ml"}, r"the 'volume' in ml or the 'pixel' count\. Received: target='ml'"),
        ([0], {"ndim": 4}, r"networks of 2 or 3 dimensions\. Received: ndim=4"),
    ],
)
def test_stacks_that_cannot_be_served(stacks, indices, options, words):
    with pytest.raises(ValueError, match=words):
        StackBatches(stacks, indices, np.ones(3), **options)


def test_neighbours_of_a_single_slice_are_the_slice_itself():
    slices = with_neighbours(np.arange(6.0).reshape(2, 3, 1))
    np.testing.assert_array_equal(slices, np.arange(6.0).reshape(1, 2, 3, 1).repeat(3, axis=-1))


def test_examples():
    result = doctest.testmod(volume_batches)
    assert (result.failed, result.attempted) == (0, 2)
