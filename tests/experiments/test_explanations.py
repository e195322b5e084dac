"""Table 8, figures 14 to 17 and the randomisation test of zhang2021: they run, go on, and report what they should."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.zhang2021 import (
    explanations,
    figure14,
    figure15,
    figure16,
    figure17,
    randomisation,
    smoke_models,
    table8,
    table8_report,
)
from hcreg.datasets import HC18
from hcreg.files import read_rows, write_rows

COMMITTED = Path(table8.__file__).parent / "results" / "explanations"
ANALYZERS = ["gradient", "input_t_gradient", "lrp.z"]
CHOSEN = table8_report.Chosen(list(smoke_models.NAMES), ANALYZERS)
TEXT = ("subject_id", "examination_id", "model", "analyzer", "other_analyzer", "protocol", "unit", "order", "claim")
TEXT = (*TEXT, "criterion", "finding", "verdict")


@pytest.fixture(scope="module")
def models_root(trained_run, trained_ellipse_run, tmp_path_factory):
    """Two tiny networks of one split, under the names that the smoke run gives them."""
    root = tmp_path_factory.mktemp("models")
    for name, run in zip(smoke_models.NAMES, (trained_run, trained_ellipse_run)):
        shutil.copytree(run["folder"], root / name / "fold_0")
    checksums = [json.loads((root / name / "fold_0" / "run.json").read_text()) for name in smoke_models.NAMES]
    assert len({record["split_checksum"] for record in checksums}) == 1
    return root


@pytest.fixture(scope="module")
def cells(models_root, cohort, tmp_path_factory):
    """A folder of finished cells, and the command that made it."""
    out = tmp_path_factory.mktemp("table8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table8, "SETTINGS", table8.SMOKE_SETTINGS)
        arguments = [
            "run",
            "--data",
            str(cohort),
            "--models-root",
            str(models_root),
            "--out",
            str(out),
            "--images",
            "4",
        ]
        arguments += ["--models", *smoke_models.NAMES, "--analyzers", *ANALYZERS]
        assert table8.main(arguments) == 0
    return SimpleNamespace(out=out, arguments=arguments)


@pytest.fixture
def smoke_settings(monkeypatch):
    monkeypatch.setattr(table8, "SETTINGS", table8.SMOKE_SETTINGS)


def part_of(table_arguments):
    return [*table_arguments, "--models", *smoke_models.NAMES, "--analyzers", *ANALYZERS]


@pytest.mark.proof
def test_cells_are_not_computed_twice(cells, smoke_settings, capsys):
    before = {path: path.stat().st_mtime_ns for path in cells.out.glob("cells/*/*.csv")}
    assert len(before) == 2 * (len(ANALYZERS) + 1)
    assert table8.main(cells.arguments) == 0
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in cells.out.glob("cells/*/*.csv")} == before


def test_cells_of_other_settings_are_not_mixed(cells, smoke_settings, capsys):
    assert table8.main([*cells.arguments, "--seed", "1"]) == 1
    message = capsys.readouterr().err
    assert "holds cells of other settings: seed, images differ(s)" in message
    assert "Name another folder in --out" in message


def test_the_report_is_recomputed_from_what_it_saved(cells, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert table8.main(part_of(["report", "--out", str(cells.out), "--save", str(first)])) == 0
    printed = capsys.readouterr().out
    assert table8.main(part_of(["report", "--out", str(first), "--save", str(second)])) == 0
    assert capsys.readouterr().out == printed
    names = {path.name for path in first.iterdir()}
    assert names == {path.name for path in second.iterdir()}
    assert {"table8.csv", "table8_comparisons.csv", "table8_verdicts.csv", "table8_scores.csv", "run.json"} < names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    record = json.loads((first / "run.json").read_text())
    assert record["arguments"]["seed"] == 0
    assert {"keras", "hcreg"} < set(record["versions"])
    assert set(record["networks"]) == set(smoke_models.NAMES)


def test_scores_are_the_areas_of_the_saved_errors(cells):
    for path in cells.out.glob("cells/*/*.csv"):
        for row in read_rows(path, text=TEXT):
            errors = np.array([row[f"error_{step}"] for step in range(4)])
            assert row["score"] == pytest.approx(errors[0] - errors.mean(), abs=2e-5)  # errors have five digits


def test_lrp_z_and_input_times_gradient_perturb_alike(cells):
    """They are one method on networks of ReLU, so that two of the paper's columns are one."""
    paths = [table8_report.cell_path(cells.out, "cnn_1m_mae", name) for name in ("lrp.z", "input_t_gradient")]
    one, other = ([row["score"] for row in read_rows(path, text=TEXT)] for path in paths)
    assert one == pytest.approx(other, abs=1e-2)


