"""Regressors on any backbone: weights from anywhere, heads, freezing, seeds, each error in its words."""

import math
import socket
import warnings

import h5py
import keras
import numpy as np
import pytest

from hcreg.models import backbone_names, backbone_regressor
from hcreg.models.backbone import restore_body, with_seed

SHAPE = (32, 32, 3)


def mobilenet(**arguments):
    """A quick backbone: MobileNet at a quarter of its width, 0.2 million parameters."""
    return backbone_regressor("MobileNet", **{"input_shape": SHAPE, "alpha": 0.25, **arguments})


def bare_mobilenet():
    return keras.applications.MobileNet(include_top=False, weights=None, input_shape=SHAPE, alpha=0.25)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(3, *SHAPE)).astype("float32")


def features(model, layer_name, images):
    return np.asarray(keras.Model(model.input, model.get_layer(layer_name).output)(images))


# Names


def test_names_are_the_backbones_of_keras():
    names = backbone_names()
    assert {"VGG16", "ResNet50", "DenseNet121", "EfficientNetB0", "ConvNeXtTiny"} <= set(names)
    assert not {"vgg16", "imagenet_utils"} & set(names)  # modules, not builders
    assert all(name in getattr(keras.applications, name).__name__ for name in names)


@pytest.mark.parametrize(("typed", "meant"), [("densenet121", "DenseNet121"), ("ResNet51", "ResNet50")])
def test_unknown_name_gives_the_nearest(typed, meant):
    with pytest.raises(ValueError, match=f"Received: '{typed}'. Nearest: .*{meant}"):
        backbone_regressor(typed)


def test_name_like_no_other_lists_all():
    with pytest.raises(ValueError, match=r"Received: 'qqq'\. Known: ConvNeXtBase, .*Xception"):
        backbone_regressor("qqq")


# Structure


def test_layers_are_not_nested_and_output_is_one_linear_unit():
    model = mobilenet()
    assert model.name == "mobilenet_regressor"
    assert model.get_layer("conv_pw_13_relu").output.shape == (None, 1, 1, 256)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert [layer.name for layer in model.layers[-3:]] == ["head_gap", "head_dropout", "hc_fraction"]
    assert model.get_layer("head_dropout").rate == 0.0
    assert model.output_shape == (None, 1)
    assert model.count_params() == bare_mobilenet().count_params() + 256 + 1
    assert not model.compiled


def test_a_plain_array_is_taken_without_a_warning(images):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The structure of `inputs`")
        assert mobilenet()(images).shape == (3, 1)
        assert mobilenet(seed=1)(images).shape == (3, 1)


def test_flatten_head_weighs_every_place():
    assert mobilenet(input_shape=(64, 64, 3), head="flatten").get_layer("hc_fraction").kernel.shape == (
        4 * 256,
        1,
    )


def test_a_function_as_head():
    model = mobilenet(head=lambda maps: keras.layers.GlobalMaxPooling2D(name="my_pool")(maps))
    assert [layer.name for layer in model.layers[-2:]] == ["my_pool", "hc_fraction"]


def test_image_size_may_vary_with_a_pooling_head():
    model = mobilenet(input_shape=(None, None, 3), seed=0)
    assert model(np.zeros((1, 40, 56, 3), "float32")).shape == (1, 1)
    with pytest.raises(ValueError, match=r"height and width at least 1 px\. Received: \(None, None, 3\)"):
        mobilenet(input_shape=(None, None, 3), head="flatten")


