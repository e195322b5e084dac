import csv
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import keras
import pytest

import hcreg
from hcreg import cli
from hcreg.cli import measure_command
from hcreg.datasets import HC18
from hcreg.measurement import Measurement, TrainedRegressor


def test_measure_prints_one_line_an_image(trained_run, capsys):
    records = list(trained_run["dataset"])[:2]
    arguments = ["measure", *(str(record.image_path) for record in records), "--pixel-size-mm", "0.1"]
    assert cli.main([*arguments, "--model", str(trained_run["folder"])]) == 0
    header, *lines = capsys.readouterr().out.strip().split("\n")
    assert header.startswith("filename,hc_mm,hc_px,interval_low_mm,interval_high_mm,coverage,gestational_age_weeks")
    assert [line.split(",")[0] for line in lines] == [str(record.image_path) for record in records]


def test_measure_writes_csv_and_json_alike(trained_run, tmp_path, capsys):
    record = trained_run["dataset"][0]
    sizes = str(trained_run["dataset"][0].image_path.parent.parent / "training_set_pixel_size_and_HC.csv")
    for name in ("out.csv", "out.json"):
        arguments = [
            "measure",
            str(record.image_path),
            "--pixel-size-csv",
            sizes,
            "--model",
            str(trained_run["folder"]),
        ]
        assert cli.main([*arguments, "--output", str(tmp_path / name)]) == 0
    (from_csv,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    (from_json,) = json.loads((tmp_path / "out.json").read_text())
    assert float(from_csv["hc_mm"]) == from_json["hc_mm"]
    assert from_json["hc_mm"] == pytest.approx(from_json["hc_px"] * record.pixel_size_mm)
    assert capsys.readouterr().out == ""


def test_bad_image_among_good_ones_is_named_and_the_rest_measured(trained_run, tmp_path, capsys):
    good = trained_run["dataset"][0].image_path
    bad = tmp_path / "half.png"
    bad.write_bytes(good.read_bytes()[:5000])
    arguments = [
        "measure",
        str(bad),
        str(good),
        "--pixel-size-mm",
        "0.1",
        "--model",
        str(trained_run["folder"]),
    ]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    assert str(good) in printed.out
    assert re.search(r"not measured: .*half\.png", printed.err)
    assert "1 of 2 image(s) could not be measured" in printed.err


def test_images_missing_from_the_pixel_size_csv_are_named(trained_run, tmp_path, capsys):
    table = tmp_path / "sizes.csv"
    table.write_text("filename,pixel size(mm)\nother.png,0.1\n")
    arguments = ["measure", "one.png", "--pixel-size-csv", str(table), "--model", str(trained_run["folder"])]
    assert cli.main(arguments) == 1
    assert "has no row for 1 image(s), the first: one.png" in capsys.readouterr().err


def test_pixel_size_csv_of_another_kind(trained_run, tmp_path, capsys):
    table = tmp_path / "sizes.csv"
    table.write_text("name,size\nother.png,0.1\n")
    arguments = ["measure", "one.png", "--pixel-size-csv", str(table), "--model", str(trained_run["folder"])]
    assert cli.main(arguments) == 1
    assert "needs the columns 'filename' and 'pixel size(mm)'" in capsys.readouterr().err


def test_pixel_size_that_is_no_number(trained_run, tmp_path, capsys):
    table = tmp_path / "sizes.csv"
    table.write_text("filename,pixel size(mm)\none.png,wide\n")
    arguments = ["measure", "one.png", "--pixel-size-csv", str(table), "--model", str(trained_run["folder"])]
    assert cli.main(arguments) == 1
    assert "the pixel size of one.png is not a number: 'wide'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"filename,pixel size(mm)\none.png\n", "the pixel size of one.png is not a number: None"),
        (b"pixel size(mm),filename\n0.1\n", "has no row for 1 image(s), the first: one.png"),
        (b"\x89PNG\xff\xfe", "is not a CSV file of text"),
        (b"", "at least one row. Found: nothing"),
    ],
)
def test_damaged_pixel_size_csv(tmp_path, capsys, content, message):
    (tmp_path / "sizes.csv").write_bytes(content)
    arguments = ["measure", "one.png", "--pixel-size-csv", str(tmp_path / "sizes.csv"), "--model", "none"]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr().err
    assert "sizes.csv" in printed
    assert message in printed


@pytest.mark.parametrize("coverage", ["0", "1", "nan"])
def test_coverage_outside_its_range(capsys, coverage):
    arguments = ["measure", "a.png", "--pixel-size-mm", "0.1", "--model", "none", "--coverage", coverage]
    assert cli.main(arguments) == 1
    assert "--coverage takes a number between 0 and 1" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0.1x0.1x0.1", "wide", ""])
def test_pixel_size_of_no_known_form_is_refused(size, capsys):
    with pytest.raises(SystemExit):
        cli.main(["measure", "a.png", "--pixel-size-mm", size, "--model", "none"])
    assert "expected mm such as 0.14, or width x height such as 0.14x0.12" in capsys.readouterr().err


