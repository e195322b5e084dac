"""Values are named, drawn, walked and embedded."""

import hashlib
import json
import random

import keras_tuner
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcreg.tuning import search_space
from hcreg.tuning.search_space import values_key

NUMBERS = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.dictionaries(st.text(max_size=8), NUMBERS | st.text(max_size=8) | st.booleans() | st.none(), max_size=6)


def conditional_space():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Choice("optimizer", ["adam", "sgd"])
    with hyperparameters.conditional_scope("optimizer", ["sgd"]):
        hyperparameters.Boolean("nesterov")
    hyperparameters.Fixed("epochs", 5)
    return hyperparameters.space


def every_kind():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Float("learning_rate", 1e-5, 1e-1, sampling="log")
    hyperparameters.Float("decay", 1e-3, 3.0, sampling="reverse_log")
    hyperparameters.Float("dropout", 0.0, 0.75, step=0.125)
    hyperparameters.Int("batch_size", 1, 100, sampling="log")
    hyperparameters.Int("units", 8, 64, step=8)
    hyperparameters.Boolean("bias")
    hyperparameters.Choice("loss", ["mse", "mae", "huber"])
    return hyperparameters.space


def test_key_is_the_sha256_of_sorted_json():
    text = b'{"learning_rate":0.001,"units":32}'
    assert values_key({"units": 32, "learning_rate": 0.001}) == hashlib.sha256(text).hexdigest()


@given(VALUES, st.randoms(use_true_random=False))
def test_key_does_not_change_with_the_order_nor_the_way_through_json(values, shuffler):
    items = list(values.items())
    shuffler.shuffle(items)
    assert values_key(dict(items)) == values_key(values) == values_key(json.loads(json.dumps(values)))


@given(VALUES, VALUES)
def test_keys_are_equal_where_values_are(values, others):
    kinds = {name: type(value) in (bool, str) for name, value in values.items()}
    same = values == others and kinds == {name: type(value) in (bool, str) for name, value in others.items()}
    assert (values_key(values) == values_key(others)) == same


def test_key_of_a_number_does_not_depend_on_its_type_but_truth_is_no_number():
    assert len({values_key({"a": one}) for one in (1, 1.0, np.int64(1), np.float64(1.0))}) == 1
    assert values_key({"a": 1e20}) == values_key({"a": 10**20})
    assert len({values_key({"a": one}) for one in (1, True, "1", None)}) == 4
    assert values_key({"a": 0.0}) == values_key({"a": -0.0})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], {}])
def test_a_value_that_is_no_value_is_refused_by_words(value):
    with pytest.raises(ValueError, match=r"The hyperparameter 'units' has the value .*finite number, a text"):
        values_key({"units": value})


def test_draws_follow_the_seed_and_count_active_hyperparameters_alone():
    space = conditional_space()
    for seed in range(6):
        values, num_draws = search_space.draw(space, set(), seed, 0)
        sgd = random.Random(seed).random() >= 0.5  # the second of two choices
        assert values["optimizer"] == ("sgd" if sgd else "adam")
        assert num_draws == (3 if sgd else 2)
        assert values.get("nesterov") == (random.Random(seed + 1).random() >= 0.5 if sgd else None)
        assert values["epochs"] == 5


def test_draws_end_after_21_that_were_taken():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Boolean("bias")
    taken = {values_key({"bias": True}), values_key({"bias": False})}
    assert search_space.draw(hyperparameters.space, taken, 3, 4) == (None, 25)


def test_the_ends_of_a_range_are_kept_where_stock_leaves_it():
    batch_size = every_kind()[3]
    assert batch_size.prob_to_value(1.0) == 101
    assert search_space.value_at(batch_size, 1.0) == 100


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_points_of_the_cube_are_values_inside_the_ranges(shares):
    values = search_space.from_vector(every_kind(), shares)
    assert list(values) == [one.name for one in every_kind()]
    for one in every_kind():
        if hasattr(one, "min_value"):
            assert one.min_value <= values[one.name] <= one.max_value
        else:
            assert values[one.name] in one.values
        assert type(values[one.name]) in (float, int, bool, str)


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_values_are_found_again_in_the_cube(shares):
    space = every_kind()
    values = search_space.from_vector(space, shares)
    vector = search_space.to_vector(space, values)
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in vector)
    again = search_space.from_vector(space, np.clip(vector, 0, 1))
    for name, value in values.items():
        assert again[name] == (value if isinstance(value, bool | str) else pytest.approx(value, rel=1e-9))


def test_inactive_hyperparameters_stand_at_their_default_in_the_cube():
    space = conditional_space()
    assert search_space.to_vector(space, {"optimizer": "adam", "nesterov": True}) == [0.25, 0.25]
    assert search_space.to_vector(space, {"optimizer": "sgd", "nesterov": True}) == [0.75, 0.75]
    assert search_space.from_vector(space, [0.1, 0.9]) == {"optimizer": "adam", "epochs": 5}
    assert search_space.from_vector(space, [0.6, 0.9]) == {"optimizer": "sgd", "nesterov": True, "epochs": 5}


def test_a_trial_that_began_before_a_hyperparameter_was_known_ran_with_its_default():
    assert search_space.active_values(conditional_space(), {"optimizer": "sgd"}) == {
        "optimizer": "sgd",
        "nesterov": False,
        "epochs": 5,
    }
    assert search_space.active_values(conditional_space(), {"optimizer": "adam", "nesterov": True}) == {
        "optimizer": "adam",
        "epochs": 5,
    }


def test_combinations_are_walked_defaults_first_and_the_last_fastest():
    assert [list(values.values()) for values in search_space.combinations(conditional_space())] == [
        ["adam", 5],
        ["sgd", False, 5],
        ["sgd", True, 5],
    ]


def test_choices_begin_with_the_default():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("units", 8, 24, step=8, default=16)
    hyperparameters.Float("dropout", 0.0, 1.0)
    units, dropout = map(search_space.choices, hyperparameters.space)
    assert units == [16, 8, 24]
    assert len(dropout) == 11
    assert dropout[0] == 0.0
    assert sorted(dropout[1:]) == pytest.approx(np.arange(0.05, 1, 0.1))


def test_a_space_is_finite_where_every_range_has_steps():
    assert search_space.is_finite(conditional_space())
    assert not search_space.is_finite(every_kind())
    assert search_space.is_finite(every_kind()[4:])
    assert not search_space.is_finite(every_kind()[3:4])
