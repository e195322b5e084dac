"""Does a search lose or double a trial when workers are killed, connections cut and the server restarted?

Called by `experiments.benchmarks.tuning`.
"""

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.benchmarks.tuning_worker import DATABASE_VARIABLE
from hcreg.tuning.server_watch import postmaster

ROOT = Path(__file__).parents[2]
ROLE = "searcher"
LEFT = ("lost", "released")  # how attempts end that do not end their trial
LOOK_S = 0.1
STOP, KILL = "immediate shutdown", "SIGKILL"


@dataclass(frozen=True)
class Plan:
    """A search and what happens to it.

    Attributes
    ----------
    name : str
    num_workers, max_trials, epochs : int
    epoch_s, lease_s : float, s
    raising : tuple of int
        Numbers of the trials whose function raises.
    num_killed : int
        Workers killed by SIGKILL, each within a trial, spread over the search.
    cut_s : float, optional, s
        Between cuts of all connections, on average.
    server : {"immediate shutdown", "SIGKILL"}, optional
        How the server goes down when half the trials are finished; it is started again at once.
    kind : {"curve", "training"}
    algorithm : {"bayesian", "random", "grid"}
    seed : int
    keras_backend : str, optional
        Of the workers.
    """

    name: str
    num_workers: int = 6
    max_trials: int = 60
    epochs: int = 4
    epoch_s: float = 0.5
    lease_s: float = 4
    raising: tuple = (5, 15, 25, 35, 45, 55)
    num_killed: int = 2
    cut_s: float | None = 2
    server: str | None = None
    kind: str = "curve"
    algorithm: str = "bayesian"
    seed: int = 0
    keras_backend: str | None = None


PLANS = (
    Plan("connections cut"),
    Plan("server restarted", server=STOP),
    Plan("server killed", server=KILL),
)
TRAINING = Plan(
    "training",
    num_workers=3,
    max_trials=12,
    epochs=6,
    raising=(),
    num_killed=1,
    kind="training",
    algorithm="random",
)


class Worker:
    """A process of `tuning_worker`, and what it says.

    Parameters
    ----------
    plan : Plan
    dsn : str
    log : path-like
        File of what it says; its errors go to the same name with ``.err``.
    """

    def __init__(self, plan, dsn, log):
        self.log, self.was_killed = Path(log), False
        environment = {**os.environ, DATABASE_VARIABLE: dsn, "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        if plan.keras_backend:
            environment["KERAS_BACKEND"] = plan.keras_backend
        settings = json.dumps(asdict(plan))
        command = [sys.executable, "-m", "experiments.benchmarks.tuning_worker", plan.name, settings]
        with open(self.log, "w") as out, open(f"{self.log}.err", "w") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, cwd=ROOT, env=environment
            )

    @property
    def is_running(self):
        """Whether the process has not ended."""
        return self.process.poll() is None

    def events(self):
        """What it said; a last line that was not finished when it was killed is left out.

        Returns
        -------
        list of dict
        """
        lines = self.log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def errors(self):
        """Its last words on standard error."""
        return Path(f"{self.log}.err").read_text(errors="replace")[-2000:]

    def begin(self):
        """Let it search."""
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def kill(self):
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


class Disturbance:
    """Cuts connections, kills workers and takes the server down, as a plan says.

    Parameters
    ----------
    plan : Plan
    server : experiments.benchmarks.postgres_server.PostgresServer
    database : str
    workers : list of Worker
    """

    def __init__(self, plan, server, database, workers):
        self.plan, self.server, self.database, self.workers = plan, server, database, workers
        self.random = random.Random(plan.seed)
        self.num_cuts = self.num_connections_cut = 0
        self.outage_s, self.killed = None, []
        share = plan.max_trials / (plan.num_killed + 1)
        # a little before and after the middle, where the server goes down
        self._kill_at = [int(share * (index + 0.5)) for index in range(plan.num_killed)]
        self._next_cut = self._next_cut_after(time.monotonic())

    def _next_cut_after(self, now):
        return float("inf") if self.plan.cut_s is None else now + self.plan.cut_s * self.random.uniform(0.5, 1.5)

    def look(self):
        """Do what is due."""
        now = time.monotonic()
        if now >= self._next_cut:
            self.cut()
            self._next_cut = self._next_cut_after(now)
        due = self._kill_at and len(self.killed) < self.plan.num_killed
        if not due and (self.plan.server is None or self.outage_s is not None):
            return
        num_finished = self._sql("SELECT count(*) FROM hcreg.trial WHERE finished_at IS NOT NULL")[0][0]
        if due and num_finished >= self._kill_at[len(self.killed)]:
            self.kill_a_worker()
        if self.plan.server is not None and self.outage_s is None and num_finished >= self.plan.max_trials // 2:
            self.take_server_down()

    def _sql(self, statement):
        return self.server.sql(statement, database=self.database)

    def cut(self):
        """Terminate every connection to the database but this one."""
        cut = self._sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        self.num_cuts += 1
        self.num_connections_cut += len(cut)

    def kill_a_worker(self):
        """Kill one that is within a trial that will not raise: some epochs are written, and not the last."""
        mine = {worker.process.pid: worker for worker in self.workers if worker.is_running}
        for pid, number in self._within():
            if pid not in mine or number in self.plan.raising:
                continue
            os.kill(pid, signal.SIGSTOP)  # so that it does not finish between the look and the kill
            if (pid, number) in self._within():
                mine[pid].was_killed = True
                mine[pid].kill()
                self.killed.append(number)
                return
            os.kill(pid, signal.SIGCONT)

    def _within(self):
        return self._sql(
            "SELECT a.pid, t.number FROM hcreg.trial t JOIN hcreg.attempt a ON a.trial_id = t.trial_id "
            "AND a.number = t.attempt WHERE t.state = 'running' AND (SELECT max(epoch) FROM hcreg.epoch_metric e "
            f"WHERE e.trial_id = t.trial_id AND e.attempt = t.attempt) < {self.plan.epochs} ORDER BY t.number"
        )

    def take_server_down(self):
        """And start it again."""
        began = time.monotonic()
        if self.plan.server == KILL:
            self.server.kill()
        else:
            os.kill(postmaster(self.server.folder), signal.SIGQUIT)
        self.server.restart()
        self.outage_s = time.monotonic() - began


