"""Tables of a trial store, with constraints that make wrong states impossible, and their versions.

A study has trials; a trial has attempts (one for each worker that took it up), metrics by epoch, final metrics and
artifacts. ``trial.attempt`` is the fencing token: only the worker that holds the running attempt may write.
"""

import re

_VERSION_1 = """
CREATE TABLE {schema}.study (
    study_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    objective text NOT NULL CHECK (objective <> ''),
    direction text NOT NULL CHECK (direction IN ('min', 'max')),
    max_trials integer CHECK (max_trials > 0),
    seed bigint NOT NULL,
    definition jsonb NOT NULL,
    space jsonb NOT NULL,
    proposer_state jsonb NOT NULL DEFAULT '{{}}',
    attributes jsonb NOT NULL DEFAULT '{{}}',
    next_number integer NOT NULL DEFAULT 0 CHECK (next_number >= 0 AND next_number <= max_trials),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE {schema}.trial (
    trial_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    study_id bigint NOT NULL REFERENCES {schema}.study ON DELETE CASCADE,
    number integer NOT NULL CHECK (number >= 0),
    state text NOT NULL CHECK (state IN ('waiting', 'running', 'completed', 'diverged', 'failed')),
    values jsonb NOT NULL,
    values_key text NOT NULL,
    objective double precision CHECK (objective > '-Infinity' AND objective < 'Infinity'),
    best_epoch integer CHECK (best_epoch > 0),
    message text,
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    owner text,
    lease_expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    UNIQUE (study_id, number),
    CHECK ((state = 'completed') = (objective IS NOT NULL)),
    CHECK ((state = 'running') = (owner IS NOT NULL)),
    CHECK ((state = 'running') = (lease_expires_at IS NOT NULL)),
    CHECK ((state IN ('completed', 'diverged', 'failed')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'running' OR attempt > 0)
);
CREATE UNIQUE INDEX trial_values ON {schema}.trial (study_id, values_key) WHERE state <> 'failed';
CREATE INDEX trial_live ON {schema}.trial (study_id) WHERE state IN ('waiting', 'running');

CREATE TABLE {schema}.attempt (
    trial_id bigint NOT NULL REFERENCES {schema}.trial ON DELETE CASCADE,
    number integer NOT NULL CHECK (number > 0),
    worker text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    device jsonb NOT NULL,
    versions jsonb NOT NULL,
    commit text,
    code text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    outcome text CHECK (outcome IN ('completed', 'diverged', 'failed', 'released', 'lost')),
    message text,
    PRIMARY KEY (trial_id, number),
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
CREATE UNIQUE INDEX attempt_live ON {schema}.attempt (trial_id) WHERE outcome IS NULL;

CREATE TABLE {schema}.epoch_metric (
    trial_id bigint NOT NULL REFERENCES {schema}.trial ON DELETE CASCADE,
    execution integer NOT NULL CHECK (execution >= 0),
    epoch integer NOT NULL CHECK (epoch > 0),
    name text NOT NULL CHECK (name <> ''),
    value double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    not_finite text CHECK (not_finite IN ('nan', 'inf', '-inf')),
    attempt integer NOT NULL,
    PRIMARY KEY (trial_id, execution, epoch, name),
    CHECK ((value IS NULL) = (not_finite IS NOT NULL)),
    FOREIGN KEY (trial_id, attempt) REFERENCES {schema}.attempt (trial_id, number) ON DELETE CASCADE
);

CREATE TABLE {schema}.trial_metric (
    trial_id bigint NOT NULL REFERENCES {schema}.trial ON DELETE CASCADE,
    name text NOT NULL CHECK (name <> ''),
    value double precision CHECK (value > '-Infinity' AND value < 'Infinity'),
    not_finite text CHECK (not_finite IN ('nan', 'inf', '-inf')),
    PRIMARY KEY (trial_id, name),
    CHECK ((value IS NULL) = (not_finite IS NOT NULL))
);

CREATE TABLE {schema}.artifact (
    artifact_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trial_id bigint NOT NULL REFERENCES {schema}.trial ON DELETE CASCADE,
    attempt integer NOT NULL,
    name text NOT NULL CHECK (name <> ''),
    path text,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{{64}}$'),
    num_bytes bigint NOT NULL CHECK (num_bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (trial_id, name),
    FOREIGN KEY (trial_id, attempt) REFERENCES {schema}.attempt (trial_id, number) ON DELETE CASCADE
);
CREATE TABLE {schema}.artifact_chunk (
    artifact_id bigint NOT NULL REFERENCES {schema}.artifact ON DELETE CASCADE,
    number integer NOT NULL CHECK (number >= 0),
    content bytea NOT NULL,
    PRIMARY KEY (artifact_id, number)
);

-- pg_trigger_depth() above 1: the row goes because its study is deleted.
CREATE FUNCTION {schema}.guard_trial() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF pg_trigger_depth() > 1 THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'a trial is not deleted alone: trial % of study %', OLD.number, OLD.study_id;
    END IF;
    IF OLD.state IN ('completed', 'diverged', 'failed') THEN
        RAISE EXCEPTION 'trial % of study % is finished and does not change', OLD.number, OLD.study_id;
    END IF;
    IF (NEW.study_id, NEW.number, NEW.values_key, NEW.created_at)
        IS DISTINCT FROM (OLD.study_id, OLD.number, OLD.values_key, OLD.created_at) THEN
        RAISE EXCEPTION 'trial % of study % keeps its number and its values', OLD.number, OLD.study_id;
    END IF;
    IF NEW.attempt < OLD.attempt OR (OLD.state = 'waiting' AND NEW.state NOT IN ('waiting', 'running', 'failed')) THEN
        RAISE EXCEPTION 'trial % of study % cannot go from % to %', OLD.number, OLD.study_id, OLD.state, NEW.state;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON {schema}.trial FOR EACH ROW EXECUTE FUNCTION {schema}.guard_trial();

-- Counts only rows that came to be, as a trigger before the row would not; study's check keeps to max_trials.
CREATE FUNCTION {schema}.count_trial() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.study SET next_number = next_number + 1
        WHERE study_id = NEW.study_id AND next_number = NEW.number;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'trial % of study % has not the next number', NEW.number, NEW.study_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER counted AFTER INSERT ON {schema}.trial FOR EACH ROW EXECUTE FUNCTION {schema}.count_trial();

CREATE FUNCTION {schema}.guard_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF pg_trigger_depth() > 1 THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'an attempt is not deleted alone: attempt % of trial %', OLD.number, OLD.trial_id;
    ELSIF TG_OP = 'UPDATE' THEN
        IF OLD.outcome IS NOT NULL THEN
            RAISE EXCEPTION 'attempt % of trial % has ended and does not change', OLD.number, OLD.trial_id;
        END IF;
    ELSIF EXISTS (SELECT FROM {schema}.trial
                  WHERE trial_id = NEW.trial_id AND state IN ('completed', 'diverged', 'failed')) THEN
        RAISE EXCEPTION 'trial % is finished and is not attempted', NEW.trial_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON {schema}.attempt
    FOR EACH ROW EXECUTE FUNCTION {schema}.guard_attempt();

CREATE FUNCTION {schema}.guard_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND pg_trigger_depth() > 1 THEN RETURN OLD; END IF;
    RAISE EXCEPTION 'a final metric does not change: %', OLD.name;
END $$;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON {schema}.trial_metric
    FOR EACH ROW EXECUTE FUNCTION {schema}.guard_written();

CREATE FUNCTION {schema}.guard_live() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE written RECORD;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF pg_trigger_depth() > 1 THEN RETURN OLD; END IF;
        written := OLD;
    ELSE
        written := NEW;
    END IF;
    IF EXISTS (SELECT FROM {schema}.trial
               WHERE trial_id = written.trial_id AND state IN ('completed', 'diverged', 'failed')) THEN
        RAISE EXCEPTION 'the trial of % is finished and does not change', written.name;
    END IF;
    RETURN written;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON {schema}.epoch_metric
    FOR EACH ROW EXECUTE FUNCTION {schema}.guard_live();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON {schema}.artifact
    FOR EACH ROW EXECUTE FUNCTION {schema}.guard_live();
-- What only a resume needs goes with the end; by then the trial is finished.
CREATE TRIGGER guard_deleted BEFORE DELETE ON {schema}.artifact
    FOR EACH ROW WHEN (OLD.name <> 'state') EXECUTE FUNCTION {schema}.guard_live();
"""

