"""What do the searches' records cost a trial, near the database and far from it, and how long does a table take?

Called by `experiments.benchmarks.tuning`.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psycopg2.extensions

from experiments.benchmarks.common import seconds_of
from experiments.benchmarks.delaying_proxy import DelayingProxy
from experiments.benchmarks.postgres_server import HOST
from experiments.benchmarks.tuning_worker import DATABASE_VARIABLE, PATIENCE_S, data, network
from hcreg.tuning.database import Database

ROOT = Path(__file__).parents[2]
ROUND_TRIP_MS = 150
FAR_GOAL_S, NEAR_GOAL_S, LIST_GOAL_S = 2.0, 0.05, 1.0
MAY_TAKE = ("training", "proposal")  # the user's training, and the Gaussian process
LONG_STUDY = "long"


class Meter:
    """Seconds and statements of named operations; what one calls is its own, and not its caller's.

    Attributes
    ----------
    records : list of dict of str to (float, int)
        Of each stretch between calls of `next`: seconds and statements by operation.

    Examples
    --------
    >>> meter = Meter()
    >>> with meter("outer"), meter("inner"):
    ...     pass
    >>> sorted(meter.records[0])
    ['inner', 'outer']
    """

    num_statements = 0  # of the process, over all connections

    def __init__(self):
        self.records = [{}]
        self._open = []

    def next(self):
        """Begin a new record."""
        self.records.append({})

    @contextlib.contextmanager
    def __call__(self, name):
        mine = {"children_s": 0.0, "children_statements": 0}
        self._open.append(mine)
        began, before = time.perf_counter(), Meter.num_statements
        try:
            yield
        finally:
            taken_s, sent = time.perf_counter() - began, Meter.num_statements - before
            self._open.pop()
            seconds, statements = self.records[-1].get(name, (0.0, 0))
            own_s, own_statements = taken_s - mine["children_s"], sent - mine["children_statements"]
            self.records[-1][name] = (seconds + own_s, statements + own_statements)
            if self._open:
                self._open[-1]["children_s"] += taken_s
                self._open[-1]["children_statements"] += sent

    def wrap(self, owner, attribute, name=None):
        """Let every call of a method be measured.

        Parameters
        ----------
        owner : object
            Whose attribute is replaced.
        attribute : str
        name : callable, optional
            Gets the arguments, returns the operation's name; by default the attribute's.
        """
        function = getattr(owner, attribute)

        def measured(*args, **kwargs):
            with self(attribute if name is None else name(*args, **kwargs)):
                return function(*args, **kwargs)

        setattr(owner, attribute, measured)


class _CountingCursor(psycopg2.extensions.cursor):
    def execute(self, *args):
        Meter.num_statements += 1
        return super().execute(*args)


class CountedDatabase(Database):
    """Counts the statements that are sent; each is one round trip."""

    def _connected(self):
        connection = super()._connected()
        connection.cursor_factory = _CountingCursor
        return connection


def metered_search(dsn, study, num_trials, algorithm="bayesian"):
    """Search with a small network, one epoch a trial, and measure what each trial does beside its training.

    Parameters
    ----------
    dsn : str
    study : str
    num_trials : int
    algorithm : {"bayesian", "random", "grid"}

    Returns
    -------
    joining : dict of str to (float, int)
        What comes before the first trial, as `Meter.records` has it.
    trials : list of dict of str to (float, int)
        Of each trial, from asking for it to asking for the next.
    """
    import keras_tuner

    from hcreg.tuning.oracle import PostgresOracle
    from hcreg.tuning.store import TrialStore
    from hcreg.tuning.tuner import PostgresTuner

    meter = Meter()
    with meter("join"):
        store = TrialStore(CountedDatabase(dsn, PATIENCE_S))
        space = keras_tuner.HyperParameters()
        network(space)
        goal = keras_tuner.Objective("val_loss", "min")
        oracle = PostgresOracle(store, study, goal, num_trials, algorithm=algorithm, hyperparameters=space)
        tuner = PostgresTuner(oracle, network)
    meter.wrap(oracle, "create_trial")
    oracle.proposer = SimpleNamespace(propose=oracle.proposer.propose)  # it is frozen
    meter.wrap(oracle.proposer, "propose", lambda *_: "proposal")
    meter.wrap(tuner, "_build_and_fit_model", lambda *_, **__: "training")
    meter.wrap(store, "record_epochs")
    meter.wrap(tuner.checkpoints, "save", lambda lease, name, content: f"save {name}")
    meter.wrap(tuner, "_keep_model", lambda *_: "keep_model")
    meter.wrap(oracle, "end_trial")
    _wrap_the_recorder(meter, tuner)
    create = oracle.create_trial

    def create_and_mark(tuner_id):
        meter.next()
        cycle.begin()
        return create(tuner_id)

    cycle = _Cycle(meter)
    oracle.create_trial = create_and_mark
    tuner.search(epochs=1, verbose=0, **data())
    cycle.close()
    store.close()
    return meter.records[0], meter.records[1:-1]  # the last asked in vain


class _Cycle:
    """Keras Tuner's loop from one trial to the next: what is in none of the operations."""

    def __init__(self, meter):
        self.meter, self.stack = meter, contextlib.ExitStack()

    def begin(self):
        following = self.meter.records.pop()
        self.stack.close()
        self.meter.records.append(following)
        self.stack.enter_context(self.meter("loop"))

    def close(self):
        self.stack.close()