def run(plan, server, timeout_s=900):
    """Run a search under disturbance.

    Parameters
    ----------
    plan : Plan
    server : experiments.benchmarks.postgres_server.PostgresServer
    timeout_s : float, s

    Returns
    -------
    rows : list of dict
        One a trial, see `rows_of`.
    figures : dict
        ``seconds``; ``exit_codes`` of the survivors; ``killed_in``, the trials within which workers were killed;
        ``num_cuts``, ``num_connections_cut``; ``outage_s``, None where the server stayed up; ``num_retried``,
        statements and transactions that survivors began again; ``last_words`` of one that ended badly.

    Raises
    ------
    TimeoutError
        If the search is not at its end by then, with the words of a worker.
    RuntimeError
        If a worker ends before it is ready, with its words.
    """
    import psycopg2

    database, password = f"chaos_{secrets.token_hex(4)}", secrets.token_hex(8)
    server.sql(
        f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f"ALTER ROLE {ROLE} PASSWORD '{password}'",
        f"CREATE DATABASE {database} OWNER {ROLE}",
    )
    dsn = server.dsn(ROLE, password, database)
    with tempfile.TemporaryDirectory(prefix="hcreg-chaos-") as folder:
        workers = [Worker(plan, dsn, Path(folder) / f"worker_{index}") for index in range(plan.num_workers)]
        try:
            _wait_until_ready(workers, timeout_s)
            began = time.monotonic()
            for worker in workers:
                worker.begin()
            disturbance = Disturbance(plan, server, database, workers)
            while any(worker.is_running for worker in workers):
                if time.monotonic() > began + timeout_s:
                    raise TimeoutError(f"{plan.name}: not at its end after {timeout_s} s: {workers[-1].errors()}")
                with contextlib.suppress(psycopg2.Error):  # no tables yet, or a cut that hit a starting server
                    disturbance.look()
                time.sleep(LOOK_S)
            seconds = time.monotonic() - began
        finally:
            for worker in workers:
                if worker.is_running:
                    worker.kill()
                worker.process.stdin.close()
        survivors = [worker for worker in workers if not worker.was_killed]
        figures = {
            "seconds": seconds,
            "exit_codes": [worker.process.returncode for worker in survivors],
            "killed_in": disturbance.killed,
            "num_cuts": disturbance.num_cuts,
            "num_connections_cut": disturbance.num_connections_cut,
            "outage_s": disturbance.outage_s,
            "num_retried": sum(event.get("num_retried", 0) for worker in survivors for event in worker.events()),
        }
        events = [event for worker in workers for event in worker.events()]
        errors = [worker.errors() for worker in survivors if worker.process.returncode]
        if errors:
            figures["last_words"] = errors[0]
    return rows_of(plan.name, dsn, events), figures


def _wait_until_ready(workers, timeout_s):
    until = time.monotonic() + timeout_s
    while not all(worker.events() for worker in workers):
        for worker in workers:
            if not worker.is_running:
                raise RuntimeError(f"a worker ended before it was ready: {worker.errors()}")
        if time.monotonic() > until:
            raise TimeoutError(f"the workers are not ready after {timeout_s} s")
        time.sleep(LOOK_S)


