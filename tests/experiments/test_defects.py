"""What docs/innvestigate.rst says of iNNvestigate's defects is what was measured, and shows a defect."""

import json
import re
from pathlib import Path

import pytest

from experiments.explanations import defects
from experiments.explanations.tables import RESULTS, Table, read
from hcreg.analyzers.innvestigate_process import Worker

PAGE = Path(__file__).resolve().parents[2] / "docs" / "innvestigate.rst"
EVERY = [f"D{number}" for number in range(1, 10)]


@pytest.fixture(scope="module")
def rows():
    return read(RESULTS / "defects.csv")


def pairs(rows, defect, quantity=""):
    """(iNNvestigate, hcreg) as numbers, of the rows of a defect."""
    chosen = [row for row in rows if row["defect"] == defect and quantity in row["quantity"]]
    assert chosen
    return [(float(row["innvestigate"]), float(row["hcreg"])) for row in chosen]


def test_the_page_has_the_committed_numbers(rows):
    assert PAGE.read_text(encoding="utf-8").endswith(defects.table_text(rows))


def test_the_page_explains_every_defect_once():
    assert re.findall(r"^\*\*(D\d)[,*]", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == EVERY


def test_every_defect_is_measured(rows):
    assert sorted({row["defect"] for row in rows}) == EVERY
    about = json.loads((RESULTS / "defects.json").read_text(encoding="utf-8"))
    assert sorted(about) == EVERY


def test_noise_scale(rows):
    ((theirs, ours),) = pairs(rows, "D1")
    assert theirs > 0.1
    assert ours < 1e-5


def test_lrp_z_is_input_times_gradient_where_normalisation_is_right(rows):
    for theirs, ours in pairs(rows, "D2", "difference"):
        assert theirs > 0.1
        assert ours < 1e-3


def test_failures_are_told_in_words(rows):
    for row in rows:
        if row["defect"] in ("D3", "D9"):
            assert re.match(r"(TypeError|NotImplementedError): \w", row["innvestigate"]), row
            assert row["hcreg"] == "explained"


def test_bounds_are_lost_behind_padding_only(rows):
    (with_layer_at_image, ours), (behind_padding, ours_behind_padding) = pairs(rows, "D4")
    assert with_layer_at_image > 0.1
    assert behind_padding == 0.0
    assert min(ours, ours_behind_padding) > 0.1


def test_order_matters_to_innvestigate_alone(rows):
    ((theirs, ours),) = pairs(rows, "D5", "change")
    assert theirs > 0.1
    assert ours == 0.0


def test_building_takes_longer(rows):
    for theirs, ours in pairs(rows, "D6"):
        assert theirs > 5 * ours


def test_alpha_beta_maps_are_of_sensible_size(rows):
    for theirs, ours in pairs(rows, "D7"):
        assert theirs > 0
        assert ours < 1e4
    assert max(theirs / ours for theirs, ours in pairs(rows, "D7")) > 100


def test_deep_taylor_of_a_negative_prediction(rows):
    assert pairs(rows, "D8") == [(0.0, 1.0)]


def test_layers_are_refused_by_the_real_one():
    try:
        worker = Worker()
    except ImportError as error:
        pytest.skip(str(error))
    with worker:
        rows = list(defects.layers_refused(worker, {}))
    assert {row["network"] for row in rows} == {
        f"layers.{name}" for name in ("ReLU", "DepthwiseConv2D", "Rescaling", "Normalization")
    }
    for row in rows:
        assert row["innvestigate"].startswith("NotImplementedError")
        assert row["hcreg"] == "explained"


def test_table_text():
    row = defects.row("D2", "resnet", "size", 12345.0, "explained")
    assert row["innvestigate"] == "1.2e+04"
    text = defects.table_text([row, {**row, "defect": "D1"}])
    assert text.index("* - D1") < text.index("* - D2")
    assert "     - 1.2e+04\n     - explained\n" in text


def test_a_part_of_a_table_is_replaced_in_its_place(tmp_path):
    table = Table("defects", tmp_path, key="defect")
    for part, values in (("D1", [1]), ("D2", [2]), ("D3", [3]), ("D2", [4, 5]), ("D1", [6])):
        table.replace(part, [{"defect": part, "value": value} for value in values])
    assert [(row["defect"], row["value"]) for row in read(tmp_path / "defects.csv")] == [
        ("D1", "6"),
        ("D2", "4"),
        ("D2", "5"),
        ("D3", "3"),
    ]
    about = json.loads((tmp_path / "defects.json").read_text(encoding="utf-8"))
    assert set(about) == {"D1", "D2", "D3"}
    assert about["D1"]["versions"]["keras"]
