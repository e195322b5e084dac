"""Training that is stopped in every way a run is stopped, and goes on to the very same weights.

Called as a script (``python tests/test_training.py FOLDER SENTINEL``), this file trains the toy and, in the middle of
the third epoch, makes SENTINEL and waits there to be stopped.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from hcreg import backend, files, model_state, training

ROOT = Path(training.__file__).parent.parent
ON_TENSORFLOW = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"
COLUMNS = ["epoch", "loss", "val_loss", "mae_px", "val_mae_px", "learning_rate", "seconds"]
EPOCHS, BATCHES, RATE = 5, 4, 0.02


def samples(rng, count):
    """Images of noise of growing brightness; the target is the brightness."""
    targets = rng.uniform(0.2, 1.0, (count, 1)).astype("float32")
    images = targets[:, :, None, None] * rng.uniform(0.5, 1.5, (count, 16, 16, 1)).astype("float32")
    return images, targets


class Toy(keras.utils.PyDataset):
    """Batches that depend on epoch and number only; `on_batch` is told which is drawn."""

    batch_size = 8
    num_batches = BATCHES

    def __init__(self, on_batch=None, change=None):
        super().__init__()
        self.epoch, self.on_batch, self.change = 0, on_batch, change

    def __getitem__(self, batch):
        if self.on_batch is not None:
            self.on_batch(self.epoch, batch)
        images, targets = samples(np.random.default_rng([7, self.epoch, batch]), self.batch_size)
        return images, targets if self.change is None else self.change(self.epoch, targets)


VALIDATION = samples(np.random.default_rng(1), 12)  # 12 images in batches of 8: the last is smaller


def build(units=(6,), dropout=0.3):
    backend.seed_everything(11)
    layers = [keras.layers.Conv2D(3, 3, activation="relu"), keras.layers.BatchNormalization(momentum=0.5)]
    layers += [keras.layers.Dropout(dropout), keras.layers.Flatten()]
    layers += [keras.layers.Dense(count, activation="relu") for count in units]
    return keras.Sequential([keras.Input((16, 16, 1)), *layers, keras.layers.Dense(1)], name="toy")


def fit(folder, toy=None, model=None, validation=VALIDATION, **options):
    model = model or build()
    options = {"epochs": EPOCHS, "patience": EPOCHS, "learning_rate": RATE, "schedule": "cosine", **options}
    options = {"target_scale_px": 500.0, "loss": keras.losses.MeanSquaredError(), "progress": False, **options}
    return model, training.fit(model, toy or Toy(), validation, folder, **options)


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def state_of(folder):
    with np.load(folder / training.STATE) as state:
        return {name: state[name] for name in state.files if name != "extra"}


def assert_same(folder, model, history, reference):
    """Weights, optimiser, random states, history and files are those of the run that was never stopped, bit for bit."""
    reference_model, reference_history, reference_folder = reference
    assert without_seconds(history) == without_seconds(reference_history)
    assert without_seconds(files.read_rows(folder / training.HISTORY)) == without_seconds(reference_history)
    for ours, expected in zip(model.get_weights(), reference_model.get_weights(), strict=True):
        assert np.array_equal(ours, expected)
    ours, expected = state_of(folder), state_of(reference_folder)
    assert ours.keys() == expected.keys()
    assert all(np.array_equal(ours[name], expected[name]) for name in expected)
    kept = build()
    kept.load_weights(folder / training.BEST_WEIGHTS)
    assert all(np.array_equal(a, b) for a, b in zip(kept.get_weights(), reference_model.get_weights(), strict=True))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [training.BEST_WEIGHTS, training.STATE, training.HISTORY]
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nothing stops: its model, history and folder."""
    folder = tmp_path_factory.mktemp("reference")
    model, history = fit(folder)
    return model, history, folder


@pytest.fixture(scope="module")
def first_epoch(tmp_path_factory):
    """A folder after one epoch, trained under a strict umask and with TensorBoard logs."""
    folder = tmp_path_factory.mktemp("first_epoch")
    before = os.umask(0o027)
    try:
        fit(folder, epochs=1, schedule="constant", loggers=["tensorboard"])
    finally:
        os.umask(before)
    return folder


