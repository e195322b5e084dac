"""``hcreg measure`` with segmentation networks: ellipse columns, submission, masks. Direct regressors: test_cli.py."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hcreg import cli
from hcreg.cli import measure_command
from hcreg.geometry import Ellipse
from hcreg.measurement import Measurement

ELLIPSE_COLUMNS = ["center_x_px", "center_y_px", "semi_axis_a_px", "semi_axis_b_px", "angle_rad"]
HEADS = {
    "000_HC.png": (Ellipse(420.0, 250.0, 200.0, 150.0, 0.6), 0.2),
    "001_HC.png": (Ellipse(380.0, 300.0, 180.0, 160.0, 2.0), 0.1),
    "002_HC.png": (Ellipse(400.0, 270.0, 210.0, 140.0, 1.2), 0.15),
}
SPECK = Ellipse(100.0, 100.0, 12.0, 12.0, 0.0)


def write_phantom(path, ellipse, shape=(540, 800)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(220 * ellipse.coverage(shape)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def unlabelled(tmp_path):
    """An unlabelled test set in HC18's layout, of bright heads."""
    lines = ["filename,pixel size(mm)"]
    for name, (ellipse, pixel_size_mm) in HEADS.items():
        write_phantom(tmp_path / "test_set" / name, ellipse)
        lines.append(f"{name},{pixel_size_mm}")
    (tmp_path / "test_set_pixel_size.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def phantom_run(phantom_regressor, monkeypatch):
    """Any --model is the phantom network, for which what is bright is head."""
    monkeypatch.setattr("hcreg.measurement.TrainedRegressor", lambda folder: phantom_regressor)
    return phantom_regressor


def arguments_for(unlabelled, *more, names=HEADS):
    paths = [str(unlabelled / "test_set" / name) for name in names]
    table = str(unlabelled / "test_set_pixel_size.csv")
    return ["measure", *paths, "--pixel-size-csv", table, "--model", "run", *map(str, more)]


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_trained_network_adds_the_ellipse_to_its_rows(trained_segmentation_run, tmp_path, capsys):
    records = {record.subject_id: record for record in trained_segmentation_run["records"]}
    rows = [row for row in trained_segmentation_run["rows"] if not row["failure"]]
    paths = [str(records[row["subject_id"]].image_path) for row in rows]
    table = str(records[rows[0]["subject_id"]].image_path.parent.parent / "training_set_pixel_size_and_HC.csv")
    arguments = ["measure", *paths, "--pixel-size-csv", table, "--model", str(trained_segmentation_run["folder"])]
    for name in ("out.csv", "out.json"):
        assert cli.main([*arguments, "--output", str(tmp_path / name)]) == 0
    from_csv, from_json = read_csv(tmp_path / "out.csv"), json.loads((tmp_path / "out.json").read_text())
    assert list(from_csv[0]) == list(from_json[0])
    assert list(from_csv[0])[-6:] == ["gestational_age_weeks", *ELLIPSE_COLUMNS]
    for row, csv_row, json_row in zip(rows, from_csv, from_json):
        assert json_row["hc_mm"] == pytest.approx(row["y_pred_mm"], rel=1e-4)
        for column in ELLIPSE_COLUMNS:
            assert json_row[column] == pytest.approx(row[f"ellipse_{column}"], rel=1e-4)
            assert float(csv_row[column]) == json_row[column]


def test_direct_regressor_has_no_ellipse_columns(trained_run, tmp_path):
    path = str(trained_run["dataset"][0].image_path)
    arguments = ["measure", path, "--pixel-size-mm", "0.1", "--model", str(trained_run["folder"])]
    assert cli.main([*arguments, "--output", str(tmp_path / "out.csv")]) == 0
    assert list(read_csv(tmp_path / "out.csv")[0]) == [
        "filename",
        "hc_mm",
        "hc_px",
        "interval_low_mm",
        "interval_high_mm",
        "coverage",
        "gestational_age_weeks",
    ]


def test_submission_holds_every_ellipse_in_mm(phantom_run, unlabelled, capsys):
    path = unlabelled / "submission.csv"
    assert cli.main(arguments_for(unlabelled, "--submission", path, names=reversed(HEADS))) == 0
    rows = read_csv(path)
    assert path.read_text().splitlines()[0] == (
        "filename,center_x_mm,center_y_mm,semi_axes_a_mm,semi_axes_b_mm,angle_rad"
    )
    assert [row.pop("filename") for row in rows] == list(HEADS)
    expected_mm = [84.0, 50.0, 40.0, 30.0, 0.6], [38.0, 30.0, 18.0, 16.0, 2.0], [60.0, 40.5, 31.5, 21.0, 1.2]
    for row, expected in zip(rows, expected_mm):
        assert [float(cell) for cell in row.values()] == pytest.approx(expected, rel=5e-3)
    assert capsys.readouterr().out.count("\n") == 1 + len(HEADS)  # the table is still printed


@pytest.mark.parametrize("option", ["--submission", "--masks"])
def test_direct_regressor_gives_no_outline(trained_run, tmp_path, capsys, option):
    path, target = str(trained_run["dataset"][0].image_path), tmp_path / "out.csv"
    arguments = ["measure", path, "--pixel-size-mm", "0.1", "--model", str(trained_run["folder"]), option, str(target)]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    assert f"{option} needs a segmentation network: " in printed.err
    assert "is a direct regressor (cnn_263k), which finds no outline" in printed.err
    assert printed.out == ""
    assert not target.exists()


@pytest.mark.parametrize("fault", ["no outline", "unreadable"])
def test_incomplete_submission_is_not_written(phantom_run, unlabelled, capsys, fault):
    image, path = unlabelled / "test_set" / "001_HC.png", unlabelled / "submission.csv"
    path.write_text("of before")
    if fault == "unreadable":
        image.write_bytes(image.read_bytes()[:500])
    else:
        write_phantom(image, SPECK)
    output = unlabelled / "out.csv"
    assert cli.main(arguments_for(unlabelled, "--submission", path, "--output", output)) == 1
    printed = capsys.readouterr().err
    assert f"not measured: {image}" in printed
    assert "submission.csv was not written: 1 of 3 image(s) have no ellipse" in printed
    assert f"the first: {image}" in printed
    assert path.read_text() == "of before"
    assert len(read_csv(output)) == 2


def test_submission_needs_every_image_of_the_table(phantom_run, unlabelled, capsys):
    path = unlabelled / "submission.csv"
    assert cli.main(arguments_for(unlabelled, "--submission", path, names=["000_HC.png", "002_HC.png"])) == 1
    printed = capsys.readouterr().err
    assert "1 of its 3 are not among the images given, the first: 001_HC.png" in printed
    assert not path.exists()


def test_image_without_outline_is_not_measured_and_says_why(phantom_run, unlabelled, capsys):
    image = write_phantom(unlabelled / "test_set" / "001_HC.png", SPECK)
    assert cli.main(arguments_for(unlabelled)) == 1
    printed = capsys.readouterr()
    assert f"not measured: {image}: the mask is empty: no pixel of it lies above the threshold." in printed.err
    assert "1 of 3 image(s) could not be measured" in printed.err
    assert "001_HC.png" not in printed.out
    assert "nan" not in [line.split(",")[1] for line in printed.out.splitlines()]


def test_own_circumference_of_a_mask_without_outline_is_not_measured_either(phantom_run, unlabelled, capsys):
    predict = phantom_run.model.predict_on_batch

    def predict_both(inputs):
        return {"mask": predict(inputs), "hc_fraction": np.full((len(inputs), 1), 0.5)}

    phantom_run.model = SimpleNamespace(predict_on_batch=predict_both)
    image = write_phantom(unlabelled / "test_set" / "001_HC.png", SPECK)
    submission = unlabelled / "submission.csv"
    assert cli.main(arguments_for(unlabelled, "--submission", submission)) == 1
    printed = capsys.readouterr().err
    assert f"not measured: {image}: the mask is empty" in printed
    assert not submission.exists()


def test_masks_have_the_images_size_and_name(phantom_run, unlabelled, capsys):
    write_phantom(unlabelled / "test_set" / "001_HC.png", SPECK)
    folder = unlabelled / "masks"
    assert cli.main(arguments_for(unlabelled, "--masks", folder)) == 1
    assert sorted(path.name for path in folder.iterdir()) == [*HEADS, "overlays"]
    assert sorted(path.name for path in (folder / "overlays").iterdir()) == list(HEADS)
    mask = np.array(Image.open(folder / "000_HC.png"))
    assert mask.shape == (540, 800)
    assert set(np.unique(mask)) == {0, 255}
    assert np.mean((mask > 0) != HEADS["000_HC.png"][0].mask((540, 800))) < 2e-3
    assert not np.array(Image.open(folder / "001_HC.png")).any()  # what the network said; the image is listed
    assert np.array(Image.open(folder / "overlays" / "000_HC.png")).shape == (540, 800, 3)


def test_masks_of_oblong_pixels_have_the_images_own_size(phantom_run, tmp_path):
    image = write_phantom(tmp_path / "one.png", Ellipse(300.0, 160.0, 210.0, 100.0, 0.3), (300, 700))
    arguments = ["measure", str(image), "--pixel-size-mm", "0.1x0.25", "--model", "run"]
    assert cli.main([*arguments, "--masks", str(tmp_path / "masks")]) == 0
    assert Image.open(tmp_path / "masks" / "one.png").size == (700, 300)
    assert Image.open(tmp_path / "masks" / "overlays" / "one.png").size == (700, 300)


@pytest.mark.parametrize("option", ["--submission", "--masks"])
def test_two_images_of_one_name_are_refused(option, capsys):
    arguments = ["measure", "a/one.png", "b/one.png", "--pixel-size-mm", "0.1", "--model", "none", option, "out.csv"]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr().err
    assert f"{option} needs images of different names. 1 name(s) stand for several, the first: one.png" in printed


def test_images_that_differ_in_ending_only_have_one_mask(capsys):
    arguments = ["measure", "one.png", "one.jpg", "--pixel-size-mm", "0.1", "--model", "none", "--masks", "masks"]
    assert cli.main(arguments) == 1
    assert "the first: one.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--masks", "."], "one.png would be overwritten"),
        (["--output", "out.csv", "--submission", "out.csv"], "out.csv would be overwritten"),
        (["--submission", "table.txt"], "--submission takes a file ending in .csv. Received: table.txt"),
    ],
)
def test_nothing_that_is_read_or_written_is_overwritten(options, message, capsys):
    assert cli.main(["measure", "one.png", "--pixel-size-mm", "0.1", "--model", "none", *options]) == 1
    assert message in capsys.readouterr().err


def test_table_of_pixel_sizes_is_not_overwritten(unlabelled, capsys):
    table = unlabelled / "test_set_pixel_size.csv"
    assert cli.main(arguments_for(unlabelled, "--submission", table)) == 1
    assert "test_set_pixel_size.csv would be overwritten" in capsys.readouterr().err
    assert table.read_text().startswith("filename,pixel size(mm)")


def test_submission_of_oblong_pixels_is_refused(capsys):
    arguments = ["measure", "a.png", "--pixel-size-mm", "0.1x0.2", "--model", "none", "--submission", "out.csv"]
    assert cli.main(arguments) == 1
    assert "whose pixels are square" in capsys.readouterr().err


def test_note_on_an_interval_made_infinite_by_failed_images():
    regressor = SimpleNamespace(trained_on_synthetic=False, scores_px=[3.0, float("inf"), float("inf")])
    measured = Measurement(200.0, 2000.0, (0.0, float("inf")), 0.9, float("nan"))
    (note,) = measure_command._notes(regressor, [("one.png", measured)])
    assert "infinite: nothing could be measured in 2 of the run's 3 validation images" in note
