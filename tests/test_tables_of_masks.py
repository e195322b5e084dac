"""Tables of networks that predict masks: columns, views, the choice on validation, and images nothing measured.

Run folders are written by hand here, so that every number is known.
"""

import json
from dataclasses import replace

import keras
import pytest

from experiments.zhang2021 import protocol
from hcreg import head_circumference, losses, models, tables
from hcreg.files import plain, read_rows, write_json, write_rows
from hcreg.head_circumference import Recipe
from hcreg.tables import reading, running, saving, views

NAN = float("nan")
UNET = Recipe("unet", models.unet, losses.Dice(), {"filters": 2}, input_shape=(64, 96, 1), epochs=3)
REGRESSOR = Recipe("vgg16", models.vgg16_regressor, keras.losses.MeanAbsoluteError(), {"weights": "imagenet"})


def row(subject, true_mm, pred_mm, trimester=1, fold=0, **more):
    return {
        "subject_id": f"{subject:03d}_HC",
        "examination_id": f"{subject:03d}",
        "fold": fold,
        "trimester": trimester,
        "pixel_size_mm": 0.1,
        "reference_px_per_mm": 10.0,
        "y_true_px": true_mm * 10,
        "y_pred_px": pred_mm * 10,
        "y_true_mm": true_mm,
        "y_pred_mm": pred_mm,
        "constant_px": 1500.0,
        "constant_mm": 150.0,
        **more,
        "interval_low_mm": pred_mm - 4,
        "interval_high_mm": pred_mm + 4,
    }


def masked(subject, true_mm, pred_mm, dice=0.9, **more):
    """A row of a segmentation network; the mask as it is measures 10 mm too much and overlaps half as well."""
    nothing = pred_mm != pred_mm
    columns = {"failure": "the mask is empty, all of it" if nothing else "", "failure_original": ""}
    for route, hc_mm, factor in (("original", true_mm + 10, 0.5), ("ellipse", pred_mm, 1.0)):
        columns |= {f"hc_{route}_mm": hc_mm, f"dice_{route}": dice * factor, f"jaccard_{route}": dice * factor / 2}
        for name in ("hausdorff", "boundary_distance"):
            columns |= {f"{name}_{route}_px": NAN if nothing else 20 * factor, f"{name}_{route}_mm": 2 * factor}
    return row(subject, true_mm, pred_mm, **{**columns, **more})


def made(folder, recipe, rows, validation=None, fold=0, **arguments):
    """A finished run of a recipe, as `hcreg.head_circumference.run` leaves it."""
    run = folder / recipe.name / f"fold_{fold}"
    stated = {**plain(recipe.arguments()), "fold": fold, "seed": 0, **arguments}
    record = {"status": "finished", "arguments": stated, "split_checksum": f"split {fold}", "training_seconds": 60.0}
    write_json(run / "run.json", record)
    write_rows(run / "predictions.csv", rows)
    write_rows(run / "validation_predictions.csv", validation if validation is not None else rows)
    for name in ("split.csv", "history.csv"):
        (run / name).write_text("epoch\n1\n")
    return run


def report(folder, recipes, *more, layout=None, script="paper.table9", **keywords):
    return tables.main(
        script,
        recipes,
        None,
        default_folds=[0],
        read_dataset=None,
        layout=layout,
        arguments=["report", "--out", str(folder), *more],
        **keywords,
    )


def table_of(folder, recipes, *more, **keywords):
    """The saved table as a dict of its lines."""
    assert report(folder, recipes, "--save", str(folder / "saved"), *more, **keywords) == 0
    return {line["row"]: line for line in read_rows(folder / "saved" / "table9.csv", text=("row",))}


BOTH_COLUMNS = {**tables.COLUMNS, **tables.MASK_COLUMNS}
ROWS = [masked(0, 100.0, 101.0), masked(1, 200.0, 197.0, dice=0.8), masked(2, 180.0, 182.0)]


# --- layout and views ---


