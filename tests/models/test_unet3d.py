"""The 3-D U-Net: parameters, shapes at each level, output in NumPy's words, seeds, files, training, errors."""

import keras
import numpy as np
import pytest

from hcreg.models import unet3d

SMALL = (16, 24, 5, 1)


def small(**arguments):
    return unet3d(**{"input_shape": SMALL, "filters": 2, "num_levels": 2, "flat_levels": 1, "seed": 0, **arguments})


@pytest.fixture(scope="module")
def stacks():
    return np.random.default_rng(0).normal(size=(2, *SMALL)).astype("float32")


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(4, size=(2, *SMALL[:3]))


@pytest.mark.parametrize("normalization", ["group", "batch"])
def test_parameters_counted_by_hand(normalization):
    def block(inputs, filters, taps):  # two convolutions without bias, two normalisations
        return (inputs + filters) * filters * taps + 2 * per_channel * filters

    per_channel = {"group": 2, "batch": 4}[normalization]
    widths, taps = (16, 32, 64, 128, 256), (9, 9, 27, 27, 27)
    down = sum(block(*sizes) for sizes in zip((1, *widths[:4]), widths, taps, strict=True))
    up = sum(
        4 * 2 * width * width + per_channel * width + block(2 * width, width, count)
        for width, count in zip(widths[:4], taps)
    )
    model = unet3d(normalization=normalization)
    assert model.count_params() == down + up + 16 * 4 + 4
    assert model.output_shape == (None, None, None, None, 4)
    assert (model.name, model.layers[-1].name) == ("unet3d", "mask")
    assert not model.compiled


def test_slices_are_never_halved():
    model = unet3d((32, 48, 3, 1), filters=2)
    shapes = [model.get_layer(f"down{level}_pool").output.shape[1:4] for level in (1, 2, 3, 4)]
    assert shapes == [(16, 24, 3), (8, 12, 3), (4, 6, 3), (2, 3, 3)]
    assert model.get_layer("bottom_relu2").output.shape == (None, 2, 3, 3, 32)
    kernels = {
        name: model.get_layer(f"{name}_conv1").kernel_size for name in ("down2", "down3", "bottom", "up3", "up2")
    }
    assert kernels == {"down2": (3, 3, 1), "down3": (3, 3, 3), "bottom": (3, 3, 3), "up3": (3, 3, 3), "up2": (3, 3, 1)}
    for level in (1, 2, 3, 4):
        skip, upwards = model.get_layer(f"up{level}_concat").input
        assert skip is model.get_layer(f"down{level}_relu2").output
        assert upwards is model.get_layer(f"up{level}_up_relu").output


def test_flat_levels_see_one_slice_and_others_their_neighbours(stacks):
    """What changes in slice 2 reaches so many slices away as there are convolutions across slices."""

    def reached(model):
        other = stacks.copy()
        other[:, :, :, 2] += 1.0
        taps = keras.Model(model.input, model.get_layer("down2_pool").output)
        difference = np.abs(np.asarray(taps(other)) - np.asarray(taps(stacks))).max(axis=(0, 1, 2, 4))
        return (difference > 1e-5).tolist()

    # batch normalisation in inference mixes nothing
    assert reached(small(flat_levels=3, normalization="batch")) == [False, False, True, False, False]
    assert reached(small(flat_levels=1, normalization="batch")) == [True] * 5
    assert reached(small(flat_levels=0, normalization="batch")) == [True] * 5


def test_any_size_and_number_of_slices(stacks):
    model = small(input_shape=(None, None, None, 1))
    fixed = small()
    np.testing.assert_allclose(model(stacks), fixed(stacks), atol=1e-5)
    assert model(np.zeros((1, 8, 12, 1, 1), "float32")).shape == (1, 8, 12, 1, 4)


def test_classes_of_a_voxel_sum_to_one(stacks):
    mask = np.asarray(small()(stacks))
    assert mask.shape == (2, *SMALL[:3], 4)
    np.testing.assert_allclose(mask.sum(axis=-1), 1.0, rtol=1e-5)
    alone = np.asarray(small(classes=1, activation="sigmoid")(stacks))
    assert alone.shape == (2, *SMALL[:3], 1)
    assert 0 < alone.min() < alone.max() < 1


