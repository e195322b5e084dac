"""What can be asked of a trial store: studies, tables, histories, files."""

import hashlib

from hcreg.files import write_rows
from hcreg.tuning import schema as tables

_COUNTED = ("waiting", "running", "completed", "diverged", "failed")


class TrialReader:
    """Questions to a trial store.

    Parameters
    ----------
    database : hcreg.tuning.database.Database
    schema : str
    """

    def __init__(self, database, schema):
        self.database, self.schema = database, tables.checked_name(schema)
        tables.migrate(self.database, self.schema)

    def __repr__(self):
        return f"<{type(self).__name__} {self.schema!r} in {self.database!r}>"

    def close(self):
        """Close the connection; the next question opens another."""
        self.database.close()

    def _query(self, statement, values=(), patience_s=None):
        return self.database.query(statement.format(s=self.schema), values, patience_s)

    def studies(self):
        """All studies, the newest first.

        Returns
        -------
        list of dict
            ``name``, ``objective``, ``direction``, ``max_trials``, ``created_at``, the number of trials ``waiting``,
            ``running``, ``completed``, ``diverged`` and ``failed``, and ``best``, the best objective or None.
        """
        counts = ", ".join(f"count(*) FILTER (WHERE t.state = '{state}') AS {state}" for state in _COUNTED)
        return self._query(
            f"SELECT s.name, s.objective, s.direction, s.max_trials, s.created_at, {counts}, "
            "CASE WHEN s.direction = 'min' THEN min(t.objective) ELSE max(t.objective) END AS best "
            "FROM {s}.study s LEFT JOIN {s}.trial t USING (study_id) GROUP BY s.study_id ORDER BY s.created_at DESC"
        )

    def study(self, name):
        """A study.

        Parameters
        ----------
        name : str

        Returns
        -------
        dict
            ``study_id``, ``name``, ``definition``, ``objective``, ``direction``, ``space`` (with what trials revealed),
            ``max_trials``, ``seed``, ``attributes``, ``created_at``.

        Raises
        ------
        ValueError
            If there is none of that name, naming those there are.
        """
        found = self._query(
            "SELECT study_id, name, definition, objective, direction, space, max_trials, seed, attributes, created_at "
            "FROM {s}.study WHERE name = %s",
            (name,),
        )
        if not found:
            names = [repr(study["name"]) for study in self.studies()[:20]]
            there = f"It has {', '.join(names)}." if names else "It has none yet."
            raise ValueError(f"There is no study {name!r} in {self.database!r}. {there}")
        return found[0]

    def table(self, study):
        """The trials of a study, by number.

        Parameters
        ----------
        study : str

        Returns
        -------
        list of dict
            ``number``; ``state``; ``objective`` (None but for completed trials); ``best_epoch`` (from 1);
            ``num_epochs``; ``seconds`` (spent by all attempts); ``attempts``; ``started_at``, ``finished_at``;
            ``host``, ``device``, ``commit`` of the last attempt; ``model_path``, ``model_sha256``; ``message``; a
            column ``hp_<name>`` for every hyperparameter and ``metric_<name>`` for every final metric, None where a
            trial has none.

        Raises
        ------
        ValueError
            If there is no such study.
        """
        study_id = self.study(study)["study_id"]
        rows = self._query(
            "SELECT t.number, t.state, t.objective, t.best_epoch, "
            "(SELECT count(DISTINCT (execution, epoch)) FROM {s}.epoch_metric e WHERE e.trial_id = t.trial_id) "
            "AS num_epochs, a.seconds, t.attempt AS attempts, a.started_at, t.finished_at, last.host, last.device, "
            'last.commit AS "commit", m.path AS model_path, m.sha256 AS model_sha256, t.message, t.values, n.metrics '
            "FROM {s}.trial t LEFT JOIN {s}.attempt last ON last.trial_id = t.trial_id AND last.number = t.attempt "
            "LEFT JOIN {s}.artifact m ON m.trial_id = t.trial_id AND m.name = 'model' "
            "LEFT JOIN LATERAL (SELECT min(started_at) AS started_at, extract(epoch FROM sum("
            "coalesce(ended_at, clock_timestamp()) - started_at))::double precision AS seconds "
            "FROM {s}.attempt a WHERE a.trial_id = t.trial_id) a ON true "
            "LEFT JOIN LATERAL (SELECT jsonb_object_agg(name, coalesce(to_jsonb(value), to_jsonb(not_finite))) "
            "AS metrics FROM {s}.trial_metric n WHERE n.trial_id = t.trial_id) n ON true "
            "WHERE t.study_id = %s ORDER BY t.number",
            (study_id,),
        )
        values = [row.pop("values") for row in rows]
        metrics = [{name: float(value) for name, value in (row.pop("metrics") or {}).items()} for row in rows]
        for prefix, entries in (("hp_", values), ("metric_", metrics)):
            names = sorted({name for entry in entries for name in entry})
            for row, entry in zip(rows, entries):
                row.update({prefix + name: entry.get(name) for name in names})
        for row in rows:
            row["device"] = device_in_words(row["device"])
        return rows

    def write_csv(self, study, path):
        """Write the table of a study as CSV.

        Parameters
        ----------
        study : str
        path : path-like
        """
        write_rows(path, self.table(study))

    def best(self, study, num_trials=1):
        """The best completed trials.

        Parameters
        ----------
        study : str
        num_trials : int

        Returns
        -------
        list of dict
            Rows of `table`, the best first; fewer where fewer are completed.
        """
        sign = 1 if self.study(study)["direction"] == "min" else -1
        completed = [row for row in self.table(study) if row["state"] == "completed"]
        return sorted(completed, key=lambda row: (sign * row["objective"], row["number"]))[:num_trials]

    def trial(self, study, number):
        """All that is known of a trial.

        Parameters
        ----------
        study : str
        number : int

        Returns
        -------
        dict
            Its row of `table`, with ``attempt_records`` (``number``, ``worker``, ``host``, ``pid``, ``device``,
            ``versions``, ``commit``, ``code``, ``started_at``, ``ended_at``, ``outcome``, ``message``) and
            ``artifacts`` (``name``, ``path``, ``sha256``, ``num_bytes``, ``in_store``).

        Raises
        ------
        ValueError
            If there is no such study or trial.
        """
        study_id = self.study(study)["study_id"]
        rows = {row["number"]: row for row in self.table(study)}
        if number not in rows:
            has = f"its trials are 0 to {max(rows)}" if rows else "it has none yet"
            raise ValueError(f"The study {study!r} has no trial {number}: {has}.")
        attempts = self._query(
            'SELECT a.number, worker, host, pid, device, versions, commit AS "commit", code, started_at, ended_at, '
            "outcome, a.message FROM {s}.attempt a JOIN {s}.trial t USING (trial_id) "
            "WHERE t.study_id = %s AND t.number = %s ORDER BY a.number",
            (study_id, number),
        )
        artifacts = self._query(
            "SELECT a.name, path, sha256, num_bytes, path IS NULL AS in_store FROM {s}.artifact a "
            "JOIN {s}.trial t USING (trial_id) WHERE t.study_id = %s AND t.number = %s ORDER BY a.name",
            (study_id, number),
        )
        return {**rows[number], "attempt_records": attempts, "artifacts": artifacts}

    def history(self, study, number=None):
        """Metrics by epoch.

        Parameters
        ----------
        study : str
        number : int, optional
            Of one trial; all trials without it.

        Returns
        -------
        list of dict
            ``number``, ``execution`` (from 0), ``epoch`` (from 1) and the metrics by Keras's names, NaN and infinity as
            such, None where an epoch lacks one.
        """
        study_id = self.study(study)["study_id"]
        found = self._query(
            "SELECT t.number, execution, epoch, "
            "jsonb_object_agg(name, coalesce(to_jsonb(value), to_jsonb(not_finite))) AS metrics "
            "FROM {s}.epoch_metric e JOIN {s}.trial t USING (trial_id) "
            "WHERE t.study_id = %s AND (t.number = %s OR %s IS NULL) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            (study_id, number, number),
        )
        names = sorted({name for row in found for name in row["metrics"]})
        rows = []
        for row in found:
            metrics = {name: float(value) for name, value in row.pop("metrics").items()}
            rows.append({**row, **{name: metrics.get(name) for name in names}})
        return rows

    def recent_outcomes(self, study_id, count):
        """How the last trials ended.

        Parameters
        ----------
        study_id : int
        count : int

        Returns
        -------
        list of dict
            ``number``, ``state`` and ``message``, the last first.
        """
        return self._query(
            "SELECT number, state, message FROM {s}.trial WHERE study_id = %s AND finished_at IS NOT NULL "
            "ORDER BY finished_at DESC, number DESC LIMIT %s",
            (study_id, count),
        )

    def count_outcomes(self, lease, outcome):
        """How many attempts at a trial ended so.

        Parameters
        ----------
        lease : Lease
        outcome : str

        Returns
        -------
        int
        """
        return self._query(
            "SELECT count(*) AS count FROM {s}.attempt WHERE trial_id = %s AND outcome = %s", (lease.trial_id, outcome)
        )[0]["count"]

    def export_optuna(self, study, storage):
        """Copy the finished trials into an Optuna study of the same name, for its dashboard.

        Parameters
        ----------
        study : str
        storage : str
            Of Optuna, such as ``sqlite:///trials.db``.

        Returns
        -------
        optuna.Study

        Raises
        ------
        ImportError
            If Optuna is not installed.
        ValueError
            If the storage has a study of that name.
        """
        from hcreg.tuning.optuna_export import export

        return export(self, study, storage)

    def load_artifact(self, study, number, name="model"):
        """Content of a file kept in the store.

        Parameters
        ----------
        study : str
        number : int
            Of the trial.
        name : str

        Returns
        -------
        bytes

        Raises
        ------
        FileNotFoundError
            If the trial has no such artifact in the store.
        ValueError
            If it is damaged.
        """
        found = self.find_artifact(study, number, name)
        if found is None or found["path"] is not None:
            where = "" if found is None else f" in the store: it was written to {found['path']}"
            raise FileNotFoundError(f"Trial {number} of {study!r} has no artifact {name!r}{where}.")
        content, chunk = [], True
        while chunk:  # one by one: a statement has a time limit, and a slow line needs minutes for a large file
            chunk = self._query(
                "SELECT content FROM {s}.artifact_chunk WHERE artifact_id = %s AND number = %s",
                (found["artifact_id"], len(content)),
            )
            content += [bytes(row["content"]) for row in chunk]
        now = self.find_artifact(study, number, name)
        if now is None or now["artifact_id"] != found["artifact_id"]:  # replaced meanwhile
            return self.load_artifact(study, number, name)
        content = b"".join(content)
        check_content(content, found, f"artifact {name!r} of trial {number} of {study!r}")
        return content

    def find_artifact(self, study, number, name):
        """The record of a file of a trial.

        Parameters
        ----------
        study : str
        number : int
        name : str

        Returns
        -------
        dict or None
            ``artifact_id``, ``attempt``, ``path``, ``sha256``, ``num_bytes``.
        """
        found = self._query(
            "SELECT a.artifact_id, a.attempt, a.path, a.sha256, a.num_bytes FROM {s}.artifact a "
            "JOIN {s}.trial t USING (trial_id) JOIN {s}.study s USING (study_id) "
            "WHERE s.name = %s AND t.number = %s AND a.name = %s",
            (study, number, name),
        )
        return found[0] if found else None


def check_content(content, record, what):
    """Refuse a content that is not the one that was recorded.

    Parameters
    ----------
    content : bytes
    record : dict
        Of `TrialStore.find_artifact`.
    what : str
        What errors call it.

    Raises
    ------
    ValueError
        If its SHA-256 differs.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != record["sha256"]:
        raise ValueError(
            f"{what} is damaged or was replaced: its SHA-256 is {found[:12]}..., {record['sha256'][:12]}... of "
            f"{record['num_bytes']:,} bytes were recorded. Restore it, or run the trial again."
        )


def device_in_words(device):
    """What a process computed on, in a few words.

    Parameters
    ----------
    device : dict or None
        Of `hcreg.backend.device_report`.

    Returns
    -------
    str or None
    """
    if not device:
        return None
    accelerators = device.get("accelerators") or [f"{device.get('cpu_count', '?')} CPU cores"]
    return f"{device.get('backend', '?')}: {', '.join(str(name) for name in accelerators)}"