def test_clean_errors_are_those_of_the_run(cells, models_root):
    """In the unit of either protocol: px of the image and mm."""
    for model in smoke_models.NAMES:
        written = {row["subject_id"]: row for row in read_rows(models_root / model / "fold_0" / "predictions.csv")}
        for row in read_rows(table8_report.cell_path(cells.out, model, "gradient"), text=TEXT):
            unit = table8_report.PROTOCOLS[row["protocol"]]
            expected = abs(written[row["subject_id"]][f"y_pred_{unit}"] - written[row["subject_id"]][f"y_true_{unit}"])
            if expected == expected:  # a mask without outline has no length of its own
                assert row["error_0"] == pytest.approx(expected, abs=0.5)


def test_a_missing_cell_is_named(cells, tmp_path, capsys):
    shutil.copytree(cells.out, tmp_path / "out")
    table8_report.cell_path(tmp_path / "out", "unet_ellipse", "lrp.z").unlink()
    assert table8.main(part_of(["report", "--out", str(tmp_path / "out")])) == 1
    assert "lacks 1 cell(s): unet_ellipse lrp.z. Run them" in capsys.readouterr().err


def test_figure16_is_drawn_from_cells_and_from_what_was_saved(cells, tmp_path, capsys):
    saved = tmp_path / "saved"
    assert table8.main(part_of(["report", "--out", str(cells.out), "--save", str(saved)])) == 0
    for source, target in ((cells.out, tmp_path / "a"), (saved, tmp_path / "b")):
        assert figure16.main(part_of(["report", "--out", str(source), "--save", str(target)])) == 0
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "a").glob("*.png")}
    assert len(pictures) == 4  # two networks, two protocols
    assert pictures == {path.name: path.read_bytes() for path in (tmp_path / "b").glob("*.png")}
    assert capsys.readouterr().out.count("figure: ") == 8


def scores_of(columns, examinations):
    """Rows of scores in both protocols, of one network."""
    random = columns["random"]
    return [
        {
            "subject_id": f"{number:03}_HC",
            "examination_id": examination,
            "trimester": 2,
            "model": "cnn_1m_mae",
            "analyzer": name,
            "protocol": protocol,
            "score": score,
            "random": random[number],
            "least_relevant_first": 0.0,
        }
        for protocol in ("paper", "sound")
        for name, column in columns.items()
        if name != "random"
        for number, (score, examination) in enumerate(zip(column, examinations))
    ]


def test_comparisons_and_verdicts_by_hand():
    """Eight examinations: the smallest p-value of a signed-rank test is 2 / 2**8; three pairs correct it by three."""
    steps = np.arange(8) / 100
    columns = {"gradient": -1.0 + steps, "deconvnet": -5.0 + 3 * steps, "random": -1.0 - steps}
    chosen = table8_report.Chosen(["cnn_1m_mae"], ["gradient", "deconvnet"])
    scores = scores_of(columns, [f"{number:03}" for number in range(8)])
    comparisons = table8_report.compare_cells(scores, chosen)
    found = {(row["analyzer"], row["other_analyzer"]): row for row in comparisons if row["protocol"] == "sound"}
    assert set(found) == {("gradient", "deconvnet"), ("gradient", "random"), ("deconvnet", "random")}
    assert found["deconvnet", "random"]["p_value"] == pytest.approx(2 / 2**8)
    assert found["deconvnet", "random"]["p_value_holm"] == pytest.approx(6 / 2**8)
    assert found["deconvnet", "random"]["mean_difference"] == pytest.approx(-4.0 + 4 * 0.035)
    table = table8_report.table_rows(scores, comparisons, chosen)
    rows = {row["analyzer"]: row for row in table if row["protocol"] == "sound"}
    assert (rows["deconvnet"]["rank"], rows["gradient"]["rank"]) == (1, 2)
    assert (rows["deconvnet"]["better_than_random"], rows["gradient"]["better_than_random"]) == (1, 0)
    assert rows["gradient"]["aopc"] == pytest.approx(-0.965)
    claims = {row["claim"]: row["verdict"] for row in table8_report.verdicts(table, comparisons, chosen)}
    assert claims["gradient is insensitive (sound protocol)"] == "confirmed"
    assert claims["deconvnet is insensitive (sound protocol)"] == "not confirmed"


def test_images_of_one_examination_are_one_pair():
    columns = {"gradient": [-2.0, -4.0, -1.0], "random": [0.0, 0.0, 0.0]}
    chosen = table8_report.Chosen(["cnn_1m_mae"], ["gradient"])
    (_, row) = table8_report.compare_cells(scores_of(columns, ["001", "001", "002"]), chosen)
    assert row["num_pairs"] == 2
    assert row["median_difference"] == pytest.approx(-2.0)  # of -3 and -1