def test_mixed_bfloat16_keeps_the_output_in_float32(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = mobilenet(seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    output = model(images)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert model.get_layer("conv1").compute_dtype == "bfloat16"
    assert np.isfinite(np.asarray(output)).all()


def test_keras_file_gives_the_same_output(images, tmp_path):
    model = mobilenet(seed=0)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(images), model(images))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"head": "avg"},
            'A head is "gap", "flatten", "chi2025hc" or a function of the feature maps. Received: \'avg\'',
        ),
        (
            {"head": lambda maps: maps},
            r"to \(batch, units\)\. Received from .*\(None, 1, 1, 256\)\. Pool or flatten",
        ),
        ({"dropout_rate": 1.0}, r"dropout_rate is at least 0 and below 1\. Received: 1\.0"),
        ({"input_shape": (32, 32)}, r"input_shape is \(height, width, channels\).*Received: \(32, 32\)"),
        ({"input_shape": (16, 16, 3)}, "Input size must be at least 32x32"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        mobilenet(**arguments)


# Freezing


@pytest.mark.parametrize("trainable", [True, False])
def test_batch_statistics_move_only_in_a_trainable_backbone(trainable, images):
    model = mobilenet(trainable_backbone=trainable, seed=0)
    statistics = {layer.name: layer.moving_mean.numpy() for layer in model.layers if hasattr(layer, "moving_mean")}
    kernel = model.get_layer("conv1").kernel.numpy()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(images + 2.0, np.ones((3, 1), "float32"))
    moved = [name for name, mean in statistics.items() if not np.array_equal(mean, model.get_layer(name).moving_mean)]
    assert len(statistics) == 27
    assert len(moved) == (27 if trainable else 0)
    assert np.array_equal(kernel, model.get_layer("conv1").kernel) is not trainable


# Seeds


def test_equal_seeds_give_equal_weights(images):
    first, second, other = mobilenet(seed=1), mobilenet(seed=1), mobilenet(seed=2)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first(images, training=True), second(images, training=True))
    for name in ("conv1", "hc_fraction"):
        assert not np.array_equal(first.get_layer(name).get_weights()[0], other.get_layer(name).get_weights()[0])


def test_seeds_follow_the_place_not_the_name():
    def unnamed():
        image = keras.Input((4,))
        x = keras.layers.Dense(4)(image)
        return keras.Model(image, keras.layers.Dropout(0.5)(keras.layers.Dense(4)(x)))

    first, second = unnamed(), unnamed()
    assert first.layers[1].name != second.layers[1].name
    a, b = with_seed(first, 3), with_seed(second, 3)
    for left, right in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert a.layers[-1].seed == b.layers[-1].seed
    assert not np.array_equal(a.layers[1].kernel, a.layers[2].kernel)


def test_a_seed_already_given_is_kept():
    image = keras.Input((4,))
    model = with_seed(keras.Model(image, keras.layers.Dropout(0.5, seed=11)(image)), 3)
    assert model.layers[-1].seed == 11


# Weights from files


@pytest.fixture
def bare_weights(tmp_path):
    """A bare backbone with its weights in a Keras 3 file."""
    bare = bare_mobilenet()
    path = tmp_path / "mobilenet.weights.h5"
    bare.save_weights(path)
    return bare, path


@pytest.mark.parametrize("seed", [None, 5])
def test_weights_of_a_path_survive_the_seed(seed, bare_weights, images):
    bare, path = bare_weights
    model = mobilenet(weights=path, seed=seed)
    np.testing.assert_array_equal(features(model, "conv_pw_13_relu", images), bare(images))


