"""``hcreg trials``: what it says of studies that workers left in a real database, quickly, and without a password."""

import csv
import hashlib
import re
import subprocess
import sys

import pytest
from PIL import Image

from hcreg import cli
from hcreg.cli import trials_command
from hcreg.cli.database_option import database_of
from hcreg.cli.printed import duration, first_line, number, print_fields, print_table

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(studies, monkeypatch):
    monkeypatch.setenv("HCREG_DATABASE", studies)
    return studies


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No database is named, and none is in the folder."""
    monkeypatch.delenv("HCREG_DATABASE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys, *arguments, status=0):
    assert cli.main(["trials", *map(str, arguments)]) == status
    return capsys.readouterr()


def cells(line):
    return re.split(r"\s{2,}", line.strip())


def test_list_without_a_study_counts_the_trials_of_each(database, capsys):
    lines = {cells(line)[0]: cells(line)[1:] for line in printed(capsys, "list").out.splitlines()}
    assert lines["study"] == [
        *("completed", "diverged", "failed", "running", "waiting", "of", "objective", "best", "created"),
    ]
    assert lines["night"][:8] == ["2", "1", "1", "1", "0", "30", "val_mae_px (min)", "4.5"]
    assert lines["begun"][:8] == ["0", "0", "0", "0", "0", "30", "val_r2 (max)", "-"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", lines["long"][-1])


def test_list_of_a_study_has_a_line_for_each_trial(database, capsys):
    lines = [cells(line) for line in printed(capsys, "list", "night").out.splitlines()]
    assert lines[0] == ["trial", "state", "learning_rate", "val_mae_px", "best epoch", "time", "host", "message"]
    assert [line[:5] for line in lines[1:]] == [
        ["0", "completed", "0.0001", "9", "2 of 2"],
        ["1", "completed", "0.002", "4.5", "2 of 3"],
        ["2", "diverged", "0.05", "-", "- of 2"],
        ["3", "failed", "0.0003", "-", "- of 0"],
        ["4", "running", "0.0004", "-", "- of 0"],
    ]
    assert lines[3][-1] == "val_mae_px became nan in epoch 2"
    assert lines[4][-2:] == ["gpu0", "ValueError: [bold] is no number"]


def test_columns_that_say_nothing_are_left_out(database, capsys):
    assert cells(printed(capsys, "list", "long").out.splitlines()[0])[-1] == "host"
    assert printed(capsys, "list", "begun").out == "begun has no trials yet\n"


def test_best_are_listed_best_first_and_completed_ones_only(database, capsys):
    lines = printed(capsys, "best", "night", "-n", "7").out.splitlines()
    assert [cells(line)[0] for line in lines[1:]] == ["1", "0"]
    assert len(printed(capsys, "best", "night", "-n", "1").out.splitlines()) == 2
    assert printed(capsys, "best", "begun").out == "no trial of begun has completed yet: none yet\n"


def test_show_says_what_a_study_is_and_who_works_on_it(database, capsys):
    text = printed(capsys, "show", "night").out
    fields = dict(re.findall(r"^(\w+) +(.+)$", text, re.MULTILINE))
    assert fields["objective"] == "val_mae_px (min)"
    assert fields["trials"] == "2 completed, 1 diverged, 1 failed, 1 running; at most 30"
    assert (fields["seed"], fields["data"], fields["num_training"]) == ("3", "HC18", "600")
    assert fields["algorithm"] == "beta 2.6, name bayesian"
    assert fields["training"] == "epochs 20, train.num_samples 600"
    assert "learning_rate  min_value 1e-05, max_value 0.1, sampling log" in text
    assert "best: 4.5 in trial 1, with learning_rate 0.002" in text
    workers = [cells(line) for line in text.splitlines() if line.startswith("gpu")]
    assert [line[:3] for line in workers] == [[f"gpu{n}", "tensorflow: A100", "221"[n]] for n in range(3)]
    assert "  def build_model(learning_rate):\n      return small(learning_rate)" in text


def test_show_of_a_trial_has_its_attempts_files_and_message(database, capsys):
    text = printed(capsys, "show", "night", 1).out
    assert re.search(r"^hp_learning_rate +0\.002$", text, re.MULTILINE)
    assert re.search(r"^metric_val_mae_mm +0\.45$", text, re.MULTILINE)
    attempt = cells(text.split("\nattempts\n")[1].splitlines()[1])
    assert [attempt[0], *attempt[3:]] == ["1", "completed", "gpu1", "1001", "tensorflow: A100", "0123abc"]
    digest = hashlib.sha256(b"weights").hexdigest()
    assert cells(text.splitlines()[-1]) == ["model", "7", digest, "in the database"]
    failed = printed(capsys, "show", "night", 3).out
    assert failed.split("\nmessage\n")[1].splitlines() == [
        "Traceback (most recent call last):",
        '  File "model.py", line 3, in build',
        "ValueError: [bold] is no number",
    ]
    assert "under way" in printed(capsys, "show", "night", 4).out


def test_plot_draws_the_curve_and_the_histories(database, capsys, tmp_path):
    for name, more in (("curve", ()), ("epochs", ("--history",))):
        path = tmp_path / "figures" / f"{name}.png"
        assert printed(capsys, "plot", "night", "--output", path, *more).out == f"{path} written\n"
        assert Image.open(path).size == (1170, 598)
    assert Image.open(path).tobytes() != Image.open(tmp_path / "figures" / "curve.png").tobytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["curve.png", "epochs.png"]


def test_plot_of_a_study_without_trials_says_so_in_the_picture(database, capsys, tmp_path):
    for more in ((), ("--history",)):
        printed(capsys, "plot", "begun", "--output", tmp_path / "a.png", *more)
        assert (tmp_path / "a.png").is_file()


def test_plot_brings_out_the_best_trial_of_the_study(database, monkeypatch, tmp_path):
    asked = {}

    def histories(rows, metric, **look):
        asked.update(look, metric=metric, trials={row["number"] for row in rows})
        return original(rows, metric, **look)

    from hcreg import plotting

    original = plotting.trial_histories
    monkeypatch.setattr(plotting, "trial_histories", histories)
    assert cli.main(["trials", "plot", "night", "--history", "--output", str(tmp_path / "a.png")]) == 0
    assert asked == {"metric": "val_mae_px", "trials": {0, 1, 2}, "best": 1, "direction": "min", "title": "night"}


def test_export_writes_the_table(database, capsys, tmp_path):
    path = tmp_path / "trials.csv"
    assert printed(capsys, "export", "night", "--csv", path).out == f"5 trials of night written to {path}\n"
    rows = list(csv.DictReader(path.open()))
    assert [row["state"] for row in rows] == ["completed", "completed", "diverged", "failed", "running"]
    assert [float(row["hp_learning_rate"]) for row in rows] == [1e-4, 2e-3, 5e-2, 3e-4, 4e-4]
    assert rows[1]["metric_val_mae_mm"] == "0.45"
    assert rows[2]["objective"] == ""


def test_export_to_optuna(database, capsys, tmp_path):
    optuna = pytest.importorskip("optuna")
    url = f"sqlite:///{tmp_path}/trials.db"
    text = printed(capsys, "export", "night", "--optuna", url).out
    assert text == f"4 finished trials of night written as an Optuna study; look at it with optuna-dashboard {url}\n"
    study = optuna.load_study(study_name="night", storage=url)
    assert study.best_value == 4.5
    assert study.best_params == {"learning_rate": 2e-3}


def test_export_repeats_no_address_with_a_password(database, capsys, monkeypatch):
    monkeypatch.setattr("hcreg.tuning.store.TrialStore.export_optuna", lambda self, study, url: None)
    assert "secret" not in printed(capsys, "export", "night", "--optuna", "postgresql://ann:secret@host/optuna").out


def test_what_is_not_there_is_named_with_what_is(database, capsys, tmp_path):
    answer = printed(capsys, "list", "nigth", status=1).err
    assert answer.startswith("hcreg trials: There is no study 'nigth'")
    assert "'night'" in answer
    assert "has no trial 9: its trials are 0 to 4" in printed(capsys, "show", "night", 9, status=1).err
    answer = printed(capsys, "plot", "night", "--output", tmp_path / "a.png", "--hyperparameter", "units", status=1).err
    assert "night has no hyperparameter 'units'; it searches for learning_rate" in answer


def test_figure_of_another_kind_is_refused_before_the_database_is_asked(nowhere, capsys):
    answer = printed(capsys, "plot", "night", "--output", "a.pdf", status=1).err
    assert "--output takes a file that ends in .png. Received: a.pdf" in answer


def test_no_study_yet(embedded, capsys, monkeypatch):
    monkeypatch.setenv("HCREG_DATABASE", embedded())
    assert printed(capsys, "list").out == "no studies yet; hcreg tune STUDY starts one\n"


def test_database_by_dsn_by_variable_and_by_folder(studies, embedded, nowhere, capsys, monkeypatch):
    assert "night" in printed(capsys, "list", "--database", studies).out
    monkeypatch.setenv("OTHER_DATABASE", studies)
    assert "night" in printed(capsys, "list", "--database", "OTHER_DATABASE").out
    assert "no studies yet" in printed(capsys, "list", "--database", embedded.folder).out
    monkeypatch.setattr(trials_command, "DATABASE_FOLDER", embedded.folder)
    assert "no studies yet" in printed(capsys, "list").out


def test_no_database_is_said_with_what_to_do(nowhere, capsys):
    answer = printed(capsys, "list", status=1).err
    assert "there is no database to look into: neither --database nor the environment variable HCREG_DATABASE" in answer
    assert "runs/tuning/database holds no embedded server" in answer
    assert not list(nowhere.iterdir())


def test_a_database_that_is_none_is_refused_and_what_may_hold_a_password_not_repeated(nowhere, capsys):
    answer = printed(capsys, "list", "--database", "HCREG_DATABSE", status=1).err
    assert "There is no variable or folder 'HCREG_DATABSE'" in answer
    answer = printed(capsys, "list", "--database", "postgresql:/ann:secret@host/trials", status=1).err
    assert "What was given is none of them" in answer
    assert "secret" not in answer


def test_password_on_the_command_line_is_warned_of_and_never_printed(nowhere, capsys):
    answer = printed(capsys, "list", "--database", "postgresql://ann:secret@127.0.0.1:1/trials", status=1).err
    assert "note: the password in --database can be read by everyone on this machine" in answer
    assert "~/.pgpass" in answer
    assert "environment variable" in answer
    assert "nothing answers there" in answer
    assert "secret" not in answer
    quoted = printed(capsys, "list", "--database", "host=127.0.0.1 port=1 password='sec ret' x", status=1).err
    assert "sec ret" not in quoted


def test_no_note_without_a_password(studies, capsys):
    assert printed(capsys, "list", "--database", studies).err == ""
    assert database_of("postgresql://ann@host/trials", "nowhere") == "postgresql://ann@host/trials"
    assert capsys.readouterr().err == ""


def test_looking_does_not_load_keras(studies):
    code = (
        "import sys\nfrom hcreg import cli\n"
        f"assert cli.main(['trials', 'list', 'long', '--database', {studies!r}]) == 0\n"
        "heavy = {'tensorflow', 'keras', 'keras_tuner', 'jax', 'torch', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.count("\n") == 501


def test_a_reader_that_has_seen_enough_is_no_error(studies):
    command = f"{sys.executable} -m hcreg.cli trials list long --database '{studies}' | head -n 2"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.stderr, answer.stdout.count("\n")) == ("", 2)


def test_terminal_gets_a_table_whose_numbers_are_whole(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "50")
    lines = [["17", "0.0012345", "[red] a message longer than the terminal is wide, by far"]]
    print_table(["trial", "learning_rate", "message"], lines, right=("trial", "learning_rate"))
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "0.0012345" in text
    assert "[red] a message" in text
    assert "by far" not in text
    assert all(len(line.rstrip()) <= 50 for line in text.splitlines())


def test_plain_table_is_aligned(capsys):
    print_table(["a", "name"], [["1", "x"], ["100", "y z"]], right=("a",))
    assert capsys.readouterr().out == "  a  name\n  1  x\n100  y z\n"
    print_table(["a", "b"], [])
    assert capsys.readouterr().out == "a  b\n"


def test_fields_of_several_lines_stay_in_their_column(capsys):
    print_fields({"a": "one\ntwo", "long": None, "empty": ""})
    assert capsys.readouterr().out == "a      one\n       two\nlong   None\nempty\n"


def test_numbers_in_short():
    assert [number(value) for value in (1.23456e-5, 12, None, "relu", True)] == ["1.235e-05", "12", "-", "relu", "True"]
    assert [duration(value) for value in (None, 0.04, 119.9, 120, 7199, 7200)] == [
        *("-", "0.0 s", "119.9 s", "2.0 min", "120.0 min", "2.0 h"),
    ]


def test_messages_in_short():
    assert first_line(None) == first_line("\n") == ""
    assert first_line("one\ntwo") == "one"
    assert first_line("Traceback (most recent call last):\n  x\nKeyError: 3\n") == "KeyError: 3"
    assert first_line("x" * 81) == "x" * 79 + "…"
    assert first_line("x" * 80) == "x" * 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trials"], "required: ACTION"),
        (["trials", "export", "night"], "--csv --optuna is required"),
        (["trials", "plot", "night"], "required: --output"),
        (["trials", "best", "night", "-n", "0"], "expected a whole number of at least 1, received 0"),
        (["trials", "show", "night", "first"], "expected a whole number of at least 0, received first"),
    ],
)
def test_options_that_do_not_parse(arguments, words, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert words in capsys.readouterr().err