@pytest.mark.parametrize(("leader", "verdict"), [(-9.0, "not confirmed"), (-1.0, "confirmed")])
def test_the_most_stable_are_those_nobody_beats(leader, verdict):
    steps = np.arange(10) / 100
    columns = {"gradient": leader + steps, "input_t_gradient": -3.0 + 2 * steps, "lrp.z": -3.0 + 2 * steps}
    columns["random"] = 0 * steps
    chosen = table8_report.Chosen(["cnn_1m_mae"], ["gradient", "input_t_gradient", "lrp.z"])
    scores = scores_of(columns, [f"{number:03}" for number in range(10)])
    comparisons = table8_report.compare_cells(scores, chosen)
    found = table8_report.verdicts(table8_report.table_rows(scores, comparisons, chosen), comparisons, chosen)
    assert [row["verdict"] for row in found if row["claim"].startswith("LRP")] == [verdict, verdict]


def test_images_keep_the_trimesters_and_fewer_are_the_first_of_more():
    records = [
        SimpleNamespace(subject_id=f"{number:03}_HC", trimester=1 + (number >= 20) + (number >= 80))
        for number in range(100)
    ]
    chosen = explanations.choose_images(records, 50, seed=0)
    counts = [sum(record.trimester == trimester for record in chosen) for trimester in (1, 2, 3)]
    assert counts == [10, 30, 10]
    assert explanations.choose_images(records[::-1], 20, seed=0) == chosen[:20]
    assert explanations.choose_images(records, 50, seed=1) != chosen
    with pytest.raises(ValueError, match=r"--images takes 1 to 100, .* Received: 101"):
        explanations.choose_images(records, 101, seed=0)


def test_a_network_without_weights_is_named(models_root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trained densenet121_mae with its weights: expected .*checkpoint"):
        explanations.find_model([tmp_path, models_root], "densenet121_mae")
    assert explanations.find_model([tmp_path, models_root], "unet_ellipse") == models_root / "unet_ellipse" / "fold_0"


def test_weights_that_do_not_belong_to_their_table_are_refused(models_root, cohort, tmp_path):
    folder = shutil.copytree(models_root / "cnn_1m_mae" / "fold_0", tmp_path / "cnn_1m_mae" / "fold_0")
    rows = read_rows(folder / "predictions.csv")
    records = [record for record in HC18(cohort) if record.subject_id == rows[0]["subject_id"]]
    assert explanations.explained(folder, records).name == "cnn_1m_mae"
    rows[0]["y_pred_mm"] += 1.0
    write_rows(folder / "predictions.csv", rows)
    with pytest.raises(ValueError, match=r"its weights predict .* its predictions\.csv says .* do not belong together"):
        explanations.explained(folder, records)


def test_networks_of_different_splits_are_refused(models_root, cohort, tmp_path):
    shutil.copytree(models_root, tmp_path / "models")
    path = tmp_path / "models" / "unet_ellipse" / "fold_0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_checksum": "another"}))
    folders = {name: tmp_path / "models" / name / "fold_0" for name in smoke_models.NAMES}
    with pytest.raises(ValueError, match="trained on different splits"):
        explanations.test_images(cohort, folders, 2, 0)


