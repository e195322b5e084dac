"""The state of a model in training, to bytes and back."""

import io
import warnings

import keras
import numpy as np
import pytest

from hcreg import model_state


def trained(optimizer="adam", units=3):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)], name="small")
    model.compile(optimizer, "mse")
    x = np.linspace(-1, 1, 16, dtype="float32").reshape(8, 2)
    model.fit(x, x.sum(1), epochs=2, verbose=0)
    return model, x


def state_of(model, extra=None):
    file = io.BytesIO()
    model_state.save_state(file, model, extra)
    return file.getvalue()


def test_training_goes_on_to_the_bit_from_a_saved_state():
    model, x = trained()
    arrays, extra = model_state.load_state(io.BytesIO(state_of(model, {"epoch": 2})), "state")
    assert extra == {"epoch": 2}
    model.fit(x, x.sum(1), epochs=1, shuffle=False, verbose=0)
    other, _ = trained(units=3)
    for variable in other.variables:
        variable.assign(np.zeros(variable.shape))
    model_state.restore(other, arrays, "state")
    other.fit(x, x.sum(1), epochs=1, shuffle=False, verbose=0)  # with Adam's moments, or the step would differ
    for ours, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_weights_in_memory_are_a_weights_file(tmp_path):
    model, _ = trained()
    path = tmp_path / "a.weights.h5"
    path.write_bytes(model_state.weights_bytes(model))
    other = keras.models.clone_model(model)
    other.load_weights(path)
    for ours, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("compiled", [True, False])
def test_weights_without_the_optimizer_are_a_smaller_file_of_the_same_weights(tmp_path, compiled):
    model, _ = trained(units=4000)
    whole, bare = model_state.weights_bytes(model), model_state.weights_bytes(model, with_optimizer=False)
    assert len(bare) < 0.5 * len(whole)  # Adam keeps two numbers for each weight
    path = tmp_path / "a.weights.h5"
    path.write_bytes(bare)
    other = trained(units=4000)[0] if compiled else keras.models.clone_model(model)
    for variable in other.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        other.load_weights(path)
    for ours, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("change", [{"units": 4}, {"optimizer": "sgd"}])
def test_a_state_of_another_model_is_refused_by_counts(change):
    arrays, _ = model_state.load_state(io.BytesIO(state_of(trained()[0])), "state")
    model, _ = trained(**change)
    words = r"^the file x does not fit the model 'small': it holds \d+ variables of \d+ numbers, the model and its"
    with pytest.raises(ValueError, match=words):
        model_state.restore(model, arrays, "the file x")


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_damaged_state_is_named(keep):
    content = state_of(trained()[0])
    with pytest.raises(ValueError, match=r"^the file x cannot be read \(.*\)\. Remove it to train this run from its"):
        model_state.load_state(io.BytesIO(content[: int(keep * len(content))]), "the file x")