@pytest.fixture
def begun(first_epoch, tmp_path):
    """A copy of that folder, to go on with or to damage."""
    return Path(shutil.copytree(first_epoch, tmp_path / "begun", ignore=lambda *_: ["tensorboard"]))


def stop_in_epoch(stopped_epoch):
    def on_batch(epoch, batch):
        if (epoch, batch) == (stopped_epoch, 2):
            raise RuntimeError("stopped here")

    return Toy(on_batch)


def in_a_process(folder, how):
    """Train the toy in a process of its own, and send it a signal in the middle of the third epoch."""
    sentinel = folder.with_name("in_the_middle")
    command = [sys.executable, __file__, str(folder), str(sentinel)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not sentinel.exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline, "the process did not come to the third epoch in two minutes"
            time.sleep(0.02)
        process.send_signal(how)
        return process.wait(60)
    finally:
        process.kill()
        process.communicate()


# ---- stopped and resumed ----


def test_the_toy_learns_and_its_third_epoch_is_the_best_so_far(reference):
    """Otherwise the tests below would not see a checkpoint being written at the moment of the stop."""
    losses = [row["val_loss"] for row in reference[1]]
    assert min(losses) < 0.5 * losses[0]
    assert losses[2] == min(losses[:3])
    assert not np.array_equal(*(state_of(reference[2])[name] for name in ("variable_0", "variable_2")))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl_c"])
@pytest.mark.skipif(not ON_TENSORFLOW, reason="proven on TensorFlow")
def test_a_process_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(tmp_path, reference, how):
    folder = tmp_path / "run"
    assert in_a_process(folder, how) == -how
    assert len(files.read_rows(folder / training.HISTORY)) == 2
    (folder / f".{training.STATE}.123.part").write_bytes(b"what a process killed while writing leaves")
    drawn = []
    model, history = fit(folder, Toy(lambda epoch, batch: drawn.append(epoch)))
    assert set(drawn[-3 * BATCHES :]) == {2, 3, 4}  # the epochs before were not trained again
    assert len(drawn) < 4 * BATCHES
    assert_same(folder, model, history, reference)


def test_interrupted_resume_is_exact_and_silent(tmp_path, reference, capfd):
    """Interrupted by an exception, on whichever backend."""
    with pytest.raises(Exception, match="stopped here"):
        fit(tmp_path, stop_in_epoch(3))
    assert len(files.read_rows(tmp_path / training.HISTORY)) == 3
    capfd.readouterr()  # TensorFlow may speak of the exception
    assert_same(tmp_path, *fit(tmp_path), reference)
    printed = capfd.readouterr()
    spoken = [line for line in printed.err.splitlines() if not re.match(r"[IWE]\d{4} |WARNING: All log messages", line)]
    assert (printed.out, spoken) == ("", [])  # log lines of TensorFlow's C++ code aside


@pytest.mark.parametrize("after", [training.BEST_WEIGHTS, training.STATE])
def test_a_stop_between_two_files_of_an_epoch_is_exact(tmp_path, reference, monkeypatch, after):
    """The last epoch's weights are written and its state is not; or its state, and its history is not."""
    whole = files.written_whole
    order = [training.BEST_WEIGHTS, training.STATE, training.HISTORY]
    victim = order[order.index(after) + 1]

    def stopping(path, suffix=""):
        state = tmp_path / training.STATE
        if Path(path).name == victim and (tmp_path / training.HISTORY).exists():
            rows = len(files.read_rows(tmp_path / training.HISTORY))
            if rows == EPOCHS - 1 and state.exists():
                raise KeyboardInterrupt
        return whole(path, suffix)

    monkeypatch.setattr(training, "written_whole", stopping)
    monkeypatch.setattr(files, "written_whole", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path)
    monkeypatch.undo()
    assert len(files.read_rows(tmp_path / training.HISTORY)) == EPOCHS - 1
    assert_same(tmp_path, *fit(tmp_path), reference)


def test_finished_training_is_not_repeated(tmp_path, reference):
    folder = Path(shutil.copytree(reference[2], tmp_path / "copy"))
    drawn = []
    model, history = fit(folder, Toy(lambda epoch, batch: drawn.append(epoch)))
    assert not drawn
    assert_same(folder, model, history, reference)


def test_without_its_state_a_folder_is_trained_anew(begun, reference):
    training.discard_state(begun)
    training.discard_state(begun)  # nothing left to remove is no error
    assert not (begun / training.STATE).exists()
    assert_same(begun, *fit(begun), reference)


# ---- full disk ----


def assert_full_disk_leaves_the_epochs_before(folder, error, reference):
    assert f"could not write {folder / training.BEST_WEIGHTS} (" in str(error)
    assert "the file of before is intact. Free some disk space" in str(error)
    assert "run the same command again" in str(error)
    assert not list(folder.glob(".*"))
    assert len(files.read_rows(folder / training.HISTORY)) == 2
    training.load_weights(build(), folder / training.BEST_WEIGHTS)
    assert_same(folder, *fit(folder), reference)


def fill_at_third_epoch(fill):
    return Toy(lambda epoch, batch: fill() if (epoch, batch) == (2, 1) else None)


def test_a_limit_on_file_size_leaves_the_last_good_checkpoint(tmp_path, reference):
    resource = pytest.importorskip("resource", reason="this system has no limits to set")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    toy = fill_at_third_epoch(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard)))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            fit(tmp_path, toy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_full_disk_leaves_the_epochs_before(tmp_path, caught.value, reference)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, reference):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no mount command, which a small disk needs")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted without the rights to: {mounted.stderr.strip()}")
    try:
        ballast = disk / "ballast"

        def fill():
            with open(ballast, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass

        with pytest.raises(OSError, match="No space left on device") as caught:
            fit(disk / "run", fill_at_third_epoch(fill))
        ballast.unlink()
        assert_full_disk_leaves_the_epochs_before(disk / "run", caught.value, reference)
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=30)