def test_layout_decides_the_columns(tmp_path, capsys):
    made(tmp_path, UNET, ROWS)
    table = table_of(tmp_path, [UNET], layout=tables.Layout({"dice": ("Dice", 4), "mae_mm": ("MAE (mm)", 2)}))
    printed = capsys.readouterr().out.split("\n")
    assert printed[0].split() == ["row", "Dice", "MAE", "(mm)", "paper", "ours", "-", "paper"]
    assert printed[2].split()[:3] == ["unet", "0.8667", "2.00"]
    assert table["unet"]["dice"] == pytest.approx((0.9 + 0.8 + 0.9) / 3)
    assert "hausdorff_px" not in table["unet"]
    assert set(tables.Layout().columns) == set(tables.COLUMNS)


def test_the_constant_guess_has_lengths_and_no_overlap(tmp_path, capsys):
    made(tmp_path, UNET, ROWS)
    constant = table_of(tmp_path, [UNET], layout=tables.Layout(BOTH_COLUMNS))["constant median"]
    assert constant["mae_mm"] == pytest.approx((50 + 50 + 30) / 3)
    assert all(constant[name] != constant[name] for name in (*tables.MASK_COLUMNS, "coverage", "training_seconds"))


def test_views_take_the_route_of_their_name(tmp_path, capsys):
    made(tmp_path, UNET, ROWS)
    found = {
        view: table_of(tmp_path, [UNET], layout=tables.Layout(BOTH_COLUMNS, view))["unet"]
        for view in (views.as_predicted, views.original, views.post_processed)
    }
    assert [line["mae_mm"] for line in found.values()] == pytest.approx([2.0, 10.0, 2.0])
    assert [line["dice"] for line in found.values()] == pytest.approx([2.6 / 3, 1.3 / 3, 2.6 / 3])
    assert [line["hausdorff_mm"] for line in found.values()] == pytest.approx([2.0, 1.0, 2.0])


def test_a_view_of_masks_refuses_a_direct_regressor(tmp_path, capsys):
    made(tmp_path, REGRESSOR, [row(0, 100.0, 101.0)])
    assert report(tmp_path, [REGRESSOR], layout=tables.Layout(view=views.original)) == 1
    assert "paper.table9: A direct regressor has no mask and so no route 'original'" in capsys.readouterr().err


def test_each_trimester_has_its_line_and_its_constant(tmp_path, capsys):
    rows = [masked(0, 100.0, 101.0), masked(1, 200.0, 197.0, trimester=2), masked(2, 180.0, 182.0, trimester=2)]
    other = replace(UNET, name="other")
    made(tmp_path, UNET, rows)
    made(tmp_path, other, rows[::-1])
    table = table_of(tmp_path, [UNET, other], layout=tables.Layout(BOTH_COLUMNS, views.by_trimester))
    assert list(table) == [
        f"{name}, trimester {trimester}" for name in ("constant median", "unet", "other") for trimester in (1, 2)
    ]
    assert [line["num_subjects"] for line in table.values()] == [1, 2, 1, 2, 1, 2]
    assert table["constant median, trimester 1"]["mae_mm"] == pytest.approx(50.0)
    assert table["constant median, trimester 2"]["mae_mm"] == pytest.approx(40.0)
    assert table["unet, trimester 2"]["mae_mm"] == pytest.approx(2.5)
    compared = read_rows(tmp_path / "saved" / "table9_comparisons.csv", text=("row", "other_row"))
    pairs = [(item["row"], item["other_row"]) for item in compared]
    assert pairs == [(f"unet, trimester {n}", f"other, trimester {n}") for n in (1, 2)]  # like with like


def test_rows_of_before_there_were_masks_stand_beside_those_that_have_one(tmp_path, capsys):
    made(tmp_path, REGRESSOR, [row(n, 100.0 + n, 103.0 + n) for n in range(3)])
    made(tmp_path, UNET, [masked(n, 100.0 + n, 101.0 + n) for n in range(3)])
    table = table_of(tmp_path, [REGRESSOR, UNET], layout=tables.Layout(BOTH_COLUMNS))
    assert (table["vgg16"]["mae_mm"], table["unet"]["mae_mm"]) == (pytest.approx(3.0), pytest.approx(1.0))
    assert table["vgg16"]["dice"] != table["vgg16"]["dice"]
    line = next(line for line in capsys.readouterr().out.split("\n") if line.startswith("vgg16"))
    assert "nan" not in line


