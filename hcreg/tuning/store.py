"""Trials in PostgreSQL: any number of processes take them, run them and end them; none is lost, none counted twice.

A worker holds a trial by a `Lease`: for a time, by the server's clock, that its heartbeat extends. Every write names
the lease; where another worker has taken the trial over, the write changes nothing and says so. Decisions (who runs
what) are serialised by a lock on the study's row, held for two or three round trips; nothing slow happens under it.
"""

import hashlib
import json
import math
import uuid

from hcreg.tuning.database import Database
from hcreg.tuning.libpq import Json, psycopg2
from hcreg.tuning.reader import TrialReader
from hcreg.tuning.records import Lease, Snapshot, differences, number_columns

FINISHED = ("completed", "diverged", "failed")
CHUNK_BYTES = 8 * 2**20
CHUNK_TIMEOUT_S = 600  # for one chunk on the way up
SHORT_PATIENCE_S = 5


class TrialStore(TrialReader):
    """Studies and their trials in a PostgreSQL database of version 12 or later.

    Parameters
    ----------
    database : str or callable
        A DSN, the name of an environment variable that holds one, or a callable that returns one.
    schema : str
        Of the tables in the database; made where it is not there.
    patience_s : float, s
        How long a statement is tried again while the database cannot be reached.

    Raises
    ------
    ValueError
        If `database` is not one of these, or the tables are of a newer version of hcreg.
    OSError
        If the database cannot be reached or refuses the role, saying which and what to do.

    Notes
    -----
    It may be copied, pickled and used in a forked process: each opens a connection of its own. No password is printed
    or stored.

    The record of a trial holds what [1]_ kept of one, and what is needed to trust it.

    References
    ----------
    .. [1] callanan2022heatmap, the relational record of searches and trials.
    """

    def __init__(self, database, schema="hcreg", patience_s=3600):
        super().__init__(database if isinstance(database, Database) else Database(database, patience_s), schema)

    # -- studies

    def join(self, name, definition, *, max_trials=None, seed=0, attributes=None, accept_code_change=False):
        """Make a study, or join the one of that name.

        Parameters
        ----------
        name : str
        definition : dict
            What must be the same for all who join: ``objective``, ``direction``, ``algorithm``, ``space``, ``code``
            (the source of the model function) and whatever else decides what a trial means.
        max_trials : int, optional
            More than before extends the study.
        seed : int
        attributes : dict, optional
            Noted with a new study: data path, commit, folders.
        accept_code_change : bool
            Join though the code is another; attempts keep a checksum of the code they ran.

        Returns
        -------
        int
            The study's id.

        Raises
        ------
        ValueError
            If the study is another: the difference is shown.
        """
        if not isinstance(name, str) or not name.strip() or len(name) > 200:
            raise ValueError(f"A study has a name of 1 to 200 characters. Received: {name!r}.")
        definition = json.loads(json.dumps(definition))
        found = self._query(
            "INSERT INTO {s}.study (name, objective, direction, max_trials, seed, definition, space, attributes) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING; "
            "SELECT study_id, definition, seed, max_trials FROM {s}.study WHERE name = %s",
            (
                name,
                definition["objective"],
                definition["direction"],
                max_trials,
                seed,
                Json(definition),
                Json(definition["space"]),
                Json(attributes or {}),
                name,
            ),
        )[0]
        before, now = {**found["definition"], "seed": found["seed"]}, {**definition, "seed": seed}
        if accept_code_change:
            before.pop("code", None), now.pop("code", None)
        found_differences = differences(before, now)
        if found_differences:
            advice = "Use another study name, or the same settings"
            if before.get("code") != now.get("code") and not accept_code_change:
                advice += ", or accept_code_change=True (hcreg tune --accept-code-change) where only the code differs"
            raise ValueError(f"The study {name!r} is another search: {'; '.join(found_differences)}. {advice}.")
        self._extend(found, name, max_trials)
        return found["study_id"]

    def _extend(self, found, name, max_trials):
        before = found["max_trials"]
        if before == max_trials:
            return
        if max_trials is not None and (before is None or max_trials < before):
            raise ValueError(
                f"The study {name!r} has max_trials={before}. Received: {max_trials}; it can be raised, not lowered."
            )
        self._query(
            "UPDATE {s}.study SET max_trials = %s WHERE study_id = %s AND (max_trials < %s OR %s IS NULL)",
            (max_trials, found["study_id"], max_trials, max_trials),
        )

    def delete_study(self, name):
        """Delete a study with all its trials.

        Parameters
        ----------
        name : str

        Raises
        ------
        ValueError
            If there is none of that name, naming those there are.
        """
        self.study(name)
        self._query("DELETE FROM {s}.study WHERE name = %s", (name,))

    def grow_space(self, study_id, space):
        """Add hyperparameters that a trial revealed to the space of a study.

        Parameters
        ----------
        study_id : int
        space : list of dict
            The whole space as this worker knows it.
        """

        def add(transaction):
            found = transaction.execute(
                f"SELECT space FROM {self.schema}.study WHERE study_id = %s FOR NO KEY UPDATE", (study_id,)
            )
            found = _there(found)["space"]
            added = [entry for entry in json.loads(json.dumps(space)) if entry not in found]
            if added:
                transaction.execute(
                    f"UPDATE {self.schema}.study SET space = %s WHERE study_id = %s", (Json(found + added), study_id)
                )

        self.database.transaction(add)

    # -- taking and leaving trials

    def snapshot(self, study_id):
        """All trials of a study, in one round trip.

        Parameters
        ----------
        study_id : int

        Returns
        -------
        Snapshot
        """
        rows = self._query(
            "SELECT s.space, s.proposer_state, s.max_trials, t.number, t.state, t.values, t.objective, t.best_epoch, "
            "t.message, t.attempt, t.owner, "
            "t.state = 'running' AND t.lease_expires_at < clock_timestamp() AS is_lost "
            "FROM {s}.study s LEFT JOIN {s}.trial t USING (study_id) WHERE s.study_id = %s ORDER BY t.number",
            (study_id,),
        )
        _there(rows)
        study = {name: rows[0][name] for name in ("space", "proposer_state", "max_trials")}
        names = ("number", "state", "values", "objective", "best_epoch", "message", "attempt", "owner", "is_lost")
        return Snapshot([{name: row[name] for name in names} for row in rows if row["number"] is not None], **study)

    def take(self, study_id, owner, wish=None, *, lease_s=300, max_attempts=3, about=None):
        """Take a trial: this worker's own, one that waits or was lost, or a new one.

        Parameters
        ----------
        study_id : int
        owner : str
            This worker, named as no other.
        wish : Wish, optional
            The trial to create where none waits.
        lease_s : float, s
        max_attempts : int
            A trial lost by so many workers is failed: it may be what kills them.
        about : dict, optional
            Of the attempt: ``host``, ``pid``, ``device``, ``versions``, ``commit``, ``code``.

        Returns
        -------
        Lease or None
            None where there is none to take, or the wish came too late or is a value tried already.
        """
        s = self.schema

        def decide(transaction):
            # NO KEY: who writes a file of a trial holds the key of its row, and nobody shall wait for that here
            found = transaction.execute(
                f"SELECT next_number, max_trials FROM {s}.study WHERE study_id = %s FOR NO KEY UPDATE", (study_id,)
            )
            study = _there(found)
            live = transaction.execute(
                "SELECT trial_id, number, state, values, attempt, owner, "
                "lease_expires_at < clock_timestamp() AS is_lost, "
                f"(SELECT count(*) FROM {s}.attempt a WHERE a.trial_id = t.trial_id AND outcome = 'lost') AS num_lost "
                f"FROM {s}.trial t WHERE study_id = %s AND state IN ('waiting', 'running') "
                "ORDER BY number FOR NO KEY UPDATE",
                (study_id,),
            )
            for trial in live:
                if trial["owner"] == owner:  # the answer to an earlier commit was lost, perhaps long ago
                    transaction.execute(
                        f"UPDATE {s}.trial SET lease_expires_at = clock_timestamp() + %s * interval '1 second' "
                        "WHERE trial_id = %s",
                        (lease_s, trial["trial_id"]),
                    )
                    return Lease(trial["trial_id"], trial["number"], trial["attempt"], owner, trial["values"])
            for trial in live:
                if trial["is_lost"]:
                    self._give_up(transaction, trial, max_attempts)
                if trial["state"] == "waiting":
                    return self._begin(transaction, trial, owner, lease_s, about)
            if wish is None or wish.number != study["next_number"] or wish.number == study["max_trials"]:
                return None
            created = transaction.execute(
                f"INSERT INTO {s}.trial (study_id, number, state, values, values_key) "
                "VALUES (%s, %s, 'waiting', %s, %s) "
                "ON CONFLICT (study_id, values_key) WHERE state <> 'failed' DO NOTHING "
                "RETURNING trial_id, number, attempt, values",
                (study_id, wish.number, Json(wish.values), wish.values_key),
            )
            if not created:
                return None
            noted = (
                f"UPDATE {s}.study SET proposer_state = %s WHERE study_id = %s; ",
                (Json(wish.proposer_state), study_id),
            )
            return self._begin(transaction, created[0], owner, lease_s, about, noted)

        return self.database.transaction(decide)

    def _give_up(self, transaction, trial, max_attempts):
        """Take a trial from a worker that was not heard of: it waits for another, or is failed."""
        is_last = trial["num_lost"] + 1 >= max_attempts
        trial["state"] = "failed" if is_last else "waiting"
        message = f"{trial['num_lost'] + 1} workers were lost while they ran it" if is_last else None
        transaction.execute(
            f"UPDATE {self.schema}.attempt SET outcome = 'lost', ended_at = clock_timestamp() "
            "WHERE trial_id = %(id)s AND outcome IS NULL; "
            f"UPDATE {self.schema}.trial SET state = %(state)s, owner = NULL, lease_expires_at = NULL, "
            "message = %(message)s, finished_at = CASE WHEN %(state)s = 'failed' THEN clock_timestamp() END "
            "WHERE trial_id = %(id)s",
            {"id": trial["trial_id"], "state": trial["state"], "message": message},
        )

    def _begin(self, transaction, trial, owner, lease_s, about, before=("", ())):
        attempt = trial["attempt"] + 1
        about = {"host": "", "pid": 0, "device": {}, "versions": {}, "commit": None, "code": None, **(about or {})}
        transaction.execute(
            before[0] + f"UPDATE {self.schema}.trial SET state = 'running', attempt = %s, owner = %s, message = NULL, "
            "lease_expires_at = clock_timestamp() + %s * interval '1 second' WHERE trial_id = %s; "
            f"INSERT INTO {self.schema}.attempt (trial_id, number, worker, host, pid, device, versions, commit, code) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                *before[1],
                *(attempt, owner, lease_s, trial["trial_id"]),
                *(trial["trial_id"], attempt, owner, about["host"], about["pid"]),
                *(Json(about["device"]), Json(about["versions"]), about["commit"], about["code"]),
            ),
        )
        return Lease(trial["trial_id"], trial["number"], attempt, owner, trial["values"])

    def beat(self, lease, lease_s=300):
        """Extend a lease.

        Parameters
        ----------
        lease : Lease
        lease_s : float, s

        Returns
        -------
        bool
            False where the trial is no longer this worker's: its work must be dropped.
        """
        return bool(
            self._query(
                "UPDATE {s}.trial SET lease_expires_at = clock_timestamp() + %(lease_s)s * interval '1 second' "
                f"WHERE {_HELD} RETURNING number",
                {**_held(lease), "lease_s": lease_s},
                SHORT_PATIENCE_S,
            )
        )

    def record_epochs(self, lease, rows):
        """Write metrics of epochs, over those of the same epochs of an earlier attempt.

        Parameters
        ----------
        lease : Lease
        rows : sequence of (int, int, str, float)
            Execution (from 0), epoch (from 1), name, value; NaN and infinity are kept as such.

        Returns
        -------
        bool
            False where the trial is no longer this worker's; nothing was written then.
        """
        values = _held(lease)
        if not rows:
            return bool(self._query(f"SELECT FROM {{s}}.trial WHERE {_HELD}", values, SHORT_PATIENCE_S))
        for index, (execution, epoch, name, value) in enumerate(rows):
            values |= {f"x{index}": int(execution), f"e{index}": int(epoch), f"n{index}": name}
            values[f"v{index}"], values[f"f{index}"] = number_columns(value)
        listed = ", ".join(
            f"(%(x{i})s, %(e{i})s, %(n{i})s, %(v{i})s::double precision, %(f{i})s)" for i in range(len(rows))
        )
        return bool(
            self._query(
                "INSERT INTO {s}.epoch_metric (trial_id, attempt, execution, epoch, name, value, not_finite) "
                f"SELECT trial_id, attempt, v.* FROM {{s}}.trial, (VALUES {listed}) v "
                # the lock: whoever takes the trial over waits for this, or this finds that it was taken
                f"WHERE {_HELD} FOR SHARE OF trial "
                "ON CONFLICT (trial_id, execution, epoch, name) DO UPDATE SET "
                "value = EXCLUDED.value, not_finite = EXCLUDED.not_finite, attempt = EXCLUDED.attempt RETURNING epoch",
                values,
                SHORT_PATIENCE_S,
            )
        )

    def end(self, lease, state, *, objective=None, best_epoch=None, metrics=None, values=None, message=None):
        """Finish a trial, once: called again with the same lease it changes nothing.

        Parameters
        ----------
        lease : Lease
        state : {"completed", "diverged", "failed"}
        objective : float, optional
            Finite, of a completed trial.
        best_epoch : int, optional
            From 1.
        metrics : dict of str to float, optional
            Final ones: of the best epoch, and the user's.
        values : dict, optional
            Hyperparameters with those that the trial revealed.
        message : str, optional
            Why it diverged or failed.

        Returns
        -------
        bool
            False where the trial was taken over: this result is dropped, the other's counts.

        Raises
        ------
        ValueError
            If the objective of a completed trial is not a finite number.
        """
        if state not in FINISHED:
            raise ValueError(f"A trial ends {', '.join(FINISHED)}. Received: {state!r}.")
        if state == "completed" and (objective is None or not math.isfinite(objective)):
            raise ValueError(f"The objective of a completed trial is a finite number. Received: {objective!r}.")
        return self._leave(
            lease,
            state,
            state,
            metrics or {},
            objective=float(objective) if state == "completed" else None,
            best_epoch=best_epoch,
            values=Json(values or lease.values),
            message=self._text(message),
        )

    def release(self, lease, message=None, outcome="released"):
        """Give a trial back, unfinished, for any worker to go on with.

        Parameters
        ----------
        lease : Lease
        message : str, optional
        outcome : {"released", "failed"}
            Of the attempt.

        Returns
        -------
        bool
            False where it was taken over before.
        """
        return self._leave(lease, "waiting", outcome, {}, values=Json(lease.values), message=self._text(message))

    def _text(self, message):
        """A message that PostgreSQL takes: no zeros, no halves of letters, as file names may have; no password."""
        if message is None:
            return None
        whole = str(message).replace("\0", "\\x00").encode(errors="backslashreplace").decode()
        return self.database.without_password(whole)

    def _leave(self, lease, state, outcome, metrics, *, values, objective=None, best_epoch=None, message=None):
        given = _held(lease)
        given |= {"state": state, "outcome": outcome, "values": values, "objective": objective, "best": best_epoch}
        given |= {"message": message}
        for index, (name, value) in enumerate(metrics.items()):
            given[f"n{index}"] = name
            given[f"v{index}"], given[f"f{index}"] = number_columns(value)
        listed = ", ".join(f"(%(n{i})s, %(v{i})s::double precision, %(f{i})s)" for i in range(len(metrics)))
        noted = (
            ", noted AS (INSERT INTO {s}.trial_metric (trial_id, name, value, not_finite) "
            f"SELECT trial_id, v.* FROM ended, (VALUES {listed}) v)"
        )
        # What an earlier attempt wrote of later epochs is not of this training, which began anew or ended sooner.
        stale = (
            "DELETE FROM {s}.epoch_metric e USING {s}.trial t WHERE e.trial_id = t.trial_id "
            f"AND t.{_HELD.replace(' AND ', ' AND t.')} AND e.attempt < t.attempt "
            "AND (e.execution::bigint << 32) + e.epoch > (SELECT max((w.execution::bigint << 32) + w.epoch) "
            "FROM {s}.epoch_metric w WHERE w.trial_id = t.trial_id AND w.attempt = t.attempt); "
        )
        done = self._query(
            f"{stale if lease.attempt > 1 else ''}"
            "WITH ended AS (UPDATE {s}.trial SET state = %(state)s, objective = %(objective)s, best_epoch = %(best)s, "
            "values = %(values)s, message = %(message)s, owner = NULL, lease_expires_at = NULL, "
            "finished_at = CASE WHEN %(state)s <> 'waiting' THEN clock_timestamp() END "
            f"WHERE {_HELD} RETURNING trial_id), "
            "closed AS (UPDATE {s}.attempt SET outcome = %(outcome)s, ended_at = clock_timestamp(), "
            "message = %(message)s WHERE trial_id = (SELECT trial_id FROM ended) AND number = %(attempt)s), "
            "spent AS (DELETE FROM {s}.artifact WHERE trial_id = (SELECT trial_id FROM ended) AND name = %(spent)s)"
            f"{noted if metrics else ''} SELECT trial_id FROM ended",
            {**given, "spent": STATE_ARTIFACT if state != "waiting" else ""},
        )
        if done:
            return True
        # Nothing changed: taken over, or the answer to an earlier commit of this very call was lost.
        before = self._query(
            "SELECT outcome FROM {s}.attempt WHERE trial_id = %s AND number = %s AND worker = %s",
            (lease.trial_id, lease.attempt, lease.owner),
        )
        return bool(before) and before[0]["outcome"] == outcome

    def try_turn(self, study_id):
        """Ask for the turn to compute a proposal, so that workers do not all compute the same one.

        Parameters
        ----------
        study_id : int

        Returns
        -------
        bool
            Whether no other connection has it. It ends with `end_turn` or the connection.
        """
        return self._query("SELECT pg_try_advisory_lock(hashtext(%s), %s) AS has", (self.schema, study_id))[0]["has"]

    def end_turn(self, study_id):
        """Give up the turn of `try_turn`."""
        self._query("SELECT pg_advisory_unlock(hashtext(%s), %s)", (self.schema, study_id))

    # -- artifacts

    def save_artifact(self, lease, name, content, path=None):
        """Record a file of a trial, over the one of that name.

        Parameters
        ----------
        lease : Lease
        name : str
        content : bytes-like
        path : str, optional
            Where the content was written; without it the content goes into the store.

        Returns
        -------
        bool
            False where the trial was taken over.
        """
        view, s = memoryview(content).cast("B"), self.schema
        given = {**_held(lease), "name": name, "path": path, "num_bytes": len(view)}
        given |= {"sha256": hashlib.sha256(view).hexdigest(), "partial": f"{name} {uuid.uuid4()}"}
        held = f"SELECT FROM {s}.trial WHERE {_HELD} FOR SHARE"
        old = f"DELETE FROM {s}.artifact WHERE name = %(name)s AND trial_id = %(trial_id)s"
        new = (
            f"INSERT INTO {s}.artifact (trial_id, attempt, name, path, sha256, num_bytes) SELECT trial_id, attempt, "
            f"%(written)s, %(path)s, %(sha256)s, %(num_bytes)s FROM {s}.trial WHERE {_HELD} RETURNING artifact_id"
        )
        if path is not None or len(view) <= CHUNK_BYTES:  # in one round trip: all is there before the trial is locked
            only_if_held = f"{old} AND EXISTS (SELECT FROM {s}.trial WHERE {_HELD})"
            if path is None and len(view):
                given["content"] = psycopg2.Binary(view)
                new = (
                    f"WITH made AS ({new}), chunk AS (INSERT INTO {s}.artifact_chunk "
                    "SELECT artifact_id, 0, %(content)s FROM made) SELECT artifact_id FROM made"
                )
            return bool(self.database.query(f"{held}; {only_if_held}; {new}", {**given, "written": name}))

        def write(transaction):
            # Under another name until all is there: the upload may take minutes, and the trial is not locked for it.
            made = transaction.execute(
                f"SET LOCAL idle_in_transaction_session_timeout = '{CHUNK_TIMEOUT_S}s'; {new}",
                {**given, "written": given["partial"]},
            )
            for number, start in enumerate(range(0, len(view), CHUNK_BYTES) if made else ()):
                transaction.execute(
                    f"INSERT INTO {s}.artifact_chunk VALUES (%s, %s, %s)",
                    (made[0]["artifact_id"], number, psycopg2.Binary(view[start : start + CHUNK_BYTES])),
                )
            if made and transaction.execute(held, given):
                transaction.execute(
                    f"{old}; UPDATE {s}.artifact SET name = %(name)s WHERE artifact_id = %(id)s",
                    {**given, "id": made[0]["artifact_id"]},
                )
                return True
            transaction.execute(f"DELETE FROM {s}.artifact WHERE name = %(partial)s", given)
            return False

        return self.database.transaction(write)

    def add_metrics(self, study, number, metrics):
        """Add final metrics to a trial, such as those of a test set measured later.

        Parameters
        ----------
        study : str
        number : int
        metrics : dict of str to float

        Raises
        ------
        ValueError
            If there is no such trial, it is not finished, or it has a metric of that name and another value: those
            do not change. Nothing is added then.
        """
        s = self.schema

        def add(transaction):
            found = transaction.execute(
                f"SELECT t.trial_id, t.finished_at FROM {s}.trial t JOIN {s}.study s USING (study_id) "
                "WHERE s.name = %s AND t.number = %s",
                (study, number),
            )
            if not found:
                raise ValueError(f"The study {study!r} has no trial {number}.")
            if found[0]["finished_at"] is None:
                raise ValueError(f"Trial {number} of {study!r} is not finished: metrics are added to finished trials.")
            for name, value in metrics.items():
                wanted = number_columns(value)
                there = transaction.execute(
                    f"INSERT INTO {s}.trial_metric (trial_id, name, value, not_finite) VALUES (%(id)s, %(name)s, "
                    "%(value)s, %(flag)s) ON CONFLICT (trial_id, name) DO NOTHING; "
                    f"SELECT value, not_finite FROM {s}.trial_metric WHERE trial_id = %(id)s AND name = %(name)s",
                    {"id": found[0]["trial_id"], "name": name, "value": wanted[0], "flag": wanted[1]},
                )[0]
                if (there["value"], there["not_finite"]) != wanted:
                    raise ValueError(
                        f"Trial {number} of {study!r} has a metric {name!r} of another value already; it does not "
                        "change. Use another name."
                    )

        self.database.transaction(add)


STATE_ARTIFACT = "state"  # what a resume needs; gone once the trial is finished
_HELD = "trial_id = %(trial_id)s AND attempt = %(attempt)s AND owner = %(owner)s AND state = 'running'"


def _held(lease):
    return {"trial_id": lease.trial_id, "attempt": lease.attempt, "owner": lease.owner}


def _there(rows):
    if not rows:
        raise ValueError("The study was deleted while it was searched. Use another study name, or begin it anew.")
    return rows[0]