def _wrap_the_recorder(meter, tuner):
    """The recorder's work at the end of an epoch is no part of the training that calls it."""
    from hcreg.tuning.recorder import Recorder

    fit = tuner._build_and_fit_model

    def with_metered_recorder(trial, *args, **kwargs):
        for callback in kwargs["callbacks"]:
            if isinstance(callback, Recorder):
                for attribute in ("on_train_begin", "on_epoch_end", "on_train_end"):
                    meter.wrap(callback, attribute, lambda *_, **__: "recorder")
        return fit(trial, *args, **kwargs)

    tuner._build_and_fit_model = with_metered_recorder


def overhead_s(record):
    """Seconds of a trial that are neither training nor proposal.

    Parameters
    ----------
    record : dict of str to (float, int)

    Returns
    -------
    float, s

    Examples
    --------
    >>> overhead_s({"training": (9.0, 0), "proposal": (1.0, 0), "end_trial": (0.25, 1), "loop": (0.5, 0)})
    0.75
    """
    return sum(seconds for name, (seconds, _) in record.items() if name not in MAY_TAKE)


def by_operation(trials):
    """Median milliseconds and round trips of each operation.

    Parameters
    ----------
    trials : list of dict of str to (float, int)

    Returns
    -------
    dict of str to dict
        ``ms`` and ``round_trips``.
    """
    names = {name: None for record in trials for name in record}
    return {
        name: {
            "ms": 1000 * statistics.median(record.get(name, (0.0, 0))[0] for record in trials),
            "round_trips": statistics.median(record.get(name, (0.0, 0))[1] for record in trials),
        }
        for name in names
    }


def overhead_goal(where, joining, trials, goal_s):
    """What the figures of a metered search come to.

    Parameters
    ----------
    where : str
    joining : dict of str to (float, int)
    trials : list of dict of str to (float, int)
    goal_s : float, s

    Returns
    -------
    dict
        As `experiments.benchmarks.common.save` takes it.
    """
    overheads = [overhead_s(record) for record in trials]
    operations = by_operation(trials)
    told = ", ".join(
        f"{name} {each['ms']:.0f} ms ({each['round_trips']:.0f})"
        for name, each in operations.items()
        if each["round_trips"] or (each["ms"] >= 0.5 and name not in MAY_TAKE)
    )
    round_trips = sum(each["round_trips"] for each in operations.values())
    return {
        "goal": f"{where}, overhead of a trial of one epoch, seconds beside training and Gaussian process, <= {goal_s}",
        "measured": statistics.median(overheads),
        "met": statistics.median(overheads) <= goal_s,
        "explanation": f"median of {len(trials)} trials, {min(overheads):.3f} to {max(overheads):.3f} s; "
        f"{round_trips:.0f} round trips: {told}; once, to join: "
        f"{overhead_s(joining):.2f} s, {sum(sent for _, sent in joining.values())} statements",
        "overheads_s": overheads,
        "operations": operations,
    }


def overhead_goals(server, num_near, num_far):
    """Overhead of a trial directly and with a round trip of 150 ms.

    Parameters
    ----------
    server : experiments.benchmarks.postgres_server.PostgresServer
    num_near, num_far : int
        Trials.

    Returns
    -------
    list of dict
        Goals.
    """
    goals = []
    metered_search(server.dsn(), "warm", 2, "random")  # Keras and TensorFlow do some things once
    joining, trials = metered_search(server.dsn(), "near", num_near)
    goals.append(overhead_goal("database on the same machine", joining, trials, NEAR_GOAL_S))
    with DelayingProxy(HOST, server.port, ROUND_TRIP_MS) as proxy:
        joining, trials = metered_search(server.dsn(port=proxy.port), "far", num_far)
        goals.append(overhead_goal(f"round trip of {ROUND_TRIP_MS} ms", joining, trials, FAR_GOAL_S))
    return goals