# ---- early stopping ----


def worse_from_third_epoch(epoch, targets):
    return targets if epoch < 2 else 5 - targets


def early(folder, **options):
    options = {"epochs": 20, "patience": 3, "schedule": "constant", "learning_rate": 0.005, **options}
    toy = options.pop("toy", None) or Toy(change=worse_from_third_epoch)
    return fit(folder, toy, build(dropout=0.0), **options)


def assert_stopped_early(folder, model, history):
    losses = [row["val_loss"] for row in history]
    best = int(np.argmin(losses))
    assert best < 3
    assert len(history) == best + 1 + 3  # the best epoch, and three of patience
    assert losses[-1] > 2 * losses[best]
    predicted = model.predict(VALIDATION[0], verbose=0)
    assert np.mean((predicted - VALIDATION[1]) ** 2) == pytest.approx(losses[best], rel=1e-4)
    assert len(files.read_rows(folder / training.HISTORY)) == len(history)


@pytest.fixture(scope="module")
def stopped_early(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    return folder, *early(folder)


def test_early_stopping_keeps_the_best_weights(stopped_early):
    assert_stopped_early(*stopped_early)


def test_early_stopping_holds_when_it_comes_right_after_a_resume(tmp_path, stopped_early):
    whole = stopped_early[2]
    early(tmp_path, epochs=len(whole) - 1)
    for expected in ([len(whole) - 1], []):  # one epoch left to train; then none, though many are allowed
        drawn = []
        toy = Toy(lambda epoch, batch, drawn=drawn: drawn.append(epoch), worse_from_third_epoch)
        model, history = early(tmp_path, toy=toy)
        assert sorted(set(drawn) - {0}) == expected  # Keras draws the first batches to learn their shape
        assert without_seconds(history) == without_seconds(whole)
        assert_stopped_early(tmp_path, model, history)


# ---- what is written ----


def test_history_has_its_columns_on_disk_and_in_python(reference):
    _, history, folder = reference
    assert [list(row) for row in history] == [COLUMNS] * EPOCHS
    assert files.read_rows(folder / training.HISTORY) == history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert all(row["seconds"] > 0 for row in history)


def test_validation_figures_agree_with_the_kept_weights(reference):
    """Over images, not batches: the last batch of validation is smaller."""
    model, history, _ = reference
    best = min(history, key=lambda row: row["val_loss"])
    error = model.predict(VALIDATION[0], verbose=0) - VALIDATION[1]
    assert best["val_mae_px"] == pytest.approx(500 * np.abs(error).mean(), rel=1e-4)
    assert best["val_loss"] == pytest.approx((error**2).mean(), rel=1e-4)


def test_training_error_is_in_pixels(tmp_path):
    """One epoch at a rate too small to move the weights, without dropout, on a model without batch statistics."""
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    _, (row,) = fit(tmp_path, model=model, epochs=1, learning_rate=1e-12, schedule="constant")
    toy = Toy()
    error = np.concatenate([model.predict(toy[i][0], verbose=0) - toy[i][1] for i in range(BATCHES)])
    assert row["mae_px"] == pytest.approx(500 * np.abs(error).mean(), rel=1e-4)
    assert row["loss"] == pytest.approx((error**2).mean(), rel=1e-4)


def test_the_history_shows_what_is_asked_for(tmp_path):
    """In the place of a head's figures; Keras's name of the metric, a column, a factor. What is not measured is not."""
    options = {"epochs": 1, "shown": {"mae": ("volume_error_ml", 2000.0), "other": ("never", 1.0)}}
    model, (row,) = fit(tmp_path, **options)
    assert list(row) == ["epoch", "loss", "val_loss", "volume_error_ml", "val_volume_error_ml", *COLUMNS[-2:]]
    error = np.abs(model.predict(VALIDATION[0], verbose=0) - VALIDATION[1]).mean()
    assert row["val_volume_error_ml"] == pytest.approx(2000 * error, rel=1e-4)
    assert files.read_rows(tmp_path / training.HISTORY) == [row]


def test_cosine_schedule_by_its_formula(reference):
    steps, warmup = EPOCHS * BATCHES, 1  # 5 % of 20 steps
    expected = [
        RATE * (1 + math.cos(math.pi * (epoch * BATCHES - warmup) / (steps - warmup))) / 2
        for epoch in range(1, EPOCHS + 1)
    ]
    assert [row["learning_rate"] for row in reference[1]] == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_constant_schedule_is_constant(stopped_early):
    rates = [row["learning_rate"] for row in stopped_early[2]]
    assert rates == pytest.approx([0.005] * len(rates))


def test_the_moving_mean_of_gradients_is_as_asked_for(tmp_path):
    model, _ = fit(tmp_path / "asked", epochs=1, beta_1=0.5)
    assert model.optimizer.beta_1 == 0.5
    assert fit(tmp_path / "usual", epochs=1)[0].optimizer.beta_1 == 0.9


def test_a_single_step_can_be_scheduled(tmp_path):
    toy = Toy()
    toy.num_batches = 1
    _, (row,) = fit(tmp_path, toy, epochs=1)
    assert math.isfinite(row["val_loss"])


def test_files_follow_the_umask(first_epoch):
    for name in (training.BEST_WEIGHTS, training.STATE, training.HISTORY):
        assert (first_epoch / name).stat().st_mode & 0o777 == 0o640


def test_keras_itself_reads_the_checkpoint_without_a_warning(reference):
    plain = build()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        plain.load_weights(reference[2] / training.BEST_WEIGHTS)
    assert all(np.array_equal(a, b) for a, b in zip(plain.get_weights(), reference[0].get_weights(), strict=True))


def test_tensorboard_logs_on_request_only(first_epoch, reference):
    assert list((first_epoch / "tensorboard").rglob("events.out.tfevents*"))
    assert not (reference[2] / "tensorboard").exists()


def test_progress_in_a_log_file_is_a_line_an_epoch_and_says_where_it_goes_on(begun, capfd):
    fit(begun, epochs=2, schedule="constant", progress="cnn, fold 3")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "cnn, fold 3: going on after epoch 1\n" in printed.err
    assert "cnn, fold 3: epoch 2/2, validation error " in printed.err


# ---- refused ----


@pytest.mark.parametrize(("epoch", "kept"), [(1, "no weights are kept"), (2, "the weights of epoch 1 are kept")])
def test_a_loss_that_is_not_a_number_stops_and_leaves_the_checkpoint_of_before(tmp_path, begun, epoch, kept):
    folder = begun if epoch == 2 else tmp_path / "new"
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None
    toy = Toy(change=lambda now, targets: targets * np.float32("nan") if now == epoch - 1 else targets)
    words = rf"^loss became nan in epoch {epoch} of .*training diverged; {kept}\. Try a learning rate below 0\.02,"
    with pytest.raises(FloatingPointError, match=words):
        fit(folder, toy, schedule="constant")
    assert ({path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None) == before


def test_a_validation_loss_that_is_not_a_number_names_the_highest_rate(tmp_path):
    """At the end of a cosine the rate of the moment is nearly zero, and of no help."""
    images, targets = VALIDATION
    with pytest.raises(FloatingPointError, match=r"^val_loss became nan in epoch 1 .* learning rate below 0\.02,"):
        fit(tmp_path, validation=(images, targets * np.float32("nan")), epochs=1)


def test_the_state_of_another_model_is_refused(begun):
    before = (begun / training.STATE).read_bytes()
    words = r"training_state\.npz does not fit the model 'toy': it holds \d+ variables of [\d,]+ numbers, .*of another"
    with pytest.raises(ValueError, match=words):
        fit(begun, model=build(units=(6, 3)))
    assert (begun / training.STATE).read_bytes() == before


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 100])
def test_a_damaged_state_is_refused(begun, damage):
    path = begun / training.STATE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"training_state\.npz cannot be read \(.*Remove it to train this run from"):
        fit(begun)