def rows_of(name, dsn, events):
    """What became of each trial, by the database and by the workers' own words.

    Parameters
    ----------
    name : str
        Of the plan and its study.
    dsn : str
    events : list of dict
        Of all workers.

    Returns
    -------
    list of dict
        ``search``, ``number``, ``state``, ``learning_rate``, ``objective``, ``attempts``; of the attempts, those
        ``lost``, ``released`` and ``ended`` with the trial; ``ends_kept``, how often a worker was told that its end of
        the trial counted; ``epochs`` recorded and ``epochs_run``, over all attempts.
    """
    from hcreg.tuning.store import TrialStore

    with contextlib.closing(TrialStore(dsn)) as store:
        table = store.table(name)
        attempts = store.database.query(
            "SELECT t.number, a.outcome FROM hcreg.attempt a JOIN hcreg.trial t USING (trial_id) ORDER BY 1, a.number"
        )
    kept = Counter(event["number"] for event in events if event["event"] == "end" and event["is_kept"])
    epochs = Counter(event["number"] for event in events if event["event"] == "epoch")
    rows = []
    for trial in table:
        outcomes = [attempt["outcome"] for attempt in attempts if attempt["number"] == trial["number"]]
        rows.append(
            {
                "search": name,
                "number": trial["number"],
                "state": trial["state"],
                "learning_rate": trial["hp_learning_rate"],
                "objective": trial["objective"],
                "attempts": trial["attempts"],
                **{left: outcomes.count(left) for left in LEFT},
                "ended": sum(outcome not in (*LEFT, None) for outcome in outcomes),
                "ends_kept": kept[trial["number"]],
                "epochs": trial["num_epochs"],
                "epochs_run": epochs[trial["number"]],
            }
        )
    return rows


def flaws(rows, max_trials, num_raising):
    """What is wrong with a search that is at its end.

    Parameters
    ----------
    rows : list of dict
        Of `rows_of`.
    max_trials, num_raising : int

    Returns
    -------
    list of str
        In words; empty where nothing is.
    """
    found = []
    numbers = [row["number"] for row in rows]
    if numbers != list(range(max_trials)):
        found.append(f"trials {sorted(set(range(max_trials)) - set(numbers))} are missing, or numbers are double")
    if len({row["learning_rate"] for row in rows}) != len(rows):
        found.append("a value was tried twice")
    for row in rows:
        if row["state"] not in ("completed", "failed"):
            found.append(f"trial {row['number']} is {row['state']}")
        elif row["ended"] != 1 or row["ends_kept"] != 1:
            found.append(f"trial {row['number']} ended {row['ended']} times, told to workers {row['ends_kept']} times")
        if row["attempts"] != row["lost"] + row["released"] + row["ended"]:
            found.append(f"trial {row['number']} has attempts that never ended")
    num_failed = sum(row["state"] == "failed" for row in rows)
    if num_failed != num_raising:
        found.append(f"{num_failed} trials failed, {num_raising} raised")
    return found


def goal_of(plan, rows, figures):
    """What the figures come to.

    Parameters
    ----------
    plan : Plan
    rows : list of dict
    figures : dict
        Of `run`.

    Returns
    -------
    dict
        As `experiments.benchmarks.common.save` takes it.
    """
    wrong = flaws(rows, plan.max_trials, len(plan.raising))
    finished = {row["number"] for row in rows if row["state"] in ("completed", "failed")}
    if any(figures["exit_codes"]):
        wrong.append(f"survivors ended with {figures['exit_codes']}")
    if len(figures["killed_in"]) != plan.num_killed:
        wrong.append(f"{len(figures['killed_in'])} workers were killed")
    repeated = sum(max(0, row["epochs_run"] - row["epochs"]) for row in rows)
    outage = "" if figures["outage_s"] is None else f"; {plan.server} of the server, {figures['outage_s']:.1f} s away"
    states = Counter(row["state"] for row in rows)
    return {
        "goal": f"{plan.name}: {plan.max_trials} distinct finished trials of {plan.num_workers} workers, "
        f"{plan.num_killed} killed within a trial, none lost, none twice",
        "measured": float(len(finished)),
        "met": not wrong and len(finished) == plan.max_trials,
        "explanation": f"{', '.join(f'{count} {state}' for state, count in sorted(states.items()))}, "
        f"{len({row['learning_rate'] for row in rows})} distinct values, "
        f"{sum(row['attempts'] for row in rows)} attempts, {sum(row['lost'] for row in rows)} lost; "
        f"{figures['num_cuts']} cuts of {figures['num_connections_cut']} connections{outage}; "
        f"{figures['num_retried']} transactions begun again by survivors; {repeated} epochs run twice; survivors ended "
        f"with {sorted(set(figures['exit_codes']))}; {figures['seconds']:.0f} s",
        "flaws": wrong,
        "num_epochs_repeated": repeated,
        **figures,
    }