# --- images in which nothing was measured ---


def test_failures_are_counted_noted_and_left_out_of_the_pairs(tmp_path, capsys):
    other = replace(UNET, name="other")
    made(tmp_path, UNET, [*ROWS, masked(3, 150.0, NAN, dice=0.0)])
    made(tmp_path, other, [*ROWS, masked(3, 150.0, 190.0)])
    table = table_of(tmp_path, [UNET, other], layout=tables.Layout(BOTH_COLUMNS))
    assert (table["unet"]["num_subjects"], table["unet"]["num_failed"]) == (4, 1)
    assert table["unet"]["mae_mm"] == pytest.approx(2.0)
    assert table["unet"]["dice"] == pytest.approx(2.6 / 4)
    assert table["other"]["mae_mm"] == pytest.approx(46 / 4)
    printed = capsys.readouterr().out
    assert "note: unet measured nothing in 1 of 4 images" in printed
    assert printed.count("measured nothing") == 1
    (compared,) = read_rows(tmp_path / "saved" / "table9_comparisons.csv", text=("row", "other_row"))
    assert (compared["num_pairs"], compared["mean_difference_mm"]) == (3, 0.0)


def test_a_row_that_measured_nothing_at_all_still_stands_in_its_table(tmp_path, capsys):
    """As a network has it after the one epoch of a smoke run."""
    dark = replace(UNET, name="dark", paper={"mae_mm": 4.0})
    third = replace(UNET, name="third")
    made(tmp_path, dark, [masked(n, 100.0, NAN, dice=0.0) for n in range(3)])
    made(tmp_path, UNET, [masked(n, 100.0, 101.0) for n in range(3)])
    made(tmp_path, third, [masked(n, 100.0, 102.0) for n in range(3)])
    assert report(tmp_path, [dark, UNET, third], layout=tables.Layout(BOTH_COLUMNS)) == 0
    printed = capsys.readouterr().out
    assert "note: dark measured nothing in 3 of 3 images" in printed
    line = next(line for line in printed.split("\n") if line.startswith("dark"))
    assert "nan" not in line
    assert "MAE (mm) 4" in line
    compared = printed.split("absolute error of")[1].strip().split("\n")[1:]
    assert [line.split()[:2] for line in compared] == [["unet", "third"]]
    assert report(tmp_path, [dark, UNET]) == 0
    assert "absolute error of" not in capsys.readouterr().out


def test_pairs_leave_out_what_one_did_not_measure_and_rows_of_other_images():
    def lines(errors_mm, first=0):
        return [row(first + n, 100.0, 100.0 + error) for n, error in enumerate(errors_mm)]

    predictions = {
        "a": lines([1, 2, 3, 4, NAN]),
        "b": lines([2, 4, 6, NAN, 1]),
        "c": lines([1, 2, 3, 4, 5], first=1),
    }
    (pair,) = tables.compare_rows(predictions)
    assert (pair["row"], pair["other_row"], pair["num_pairs"]) == ("a", "b", 3)
    assert pair["mean_difference_mm"] == -2.0
    assert pair["p_value"] == pair["p_value_holm"] == 0.25  # one of the eight sign patterns, twice
    assert tables.compare_rows({"a": lines([NAN, 1]), "b": lines([1, NAN])}) == []


def test_running_says_how_many_were_without_a_mask(tmp_path, capsys, monkeypatch):
    rows = [*ROWS, masked(3, 150.0, NAN)]
    monkeypatch.setattr("hcreg.datasets.batches.read_images", lambda dataset, shape: None)
    monkeypatch.setattr(head_circumference, "run", lambda *arguments, **keywords: rows)

    def run():
        return tables.main(
            "paper.table9",
            [UNET],
            lambda dataset, seed: [{}],
            default_folds=[0],
            read_dataset=lambda folder: [],
            arguments=["run", "--data", "unused", "--out", str(tmp_path)],
        )

    assert run() == 0
    expected = "unet, fold 0: MAE 2.00 ± 1.00 mm on 3 images, 1 more without a usable mask (constant 32.5 mm)"
    assert expected in capsys.readouterr().out
    rows.pop()
    assert run() == 0
    assert "on 3 images (constant" in capsys.readouterr().out