def test_a_state_with_a_flipped_bit_is_refused(begun):
    path = begun / training.STATE
    data = bytearray(path.read_bytes())
    position = data.index(state_of(begun)["variable_4"].tobytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"training_state\.npz cannot be read \(.*CRC"):
        fit(begun)


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.weights\.h5 does not exist: .*before its first epoch ended"):
        training.load_weights(build(), tmp_path / "none.weights.h5")


def write_weights(model, path):
    path.write_bytes(model_state.weights_bytes(model))


@pytest.mark.parametrize("units", [(), (6, 6), (7,)], ids=["fewer_layers", "more_layers", "other_width"])
def test_weights_of_another_architecture_are_refused(tmp_path, units):
    """With fewer layers in the model than in the file, Keras itself would load a part and say nothing."""
    write_weights(build(), tmp_path / "a.weights.h5")
    model = build(units=units)
    words = rf"a\.weights\.h5 does not fit the model 'toy' of {model.count_params():,} parameters: it is damaged or was"
    with pytest.raises(ValueError, match=words):
        training.load_weights(model, tmp_path / "a.weights.h5")


def test_fewer_layers_of_equal_shapes_are_refused_and_named(tmp_path):
    long = build(units=(6, 1))
    write_weights(long, tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=rf"the file holds {long.count_params():,} parameters"):
        training.load_weights(build(units=(6,)), tmp_path / "a.weights.h5")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_damaged_weights_file_is_named(tmp_path, keep):
    path = tmp_path / "a.weights.h5"
    write_weights(build(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=r"a\.weights\.h5 does not fit the model .*damaged"):
        training.load_weights(build(), path)


def test_a_weights_file_damaged_inside_is_named(tmp_path):
    path = tmp_path / "a.weights.h5"
    write_weights(build(), path)
    with h5py.File(path, "a") as file:
        del file["layers"]
    with pytest.raises(ValueError, match=r"a\.weights\.h5 does not fit the model .*damaged"):
        training.load_weights(build(), path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, r"epochs and patience of at least 1\. Received: 0 and 5"),
        ({"patience": 0}, r"epochs and patience of at least 1\. Received: 5 and 0"),
        ({"learning_rate": 0.0}, r"learning rate must be positive\. Received: 0\.0"),
        ({"learning_rate": float("nan")}, r"learning rate must be positive\. Received: nan"),
        ({"schedule": "step"}, r"A schedule is 'constant' or 'cosine'\. Received: 'step'"),
    ],
)
def test_unusable_options_are_refused(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        fit(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def train_and_wait_to_be_stopped(folder, sentinel):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process started in the background ignores it

    def on_batch(epoch, batch):
        if (epoch, batch) == (2, 2):
            Path(sentinel).touch()
            time.sleep(1)

    fit(Path(folder), Toy(on_batch))


if __name__ == "__main__":
    train_and_wait_to_be_stopped(*sys.argv[1:])