def test_smoothgrad_has_noise_in_grey_values_of_the_input(models_root, cohort):
    """Two hundredths of the range that hcreg's own default takes: the map hardly differs from the squared gradient."""
    from hcreg.analyzers import create_analyzer

    subject = explanations.explained(models_root / "cnn_1m_mae" / "fold_0", [HC18(cohort)[0]], check=False)
    found = explanations.make_analyzer("smoothgrad", subject.network, 4).analyze(subject.images)
    noise = np.random.default_rng(0).standard_normal((4, 64, 64, 1), dtype=np.float32)
    gradient = create_analyzer("gradient", subject.network)
    expected = np.mean(gradient.analyze(subject.images + 0.2 * noise) ** 2, axis=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_pictures_of_a_synthetic_head_may_be_saved_elsewhere_and_those_of_patients_not(models_root, cohort, tmp_path):
    out, save = tmp_path / "out", tmp_path / "save"
    common = ["--models-root", str(models_root), "--out", str(out)]
    assert figure15.main(["run", *common, "--analyzer", "gradient"]) == 0
    assert figure15.main(["run", *common, "--analyzer", "gradient", "--data", str(cohort)]) == 0
    assert figure15.main(["report", "--out", str(out), "--save", str(save)]) == 0
    assert [path.name for path in save.iterdir()] == ["figure15_cnn_1m_mae_gradient_synthetic.png"]
    assert len(list(out.glob("figure15_*.png"))) == 2


def test_an_image_that_was_trained_on_is_not_drawn(models_root, cohort, tmp_path, capsys):
    common = ["--models-root", str(models_root), "--out", str(tmp_path), "--data", str(cohort)]
    assert figure15.main(["run", *common, "--subject", "999_HC"]) == 1
    assert "999_HC is no test image of fold 0" in capsys.readouterr().err


@pytest.mark.parametrize("script", [figure14, figure15, figure17], ids=lambda script: script.FIGURE)
def test_a_report_without_a_run_says_what_to_run(script, tmp_path, capsys):
    assert script.main(["report", "--out", str(tmp_path)]) == 1
    assert f"Run it first: python -m experiments.zhang2021.{script.FIGURE} run" in capsys.readouterr().err


def test_figure17_names_layers_of_the_network_each_once():
    from hcreg import models

    names = {layer.name for layer in models.unet(input_shape=(32, 32, 1)).layers}
    assert len(figure17.LAYERS) == 6
    for part in ("encoder", "decoder"):
        shallow, deep, everything = (figure17.LAYERS[f"{part}, {depth}"] for depth in ("shallow", "deep", "all"))
        assert set(everything) <= names
        assert sorted(shallow + deep) == sorted(everything)
    assert len(figure17.LAYERS["encoder, all"] + figure17.LAYERS["decoder, all"]) == 18  # every convolution of 3 x 3


def test_destroying_the_network_changes_the_gradient_and_leaves_the_trained_one_alone(models_root, cohort):
    from hcreg import models

    records = HC18(cohort)[:2]
    subject = explanations.explained(models_root / "cnn_1m_mae" / "fold_0", records, check=False)
    before = [array.copy() for array in subject.network.get_weights()]
    fresh = models.cnn_263k(input_shape=(64, 64, 1), seed=5)
    rows = randomisation.correlations(subject, "gradient", [fresh], 2)
    assert [row["part"] for row in rows[::2]] == ["abs_image", "head", "dense2", "dense1", "block2", "block1"]
    assert all(abs(row["rank_correlation"]) < 0.3 for row in rows if row["part"] == "block1")
    unchanged = randomisation.correlations(subject, "gradient", [subject.network], 2)
    assert all(row["rank_correlation"] == pytest.approx(1.0, abs=1e-3) for row in unchanged if row["step"])
    for old, new in zip(before, subject.network.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_rank_correlation_of_ties_and_of_a_constant_map():
    assert randomisation.rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([5.0, 5.0, 6.0])) == pytest.approx(1.0)
    assert randomisation.rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert randomisation.rank_correlation(np.ones(3), np.array([3.0, 2.0, 1.0])) == 0.0


@pytest.mark.proof
@pytest.mark.slow
def test_every_script_runs_by_itself(tmp_path, capsys):
    common = ["--smoke", "--out", str(tmp_path)]
    assert table8.main(["run", *common]) == 0
    for script in (figure14, figure15, figure16, figure17, randomisation):
        assert script.main(["run", *common]) == 0
    for script in (table8, figure14, figure15, figure16, figure17, randomisation):
        assert script.main(["report", *common, "--save", str(tmp_path / "saved")]) == 0
    printed = capsys.readouterr().out
    assert "AOPC (mm), sound" in printed
    assert len(read_rows(tmp_path / "saved" / "table8.csv", text=TEXT)) == 2 * 2 * 8  # networks, protocols, analyzers
    assert len(list((tmp_path / "saved").glob("figure16_*.png"))) == 4
    assert {path.name.split("_")[0] for path in tmp_path.glob("figure*.png")} == {"figure14", "figure15", "figure17"}


def committed_tables():
    names = ("table8.csv", "table8_comparisons.csv", "table8_verdicts.csv")
    return [COMMITTED / name for name in names if (COMMITTED / name).is_file()]


@pytest.mark.parametrize("table", committed_tables(), ids=lambda path: path.name)
def test_committed_table_is_recomputed_from_the_committed_scores(table, tmp_path, capsys):
    assert table8.main(["report", "--out", str(COMMITTED), "--save", str(tmp_path)]) == 0
    committed, recomputed = (read_rows(folder / table.name, text=TEXT) for folder in (COMMITTED, tmp_path))
    assert len(recomputed) == len(committed)
    for ours, theirs in zip(recomputed, committed):  # another processor may sum in another order
        words = {key for key, value in ours.items() if isinstance(value, str)}
        assert {key: ours.pop(key) for key in words} == {key: theirs.pop(key) for key in words}
        assert ours == pytest.approx(theirs, rel=1e-9, nan_ok=True)
