"""What README.rst and the experiments' README.rst say is so: commands, example, numbers."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from hcreg.files import read_rows
from hcreg.preprocessing.nifti import read_volume

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def commands():
    return [line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv")]


def test_two_commands_stand_at_the_top_and_ci_runs_the_second():
    main_job, tests = commands()
    assert README.index(tests) < README.index("On real data")
    assert main_job.endswith(".venv/bin/python -m pip install . && .venv/bin/hcreg quickstart")
    ci = (ROOT / ".ci" / "run").read_text()
    for part in tests.split(" && "):
        arguments = part.split(".venv/bin/python ")[-1] if ".venv/bin" in part else "python3 -m venv"
        for word in arguments.replace('"', "").split():
            assert word in ci, f"{word} of README's test command is not in .ci/run"


def python_blocks():
    blocks = re.findall(r"code-block:: python\n\n((?:    .*\n|\n)+)", README)
    return [textwrap.dedent(block) for block in blocks]


def test_segmentation_example_compiles_a_network_of_both_outputs():
    names = {}
    exec(python_blocks()[1], names)
    network = names["network"]
    images, masks = np.zeros((1, 128, 192, 1), np.float32), np.ones((1, 128, 192, 1), np.float32)
    found = network.evaluate(images, {"mask": masks, "hc_fraction": np.ones((1, 1))}, verbose=0, return_dict=True)
    assert np.isfinite(found["loss"])


def test_example_of_cardiac_volumes_measures_every_test_stack(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    code = python_blocks()[2]
    assert "epochs=2" in code
    exec(code.replace("(64, 64)", "(16, 16)").replace("epochs=2", "epochs=1"), names)
    printed = re.findall(r"^(\S+): LV -?\d+ ml, reference \d+ ml$", capsys.readouterr().out, re.MULTILINE)
    assert printed == names["split"]["test"]


def test_example_of_whole_heads_segments_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    code = python_blocks()[3]
    assert '"filters": 4' in code
    code = code.replace('"filters": 4', '"filters": 1, "skip_attention": (), "upsample_attention": ()')
    exec(code.replace("epochs=2", "epochs=1"), names)
    printed = re.findall(r"^(\S+): \d+ ml, reference \d+ ml$", capsys.readouterr().out, re.MULTILINE)
    assert printed == names["split"]["test"]
    written = read_volume("head001_scan1_head.nii.gz")
    assert written.array.shape == names["heads"][0].image().array.shape
    assert np.array_equal(written.array, names["found"].array)


def test_explanation_example_explains_an_image(trained_run, capsys):
    record, names = trained_run["dataset"][0], {}
    code = python_blocks()[4]
    assert '"image.png"' in code
    assert '"runs/hc18"' in code
    code = code.replace('"image.png"', repr(str(record.image_path))).replace(
        '"runs/hc18"', repr(str(trained_run["folder"]))
    )
    exec(code, names)
    assert re.search(r"^-?\d+\.\d mm$", capsys.readouterr().out, re.MULTILINE)
    assert names["shown"].shape == record.image().shape


def test_example_of_the_heatmap_loss_trains_and_predicts():
    names = {}
    exec(python_blocks()[5].replace("64", "16"), names)
    assert names["probabilities"].shape == (16, 4)
    assert np.allclose(names["probabilities"].sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_python_example_runs_as_printed_but_for_its_size(tmp_path):
    code = python_blocks()[0]
    assert "num_examinations=220" in code
    small = code.replace("num_examinations=220", "num_examinations=24").replace(
        'data="HC18_synthetic")', 'data="HC18_synthetic", epochs=1)'
    )
    command = [sys.executable, "-c", small]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^-?\d+\.\d mm \(\d+\.\d to (\d+\.\d|inf)\), reference \d+\.\d mm$", done.stdout, re.MULTILINE)


def line_of(row):
    """A row of results/table1.csv as README files print it."""

    def cell(name, digits, width):
        value = row[name]
        return (f"{value:.{digits}f}" if value == value else "-").rjust(width)

    columns = [("mae_mm", 2, 6), ("mae_sd_mm", 2, 6), ("fold_sd_mm", 2, 6), ("median_ae_mm", 2, 7), ("bias_mm", 2, 7)]
    columns += [("p95_ae_mm", 2, 7), ("mae_px", 1, 7), ("pmae_percent", 2, 7), ("coverage", 3, 8)]
    return f"{row['row']:<16}" + "".join(cell(*column) for column in columns)


@pytest.mark.parametrize(
    ("readme", "results"),
    [
        ("README.rst", "experiments/zhang2020/results"),
        ("experiments/zhang2020/README.rst", "experiments/zhang2020/results"),
        ("experiments/zhang2020/README.rst", "experiments/zhang2020/results_fold_0"),
        ("experiments/zhang2020/README.rst", "experiments/zhang2020/results_folds_0_3"),
        ("experiments/chi2025/README.rst", "experiments/chi2025/results"),
    ],
)
def test_printed_results_are_those_of_the_committed_table(readme, results):
    lines = [line.strip() for line in (ROOT / readme).read_text(encoding="utf-8").splitlines()]
    rows = read_rows(ROOT / results / "table1.csv", text=("row",))
    assert len(rows) > 1
    for row in rows:
        assert line_of(row) in lines


MASKS = [("dice", 4, 8), ("hausdorff_mm", 2, 7), ("boundary_distance_mm", 3, 7)]
LENGTHS = [("mae_mm", 2, 7), ("mae_sd_mm", 2, 7), ("median_ae_mm", 2, 8), ("bias_mm", 2, 8), ("p95_ae_mm", 2, 8)]
LENGTHS += [("mae_px", 1, 7), ("pmae_percent", 2, 7)]
INTERVALS = [("coverage", 3, 9)]


@pytest.mark.parametrize(
    ("readme", "table", "name_width", "columns"),
    [
        ("experiments/zhang2021/README.rst", "table1", 24, [*MASKS, *LENGTHS]),
        ("experiments/zhang2021/README.rst", "table3", 24, [*MASKS, *LENGTHS]),
        ("experiments/zhang2021/README.rst", "table5", 38, [*LENGTHS, *INTERVALS]),
        ("experiments/zhang2021/README.rst", "table7", 24, [*LENGTHS, *INTERVALS]),
        ("README.rst", "table7", 24, [*LENGTHS, *INTERVALS]),
    ],
)
def test_printed_results_of_zhang2021_are_those_of_the_committed_tables(readme, table, name_width, columns):
    lines = [line.strip() for line in (ROOT / readme).read_text(encoding="utf-8").splitlines()]
    rows = read_rows(ROOT / "experiments/zhang2021/results" / f"{table}.csv", text=("row",))
    assert len(rows) > 3
    for row in rows:
        cells = [
            (f"{row[name]:.{digits}f}" if row[name] == row[name] else "-").rjust(width)
            for name, digits, width in columns
        ]
        assert row["row"].ljust(name_width) + "".join(cells) in lines


ZHANG2021 = ROOT / "experiments/zhang2021"


def predictions_of(name):
    rows = read_rows(ZHANG2021 / "results/runs" / name / "fold_0/predictions.csv")
    return np.array([row["y_pred_mm"] for row in rows]), np.array([row["y_true_mm"] for row in rows])


def test_what_zhang2021_says_of_shared_errors_is_so():
    text = (ZHANG2021 / "README.rst").read_text(encoding="utf-8")
    names = ("unet_dice", "unet_kappa", "densenet121_unet_ellipse")
    together, true_mm = (np.array(values) for values in zip(*map(predictions_of, names)))
    correlations = np.corrcoef(together - true_mm)[2]
    assert f"``densenet121_unet_ellipse`` correlate with {correlations[0]:.2f}" in text
    assert f"{correlations[1]:.2f} with ``unet_kappa``" in text
    assert f"DenseNet121 has {np.abs(together.mean(axis=0) - true_mm[0]).mean():.2f} mm" in text


def test_every_segmentation_network_of_zhang2021_beats_every_regressor():
    rows = read_rows(ZHANG2021 / "results/table7_comparisons.csv", text=("row", "other_row"))
    regressors = {"densenet121_mae", "cnn_1m_240_mae"}
    between = [row for row in rows if (row["row"] in regressors) != (row["other_row"] in regressors)]
    assert len(between) == 6
    assert all(row["mean_difference_mm"] < 0 and row["p_value_holm"] < 1e-12 for row in between)


def test_tables_of_explanations_are_those_of_the_committed_results():
    folder = ROOT / "experiments" / "zhang2021" / "results" / "explanations"
    text = (folder.parent.parent / "README.rst").read_text(encoding="utf-8")
    rows = read_rows(folder / "table8.csv", text=("model", "analyzer", "protocol", "unit"))
    for protocol in ("paper", "sound"):
        block = text[text.index(f"    {protocol}  ") :].split("\n\n")[0].splitlines()[1:]
        models = list(dict.fromkeys(row["model"] for row in rows))
        assert [line.split()[0] for line in block] == models
        for line, model in zip(block, models):
            cells = [row for row in rows if (row["model"], row["protocol"]) == (model, protocol)]
            shown = [f"{row['aopc']:.1f}{'*' if row['better_than_random'] else ''}" for row in cells]
            assert line.split()[1:] == [*shown, f"{cells[0]['random_order']:.1f}"]
    block = text[text.index("    analyzer               abs_image") :].split("\n\n")[0].splitlines()
    correlations = read_rows(folder / "randomisation.csv", text=("analyzer", "part"))
    for line in block[1:]:
        found = {row["part"]: f"{row['mean']:.2f}" for row in correlations if row["analyzer"] == line.split()[0]}
        assert dict(zip(block[0].split()[1:], line.split()[1:])) == found
    verdicts = read_rows(folder / "table8_verdicts.csv", text=("claim", "criterion", "finding", "verdict"))
    assert verdicts[0]["verdict"] == "not confirmed"
    assert "in 20 paired comparisons" in verdicts[3]["finding"]
    assert all("guided_backprop 2.67" in row["finding"] for row in verdicts if "stable" in row["claim"])
