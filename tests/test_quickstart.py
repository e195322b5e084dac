import html
import shutil
from dataclasses import replace

import pytest

from hcreg import cli, head_circumference, quickstart
from hcreg.datasets import HC18


@pytest.mark.slow
def test_quickstart_on_a_folder_of_ones_own(cohort, tmp_path, capsys):
    output = tmp_path / "quickstart"
    arguments = ["quickstart", "--data", str(cohort), "--epochs", "1", "--output", str(output)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "a constant guess by" in printed
    page = html.unescape((output / "report.html").read_text())
    assert "head circumference" in page
    assert "The images are synthetic" in page  # the folder says so itself, whoever names it
    assert "ultrasound images of the HC18 data set" not in page
    assert f"hcreg quickstart --output {output} --seed 0 --data {cohort} --epochs 1" in page
    folder = output / "cnn_1m" / "fold_0"
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {
        "bland_altman",
        "history_curves",
        "worst_cases",
        "explanation_maps",
        "explanation_aopc",
    }
    assert "Where the predictions come from" in page
    assert "hardly depends on the network" in page
    assert "AOPC, area over the perturbation curve" in page
    # again: nothing is trained anew
    before = (folder / "checkpoint.weights.h5").stat().st_mtime_ns
    assert cli.main(arguments) == 0
    assert (folder / "checkpoint.weights.h5").stat().st_mtime_ns == before


def test_quickstart_on_a_missing_folder(tmp_path, capsys):
    assert cli.main(["quickstart", "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_other_data_or_arguments_are_refused_before_any_image_is_read(cohort, tmp_path, capsys, monkeypatch):
    data, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(cohort, data)
    monkeypatch.setattr(quickstart, "read_images", lambda *_: pytest.fail("images were read"))
    recipe, dataset = replace(quickstart.RECIPE, epochs=3, patience=3), HC18(data)
    head_circumference.open_run(recipe, dataset, head_circumference.single_split(dataset), output / "cnn_1m" / "fold_0")
    arguments = ["quickstart", "--data", str(data), "--output", str(output)]
    assert cli.main([*arguments, "--epochs", "4"]) == 1
    assert "epochs was 3 and is now 4" in capsys.readouterr().err
    assert cli.main([*arguments, "--epochs", "3", "--seed", "1"]) == 1
    assert "holds a run on another split" in capsys.readouterr().err
    table = data / "training_set_pixel_size_and_HC.csv"
    lines = table.read_text().split("\n")
    name, size, hc_mm = lines[1].split(",")
    lines[1] = f"{name},{float(size) * 1.001},{float(hc_mm) * 1.001}"
    table.write_text("\n".join(lines))
    assert cli.main([*arguments, "--epochs", "3"]) == 1
    assert "data.digest was" in capsys.readouterr().err


def test_output_that_cannot_be_made_is_named_at_once(cohort, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["quickstart", "--data", str(cohort), "--output", str(tmp_path / "file" / "out")]) == 1
    printed = capsys.readouterr().err
    assert "cannot make the output folder" in printed
    assert "name another with --output" in printed


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.data
def test_quickstart_on_real_images(hc18_root, tmp_path, capsys):
    output = tmp_path / "quickstart"
    assert cli.main(["quickstart", "--data", str(hc18_root), "--epochs", "1", "--output", str(output)]) == 0
    assert "On 161 test images" in capsys.readouterr().out
    assert (output / "report.html").stat().st_size > 100_000
