"""A Gaussian process over the unit cube, where it hopes for a low objective, and what it is told of the diverged."""

import warnings

import numpy as np
import scipy.linalg
import scipy.optimize

NUM_STARTS = 50
NUM_RESTARTS_OF_THE_FIT = 20
# An objective this many times farther above the median than the best lies below it is an outlier. A search that has
# found the minimum has most of its trials there, so the median is that of trials which are apart from each other.
OUTLIER_FACTOR = 1000.0
TIMES_LARGER = 10.0  # than the median: where all trials are much alike, a score of chance is not an outlier
APART = 0.05  # of a range
FEWEST_APART = 3
LARGEST = 1e100  # squares of objectives must be finite


class GaussianProcess:
    r"""A posterior over objectives, given the trials so far.

    Parameters
    ----------
    points : array-like of shape (num_trials, num_hyperparameters), 0 to 1
    objectives : array-like of shape (num_trials,)
        Finite; lower is better.
    alpha : float
        Variance of the objective's noise, of the objectives scaled to variance 1.
    seed : int
        Of the starts from which the length scale is fitted.
    kernel : sklearn kernel, optional
        Of another process, to be kept; fitted otherwise.

    Raises
    ------
    numpy.linalg.LinAlgError
        If alpha is too small for points as near to each other as these.

    Notes
    -----
    Matérn's kernel with :math:`\nu = 5/2` and one length scale, by scikit-learn; objectives are scaled to mean 0 and
    variance 1. Predictions do what scikit-learn's ``predict`` does, operation by operation, without its checks of the
    input, which take most of the time of a single point.
    """

    def __init__(self, points, objectives, alpha, seed, kernel=None):
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import Matern

        objectives = np.asarray(objectives, float)
        self._mean = np.mean(objectives)
        self._scale = np.std(objectives) or 1.0
        regressor = GaussianProcessRegressor(
            kernel=Matern(nu=2.5) if kernel is None else kernel,
            optimizer="fmin_l_bfgs_b" if kernel is None else None,
            n_restarts_optimizer=NUM_RESTARTS_OF_THE_FIT if kernel is None else 0,
            alpha=alpha,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length scale at its bound is usual with few trials
            regressor.fit(np.asarray(points, float), (objectives - self._mean) / self._scale)
        self.kernel = regressor.kernel_
        self._points, self._weights, self._factor = regressor.X_train_, regressor.alpha_, regressor.L_

    def predict(self, points):
        """Mean and standard deviation of the objective.

        Parameters
        ----------
        points : ndarray of float, shape (num_points, num_hyperparameters), 0 to 1

        Returns
        -------
        mean, std : ndarray of shape (num_points,)
        """
        covariance = self.kernel(points, self._points)
        mean = self._scale * (covariance @ self._weights) + self._mean
        half = scipy.linalg.solve_triangular(self._factor, covariance.T, lower=True, check_finite=False)
        variance = self.kernel.diag(points) - np.einsum("ij,ji->i", half.T, half)
        variance[variance < 0] = 0.0
        return mean, np.sqrt(variance * self._scale**2)

    def lower_bound(self, points, beta):
        """An optimistic guess of the objective: the mean less some standard deviations.

        Parameters
        ----------
        points : ndarray of float, shape (num_points, num_hyperparameters), 0 to 1
        beta : float
            How many; larger explores more.

        Returns
        -------
        ndarray of shape (num_points,)
        """
        mean, std = self.predict(points)
        return mean - beta * std

    def most_hopeful(self, starts, beta):
        """Points where the lower bound is least, from several starts.

        Parameters
        ----------
        starts : ndarray of float, shape (num_starts, num_hyperparameters), 0 to 1
        beta : float

        Returns
        -------
        ndarray of shape (num_starts, num_hyperparameters)
            Best first; of equal ones the earlier start first.
        """
        bounds = [(0, 1)] * starts.shape[1]
        ends = [
            scipy.optimize.minimize(
                lambda point: self.lower_bound(point.reshape(1, -1), beta)[0], start, method="L-BFGS-B", bounds=bounds
            )
            for start in starts
        ]
        order = np.argsort([end.fun for end in ends], kind="stable")
        return np.array([ends[place].x for place in order])


def starts_after(num_drawn, num_hyperparameters, seed):
    """The next starts of one long sequence of random points.

    Parameters
    ----------
    num_drawn : int
        Numbers of the sequence that were used before.
    num_hyperparameters : int
    seed : int

    Returns
    -------
    ndarray of shape (NUM_STARTS, num_hyperparameters), 0 to 1
    """
    random_state = np.random.RandomState(seed)  # the sequence that stock Keras Tuner draws from
    random_state.random_sample(num_drawn)
    return random_state.random_sample((NUM_STARTS, num_hyperparameters))


def apart(points, distance):
    """Choose points that keep a distance from each other, the earlier before the later.

    Parameters
    ----------
    points : array-like of float, shape (num_points, num_hyperparameters)
    distance : float
        Largest difference of a coordinate that two chosen points must exceed.

    Returns
    -------
    list of int
        Positions of the chosen points.
    """
    points, chosen = np.asarray(points, float), []
    for place, point in enumerate(points):
        if not chosen or np.abs(points[chosen] - point).max(axis=1).min() > distance:
            chosen.append(place)
    return chosen


def penalised(points, objectives, diverged):
    """Objectives as the Gaussian process is to see them, with something finite for the diverged.

    Parameters
    ----------
    points : array-like of float, shape (num_trials, num_hyperparameters), 0 to 1
        Values of the trials (`hcreg.tuning.search_space.to_vector`).
    objectives : array-like of float, shape (num_trials,)
        Lower is better; those of diverged trials are not looked at.
    diverged : array-like of bool, shape (num_trials,)
        Not all of them.

    Returns
    -------
    ndarray of float, shape (num_trials,)
        Objectives as they are, but as far above the worst as that is above the best for the diverged and for outliers.
    """
    objectives = np.clip(np.asarray(objectives, float), -LARGEST, LARGEST)
    diverged = np.array(diverged, bool)
    best = np.min(objectives[~diverged])
    spread = np.isin(np.arange(len(objectives)), apart(points, APART))
    while np.sum(spread & ~diverged) >= FEWEST_APART:
        usual = np.median(objectives[spread & ~diverged])
        limit = usual + max(OUTLIER_FACTOR * (usual - best), TIMES_LARGER * abs(usual))
        outliers = ~diverged & (objectives > limit)
        if usual == best or not outliers.any():
            break
        diverged |= outliers  # without them the median is lower, and may show others
    worst = np.max(objectives[~diverged])
    return np.where(diverged, worst + ((worst - best) or 1.0), objectives)
