"""The posterior is that of the textbook, and the diverged are told of as something finite."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from hcreg.tuning.gaussian_process import GaussianProcess, apart, penalised, starts_after

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)


def known_trials(num_trials=8, num_hyperparameters=2):
    points = np.random.default_rng(0).random((num_trials, num_hyperparameters))
    return points, ((points - 0.4) ** 2).sum(axis=1)


def matern(points, others, length):
    """Matern's kernel, nu = 5/2, written from its formula."""
    distance = np.sqrt(((points[:, None] - others[None]) ** 2).sum(-1)) / length
    scaled = math.sqrt(5) * distance
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def test_posterior_is_that_of_plain_matrix_algebra():
    points, objectives = known_trials()
    process = GaussianProcess(points, objectives, alpha=1e-3, seed=1, kernel=Matern(length_scale=0.7, nu=2.5))
    asked = np.random.default_rng(1).random((5, 2))
    inverse = np.linalg.inv(matern(points, points, 0.7) + 1e-3 * np.eye(8))
    cross = matern(asked, points, 0.7)
    scaled = (objectives - objectives.mean()) / objectives.std()
    mean = cross @ inverse @ scaled * objectives.std() + objectives.mean()
    variance = (1 - np.einsum("ij,jk,ik->i", cross, inverse, cross)) * objectives.std() ** 2
    found_mean, found_std = process.predict(asked)
    np.testing.assert_allclose(found_mean, mean, rtol=1e-8)
    np.testing.assert_allclose(found_std, np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose(process.lower_bound(asked, 2.0), mean - 2 * np.sqrt(variance), rtol=1e-6, atol=1e-9)


def test_fit_and_predictions_are_those_of_scikit_learn():
    points, objectives = known_trials()
    regressor = GaussianProcessRegressor(
        Matern(nu=2.5), alpha=1e-4, n_restarts_optimizer=20, normalize_y=True, random_state=3
    ).fit(points, objectives)
    process = GaussianProcess(points, objectives, alpha=1e-4, seed=3)
    assert process.kernel == regressor.kernel_
    asked = np.random.default_rng(1).random((5, 2))
    np.testing.assert_allclose(process.predict(asked), regressor.predict(asked, return_std=True), rtol=1e-12)


def test_equal_objectives_are_no_division_by_zero():
    points, _ = known_trials()
    mean, std = GaussianProcess(points, np.full(8, 3.0), 1e-4, 0).predict(points)
    np.testing.assert_allclose(mean, 3.0)
    assert np.isfinite(std).all()


def test_hopeful_points_lie_in_the_cube_best_first():
    points, objectives = known_trials()
    process = GaussianProcess(points, objectives, 1e-4, 0)
    optima = process.most_hopeful(starts_after(0, 2, 5)[:6], beta=2.6)
    bounds = process.lower_bound(optima, 2.6)
    assert optima.shape == (6, 2)
    assert ((optima >= 0) & (optima <= 1)).all()
    assert (np.diff(bounds) >= -1e-12).all()
    assert bounds[0] <= process.lower_bound(np.random.default_rng(2).random((200, 2)), 2.6).min() + 1e-6


def test_starts_are_one_long_sequence():
    sequence = np.random.RandomState(7).uniform(size=50 * 2 + 50 * 3)
    np.testing.assert_array_equal(starts_after(0, 2, 7).ravel(), sequence[:100])
    np.testing.assert_array_equal(starts_after(100, 3, 7).ravel(), sequence[100:])


def test_points_apart_are_chosen_in_their_order():
    assert apart([[0.5], [0.52], [0.1], [0.56], [0.14]], 0.05) == [0, 2, 3]
    assert apart([[0.0, 0.0], [0.0, 0.3], [0.04, 0.01]], 0.05) == [0, 1]


def test_the_diverged_are_as_far_above_the_worst_as_that_is_above_the_best():
    points = [[0.1], [0.2], [0.9], [0.95]]
    np.testing.assert_array_equal(penalised(points, [1.0, 3.0, 0.0, 0.0], [False, False, True, True]), [1, 3, 5, 5])


def test_one_completed_trial_is_better_than_the_diverged():
    np.testing.assert_array_equal(penalised([[0.1], [0.9]], [2.0, 0.0], [False, True]), [2, 3])


def test_a_huge_objective_counts_as_diverged():
    points = [[0.1], [0.3], [0.5], [0.9]]
    np.testing.assert_array_equal(penalised(points, [1.0, 2.0, 3.0, 1e10], [False] * 4), [1, 2, 3, 5])


def test_huge_objectives_are_found_where_they_are_the_most():
    # The median of all is 1e6 and shows 1e12 and 1e15; that of the others is 2 and shows 1e6 and 1e7 (best 1, worst 2).
    objectives = [1.0, 2.0, 1.5, 1e6, 1e7, 1e12, 1e15]
    points = np.linspace(0, 1, 7).reshape(-1, 1)
    np.testing.assert_array_equal(penalised(points, objectives, [False] * 7), [1, 2, 1.5, 3, 3, 3, 3])


def test_a_search_that_found_the_minimum_keeps_its_objectives():
    points = [[0.1], [0.5], [0.9], *([0.5 + step / 1000] for step in range(1, 20))]
    objectives = [4.0, 0.001, 5.0, *(1e-9 * step for step in range(19))]
    np.testing.assert_array_equal(penalised(points, objectives, [False] * 22), objectives)


def test_scores_much_alike_make_no_outlier_of_chance():
    points = [[0.1], [0.3], [0.5], [0.7], [0.9]]
    objectives = [-0.95, -0.9500001, -0.9500002, -0.95, -0.5]
    np.testing.assert_array_equal(penalised(points, objectives, [False] * 5), objectives)
    np.testing.assert_array_equal(penalised(points, [0, 0, 0, 0, 7.0], [False] * 5), [0, 0, 0, 0, 7])


def test_objectives_whose_squares_overflow_are_cut():
    found = penalised([[0.1], [0.9]], [1e308, -1e308], [False, False])
    assert np.isfinite(found.std())
    assert found[0] > found[1]


@given(st.lists(st.tuples(st.floats(0, 1), FINITE, st.booleans()), min_size=1, max_size=12))
def test_the_diverged_are_worst_and_the_best_stays(trials):
    points, objectives, diverged = (np.array(column) for column in zip(*trials, strict=True))
    diverged[0] = False
    found = penalised(points[:, None], objectives, diverged)
    kept = ~diverged & (found == objectives)
    assert found.min() == objectives[~diverged].min()
    assert kept[np.argmin(np.where(diverged, np.inf, objectives))]
    if diverged.any():
        assert (found[diverged] == found.max()).all()
    assert (np.diff(found[kept][np.argsort(objectives[kept])]) >= 0).all()