def test_seed_still_fixes_the_head_on_loaded_weights(bare_weights, images):
    _, path = bare_weights
    first, second, other = (mobilenet(weights=str(path), seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first(images), second(images))
    assert not np.array_equal(first(images), other(images))


def write_as_keras_1_did(model, path):
    """Write by hand the layout of the files Keras offers for download (vgg16_weights_..._notop.h5)."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0".encode() for variable in layer.weights]
            group.attrs["weight_names"] = names  # empty for pooling and the like
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name.decode(), data=value)


def test_downloaded_legacy_files_load(images, tmp_path):
    bare = bare_mobilenet()
    path = tmp_path / "mobilenet_2_5_32_tf_no_top.h5"
    write_as_keras_1_did(bare, path)
    np.testing.assert_array_equal(features(mobilenet(weights=path), "conv_pw_13_relu", images), bare(images))


def test_legacy_vgg16_file_loads(images, tmp_path):
    bare = keras.applications.VGG16(include_top=False, weights=None, input_shape=SHAPE)
    path = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    write_as_keras_1_did(bare, path)
    model = backbone_regressor("VGG16", SHAPE, weights=path)
    np.testing.assert_allclose(features(model, "block5_pool", images), bare(images), atol=1e-6)


def test_a_trained_regressors_weights_start_another(images, tmp_path):
    trained = mobilenet(seed=1)
    trained.save_weights(tmp_path / "checkpoint.weights.h5")
    model = mobilenet(weights=tmp_path / "checkpoint.weights.h5", head="flatten", seed=2)
    np.testing.assert_array_equal(
        features(model, "conv_pw_13_relu", images), features(trained, "conv_pw_13_relu", images)
    )


@pytest.mark.proof
def test_real_densenet121_weights(densenet121_weights):
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    model = backbone_regressor("DenseNet121", (64, 64, 3), weights=densenet121_weights)
    assert model.count_params() == 7_037_504 + 1024 + 1  # Keras documents 8.1 M with its top of 1,025,000
    reference = keras.applications.DenseNet121(False, weights=densenet121_weights, input_shape=(64, 64, 3))
    np.testing.assert_allclose(features(model, "relu", images), reference(images), atol=1e-5)
    assert np.std(reference(images)) > 0.1  # trained weights respond; a file of zeros would not


def test_efficientnet_scales_whatever_the_weights():
    model = backbone_regressor("EfficientNetB0", SHAPE)
    white = np.full((1, *SHAPE), 255.0, "float32")
    expected = [1 / math.sqrt(0.229), 1 / math.sqrt(0.224), 1 / math.sqrt(0.225)]  # 2.09, 2.11, 2.11
    np.testing.assert_allclose(features(model, "imagenet_scale", white)[0, 0, 0], expected, rtol=1e-5)
    assert model.get_layer("stem_conv_pad").input is model.get_layer("imagenet_scale").output


# Weights that cannot be had


def test_imagenet_weights_need_three_channels():
    with pytest.raises(ValueError, match=r"expects 3 channels\. Received: input_shape=\(32, 32, 1\).*numpy\.repeat"):
        mobilenet(input_shape=(32, 32, 1), weights="imagenet")


def test_without_a_network_the_error_says_how_to_pass_a_path(monkeypatch, tmp_path):
    def unreachable(*arguments, **keywords):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))  # so that no earlier download serves
    with pytest.raises(ConnectionError, match=r"MobileNet could not be downloaded: URL fetch failure.*weights=PATH"):
        mobilenet(weights="imagenet")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No weight file at .*absent\.weights\.h5"):
        mobilenet(weights=tmp_path / "absent.weights.h5")
    with pytest.raises(
        FileNotFoundError, match=r'No weight file at ImageNet\. weights is None, "imagenet" or the path'
    ):
        mobilenet(weights="ImageNet")


def test_weights_of_another_kind_are_refused():
    with pytest.raises(
        TypeError, match=r'weights is None, "imagenet" or the path of a local file\. Received: 3, a int'
    ):
        mobilenet(weights=3)


def test_file_of_another_backbone_is_named(bare_weights):
    _, path = bare_weights
    with pytest.raises(ValueError, match=r"mobilenet\.weights\.h5 does not fit VGG16 without top layers"):
        backbone_regressor("VGG16", SHAPE, weights=path)


def test_file_with_other_channels_says_how_many_were_expected(bare_weights):
    _, path = bare_weights
    with pytest.raises(ValueError, match=r"does not fit MobileNet .*input_shape=\(32, 32, 1\).*for 1 input channels"):
        mobilenet(weights=path, input_shape=(32, 32, 1))


@pytest.mark.parametrize("name", ["torn.weights.h5", "torn_notop.h5", "torn.keras", "torn.npz"])
def test_unreadable_file_is_named(name, bare_weights, tmp_path):
    _, path = bare_weights
    torn = tmp_path / name
    torn.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{name} does not fit MobileNet.*Received: \w+: \w+"):
        mobilenet(weights=torn)


def test_keras_3_file_under_a_legacy_name_is_explained(bare_weights, tmp_path):
    _, path = bare_weights
    renamed = path.rename(tmp_path / "mobilenet_notop.h5")
    with pytest.raises(ValueError, match=r"Keras 3's format if the name ends in \.weights\.h5, the older one"):
        mobilenet(weights=renamed)


def test_a_restored_body_normalises_its_input_by_the_numbers_of_its_weights():
    def network():
        image = keras.Input((4, 4, 1), name="image")
        x = keras.layers.Normalization(name="normalization")(image)
        return keras.Model(image, keras.layers.Conv2D(2, 3, name="conv")(x))

    body, model = network(), network()
    layer = body.get_layer("normalization")
    layer.set_weights([np.float32([3.0]), np.float32([4.0]), np.zeros((), "int32")])
    layer.finalize_state()
    restore_body(model, body)
    images = np.random.default_rng(0).normal(3, 2, (2, 4, 4, 1)).astype("float32")
    np.testing.assert_array_equal(model.predict(images, verbose=0), body.predict(images, verbose=0))
    assert abs(keras.ops.convert_to_numpy(model.get_layer("normalization")(images)).mean()) < 0.5
