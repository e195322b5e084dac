"""Do three terminals that are given the same `hcreg tune` finish one search together?

Called by `experiments.benchmarks.tuning`.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUDY = "three"
SCRIPT = '''
"""A network that trains at once, in trials that last."""

import time

import keras
import numpy as np


def build_model(learning_rate):
    time.sleep({seconds})
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def data():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    return (x[:48], y[:48]), (x[48:], y[48:])
'''


def start(folder, max_trials):
    """Start `hcreg tune` as a terminal does.

    Parameters
    ----------
    folder : pathlib.Path
        With ``script.py``; made the command's --output.
    max_trials : int

    Returns
    -------
    subprocess.Popen
    """
    command = [sys.executable, "-m", "hcreg.cli", "tune", STUDY, "--script", str(folder / "script.py")]
    command += ["--max-trials", str(max_trials), "--epochs", "2", "--output", str(folder / "runs")]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("HCREG_DATABASE", None)
    with open(folder / "words", "a") as words:
        return subprocess.Popen(
            command, stdout=words, stderr=words, stdin=subprocess.DEVNULL, cwd=ROOT, env=environment
        )


def together_goal(num_processes=3, max_trials=18, trial_s=1.0, timeout_s=600):
    """Run one search in several processes, on the embedded server that the first of them starts.

    Parameters
    ----------
    num_processes, max_trials : int
    trial_s : float, s
        That the building of a model takes, so that trials last.
    timeout_s : float, s

    Returns
    -------
    dict
        As `experiments.benchmarks.common.save` takes it.

    Raises
    ------
    TimeoutError
        If the search is not at its end by then.
    """
    from hcreg.tuning.server import embedded_database
    from hcreg.tuning.store import TrialStore

    with tempfile.TemporaryDirectory(prefix="hcreg-together-") as name:
        folder = Path(name)
        (folder / "script.py").write_text(SCRIPT.format(seconds=trial_s))
        began, ended = time.monotonic(), {}
        processes = [start(folder, max_trials) for _ in range(num_processes)]
        try:
            while len(ended) < num_processes:
                for process in processes:
                    if process.poll() is not None:
                        ended.setdefault(process.pid, time.monotonic() - began)
                if time.monotonic() > began + timeout_s:
                    raise TimeoutError(f"not at its end after {timeout_s} s: {(folder / 'words').read_text()[-2000:]}")
                time.sleep(0.05)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        codes = [process.returncode for process in processes]
        words = (folder / "words").read_text()
        with (
            embedded_database(folder / "runs" / "database") as database,
            contextlib.closing(TrialStore(database)) as store,
        ):
            rows = store.table(STUDY)
            attempts = store.database.query("SELECT pid, outcome FROM hcreg.attempt")
    shares = Counter(attempt["pid"] for attempt in attempts)
    states = Counter(row["state"] for row in rows)
    num_finished = sum(states[state] for state in ("completed", "diverged", "failed"))
    distinct = len({row["hp_learning_rate"] for row in rows})
    is_whole = num_finished == distinct == len(attempts) == max_trials
    each = ", ".join(str(count) for count in sorted(shares.values()))
    apart_s = max(ended.values()) - min(ended.values())
    return {
        "goal": f"{num_processes} processes of `hcreg tune` on the embedded server: {max_trials} finished trials, each "
        "of one attempt, all exit 0",
        "measured": float(num_finished),
        "met": is_whole and not any(codes) and set(shares) == {process.pid for process in processes},
        "explanation": f"{', '.join(f'{count} {state}' for state, count in sorted(states.items()))}, "
        f"{distinct} distinct values; trials of each process: {each}; exit codes {codes}; "
        f"ended {apart_s:.1f} s apart, after {max(ended.values()):.0f} s",
        "ended_s": list(ended.values()),
        **({"last_words": words[-2000:]} if any(codes) else {}),
    }
