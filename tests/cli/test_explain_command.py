"""``hcreg explain``: pictures, maps and the summary; what is refused before an image is read."""

import numpy as np
import pytest
from PIL import Image

from hcreg import cli
from hcreg.datasets import HC18
from hcreg.files import read_rows

TEXT = ("filename", "analyzer", "unit", "reason")


@pytest.fixture
def images(cohort):
    return list(HC18(cohort))[:2]


def arguments_for(run, paths, output, *more):
    arguments = ["explain", *map(str, paths), "--model", str(run["folder"]), "--output", str(output), *map(str, more)]
    return arguments if "--pixel-size-csv" in more else [*arguments, "--pixel-size-mm", "0.1"]


def test_each_image_has_a_picture_maps_and_lines_in_the_summary(trained_run, images, tmp_path, capsys):
    bad, output = tmp_path / "bad.png", tmp_path / "maps"
    bad.write_text("no image")
    paths = [images[0].image_path, bad, images[1].image_path]
    arguments = arguments_for(trained_run, paths, output, "--analyzers", "gradient,lrp.epsilon")
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    assert f"2 image(s) explained in {output}" in printed.out
    assert f"not explained: {bad} is not a PNG" in printed.err
    assert "1 of 3 image(s) could not be explained" in printed.err
    assert "was trained on synthetic images" in printed.err
    names = [record.image_path.stem for record in images]
    assert {path.name for path in output.iterdir()} == {
        "summary.csv",
        *(f"{name}{ending}" for name in names for ending in (".png", ".npz")),
    }
    assert Image.open(output / f"{names[0]}.png").size[0] >= 1000
    rows = read_rows(output / "summary.csv", text=TEXT)
    assert [(row["filename"], row["analyzer"]) for row in rows] == [
        (str(record.image_path), name) for record in images for name in ("gradient", "lrp.epsilon")
    ]
    with np.load(output / f"{names[0]}.npz") as found:
        assert found["image_id"] == str(images[0].image_path)
        assert list(found["analyzers"]) == ["gradient", "lrp.epsilon"]
        assert list(found["units"]) == ["mm per unit of input", "mm"]
        assert found["gradient"].shape == found["inputs"].shape == (64, 64, 1)
        assert found["prediction_mm"] == pytest.approx(rows[0]["prediction_mm"])
        assert found["lrp.epsilon"].sum() == pytest.approx(rows[1]["sum"], rel=1e-3)
    assert np.isnan(rows[0]["sum"])  # gradients of pixels are no parts of a whole
    assert np.isnan(rows[0]["share_inside_head"])  # a direct regressor finds no outline
    assert rows[1]["sum_of_absolutes"] >= abs(rows[1]["sum"])


def test_a_segmentation_networks_maps_are_compared_with_its_ellipse(trained_segmentation_run, tmp_path):
    run = trained_segmentation_run
    subject = next(row["subject_id"] for row in run["rows"] if not row["failure"])
    record = next(record for record in run["records"] if record.subject_id == subject)
    table = record.image_path.parent.parent / "training_set_pixel_size_and_HC.csv"
    arguments = arguments_for(
        run, [record.image_path], tmp_path, "--analyzers", "gradient", "--pixel-size-csv", str(table)
    )
    assert cli.main(arguments) == 0
    (row,) = read_rows(tmp_path / "summary.csv", text=TEXT)
    assert 0 < row["share_inside_head"] < 1
    assert 0 < row["area_inside_head"] < 1
    assert row["measured_mm"] == pytest.approx(next(r["y_pred_mm"] for r in run["rows"] if r["subject_id"] == subject))


def test_a_method_without_a_map_is_reported_and_does_not_stop_the_others(
    trained_run, images, tmp_path, capsys, monkeypatch
):
    from hcreg.explanation import explainer

    create = explainer.create_analyzer

    def refusing(name, *arguments, **options):
        if name.startswith("lrp"):
            raise ValueError("no rule for the layer 'odd'.")
        return create(name, *arguments, **options)

    monkeypatch.setattr(explainer, "create_analyzer", refusing)
    paths = [images[0].image_path]
    assert cli.main(arguments_for(trained_run, paths, tmp_path, "--analyzers", "lrp.z,gradient")) == 0
    assert "note: lrp.z cannot explain this network: no rule for the layer 'odd'." in capsys.readouterr().err
    rows = read_rows(tmp_path / "summary.csv", text=TEXT)
    assert [(row["analyzer"], row["reason"]) for row in rows] == [
        ("gradient", ""),
        ("lrp.z", "no rule for the layer 'odd'."),
    ]
    assert np.isnan(rows[1]["sum"])
    assert cli.main(arguments_for(trained_run, paths, tmp_path, "--analyzers", "lrp.z")) == 1
    assert "none of the analyzers named can explain the network of" in capsys.readouterr().err


def test_all_are_all_that_need_no_option(monkeypatch, trained_run, images, tmp_path):
    from hcreg import explanation

    asked = []

    def explainer(model, names, compat):
        asked.append((names, compat))
        raise ValueError("enough")

    monkeypatch.setattr(explanation, "Explainer", explainer)
    for more in (["--analyzers", "all"], ["--compat", "innvestigate"]):
        assert cli.main(arguments_for(trained_run, [images[0].image_path], tmp_path, *more)) == 1
    assert asked == [(explanation.ALL_ANALYZERS, None), (explanation.DEFAULT_ANALYZERS, "innvestigate")]


@pytest.mark.parametrize(
    ("paths", "output", "message"),
    [
        (["a/one.png", "b/one.png"], "maps", "explain needs images of different names"),
        (["one.png", "one.jpg"], "maps", "the first: one.png"),
        (["one.png"], ".", "one.png would be overwritten: it is read here"),
        (
            ["one.png"],
            "maps.csv",
            "--output takes a folder, for a picture and a file of maps an image. Received: maps.csv",
        ),
    ],
)
def test_output_that_would_be_lost_is_refused_before_anything_is_read(paths, output, message, capsys):
    arguments = ["explain", *paths, "--pixel-size-mm", "0.1", "--model", "none", "--output", output]
    assert cli.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_misspelt_analyzer_is_refused_with_its_neighbours(trained_run, images, tmp_path, capsys):
    assert cli.main(arguments_for(trained_run, [images[0].image_path], tmp_path, "--analyzers", "gradiant")) == 1
    assert "Unknown analyzer 'gradiant'. Did you mean 'gradient'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        cli.main(arguments_for(trained_run, [images[0].image_path], tmp_path, "--analyzers", "gradient,,lrp.z"))
    assert "expected names with commas between them" in capsys.readouterr().err
