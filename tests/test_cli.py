import csv
import json
import re
import shutil
import subprocess
import sys

import pytest

from hcreg import cli
from hcreg.datasets import HC18


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


def test_three_pixel_sizes_are_refused(capsys):
    assert cli.main(["measure", "a.png", "--pixel-size-mm", "0.1", "0.1", "0.1", "--model", "none"]) == 1
    assert "takes one or two numbers. Received: 3" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(monkeypatch, capsys):
    def stop(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(HC18, "check_folder", stop)
    assert cli.main(["check", "anywhere"]) == 130
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
    assert "no problem found" in capsys.readouterr().out
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
    assert re.match(r"hcreg \d+\.\d+", capsys.readouterr().out)


def test_no_epochs_at_all_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["quickstart", "--epochs", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_the_command_says_what_it_has_to_say_and_nothing_of_the_native_log(trained_run):
    path = str(trained_run["dataset"][0].image_path)
    command = [sys.executable, "-m", "hcreg.cli", "measure", path, "--pixel-size-mm", "0.1", "--model"]
    done = subprocess.run([*command, str(trained_run["folder"])], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stdout.startswith("filename,hc_mm")
    assert done.stderr == ""
    failed = subprocess.run([*command, path], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    assert failed.stderr.startswith("hcreg measure: ")
    assert "is not a run folder" in failed.stderr
