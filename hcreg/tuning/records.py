"""What passes between a trial store and its workers: leases, snapshots, wishes."""

import difflib
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Lease:
    """The right of one worker to write to one trial.

    Attributes
    ----------
    trial_id, number, attempt : int
        The trial, its number in the study, and which of its attempts this is, from 1.
    owner : str
        The worker.
    values : dict
        Of the hyperparameters.
    """

    trial_id: int
    number: int
    attempt: int
    owner: str
    values: dict


@dataclass(frozen=True)
class Snapshot:
    """What a study was at one moment.

    Attributes
    ----------
    trials : list of dict
        ``number``, ``state``, ``values``, ``objective``, ``best_epoch``, ``message``, ``attempt``, ``is_lost`` (its
        lease ran out), ``owner``, by number.
    space : list of dict
        Hyperparameters, as Keras Tuner configures them.
    proposer_state : dict
    max_trials : int or None
    """

    trials: list
    space: list
    proposer_state: dict
    max_trials: int | None

    @property
    def next_number(self):
        """Number of the next trial to be created."""
        return len(self.trials)

    @property
    def is_full(self):
        """Whether no further trial may be created."""
        return self.max_trials is not None and self.next_number >= self.max_trials

    def has_one_for(self, owner):
        """Whether a trial waits, was lost, or is this worker's own."""
        return any(trial["state"] == "waiting" or trial["is_lost"] or trial["owner"] == owner for trial in self.trials)


@dataclass(frozen=True)
class Wish:
    """A trial to be created.

    Attributes
    ----------
    values : dict
    values_key : str
        Equal for equal values.
    number : int
        That the trial would have: where another was created since, the wish is not granted.
    proposer_state : dict
        Of the study, once it is created.
    """

    values: dict
    values_key: str
    number: int
    proposer_state: dict


def number_columns(value):
    """A number as it is stored: what is not finite as a name, for NaN would sort above every number.

    Parameters
    ----------
    value : float

    Returns
    -------
    value : float or None
    not_finite : str or None
        "nan", "inf" or "-inf".

    Examples
    --------
    >>> number_columns(0.5), number_columns(float("inf"))
    ((0.5, None), (None, 'inf'))
    """
    value = float(value)
    return (value, None) if math.isfinite(value) else (None, str(value))


def differences(before, now, prefix=""):
    """How two definitions of a study differ, in words.

    Parameters
    ----------
    before, now : dict
    prefix : str
        Of the names.

    Returns
    -------
    list of str

    Examples
    --------
    >>> differences({"seed": 0}, {"seed": 1})
    ['seed is 0 there and 1 here']
    """
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{name}.")
        elif name == "space":
            found += differences(_by_name(old), _by_name(new), "space.")
        elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "there", "here", n=0, lineterm="")
            found.append(f"{prefix}{name} differs:\n" + "\n".join(lines) + "\n")
        else:
            found.append(f"{prefix}{name} is {old!r} there and {new!r} here")
    return found


def _by_name(space):
    return {entry["config"]["name"]: {"class": entry["class_name"], **entry["config"]} for entry in space}