# --- chosen on validation ---


def test_the_chosen_are_shown_and_chosen_on_validation(tmp_path, capsys):
    """The other loss is better on the test images: that must not count."""
    dice, kappa = (replace(UNET, name=f"unet_{name}") for name in ("dice", "kappa"))
    good, bad = [masked(0, 100.0, 101.0)], [masked(0, 100.0, 109.0)]
    made(tmp_path, dice, bad, validation=good)
    made(tmp_path, kappa, good, validation=bad)
    layout = tables.Layout(BOTH_COLUMNS, choose=protocol.best_loss)
    table = table_of(tmp_path, [dice, kappa], layout=layout)
    assert list(table) == ["constant median", "unet_dice"]
    assert table["unet_dice"]["mae_mm"] == pytest.approx(9.0)
    assert sorted(path.name for path in (tmp_path / "saved" / "runs").iterdir()) == ["unet_dice"]


def test_a_choice_needs_all_it_chooses_from(tmp_path, capsys):
    other = replace(UNET, name="other")
    made(tmp_path, UNET, ROWS)
    assert report(tmp_path, [UNET, other], layout=tables.Layout(choose=protocol.best_network)) == 1
    assert "lacks 1 run(s): other fold 0 (not run)" in capsys.readouterr().err


def test_validation_is_pooled_over_the_folds(tmp_path):
    for fold in (0, 1):
        made(tmp_path, UNET, ROWS, validation=[masked(n, 100.0, 101.0, fold=fold) for n in range(2)], fold=fold)
    found = reading.read_validation([UNET], [0, 1], tmp_path)
    assert [(row["fold"], row["subject_id"]) for row in found["unet"]] == [
        (0, "000_HC"),
        (0, "001_HC"),
        (1, "000_HC"),
        (1, "001_HC"),
    ]


def test_a_failure_counts_as_the_whole_head():
    rows = [row(0, 100.0, 104.0), row(1, 200.0, NAN), row(2, 150.0, 148.0)]
    assert protocol.validation_error_mm(rows) == pytest.approx((4 + 200 + 2) / 3)


def test_one_loss_is_chosen_for_each_network_and_the_first_of_equals():
    def recipe(name, build=models.unet, loss=None, **arguments):
        return Recipe(name, build, loss or losses.Dice(), arguments)

    both = {"mask": losses.Dice(), "hc_fraction": losses.RelativeError()}
    recipes = [
        recipe("unet_dice"),
        recipe("unet_kappa"),
        recipe("vgg16_dice", models.vgg16_unet),
        recipe("vgg16_kappa", models.vgg16_unet),
        recipe("ellipse", loss=both, head="ellipse"),
        recipe("ellipse_hc_only", loss={"hc_fraction": both["hc_fraction"]}, head="ellipse"),
    ]
    errors = (2.0, 1.0, 3.0, 3.0, NAN, 5.0)
    validation = {each.name: [row(0, 100.0, 100.0 + error)] for each, error in zip(recipes, errors)}
    assert protocol.best_loss(recipes, validation) == ["unet_kappa", "vgg16_dice", "ellipse_hc_only"]
    assert protocol.best_network(recipes, validation) == ["unet_kappa"]
    assert protocol.best_network(recipes[2:4], validation) == ["vgg16_dice"]


def test_every_table_of_the_paper_chooses_by_network():
    """Two networks of the paper's tables are never taken for one, nor one for two."""
    for recipes in (protocol.SEGMENTATION, protocol.REGRESSION):
        validation = {recipe.name: [row(0, 100.0, 101.0)] for recipe in recipes}
        chosen = protocol.best_loss(recipes, validation)
        assert len(chosen) == 3
        assert chosen == [recipe.name for recipe in recipes[::3]]


# --- files, folders and notes ---