def test_a_stack_is_normalised_by_itself_in_groups_and_by_all_in_batches(stacks):
    others = np.concatenate([stacks[:1], 5 * stacks[1:]])
    for normalization, is_alone in (("group", True), ("batch", False)):
        model = small(normalization=normalization)
        first = [np.asarray(model(inputs, training=True))[0] for inputs in (stacks, others)]
        assert np.allclose(*first, atol=1e-5) == is_alone


def test_moving_statistics_have_the_momentum():
    for arguments, momentum in (({"momentum": 0.7}, 0.7), ({}, 0.99)):
        layers = small(normalization="batch", **arguments).layers
        found = [layer.momentum for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert found == [momentum] * (2 * 5 + 2)  # two levels down, the bottom, two levels up of one more each


def test_groups_divide_the_filters():
    """6 filters do not go into groups of 8, nor of equal size into 4 or 5: into 6."""
    model = small(filters=6)
    assert [model.get_layer(f"{name}_norm1").groups for name in ("down1", "down2", "bottom")] == [6, 6, 8]
    assert unet3d().get_layer("down1_norm1").groups == 8


def test_equal_seeds_give_equal_weights(stacks):
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    np.testing.assert_array_equal(first(stacks), second(stacks))
    assert not np.array_equal(first(stacks), other(stacks))


@pytest.mark.parametrize("normalization", ["group", "batch"])
def test_keras_file_gives_the_same_output(normalization, stacks, tmp_path):
    model = small(normalization=normalization)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(stacks), model(stacks))


def test_a_weights_file_overrules_the_seed_and_others_are_refused(stacks, tmp_path):
    model = small(seed=1)
    model.save_weights(tmp_path / "whole.weights.h5")
    np.testing.assert_array_equal(small(seed=2, weights=tmp_path / "whole.weights.h5")(stacks), model(stacks))
    with pytest.raises(ValueError, match=r"whole\.weights\.h5 does not fit the model 'unet3d' of [\d,]+ parameters"):
        small(filters=3, weights=tmp_path / "whole.weights.h5")
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent\.weights\.h5 for the model 'unet3d'"):
        small(weights=tmp_path / "absent.weights.h5")


@pytest.mark.parametrize("normalization", ["group", "batch"])
def test_a_training_step_moves_every_weight_and_the_loss_falls(normalization, stacks, labels):
    model = small(normalization=normalization)
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy())
    losses = [float(model.train_on_batch(stacks[:1], labels[:1])) for _ in range(6)]
    assert losses[-1] < losses[0]
    for path, old, new in zip([weight.path for weight in model.weights], before, model.get_weights(), strict=True):
        assert not np.array_equal(old, new), path


def test_mixed_bfloat16_gives_a_mask_in_float32(stacks):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    mask = model(stacks)
    assert model.get_layer("bottom_conv2").compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(mask.dtype) == "float32"
    np.testing.assert_allclose(np.asarray(mask).sum(axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"input_shape": (16, 30, 5, 1)},
            r"unet3d halves its input and doubles it again .*: width a multiple of 4\. .*nearest, 16 x 32 x 5\.",
        ),
        (
            {"input_shape": (16, 24, 5)},
            r"input_shape of unet3d is \(height, width, slices, channels\).*or None where they",
        ),
        ({"classes": 0}, r"unet3d needs a whole number of classes, 1 or more\. Received: 0"),
        ({"classes": 1}, r"a single class is 1 everywhere\. Received: classes=1"),
        ({"activation": "relu"}, r'ends with activation="sigmoid", .*Received: \'relu\''),
        ({"normalization": "layer"}, r'normalises by normalization="group", each .*or "batch"\. Received: \'layer\''),
        ({"filters": 0}, r"filters of unet3d is a whole number, 1 or more\. Received: 0"),
        ({"num_levels": 0}, r"num_levels of unet3d is a whole number, 1 or more\. Received: 0"),
        ({"flat_levels": -1}, r"flat_levels of unet3d is a whole number, 0 or more\. Received: -1"),
        ({"dropout_rate": 1}, r"dropout_rate is at least 0 and below 1\. Received: 1"),
        ({"normalization": "batch", "momentum": 1}, r"momentum is the share .*, at least 0 and below 1\. Received"),
        (
            {"normalization": "group", "momentum": 0.9},
            r'momentum is of normalization="batch"; groups .*Received: momentum=0\.9',
        ),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        small(**arguments)
