"""``hcreg tune``: searches with small models in real databases, stopped and gone on with; what is refused, and how."""

import argparse
import csv
import os
import shlex
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hcreg import cli
from hcreg.cli import search_regressor, tune_command
from hcreg.cli.search_script import check_model, load_script
from hcreg.cli.turns import only_one

pytestmark = pytest.mark.postgres

SCRIPT = """
import keras
import numpy as np


def build_model(learning_rate):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def data():
    x = np.ones((8, 1), "float32")
    return (x, 3 * x), (x, 3 * x)


def measures(model):
    return {"weight": float(model.get_weights()[0][0, 0])}
"""
# one step of SGD from weight 1 on (w - 3)**2: w = 1 + 4 * learning rate; the loss is then (4 * learning rate - 2)**2
SMALL = ["--epochs", "1", "--max-trials", "2", "--algorithm", "random", "--batch-size", "8"]


@pytest.fixture(scope="session")
def dsn(new_database):
    return new_database("tune")


@pytest.fixture
def database(dsn, monkeypatch, tmp_path):
    """A named database, and a folder of one's own to work in."""
    monkeypatch.setenv("HCREG_DATABASE", dsn)
    monkeypatch.chdir(tmp_path)
    return dsn


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv("HCREG_DATABASE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tuned(capsys, *arguments, status=0):
    assert cli.main(["tune", *map(str, arguments)]) == status
    return capsys.readouterr()


def store_of(dsn):
    from hcreg.tuning.store import TrialStore

    return TrialStore(dsn)


def test_search_in_its_own_database(nowhere, script, capsys):
    out = tuned(capsys, "own", "--script", script, *SMALL, "--low", "0.01", "--high", "0.4").out
    folder = Path("runs", "tuning", "own")
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert [row["state"] for row in rows] == ["completed"] * 2
    for row in rows:
        rate = float(row["hp_learning_rate"])
        assert float(row["objective"]) == pytest.approx((4 * rate - 2) ** 2, rel=1e-4)
        assert float(row["metric_weight"]) == pytest.approx(1 + 4 * rate, rel=1e-5)
    best = max(rows, key=lambda row: float(row["hp_learning_rate"]))
    assert out.splitlines() == [
        "own: 2 completed, 0 diverged, 0 failed",
        f"best learning rate: {float(best['hp_learning_rate']):.4g}, with val_loss {float(best['objective']):.4g} "
        f"(trial {best['number']}, epoch 1)",
        "figure: runs/tuning/own/learning_rate.png",
        "table: runs/tuning/own/trials.csv",
        f"weights of the best model: {best['model_path']}",
        "Look closer with",
        f"  hcreg trials show own {best['number']}",
        "  hcreg trials best own",
    ]
    assert Path(best["model_path"]).is_file()
    assert Image.open(folder / "learning_rate.png").size == (1170, 598)
    # its database is found by the command named above, and by the same search, which has nothing left to do
    assert cli.main(["trials", "best", "own", "-n", "1"]) == 0
    assert f"\n    {best['number']}  completed" in capsys.readouterr().out
    again = tuned(capsys, "own", "--script", script, *SMALL, "--low", "0.01", "--high", "0.4")
    assert again.out == out
    assert "trial" not in again.err.replace("at most 2 trials", "")


def test_search_in_a_named_database_leaves_the_best_weights_in_the_folder(database, script, capsys):
    import keras

    arguments = ["--output", "found", "--low", "0.01", "--high", "0.4", "--database", "HCREG_DATABASE"]
    out = tuned(capsys, "named", "--script", script, *SMALL, *arguments).out
    assert "weights of the best model: found/named/best_model.weights.h5" in out
    assert sorted(path.name for path in Path("found").rglob("*") if path.is_file()) == [
        *("best_model.weights.h5", "learning_rate.png", "report.lock", "trials.csv"),
    ]
    best = store_of(database).best("named")[0]
    model = load_script(script).build_model(0.1)
    assert isinstance(model, keras.Model)
    model.load_weights("found/named/best_model.weights.h5")
    assert model.get_weights()[0][0, 0] == pytest.approx(best["metric_weight"])
    commands = [shlex.split(line) for line in out.split("Look closer with\n")[1].splitlines()]
    assert [command[:4] for command in commands] == [["hcreg", "trials", name, "named"] for name in ("show", "best")]
    for command in commands:
        assert cli.main(command[1:]) == 0


@pytest.fixture
def seen(monkeypatch):
    """What a search is given; none is made."""
    seen = {}

    def search(*arguments, **options):
        seen.update(options, positional=arguments[3:])
        raise RuntimeError("enough seen")

    monkeypatch.setattr("hcreg.tuning.search.learning_rate_search", search)
    return seen


def test_shared_folder_takes_the_weights(database, script, seen, capsys):
    tuned(capsys, "shared", "--script", script, "--output", "nfs", "--shared", status=1)
    assert (seen["checkpoints"], seen["folder"]) == (Path("nfs/trials"), Path("nfs"))
    assert (seen["objective"], seen["direction"], seen["patience"]) == ("val_loss", None, None)


def test_settings_reach_the_search(database, script, seen, capsys):
    options = ["--low", "1e-3", "--high", "1", "--max-trials", "7", "--epochs", "9", "--patience", "4", "--seed", "5"]
    options += ["--objective", "val_r2", "--direction", "max", "--algorithm", "grid", "--accept-code-change"]
    answer = tuned(capsys, "passed", "--script", script, *options, "--database", "HCREG_DATABASE", status=1)
    assert answer.err.endswith("hcreg tune: enough seen\n")
    assert seen.pop("positional") == (1e-3, 1.0, 7, 9, "passed", "HCREG_DATABASE")
    assert seen.pop("measures").__name__ == "measures"
    assert seen == {
        "folder": Path("runs/tuning"),
        "checkpoints": None,
        "objective": "val_r2",
        "direction": "max",
        "algorithm": "grid",
        "seed": 5,
        "batch_size": 32,
        "patience": 4,
        "callbacks": (),
        "definition": {},
        "attributes": {"script": str(script)},
        "accept_code_change": True,
    }


def test_a_stopped_trial_is_given_back_and_the_same_command_goes_on(database, script, capsys):
    study = "stopped"
    stop = "import os, signal\n\n\ndef measures(model):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return {}\n"
    script.write_text(SCRIPT.split("def measures")[0] + stop)
    arguments = [study, "--script", script, *SMALL]
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    answer = tuned(capsys, *arguments, status=130)
    assert "trial 0 " in answer.err
    assert answer.err.endswith("Stopped. The same command goes on.\n")
    assert [row["state"] for row in store_of(database).table(study)] == ["waiting"]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == handlers
    script.write_text(SCRIPT)
    assert f"{study}: 2 completed, 0 diverged, 0 failed" in tuned(capsys, *arguments).out


def test_the_end_of_a_terminal_stops_like_ctrl_c(capsys, monkeypatch, script):
    monkeypatch.setattr(tune_command, "_search", lambda options: os.kill(os.getpid(), signal.SIGHUP))
    assert tuned(capsys, "hangup", "--script", script, status=130).err == "\nStopped. The same command goes on.\n"


def test_hangup_that_nohup_ignores_stays_ignored(monkeypatch):
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with tune_command._signals_as_ctrl_c():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_range_that_diverges_throughout_has_no_best(database, script, capsys):
    out = tuned(
        *(capsys, "diverged", "--script", script, *SMALL[2:], "--epochs", "9", "--low", "1e9", "--high", "1e12"),
        status=1,
    ).out
    assert "diverged: 0 completed, 2 diverged, 0 failed" in out
    assert "No trial completed" in out
    assert "name a new study with --high below 1e+12" in out
    assert "hcreg trials list diverged" in out
    assert Path("runs/tuning/diverged/learning_rate.png").is_file()


def test_trials_that_all_fail_stop_the_search_with_the_reason(database, script, capsys):
    fault = "    if learning_rate > 1e-5:\n        raise KeyError('no such layer')\n    model = keras"
    script.write_text(SCRIPT.replace("    model = keras", fault))
    answer = tuned(capsys, "failing", "--script", script, *SMALL, "--max-trials", "20", status=1).err
    assert "The last 3 trials of 'failing' failed one after the other" in answer
    assert "no such layer" in answer


def test_changed_script_is_refused_with_the_difference(database, script, capsys):
    tuned(capsys, "changed", "--script", script, *SMALL, "--max-trials", "1")
    script.write_text(SCRIPT.replace('"ones"', '"zeros"'))
    answer = tuned(capsys, "changed", "--script", script, *SMALL, "--max-trials", "2", status=1).err
    assert 'kernel_initializer="zeros"' in answer
    assert "--accept-code-change" in answer
    more = ["--max-trials", "2", "--accept-code-change"]
    assert "2 completed" in tuned(capsys, "changed", "--script", script, *SMALL, *more).out


def regressor_options(**changes):
    options = {"data": None, "model": "cnn_263k", "num_examinations": 5, "augmentation": "none", "batch_size": None}
    return argparse.Namespace(**{**options, "seed": 0, "output": Path("runs/tuning"), **changes})


def test_regressor_is_judged_in_pixels_and_measured_in_mm(database, cohort, capsys):
    arguments = ["head", "--data", cohort, "--model", "cnn_263k", "--augmentation", "none", *SMALL[:4]]
    arguments += ["--max-trials", "1", "--low", "1e-4", "--high", "1e-2"]
    out = tuned(capsys, *arguments).out
    assert "head: 1 completed, 0 diverged, 0 failed" in out
    store = store_of(database)
    best, study = store.best("head")[0], store.study("head")
    assert f"with val_mae_px {best['objective']:.4g}" in out
    scale_px = study["attributes"]["target_scale_px"]
    assert best["objective"] == pytest.approx(best["metric_val_loss"] * scale_px, rel=1e-4)
    assert f"validation images: {best['metric_val_mae_mm']:.2f} mm; a constant guess " in out
    assert (study["definition"]["direction"], study["attributes"]["model"]) == ("min", "cnn_263k")
    answer = tuned(capsys, *arguments, "--model", "cnn_1m", "--augmentation", "default", status=1).err
    assert "The study 'head' is another search: " in answer
    assert "augmentation is 'none' there and 'default' here" in answer
    assert "model is 'cnn_263k' there and 'cnn_1m' here" in answer in answer


def test_regressor_never_sees_the_test_part(cohort, tmp_path, monkeypatch):
    from hcreg import head_circumference
    from hcreg.datasets import HC18

    read = []
    original = search_regressor.read_images
    monkeypatch.setattr(
        search_regressor, "read_images", lambda records, shape: (read.extend(records), original(records, shape))[1]
    )
    target = search_regressor.head_target(regressor_options(data=cohort, output=tmp_path))
    split = head_circumference.single_split(HC18(cohort), seed=0)
    seen = {record.subject_id for record in read}
    assert seen == {*split["training"], *split["validation"]}
    assert len(target.train.indices) == len(split["training"])
    images, fractions = target.validation
    assert images.shape == (len(split["validation"]), 128, 128, 1)
    assert fractions.shape == (len(images), 1)


def test_measures_agree_with_the_objective_of_keras(cohort, tmp_path):
    target = search_regressor.head_target(regressor_options(data=cohort, output=tmp_path))
    model = target.build_model(1e-3)
    images, fractions = target.validation
    scale_px = target.attributes["target_scale_px"]
    evaluated = model.evaluate(images, fractions, verbose=0, return_dict=True)
    predicted = model.predict(images, verbose=0)
    assert evaluated["mae_px"] == pytest.approx(np.abs(predicted - fractions).mean() * scale_px, rel=1e-4)
    found = target.measures(model)
    assert set(found) == {"val_mae_mm", "val_pmae_percent", "val_constant_mae_mm"}
    assert all(np.isfinite(list(found.values())))
    # a reference pixel is a tenth to a third of a millimetre
    assert 0.04 < found["val_mae_mm"] / evaluated["mae_px"] < 0.5


def test_each_trial_sees_the_same_augmentation_in_the_same_epoch(cohort, tmp_path, monkeypatch):
    import copy

    target = search_regressor.head_target(regressor_options(data=cohort, output=tmp_path, augmentation="default"))
    (callback,) = target.callbacks
    copied = copy.deepcopy(callback)
    assert copied.batches is target.train
    for epoch in (0, 1, 0):
        copied.on_epoch_begin(epoch)
        assert target.train.epoch == epoch


def test_networks_of_every_name_can_be_built():
    import inspect

    from hcreg import models
    from hcreg.cli.parser import HEAD_MODELS

    for name in HEAD_MODELS:
        height, width, channels = inspect.signature(getattr(models, name)).parameters["input_shape"].default
        assert height > 1 < width
        assert channels in (1, 3)


def test_synthetic_cohort_is_made_once_for_all_who_ask_at_once(tmp_path, monkeypatch, capsys):
    inside, most = [], []

    def slow(folder, num_examinations, seed):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()

    monkeypatch.setattr("hcreg.datasets.synthetic.fetal_head", slow)
    folder = tmp_path / "new" / "cohort"
    threads = [threading.Thread(target=search_regressor.shared_cohort, args=(folder, 5, 0)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]
    assert f"{folder} is being made by another process; waiting for it" in capsys.readouterr().err


def test_regressor_makes_its_cohort_where_no_data_are_named(tmp_path):
    target = search_regressor.head_target(regressor_options(output=tmp_path))
    assert (tmp_path / "synthetic_5_seed_0" / "training_set").is_dir()
    assert target.attributes["num_training"] + target.attributes["num_validation"] < 7


def test_a_turn_ends_with_an_error_too(tmp_path):
    path = tmp_path / "a" / "lock"
    with pytest.raises(KeyError), only_one(path, "it is made"):
        raise KeyError
    with only_one(path, "it is made"):
        pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere_at_all", r"small.py, line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = 1\n\ny = 1 / 0\n", r"when it was loaded: .*small.py, line 3: ZeroDivisionError: division by zero"),
        ("def build_model(learning_rate)\n", r"small.py, line 1: SyntaxError: expected ':'"),
        ("import sys\nsys.exit(3)\n", r"small.py, line 2: SystemExit: 3"),
        (
            "def data(): pass\n",
            r"must define a function build_model; it has nothing of that name\. Expected: def build",
        ),
        ("build_model = 3\n", r"must define a function build_model; it has a int"),
        ("def build_model(rate): pass\n", r"must define a function data; it has nothing"),
        (
            "def build_model(): pass\n\n\ndef data(): pass\n",
            r"build_model\(\) of .*small.py is called with a learning rate: too many positional",
        ),
        (
            "def build_model(rate, units): pass\n\n\ndef data(): pass\n",
            r"build_model\(rate, units\) .* missing a required argument: 'units'",
        ),
        (
            "def build_model(rate): pass\n\n\ndef data(fold): pass\n",
            r"data\(fold\) of .* is called with no arguments: missing a required argument: 'fold'",
        ),
        (
            "def build_model(rate): pass\n\n\ndef data():\n    return [][0]\n",
            r"in data\(\): .*small.py, line 5: IndexError: list index out of range",
        ),
        (
            "def build_model(rate): pass\n\n\ndef data():\n    return 1, 2, 3\n",
            r"must return two things, \(train, validation\).*Received: 3 of them",
        ),
        ("def build_model(rate): pass\n\n\ndef data(): pass\n", r"Received: a NoneType"),
        (
            "measures = 3\n\n\ndef build_model(rate): pass\n\n\ndef data(): pass\n",
            r"measures of .*small.py must be a function of the model\. Received: int",
        ),
    ],
)
def test_scripts_that_are_none(script, text, words):
    script.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_script(script)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("raise KeyError('depth')", r"in build_model\(0\.1\): .*small.py, line 7: KeyError: 'depth'"),
        ("return 3", r"build_model\(0\.1\) of .* must return a compiled keras\.Model\. Received: a int\. End it with"),
        ("return keras.Sequential()", r"Received: one that is not compiled\. End it with model\.compile\("),
    ],
)
def test_scripts_whose_model_is_none(script, line, words):
    script.write_text(SCRIPT.replace("    model = keras", f"    {line}\n    model = keras"))
    with pytest.raises(ValueError, match=words):
        check_model(script, load_script(script).build_model, 0.1)


