"""Whole networks' weights files: loaded wholly, or refused with the file's and the network's name."""

import h5py
import keras
import numpy as np
import pytest

from hcreg.models import weights_file


def network(units=(3,), name="toy"):
    """Dense layers of so many units, each with a normalisation, and dropout with a state of its own."""
    x = image = keras.Input((4,))
    for count in units:
        x = keras.layers.BatchNormalization()(keras.layers.Dense(count)(x))
    return keras.Model(image, keras.layers.Dropout(0.5)(x), name=name)


def with_random_weights(model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture
def stored(tmp_path):
    """A network of 4 x 3 + 3 + 4 x 3 = 27 parameters and its file."""
    model = with_random_weights(network())
    path = tmp_path / "stored.weights.h5"
    model.save_weights(path)
    return model, path


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_all_weights_come_back(stored, kind):
    model, path = stored
    other = network()
    weights_file.load(other, kind(path))
    for loaded, saved in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, saved)


def test_what_the_optimizer_and_the_metrics_remember_is_not_counted(tmp_path):
    model = network()
    model.compile("adam", "mse", metrics=["mae"])
    model.train_on_batch(np.ones((2, 4), "float32"), np.ones((2, 3), "float32"))
    model.save_weights(tmp_path / "trained.weights.h5")
    other = network()
    weights_file.load(other, tmp_path / "trained.weights.h5")
    for loaded, saved in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, saved)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent\.weights\.h5 for the model 'toy'\. Check"):
        weights_file.load(network(), tmp_path / "absent.weights.h5")


@pytest.mark.parametrize(
    ("units", "num_parameters"), [((), 0), ((3, 3), 51), ((5,), 45)], ids=["fewer layers", "more", "wider"]
)
def test_another_architecture_is_refused_with_its_size(stored, units, num_parameters):
    model = network(units)
    assert model.count_params() == num_parameters
    words = rf"stored\.weights\.h5 does not fit the model 'toy' of {num_parameters} parameters: .*another architecture"
    with pytest.raises(ValueError, match=words):
        weights_file.load(model, stored[1])


def test_a_network_of_fewer_layers_is_refused_where_keras_would_load_a_part(tmp_path):
    with_random_weights(network((3, 3))).save_weights(tmp_path / "long.weights.h5")
    short = network((3,))
    short.load_weights(tmp_path / "long.weights.h5")  # not a word from Keras
    with pytest.raises(ValueError, match=r"of 27 parameters.*\(the file holds 51 parameters\)"):
        weights_file.load(short, tmp_path / "long.weights.h5")


def test_equal_numbers_in_other_shapes_are_refused(tmp_path):
    image = keras.Input((4,))
    keras.Model(image, keras.layers.Dense(6, use_bias=False)(image)).save_weights(tmp_path / "wide.weights.h5")
    image = keras.Input((6,))
    tall = keras.Model(image, keras.layers.Dense(4, use_bias=False)(image), name="tall")
    with pytest.raises(ValueError, match=r"wide\.weights\.h5 does not fit the model 'tall' of 24 parameters"):
        weights_file.load(tall, tmp_path / "wide.weights.h5")


@pytest.mark.parametrize("num_bytes", [0, 100, 5000])
def test_a_torn_file_is_refused(stored, num_bytes):
    model, path = stored
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match=r"stored\.weights\.h5 does not fit the model 'toy' .* it is damaged or"):
        weights_file.load(model, path)


def test_a_file_with_a_layer_torn_out_is_refused(stored):
    model, path = stored
    with h5py.File(path, "a") as file:
        del file["layers/dense"]
    with pytest.raises(ValueError, match=r"stored\.weights\.h5 does not fit the model 'toy' .* it is damaged or"):
        weights_file.load(model, path)


def test_a_whole_model_is_no_weights_file(tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"model\.keras does not fit the model 'toy'.*it is damaged or"):
        weights_file.load(model, tmp_path / "model.keras")


def test_a_file_that_is_no_weights_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("weights")
    with pytest.raises(ValueError, match=r"notes\.txt does not fit the model 'toy'"):
        weights_file.load(network(), tmp_path / "notes.txt")


def test_a_legacy_name_is_refused_and_named(stored, tmp_path):
    model, path = stored
    renamed = path.rename(tmp_path / "stored.h5")
    with pytest.raises(ValueError, match=r"stored\.h5 does not fit the model 'toy'"):
        weights_file.load(model, renamed)