def fill_long_study(dsn, num_trials=500, num_epochs=20, num_metrics=4):
    """Write a study of many finished trials, without running them.

    Parameters
    ----------
    dsn : str
    num_trials, num_epochs, num_metrics : int
    """
    from hcreg.tuning.store import TrialStore

    with contextlib.closing(TrialStore(dsn)) as store:
        definition = {"objective": "val_loss", "direction": "min", "algorithm": {"name": "random"}, "space": []}
        study_id = store.join(LONG_STUDY, definition, max_trials=num_trials)
        sizes = {"study_id": study_id, "trials": num_trials, "epochs": num_epochs, "metrics": num_metrics}
        of_study = "FROM hcreg.trial t WHERE study_id = %(study_id)s"

        def write(transaction):
            transaction.execute(
                "INSERT INTO hcreg.trial (study_id, number, state, values, values_key, attempt, owner, "
                "lease_expires_at) SELECT %(study_id)s, n, 'running', jsonb_build_object('learning_rate', "
                "power(10, -5 + 4.0 * n / %(trials)s)), 'key ' || n, 1, 'worker', clock_timestamp() + interval '1 h' "
                "FROM generate_series(0, %(trials)s - 1) n",
                sizes,
            )
            transaction.execute(
                "INSERT INTO hcreg.attempt (trial_id, number, worker, host, pid, device, versions) "
                f"SELECT trial_id, 1, 'worker', 'host', 1, '{{}}', '{{}}' {of_study}",
                sizes,
            )
            transaction.execute(
                "INSERT INTO hcreg.epoch_metric (trial_id, attempt, execution, epoch, name, value) "
                "SELECT trial_id, 1, 0, e, 'metric_' || m, 1.0 / (e + m) FROM (SELECT trial_id "
                f"{of_study}) t, generate_series(1, %(epochs)s) e, generate_series(1, %(metrics)s) m",
                sizes,
            )
            transaction.execute(
                "INSERT INTO hcreg.trial_metric (trial_id, name, value) SELECT trial_id, 'metric_' || m, 0.5 "
                f"FROM (SELECT trial_id {of_study}) t, generate_series(1, %(metrics)s) m",
                sizes,
            )
            transaction.execute(
                "INSERT INTO hcreg.artifact (trial_id, attempt, name, path, sha256, num_bytes) "
                f"SELECT trial_id, 1, 'model', 'trials/model.weights.h5', repeat('0', 64), 1000 {of_study}",
                sizes,
            )
            transaction.execute(
                "UPDATE hcreg.attempt SET outcome = 'completed', ended_at = clock_timestamp() WHERE trial_id IN "
                f"(SELECT trial_id {of_study})",
                sizes,
            )
            transaction.execute(
                "UPDATE hcreg.trial SET state = 'completed', objective = 1 + (number - 250) ^ 2, best_epoch = 1, "
                "owner = NULL, lease_expires_at = NULL, finished_at = clock_timestamp() "
                "WHERE study_id = %(study_id)s",
                sizes,
            )

        store.database.transaction(write)


def list_goals(dsn, num_trials=500, num_epochs=20, num_metrics=4, repeats=5):
    """Time the table of a long study, in the process and as the command.

    Parameters
    ----------
    dsn : str
    num_trials, num_epochs, num_metrics, repeats : int

    Returns
    -------
    list of dict
        Goals.

    Raises
    ------
    RuntimeError
        If the command fails, with its words.
    """
    from hcreg.tuning.store import TrialStore

    fill_long_study(dsn, num_trials, num_epochs, num_metrics)
    with contextlib.closing(TrialStore(dsn)) as store:
        rows = store.table(LONG_STUDY)
        assert [row["num_epochs"] for row in rows] == [num_epochs] * num_trials
        in_process = seconds_of(lambda: store.table(LONG_STUDY), repeats)
    command = [sys.executable, "-m", "hcreg.cli", "trials", "list", LONG_STUDY, "--database", DATABASE_VARIABLE]
    environment = {**os.environ, DATABASE_VARIABLE: dsn}

    def list_them():
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
        if ended.returncode or len(ended.stdout.splitlines()) < num_trials:
            raise RuntimeError(f"hcreg trials list failed: {ended.stderr or ended.stdout}")

    as_command = seconds_of(list_them, repeats)
    what = f"a study of {num_trials} trials with {num_epochs} epochs of {num_metrics} metrics each"
    return [
        {
            "goal": f"seconds of {name} on {what}, < {LIST_GOAL_S:.0f}",
            "measured": statistics.median(seconds),
            "met": statistics.median(seconds) < LIST_GOAL_S,
            "explanation": f"median of {repeats}, {min(seconds):.2f} to {max(seconds):.2f} s",
            "seconds": seconds,
        }
        for name, seconds in (
            ("TrialStore.table", in_process),
            ("`hcreg trials list`, with the start of Python,", as_command),
        )
    ]