def test_script_may_import_what_lies_beside_it(script):
    (script.parent / "beside_the_script.py").write_text("ANSWER = 42\n")
    script.write_text("from beside_the_script import ANSWER\n" + SCRIPT.replace("return (x,", "return (ANSWER,"))
    assert load_script(script).train[0] == 42


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--script", "none.py"], "there is no script none.py; give a Python file that defines def build_model("),
        (["--script", "small.txt"], "--script takes a Python file that ends in .py. Received: small.txt"),
        (["--low", "0.1", "--high", "0.01"], "--low must be below --high. Received: 0.1 and 0.01"),
        (["--low", "0.1", "--high", "0.1"], "--low must be below --high"),
        (["--script", "small.py", "--data", "HC18", "--model", "cnn_1m"], "--model, --data belong(s) to the head-circ"),
        (["--data", "HC18", "--num-examinations", "9"], "--num-examinations is the size of the synthetic cohort"),
        (["--output", "small.py"], "--output takes a folder. Received a file: small.py"),
        (["--script", "small.py", "--database", "NOT_SET"], "There is no variable or folder 'NOT_SET'"),
    ],
)
def test_options_that_do_not_go_together(nowhere, script, arguments, words, capsys):
    (nowhere / "small.txt").write_text("")
    answer = tuned(capsys, "study", *arguments, status=1).err
    assert f"hcreg tune: {words}" in answer or words in answer
    assert sorted(os.listdir(nowhere)) == ["small.py", "small.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["../up"], "expected a name of letters, digits"),
        ([".hidden"], "begins with a letter or digit"),
        (["a" * 101], "at most 100 of them"),
        (["two words"], "since a folder is named after it; received 'two words'"),
        (["study", "--low", "0"], "expected a number above 0 such as 1e-4, received 0"),
        (["study", "--high", "much"], "expected a number above 0 such as 1e-4, received much"),
        (["study", "--high", "inf"], "received inf"),
        (["study", "--epochs", "0"], "expected a whole number of at least 1, received 0"),
        (["study", "--seed", "-1"], "expected a whole number of at least 0, received -1"),
        (["study", "--model", "vgg"], "invalid choice: 'vgg'"),
    ],
)
def test_options_that_do_not_parse(arguments, words, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["tune", *arguments])
    assert error.value.code == 2
    assert words in capsys.readouterr().err


def test_next_command_names_the_database_but_no_password(tmp_path):
    def words(database, output="runs/tuning"):
        return tune_command._database_words(argparse.Namespace(database=database, output=Path(output)))

    assert words(None) == ""
    assert words("OTHER") == " --database OTHER"
    assert words("host=a dbname=b") == " --database 'host=a dbname=b'"
    assert words("postgresql://ann:secret@host/trials") == " --database DSN"
    (tmp_path / "database").mkdir()
    assert words(None, tmp_path) == f" --database {tmp_path}/database"
