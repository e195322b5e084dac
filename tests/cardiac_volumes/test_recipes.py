"""How recipes measure, worked by hand with networks of known answers; what they refuse, and what names a run."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from small_hearts import small_segmenter

from hcreg import models
from hcreg.augmentation.volumetric import MRIContrast, cardiac_augmentation, zhang2021_volume_augmentation
from hcreg.cardiac_volumes import SliceRecipe, StackRecipe, recipes
from hcreg.datasets.volume_batches import SliceBatches, StackBatches, with_neighbours
from hcreg.preprocessing.volumes import Frame

STACKS = StackRecipe("stacks", models.vgg2d, keras.losses.MeanAbsoluteError(), size=(8, 8), batch_size=2)
SLICES = SliceRecipe(
    "slices",
    small_segmenter,
    {"areas_cm2": keras.losses.MeanAbsoluteError()},
    build_arguments={"filters": 2},
    frame=Frame(32, 32, 2.0),
    batch_size=4,
)


def cache_of(depths, shape=(8, 8), seed=0):
    rng = np.random.default_rng(seed)
    stacks = [{"image": rng.normal(size=(*shape, depth)).astype(np.float32)} for depth in depths]
    numbers = np.arange(1.0, len(depths) + 1)
    return SimpleNamespace(stacks=stacks, slice_mm=10 * numbers, voxel_ml=0.1 * numbers, records=[None] * len(depths))


class Network:
    """Predicts by a function of its inputs, and remembers how much it was given at once."""

    def __init__(self, answer):
        self.answer, self.shapes = answer, []

    def predict(self, inputs, batch_size, verbose):
        self.shapes.append((len(inputs), batch_size))
        return self.answer(inputs)


def means(inputs):
    mean = inputs.reshape(len(inputs), -1).mean(1)
    return np.stack([mean, 2 * mean, 3 * mean], axis=1)


def middle_areas(inputs):
    area = inputs[..., 1].sum((1, 2), dtype=float)
    return {"areas_cm2": np.stack([area, 2 * area, -area], axis=1), "mask": np.zeros((len(inputs), 1, 1, 4))}


def test_stacks_are_scaled_and_in_the_order_asked_for():
    cache = cache_of([9, 9, 9])
    rows = STACKS.measure([(Network(means), np.array([10.0, 20.0, 30.0]))], cache, [2, 0])
    for row, index in zip(rows, (2, 0), strict=True):
        mean = float(cache.stacks[index]["image"].mean())
        assert row == pytest.approx(
            {"RV_pred_ml": 10 * mean, "MYO_pred_ml": 40 * mean, "LV_pred_ml": 90 * mean}, rel=1e-4
        )


def test_counts_of_voxels_become_millilitres_by_each_stacks_own_voxel():
    cache = cache_of([9, 9])
    recipe = replace(STACKS, crop="paper", target="pixel")
    first, second = recipe.measure(
        [(Network(lambda inputs: np.ones((len(inputs), 3))), np.array([100.0, 200.0, 300.0]))], cache, [0, 1]
    )
    assert first == pytest.approx({"RV_pred_ml": 10, "MYO_pred_ml": 20, "LV_pred_ml": 30})
    assert second == pytest.approx({"RV_pred_ml": 20, "MYO_pred_ml": 40, "LV_pred_ml": 60})


def test_areas_times_the_distance_of_the_slices_are_added_up_in_each_stack():
    cache = cache_of([2, 5, 3])
    rows = SLICES.measure([(Network(middle_areas), np.ones(3))], cache, [0, 1, 2])
    for row, stack, slice_mm in zip(rows, cache.stacks, cache.slice_mm, strict=True):
        volume_ml = float(stack["image"].sum(dtype=float)) * slice_mm / 10  # cm² times cm
        assert row == pytest.approx({"RV_pred_ml": volume_ml, "MYO_pred_ml": 2 * volume_ml, "LV_pred_ml": -volume_ml})


def test_of_several_networks_the_mean_counts():
    cache = cache_of([9, 9])
    other = Network(lambda inputs: 3 * means(inputs))
    alone = STACKS.measure([(Network(means), np.ones(3))], cache, [0, 1])
    both = STACKS.measure([(Network(means), np.ones(3)), (other, np.full(3, 2.0))], cache, [0, 1])
    for row, one in zip(both, alone, strict=True):
        assert row == pytest.approx({name: (1 + 6) / 2 * value for name, value in one.items()})
    counted = SLICES.measure([(Network(middle_areas), None)] * 3, cache, [0, 1])
    for row, one in zip(counted, SLICES.measure([(Network(middle_areas), None)], cache, [0, 1]), strict=True):
        assert row == pytest.approx(one)


@pytest.mark.parametrize(("recipe", "answer", "depths"), [(STACKS, means, [9] * 7), (SLICES, middle_areas, [2, 5, 3])])
def test_every_batch_is_of_one_size_and_no_group_is_too_large(recipe, answer, depths, monkeypatch):
    whole = Network(answer)
    rows = recipe.measure([(whole, np.ones(3))], cache_of(depths), range(len(depths)))
    assert whole.shapes == [(8 if recipe is STACKS else 12, recipe.batch_size)]
    monkeypatch.setattr(recipes, "MAX_STACKS", 3)
    monkeypatch.setattr(recipes, "MAX_SLICES", 3)
    parted = Network(answer)
    again = recipe.measure([(parted, np.ones(3))], cache_of(depths), range(len(depths)))
    for row, before in zip(again, rows, strict=True):
        assert row == pytest.approx(before)
    assert len(parted.shapes) > 1
    assert all(number % size == 0 for number, size in parted.shapes)


def test_measuring_many_stacks_at_once_changes_nothing():
    cache = cache_of([3, 6], (32, 32))
    network = SLICES.network(0)
    rows = SLICES.measure([(network, np.ones(3))], cache, [0, 1])
    for row, stack, slice_mm in zip(rows, cache.stacks, cache.slice_mm, strict=True):
        slices = np.ascontiguousarray(with_neighbours(stack["image"]))
        areas_cm2 = np.asarray(network(slices)["areas_cm2"])
        np.testing.assert_allclose(list(row.values()), areas_cm2.sum(0, dtype=float) * slice_mm / 10, rtol=1e-4)
    assert list(rows[0]) == ["RV_pred_ml", "MYO_pred_ml", "LV_pred_ml"]  # without a loss the mask means nothing


def test_a_smaller_input_sees_as_many_millimetres():
    frame = replace(STACKS, size=(112, 112)).preparation.frame
    assert (frame.height_px, frame.width_px, frame.num_slices) == (112, 112, 9)
    assert frame.pixel_mm == pytest.approx(2.4)
    assert 112 * frame.pixel_mm == pytest.approx(224 * replace(STACKS, size=(224, 224)).preparation.frame.pixel_mm)


def test_paper_crop_shows_image_or_mask():
    assert replace(STACKS, crop="paper", source="mask").preparation.source == "mask"
    assert replace(STACKS, crop="paper").preparation.size == (8, 8)


def test_single_label_measures_the_heart_as_one():
    recipe = replace(STACKS, build_arguments={"variant": "single_label"})
    (row,) = recipe.measure(
        [(Network(lambda inputs: np.full((len(inputs), 1), 0.5)), np.array([400.0]))], cache_of([9]), [0]
    )
    assert row == {"heart_pred_ml": 200.0}


def test_networks_take_what_their_preparation_gives():
    small = replace(STACKS, build_arguments={"filters": (1, 1, 1, 1, 1)})
    assert small.network(0).input_shape == (None, 8, 8, 9)
    assert replace(small, build=models.vgg3d).network(0).input_shape == (None, 8, 8, 9, 1)
    unet = replace(SLICES, build=models.unet, build_arguments={"filters": 1, "dropout_rate": 0.0}).network(0)
    assert unet.input_shape == (None, None, None, 3)  # training crops, tests do not
    shapes = {name: output.shape for name, output in unet.output.items()}
    assert shapes == {"mask": (None, None, None, 4), "areas_cm2": (None, 3)}


def test_arguments_name_what_decides_the_result_and_not_where_weights_lay():
    recipe = replace(SLICES, build_arguments={"weights": "/a/w.h5"}, loss_weights={"areas_cm2": 0.02})
    moved = replace(recipe, build_arguments={"weights": "/b/w.h5"})
    assert recipe.arguments() == moved.arguments()
    assert recipe.arguments()["build_arguments"] == {"weights": "w.h5"}
    assert recipe.arguments()["frame"] == {"height_px": 32, "width_px": 32, "pixel_mm": 2.0}
    assert recipe.arguments()["loss"]["areas_cm2"]["name"] == "mean_absolute_error"
    stacks = STACKS.with_loss("huber", keras.losses.Huber()).arguments()
    assert (stacks["row"], stacks["kind"], stacks["builder"]) == ("stacks_huber", "StackRecipe", "vgg2d")
    assert stacks["loss"]["name"] == "huber_loss"
    assert (stacks["crop"], stacks["source"], stacks["target"], stacks["size"]) == ("frame", "image", "volume", [8, 8])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "middle"}, r"'frame' or as the 'paper' does\. Received: 'middle'"),
        ({"source": "mask"}, r"go with crop='paper'\. Received: source='mask', target='volume'"),
        ({"target": "pixel"}, r"go with crop='paper'\. Received: source='image', target='pixel'"),
    ],
)
def test_what_a_frame_cannot_give_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(STACKS, **changes)


@pytest.mark.parametrize(("recipe", "known"), [(STACKS, "none, zhang2021"), (SLICES, "none, strong")])
def test_unknown_augmentation_is_refused_with_the_known(recipe, known):
    with pytest.raises(ValueError, match=rf"one of {known}\. Received: 'mirror'"):
        replace(recipe, augmentation="mirror").batches(None, [0], None, 0, training=True)


@pytest.fixture(scope="module")
def small_cache():
    """Five stacks of two slices that are none alike, as they are or on a frame, with shares and volumes."""
    rng = np.random.default_rng(1)
    stacks = []
    for number in range(5):
        shares = np.zeros((24, 24, 2, 4), np.uint8)
        shares[..., 0] = 255
        shares[4 + number : 12 + number, 3:9] = [0, 55, 100, 100]  # a heart beside the middle
        stacks.append({"image": rng.normal(size=(24, 24, 2)).astype(np.float32), "shares": shares})
    counts = rng.integers(50, 90, (5, 3)).astype(float)
    prepare = SimpleNamespace(frame=Frame(24, 24, 2.0))
    return SimpleNamespace(
        stacks=stacks, records=[None] * 5, prepare=prepare, voxel_counts=counts, volumes_ml=0.3 * counts
    )


def served(batches, epochs=2):
    """All batches of the first epochs."""
    found = []
    for epoch in range(epochs):
        batches.epoch = epoch
        found += [batches[number] for number in range(batches.num_batches)]
    return found


def assert_the_same(batches, expected):
    found, stated = served(batches), served(expected)
    assert len(found) == len(stated)
    for (images, targets), (stated_images, stated_targets) in zip(found, stated):
        np.testing.assert_array_equal(images, stated_images)
        targets, stated_targets = (one if isinstance(one, dict) else {"": one} for one in (targets, stated_targets))
        assert targets.keys() == stated_targets.keys()
        for name, values in targets.items():
            np.testing.assert_array_equal(values, stated_targets[name])


PAPER = {"crop": "paper", "size": (24, 24)}
STACK_OPTIONS = [
    ({}, {"ndim": 2, "batch_size": 2}),
    ({"build": models.vgg3d, "batch_size": 3}, {"ndim": 3, "batch_size": 3}),
    ({"target": "pixel"}, {"ndim": 2, "batch_size": 2, "target": "pixel"}),
    ({"build_arguments": {"variant": "single_label"}}, {"ndim": 2, "batch_size": 2, "total": True}),
]


@pytest.mark.parametrize(("changes", "options"), STACK_OPTIONS)
@pytest.mark.parametrize("augmentation", ["zhang2021", "none"])
def test_what_a_recipe_of_stacks_says_reaches_its_batches(changes, options, augmentation, small_cache):
    recipe = replace(STACKS, augmentation=augmentation, **PAPER, **changes)
    scale = recipe.scale(small_cache, [0, 2, 4])
    values = small_cache.voxel_counts if recipe.target == "pixel" else small_cache.volumes_ml
    values = values.sum(1, keepdims=True) if recipe.total else values
    np.testing.assert_allclose(scale, values[[0, 2, 4]].max(0))
    spatial = zhang2021_volume_augmentation((24, 24)) if augmentation == "zhang2021" else None
    assert_the_same(
        recipe.batches(small_cache, [0, 2, 4], scale, 7, training=True),
        StackBatches(small_cache, [0, 2, 4], scale, spatial=spatial, shuffle=True, seed=7, **options),
    )
    # whoever is not trained on stands in his order, unmoved, whatever the seed
    stated = StackBatches(small_cache, [3, 1], scale, shuffle=False, **options)
    assert_the_same(recipe.batches(small_cache, [3, 1], scale, 7), stated)
    images, targets = recipe.batches(small_cache, [3, 1], scale, 8).arrays()
    images = images if recipe.ndim == 2 else images[..., 0]
    np.testing.assert_array_equal(images, [small_cache.stacks[index]["image"] for index in (3, 1)])
    np.testing.assert_allclose(targets, values[[3, 1]] / scale, rtol=1e-6)


@pytest.mark.parametrize("crop", [{"crop_px": 12, "crop_about": "heart"}, {"crop_px": 12, "crop_about": "frame"}, {}])
@pytest.mark.parametrize("augmentation", ["strong", "none"])
def test_what_a_recipe_of_slices_says_reaches_its_batches(crop, augmentation, small_cache):
    recipe = replace(SLICES, frame=Frame(24, 24, 2.0), augmentation=augmentation, **{"crop_px": None, **crop})
    augmented = {"spatial": cardiac_augmentation(), "contrast": MRIContrast()} if augmentation == "strong" else {}
    assert_the_same(
        recipe.batches(small_cache, [0, 2, 4], None, 7, training=True),
        SliceBatches(small_cache, [0, 2, 4], batch_size=4, shuffle=True, seed=7, **augmented, **crop),
    )
    images, targets = recipe.batches(small_cache, [3, 1], None, 7).arrays()
    slices = [with_neighbours(small_cache.stacks[index]["image"]) for index in (3, 1)]
    np.testing.assert_array_equal(images, np.concatenate(slices))
    assert targets["mask"].shape == (4, 24, 24, 4)
    assert_the_same(
        recipe.batches(small_cache, [3, 1], None, 8), SliceBatches(small_cache, [3, 1], batch_size=4, shuffle=False)
    )


@pytest.mark.parametrize("recipe", [STACKS, replace(SLICES, frame=Frame(24, 24, 2.0), crop_px=None)])
def test_another_seed_gives_another_order_and_another_augmentation(recipe, small_cache):
    def images(seed, **changes):
        batches = replace(recipe, **changes).batches(small_cache, range(5), np.ones(3), seed, training=True)
        return np.concatenate([batch[0] for batch in served(batches, epochs=1)])

    np.testing.assert_array_equal(images(1), images(1))
    assert not np.array_equal(images(1), images(2))
    first, second = images(1, augmentation="none"), images(2, augmentation="none")
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=None), np.sort(second, axis=None))


def disc_network(pixel_mm):
    """Sees bright pixels of the middle slice as RV, and counts them."""

    def answer(inputs):
        bright = (inputs[..., 1] > 0.5).astype(np.float32)
        mask = np.stack([1 - bright, bright, 0 * bright, 0 * bright], axis=-1)
        return {"mask": mask, "areas_cm2": mask[..., 1:].sum((1, 2)) * pixel_mm**2 / 100}

    return Network(answer)


@pytest.mark.parametrize(("degrees", "zoom"), [(15.0, 1.0), (-30.0, 0.85), (0.0, 1.3), (90.0, 1.0)])
def test_what_a_view_shows_is_taken_back_to_the_image(degrees, zoom):
    rows, columns = np.mgrid[:64, :64]
    disc = ((rows - 25) ** 2 + (columns - 38) ** 2 <= 13**2).astype(np.float32)  # off the middle
    recipe = replace(SLICES, frame=Frame(64, 64, 2.0), views=((degrees, zoom),))
    cache = SimpleNamespace(stacks=[{"image": disc[..., None]}], slice_mm=[10.0])
    ((_, areas_cm2, shares),) = recipe.look([(disc_network(2.0), None)], cache, [0])
    np.testing.assert_allclose(areas_cm2, [[disc.sum() * 0.04, 0, 0]], rtol=0.03)
    assert np.abs(shares[0, ..., 1] - disc).mean() < 0.01
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)


def test_views_are_averaged():
    cache = cache_of([3], (32, 32))
    network = [(SLICES.network(0), None)]
    views = ((0.0, 1.0), (20.0, 0.9))
    both, *alone = (
        next(replace(SLICES, views=chosen).look(network, cache, [0])) for chosen in (views, views[:1], views[1:])
    )
    for part in (1, 2):
        np.testing.assert_allclose(both[part], np.mean([one[part] for one in alone], axis=0), atol=1e-4)


def test_only_what_departs_is_named_in_a_run():
    assert not {"views", "trained_as"} & set(SLICES.arguments())
    arguments = replace(SLICES, views=((15.0, 1.0),), trained_as="before").arguments()
    assert (arguments["views"], arguments["trained_as"]) == ([[15.0, 1.0]], "before")
