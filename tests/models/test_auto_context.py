"""Auto-Context: the sum that the second level sees, one file for both, and who learns."""

import doctest

import keras
import numpy as np
import pytest

from hcreg.models import AutoContext, auto_context

VOLUMES = np.random.default_rng(0).uniform(size=(2, 4, 4, 4, 1)).astype(np.float32)


def level(seed, classes=2, channels=1, named=True, dropout_rate=0.0, name=None):
    """Probabilities from the voxel and its neighbours, with moving statistics and a coarser output to keep."""
    volume = keras.Input((None, None, None, channels), name="image")
    x = keras.layers.Conv3D(3, 3, padding="same", kernel_initializer=keras.initializers.GlorotNormal(seed))(volume)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.Dropout(dropout_rate)(x)
    initializer = keras.initializers.RandomNormal(stddev=2.0, seed=seed)
    mask = keras.layers.Conv3D(classes, 1, activation="softmax", kernel_initializer=initializer, name="mask")(x)
    half = keras.layers.AveragePooling3D(2, name="mask_half")(mask)
    return keras.Model(volume, {"mask": mask, "mask_half": half} if named else mask, name=name)


def predicted(model, volumes=VOLUMES):
    return {name: np.asarray(values) for name, values in model.predict(volumes, verbose=0).items()}


def test_second_level_sees_the_volume_plus_the_foreground_of_the_first():
    first, second = level(1, classes=3), level(2)
    model = AutoContext(first, second)
    foreground = predicted(first)["mask"][..., 1:].sum(-1, keepdims=True)
    assert np.ptp(foreground) > 0.1
    np.testing.assert_allclose(model.second_input(VOLUMES), VOLUMES + foreground, atol=1e-5)
    expected = predicted(second, VOLUMES + foreground)
    found = predicted(model)
    assert set(found) == {"mask", "mask_half"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_only_the_second_level_learns():
    model = AutoContext(level(1, dropout_rate=0.5), level(2))
    before = [[v.numpy() for v in network.variables] for network in (model.first, model.second)]
    truth = np.eye(2, dtype=np.float32)[(VOLUMES[..., 0] > 0.5).astype(int)]
    model.compile("adam", loss={"mask": "mse"})
    model.fit(VOLUMES, {"mask": truth}, epochs=1, verbose=0)
    for network, values, learns in zip((model.first, model.second), before, (False, True)):
        changed = [not np.array_equal(a, b) for a, b in zip(values, network.variables) if "seed" not in b.path]
        assert all(changed) if learns else not any(changed)  # moving statistics of the first stay too


@pytest.mark.parametrize("named", [True, False])
def test_one_file_holds_both_levels(named, tmp_path):
    model = AutoContext(level(1), level(2, named=named))
    model.save(tmp_path / "both.keras")
    again = keras.saving.load_model(tmp_path / "both.keras")
    assert isinstance(again, AutoContext)
    np.testing.assert_allclose(again.second_input(VOLUMES), model.second_input(VOLUMES), atol=1e-6)
    np.testing.assert_array_equal(*(keras.tree.flatten(m.predict(VOLUMES, verbose=0))[-1] for m in (again, model)))
    assert not again.first.trainable_variables
    assert again.second.trainable_variables

    model.save_weights(tmp_path / "both.weights.h5")
    other = AutoContext(level(3), level(4, named=named), weights=tmp_path / "both.weights.h5")
    np.testing.assert_array_equal(*(keras.tree.flatten(m.predict(VOLUMES, verbose=0))[-1] for m in (other, model)))
    with pytest.raises(ValueError, match=r"both.weights.h5 does not fit the model 'auto_context'"):
        AutoContext(level(3, classes=4), level(4, named=named), weights=tmp_path / "both.weights.h5")


def test_levels_of_one_name_are_told_apart_and_leave_their_optimizers(tmp_path):
    """As two networks of one builder are, the first trained before."""
    first, second = level(1, name="usegnet"), level(2, name="usegnet")
    first.compile("adam", loss={"mask": "mse"})
    first.optimizer.build(first.trainable_variables)
    model = AutoContext(first, second)
    model.save_weights(tmp_path / "both.weights.h5")
    AutoContext(level(3), level(4), weights=tmp_path / "both.weights.h5")
    assert (model.first.name, model.second.name) == ("first", "second")
    np.testing.assert_array_equal(model.second(VOLUMES)["mask"], second(VOLUMES)["mask"])
    assert [v.path for v in model.trainable_variables] == [v.path for v in second.trainable_variables]
    model.save(tmp_path / "both.keras")
    again = keras.saving.load_model(tmp_path / "both.keras")
    np.testing.assert_array_equal(predicted(again)["mask"], predicted(model)["mask"])


def test_three_levels_are_two_of_two():
    two = AutoContext(level(1), level(2))
    three = AutoContext(two, level(3))
    foreground = 1 - predicted(two)["mask"][..., :1]
    np.testing.assert_allclose(three.second_input(VOLUMES), VOLUMES + foreground, atol=1e-5)


def test_what_is_no_level_is_refused():
    network = level(1)
    with pytest.raises(ValueError, match=r"two networks, each with weights of its own. Received one twice"):
        AutoContext(network, network)
    with pytest.raises(ValueError, match=r"one input shape. Received: .*None, 1\) and .*None, 2\)"):
        AutoContext(network, level(2, channels=2))
    volume = keras.Input((4, 4, 4, 1))
    one_class = keras.Model(volume, keras.layers.Conv3D(1, 1)(volume))
    with pytest.raises(ValueError, match="first level of AutoContext is a network with a mask of two or more classes"):
        AutoContext(one_class, network)
    with pytest.raises(ValueError, match="second level of AutoContext is a network"):
        AutoContext(network, "usegnet")


def test_examples_of_the_docstrings():
    result = doctest.testmod(auto_context)
    assert (result.failed, result.attempted) == (0, 2)