def test_the_files_are_named_after_the_table_and_the_folder_may_be_shared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shared = tmp_path / "runs" / "paper"
    made(shared, UNET, ROWS)
    made(shared, replace(UNET, name="other"), ROWS)
    recipes = [UNET, replace(UNET, name="other")]
    keywords = {"default_folds": [0], "read_dataset": None, "folder": "paper"}
    for script in ("paper.table1", "paper.table2"):
        assert tables.main(script, recipes, None, **keywords, arguments=["report", "--save", "saved"]) == 0
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"runs", "table1.csv", "table1_comparisons.csv", "table2.csv", "table2_comparisons.csv"}
    assert {path.name for path in (tmp_path / "saved" / "runs" / "unet" / "fold_0").iterdir()} == set(saving.KEPT_FILES)
    assert tables.main("paper.table1", recipes, None, **keywords, arguments=["report", "--smoke"]) == 1
    assert "runs/paper_smoke lacks 2 run(s)" in capsys.readouterr().err


def test_a_table_of_one_row_saves_no_comparisons(tmp_path, capsys):
    made(tmp_path, UNET, ROWS)
    assert report(tmp_path, [UNET], "--save", str(tmp_path / "saved")) == 0
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"runs", "table9.csv"}


def test_figures_get_the_predictions_and_a_folder(tmp_path, capsys):
    made(tmp_path, UNET, ROWS)
    seen = []

    def figures(folder, rows_by_recipe, output):
        seen.append((folder, list(rows_by_recipe), output))
        return [output / "a.png"]

    assert report(tmp_path, [UNET], figures=figures) == 0
    assert seen == [(tmp_path, ["unet"], tmp_path / "figures")]
    assert f"figure: {tmp_path / 'figures' / 'a.png'}" in capsys.readouterr().out


def test_folds_that_differ_in_what_only_one_of_them_has_do_not_mix(tmp_path, capsys):
    """A run without loss weights has no such entry."""
    for fold, weights in ((0, {}), (1, {"loss_weights": {"hc_fraction": 0.25}})):
        made(tmp_path, UNET, [masked(fold, 100.0, 101.0, fold=fold)], fold=fold, **weights)
    for folds in (("0", "1"), ("1", "0")):
        assert report(tmp_path, [UNET], "--folds", *folds) == 1
        assert "mixes runs of different arguments: its folds differ in loss_weights" in capsys.readouterr().err


def test_a_row_made_with_other_loss_weights_is_noted(tmp_path, capsys):
    weighted = replace(UNET, loss_weights={"mask": 0.5})
    made(tmp_path, weighted, ROWS)
    assert report(tmp_path, [weighted]) == 0
    assert "note" not in capsys.readouterr().out
    assert report(tmp_path, [UNET]) == 0
    assert "note: unet was made with loss_weights {'mask': 0.5}; its row says None" in capsys.readouterr().out
    made(tmp_path, UNET, ROWS)
    assert report(tmp_path, [weighted]) == 0
    assert "note: unet was made with loss_weights None; its row says {'mask': 0.5}" in capsys.readouterr().out


def test_a_backbones_weights_are_those_of_its_regressor_and_its_unet():
    vgg16_unet = replace(REGRESSOR, name="unet", build=models.vgg16_unet)
    backbone_unet = replace(
        vgg16_unet, build=models.backbone_unet, build_arguments={"backbone": "VGG16", "weights": None}
    )
    assert [running._backbone(recipe) for recipe in (REGRESSOR, vgg16_unet, backbone_unet)] == ["vgg16"] * 3
    assert running._backbone(UNET) is None
    running.check_backbones([vgg16_unet], ["VGG16=file.h5"])
    recipes = [*protocol.SEGMENTATION, *protocol.ELLIPSE, *protocol.REGRESSION]
    running.check_backbones(recipes, ["VGG16=a", "ResNet50=b", "DenseNet121=c"])
    with pytest.raises(ValueError, match=r"The backbones of this table: densenet121, resnet50, vgg16\."):
        running.check_backbones(recipes, ["unet=a"])


def test_hand_made_runs_are_like_real_ones(trained_run, tmp_path):
    """Otherwise the tests above would prove nothing."""
    record = json.loads((trained_run["folder"] / "run.json").read_text())
    run = made(tmp_path, trained_run["recipe"], trained_run["rows"])
    by_hand = json.loads((run / "run.json").read_text())
    assert by_hand.keys() <= record.keys()
    assert by_hand["arguments"] == {name: record["arguments"][name] for name in by_hand["arguments"]}
    assert list(row(0, 1.0, 1.0)) == list(trained_run["rows"][0])
