"""Files of trials: in the store or a shared folder, found elsewhere, checked, whole at any moment."""

import hashlib

import pytest

from hcreg.tuning.checkpoints import Checkpoints
from hcreg.tuning.records import Wish
from hcreg.tuning.store import TrialStore

DEFINITION = {"objective": "val_loss", "direction": "min", "space": []}


@pytest.fixture
def store(database):
    store = TrialStore(database)
    yield store
    store.close()


def taken(store, study="s", owner="me"):
    """A lease on the first trial of a study."""
    return store.take(store.join(study, DEFINITION, max_trials=1), owner, Wish({}, "k", 0, {}))


def taken_over(store, study="s", owner="another"):
    store._query("UPDATE {s}.trial SET lease_expires_at = clock_timestamp() - interval '1 s'")
    return taken(store, study, owner)


def test_in_the_store_the_last_content_is_kept(store):
    lease, checkpoints = taken(store), Checkpoints(store, "s")
    assert checkpoints.load(0, "state") is None
    assert checkpoints.save(lease, "state", b"one")
    assert checkpoints.save(lease, "state", bytearray(b"two"))
    assert checkpoints.load(0, "state") == b"two"
    assert store.find_artifact("s", 0, "state")["path"] is None


def test_in_a_folder_the_store_has_path_and_checksum(store, tmp_path):
    lease, checkpoints = taken(store), Checkpoints(store, "s", tmp_path)
    assert checkpoints.save(lease, "model", b"weights")
    record = store.find_artifact("s", 0, "model")
    assert record["path"] == str(tmp_path / "s" / "trial_0000" / "model_1.weights.h5")
    assert record["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert checkpoints.load(0, "model") == b"weights"


def test_a_worker_without_the_folder_reads_from_where_it_was_written(store, tmp_path):
    Checkpoints(store, "s", tmp_path).save(taken(store), "state", b"one")
    assert Checkpoints(store, "s").load(0, "state") == b"one"


def test_a_folder_mounted_elsewhere_is_read(store, tmp_path):
    Checkpoints(store, "s", tmp_path / "here").save(taken(store), "state", b"one")
    (tmp_path / "here").rename(tmp_path / "there")
    assert Checkpoints(store, "s", tmp_path / "there").load(0, "state") == b"one"
    with pytest.raises(FileNotFoundError, match=r"The state of trial 0 of 's' was written to .*here.*elsewhere.*Mount"):
        Checkpoints(store, "s", tmp_path / "elsewhere").load(0, "state")


def test_a_damaged_file_is_refused(store, tmp_path):
    checkpoints = Checkpoints(store, "s", tmp_path)
    checkpoints.save(taken(store), "state", b"one")
    (tmp_path / "s" / "trial_0000" / "state_1.npz").write_bytes(b"two")
    with pytest.raises(ValueError, match=r"state_1\.npz is damaged or was replaced"):
        checkpoints.load(0, "state")


def test_killed_between_file_and_record_the_last_state_on_record_is_whole(store, tmp_path, monkeypatch):
    lease, checkpoints = taken(store), Checkpoints(store, "s", tmp_path)
    for content in (b"one", b"two", b"three"):
        assert checkpoints.save(lease, "state", content)
        checkpoints.save(lease, "build_config", b"{}")  # another file has turns of its own
        with monkeypatch.context() as patched:
            patched.setattr(store, "save_artifact", lambda *_: (_ for _ in ()).throw(ConnectionError("away")))
            for _ in range(2):  # as often as it happens
                with pytest.raises(ConnectionError):
                    checkpoints.save(lease, "state", content + b" and more")
        assert Checkpoints(store, "s", tmp_path).load(0, "state") == content
    assert len(list((tmp_path / "s" / "trial_0000").glob("state_*"))) == 2  # no more files than two


def test_a_lost_folder_sends_the_files_to_the_store_and_says_so_once(store, tmp_path, capsys):
    (tmp_path / "folder").write_text("a file now")
    lease, checkpoints = taken(store), Checkpoints(store, "s", tmp_path / "folder")
    for content in (b"one", b"two"):
        assert checkpoints.save(lease, "state", content)
        assert checkpoints.load(0, "state") == content
    message = capsys.readouterr().err
    assert message.count("The files of trials go into the database for now.") == 1
    assert "could not write" in message
    checkpoints.remove_states(0)  # nothing to remove, nothing raised
    (tmp_path / "folder").unlink()
    checkpoints.save(lease, "state", b"three")
    assert store.find_artifact("s", 0, "state")["path"] is not None  # it is back
    assert checkpoints.load(0, "state") == b"three"


@pytest.mark.parametrize("in_folder", [True, False])
def test_a_worker_that_lost_its_trial_changes_nothing(store, tmp_path, in_folder):
    checkpoints = Checkpoints(store, "s", tmp_path if in_folder else "store")
    lost = taken(store)
    checkpoints.save(lost, "state", b"mine")
    assert checkpoints.load(0, "state") == b"mine"
    lease = taken_over(store)
    assert checkpoints.load(0, "state") == b"mine"  # what the next goes on from
    assert checkpoints.save(lease, "state", b"theirs")
    assert not checkpoints.save(lost, "state", b"late")
    assert checkpoints.load(0, "state") == b"theirs"


def test_states_are_removed_and_models_stay(store, tmp_path):
    lease, checkpoints = taken(store), Checkpoints(store, "s", tmp_path)
    for name in ("state", "state", "model", "build_config"):
        checkpoints.save(lease, name, b"content")
    checkpoints.remove_states(0)
    assert sorted(path.name for path in (tmp_path / "s" / "trial_0000").iterdir()) == [
        "build_config_1",
        "model_1.weights.h5",
    ]
    Checkpoints(store, "s").remove_states(0)


def test_no_two_studies_share_a_folder_and_none_leaves_it(store, tmp_path):
    names = ["a b", "a_b", "a/b", "..", ".", "ä", "_", "../../x", "z" * 200, "z" * 199]
    folders = [Checkpoints(store, name, tmp_path)._folder_of(0).parent for name in names]
    assert len(set(folders)) == len(names)
    assert all(folder.resolve().parent == tmp_path.resolve() for folder in folders)
    for name in names:
        checkpoints = Checkpoints(store, name, tmp_path)
        assert checkpoints.save(taken(store, name), "state", name.encode())
    for name in names:
        assert Checkpoints(store, name, tmp_path).load(0, "state") == name.encode()