# One script a version; a store of version n is brought to the last by running scripts n + 1 and on.
MIGRATIONS = [_VERSION_1]
_VERSION_TABLE = "schema_version"


def checked_name(schema):
    """A schema's name that needs no quotes.

    Parameters
    ----------
    schema : str

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it is not lower-case letters, digits and underscores.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise ValueError(f"A schema is named with lower-case letters, digits and underscores. Received: {schema!r}.")
    return schema


def migrate(database, schema):
    """Make the tables of a schema, or bring them to this version of hcreg.

    Parameters
    ----------
    database : hcreg.tuning.database.Database
    schema : str

    Raises
    ------
    ValueError
        If they are of a newer version.
    OSError
        If the role may not make them.
    """
    if _version(database.query, schema) == len(MIGRATIONS):
        return

    def upgrade(transaction):
        transaction.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"hcreg {schema}",))
        version = _version(transaction.execute, schema)
        if version > len(MIGRATIONS):
            raise ValueError(
                f"The schema {schema!r} is of version {version}; this hcreg knows versions up to {len(MIGRATIONS)}. "
                "Install a newer hcreg (pip install --upgrade hcreg), or name another schema."
            )
        if version == 0:
            if not transaction.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,)):
                transaction.execute(f"CREATE SCHEMA {schema}")
            transaction.execute(
                f"CREATE TABLE {schema}.{_VERSION_TABLE} (version integer PRIMARY KEY CHECK (version > 0), "
                "migrated_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        for number in range(version, len(MIGRATIONS)):
            transaction.execute(MIGRATIONS[number].format(schema=schema))
            transaction.execute(f"INSERT INTO {schema}.{_VERSION_TABLE} (version) VALUES (%s)", (number + 1,))

    database.transaction(upgrade)


def _version(execute, schema):
    """Of the tables there, 0 where there are none."""
    # not to_regclass(): it may remember that there was none, from before this transaction waited for another's tables
    found = execute(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = %s AND relname = %s",
        (schema, _VERSION_TABLE),
    )
    if not found:
        return 0
    return execute(f"SELECT max(version) AS version FROM {schema}.{_VERSION_TABLE}")[0]["version"] or 0
