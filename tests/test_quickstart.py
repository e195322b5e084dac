import pytest

from hcreg import cli


@pytest.mark.slow
def test_quickstart_on_a_folder_of_ones_own(cohort, tmp_path, capsys):
    output = tmp_path / "quickstart"
    arguments = ["quickstart", "--data", str(cohort), "--epochs", "1", "--output", str(output)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "a constant guess by" in printed
    page = (output / "report.html").read_text()
    assert "head circumference" in page
    assert "synthetic" not in page.split("<body")[1][:3000]  # the folder may be real: nothing claims it is synthetic
    folder = output / "cnn_1m" / "fold_0"
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {
        "bland_altman",
        "history_curves",
        "worst_cases",
    }
    # again: nothing is trained anew
    before = (folder / "checkpoint.weights.h5").stat().st_mtime_ns
    assert cli.main(arguments) == 0
    assert (folder / "checkpoint.weights.h5").stat().st_mtime_ns == before


def test_quickstart_on_a_missing_folder(tmp_path, capsys):
    assert cli.main(["quickstart", "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.data
def test_quickstart_on_real_images(hc18_root, tmp_path, capsys):
    output = tmp_path / "quickstart"
    assert cli.main(["quickstart", "--data", str(hc18_root), "--epochs", "1", "--output", str(output)]) == 0
    assert "On 161 test images" in capsys.readouterr().out
    assert (output / "report.html").stat().st_size > 100_000