def test_options_may_stand_before_the_images_and_pixels_may_be_oblong(trained_run, capsys):
    record = trained_run["dataset"][0]
    arguments = ["measure", "--pixel-size-mm", "0.1x0.2", str(record.image_path), "--model", str(trained_run["folder"])]
    assert cli.main(arguments) == 0
    measured = TrainedRegressor(trained_run["folder"]).measure(record.image_path, (0.1, 0.2))
    assert f",{measured.hc_mm:.2f},{measured.hc_px:.2f}," in capsys.readouterr().out


def test_notes_on_what_a_result_is_worth(trained_run, capsys):
    path = str(trained_run["dataset"][0].image_path)
    arguments = ["measure", path, "--pixel-size-mm", "0.1", "--model", str(trained_run["folder"])]
    assert cli.main([*arguments, "--coverage", "0.99"]) == 0
    notes = capsys.readouterr().err
    assert "was trained on synthetic images" in notes
    assert "the interval is infinite: the run's 5 validation images are too few" in notes
    assert cli.main([*arguments, "--coverage", "0.5"]) == 0
    assert "infinite" not in capsys.readouterr().err


def test_circumference_below_zero_is_remarked_upon():
    regressor = SimpleNamespace(trained_on_synthetic=False)
    measured = Measurement(-3.0, -30.0, (0.0, 5.0), 0.9, float("nan"))
    assert "one.png: no head has -3.0 mm" in "".join(measure_command._notes(regressor, [("one.png", measured)]))


def test_no_table_is_written_where_nothing_was_measured(trained_run, tmp_path, capsys):
    arguments = ["measure", "nowhere.png", "--pixel-size-mm", "0.1", "--model", str(trained_run["folder"])]
    assert cli.main([*arguments, "--output", str(tmp_path / "out.csv")]) == 1
    assert not list(tmp_path.iterdir())
    assert "nowhere.png" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(cohort, monkeypatch, capsys):
    def stop(folder, on_progress=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(HC18, "check_folder", stop)
    assert cli.main(["check", str(cohort)]) == 130
    assert "The same command goes on where it was" in capsys.readouterr().err


def test_model_folder_that_is_no_run(tmp_path, capsys):
    assert cli.main(["measure", "one.png", "--pixel-size-mm", "0.1", "--model", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err


def test_output_of_unknown_kind(trained_run, capsys):
    arguments = ["measure", "a.png", "--pixel-size-mm", "0.1", "--model", str(trained_run["folder"])]
    assert cli.main([*arguments, "--output", "table.xlsx"]) == 1
    assert "takes a file ending in .csv or .json" in capsys.readouterr().err


def test_measure_needs_a_pixel_size(capsys):
    with pytest.raises(SystemExit):
        cli.main(["measure", "a.png", "--model", "runs"])
    assert "--pixel-size-mm" in capsys.readouterr().err


def test_check_of_a_good_and_a_broken_folder(cohort, tmp_path, capsys):
    assert cli.main(["check", str(cohort)]) == 0
    assert re.search(r"^no problem\(s\) in .* \(\d\d images read\), as HC18$", capsys.readouterr().out, re.MULTILINE)
    broken = tmp_path / "HC18"
    shutil.copytree(cohort, broken)
    images = sorted((broken / "training_set").glob("*HC.png"))
    images[0].write_bytes(b"")
    images[1].unlink()
    assert cli.main(["check", str(broken)]) == 1
    printed = capsys.readouterr().out
    assert images[0].name in printed
    assert images[1].name in printed
    assert re.search(r"\d+ problem\(s\) in ", printed)


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    printed = capsys.readouterr().out
    assert re.match(rf"hcreg {re.escape(hcreg.__version__)}, Python 3\.\d+", printed)
    assert f"keras {version('keras')}, tensorflow {version('tensorflow')}" in printed
    assert f"backend: {keras.backend.backend()}\n" in printed


@pytest.mark.parametrize("epochs", ["0", "-1", "few"])
def test_no_epochs_at_all_are_refused(epochs, capsys):
    with pytest.raises(SystemExit):
        cli.main(["quickstart", f"--epochs={epochs}"])
    assert "at least 1" in capsys.readouterr().err


def test_the_command_says_what_it_has_to_say_and_nothing_of_the_native_log(trained_run):
    path = str(trained_run["dataset"][0].image_path)
    command = [sys.executable, "-m", "hcreg.cli", "measure", path, "--pixel-size-mm", "0.1", "--model"]
    done = subprocess.run([*command, str(trained_run["folder"])], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stdout.startswith("filename,hc_mm")
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == ["note:", "note:"]  # see the test of notes
    failed = subprocess.run([*command, path], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    assert failed.stderr.startswith("hcreg measure: ")
    assert "is a file. Name the run folder it lies in" in failed.stderr
