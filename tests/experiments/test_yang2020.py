"""Tables and figures of whole heads run, from synthetic volumes to their reports, with networks of a moment."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_heads import small_network
from small_hearts import train_without_graphs

from experiments.yang2020 import figure8, figure9, figures4_5, full_size, protocol, table1, table2, whole_heart
from hcreg import models
from hcreg.datasets import VolumeFolder
from hcreg.files import read_rows
from hcreg.head_volumes import HeadPreparation, Patches, Slices, Whole

PAPER_TABLE1 = [
    *("p-USegNet", "2D-USegNet", "3D-DeconvNet", "USegNet", "USegNet-DS", "USegNet-DS-UAM", "USegNet-DS-SAM"),
    *("USegNet-DS-HAS", "USegNet-DS-HAS-Ctx"),
]
PAPER_TABLE2 = [
    *("USegNet-DS", "SAM-1", "SAM-12", "USegNet-DS-SAM", "UAM-1", "UAM-12", "USegNet-DS-UAM", "USegNet-DS-HAS"),
]


def test_rows_are_the_papers_and_differ_by_what_their_name_says():
    table = {recipe.name: recipe for recipe in (*protocol.TABLE1, *protocol.TABLE2)}
    assert [recipe.name for recipe in protocol.TABLE1] == PAPER_TABLE1
    assert [recipe.name for recipe in protocol.TABLE2] == PAPER_TABLE2
    assert len(table) == 13
    assert all(recipe in protocol.TABLE1 for recipe in protocol.TABLE2 if recipe.name in PAPER_TABLE1)  # one run each
    views = {name: type(recipe.view) for name, recipe in table.items()}
    assert views.pop("p-USegNet") is Patches
    assert views.pop("2D-USegNet") is Slices
    assert set(views.values()) == {Whole}
    builders = {name: recipe.build for name, recipe in table.items()}
    assert builders.pop("2D-USegNet") is models.usegnet_2d
    assert builders.pop("3D-DeconvNet") is models.deconvnet_3d
    assert set(builders.values()) == {models.usegnet}
    supervised = {name for name, recipe in table.items() if len(recipe.loss) == 3}
    assert supervised == set(table) - {"p-USegNet", "2D-USegNet", "3D-DeconvNet", "USegNet"}
    context = table["USegNet-DS-HAS-Ctx"]
    assert replace(context, name="USegNet-DS-HAS", context=False, first_of=None) == table["USegNet-DS-HAS"]


def test_the_drawn_heads_are_48_32_56_for_the_network():
    assert HeadPreparation().grid(protocol.DRAWN_SHAPE, (1.23,) * 3)[0] == (48, 32, 56)


def test_folders_of_acdc_are_hearts_and_others_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "training" / "patient001").mkdir(parents=True)
    phases = [SimpleNamespace(subject_id=f"patient001_{phase}", phase=phase) for phase in ("ED", "ES")]
    monkeypatch.setattr(whole_heart, "ACDC", lambda root: phases)
    hearts = protocol.read_dataset(tmp_path)
    assert hearts.subjects == ["patient001_ED", "patient001_ES"]
    assert hearts.preparation.grid((256, 216, 10), (1.4, 1.4, 10.0))[0] == (80, 80, 16)
    with pytest.raises(FileNotFoundError):
        protocol.read_dataset(tmp_path / "training")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Smoke runs of two rows, the second an Auto-Context of the first."""
    folder = tmp_path_factory.mktemp("yang2020")
    outputs = {"build": small_network, "build_arguments": {"outputs": ("mask", "mask_half", "mask_quarter")}}
    rows = [replace(recipe, **outputs) for recipe in protocol.TABLE1[-2:]]
    with pytest.MonkeyPatch.context() as patch:
        train_without_graphs(patch)
        patch.setattr(table1, "TABLE1", rows)
        names = [recipe.name for recipe in rows]
        assert table1.main(["run", "--smoke", "--out", str(folder), "--rows", *names]) == 0
        assert (
            table1.main(["report", "--smoke", "--out", str(folder), "--rows", *names, "--save", str(folder / "s")]) == 0
        )
        patch.setattr(protocol, "TABLE1", rows)
        patch.setattr(protocol, "TABLE2", [])
        yield folder


def test_smoke_runs_from_drawn_heads_to_the_table(smoke):
    assert len(VolumeFolder(smoke / "data")) == protocol.NUM_SMOKE
    constant, *lines = read_rows(smoke / "s" / "table1.csv", text=("row",))
    assert [line["row"] for line in lines] == PAPER_TABLE1[-2:]
    assert all(0 <= line["dice"] <= 1 for line in (constant, *lines))
    assert lines[1]["num_parameters"] == 2 * lines[0]["num_parameters"]
    assert (smoke / "s" / "runs" / "USegNet-DS-HAS-Ctx" / "fold_0" / "predictions.csv").is_file()


def test_figures_are_drawn_from_the_runs(smoke, tmp_path, capsys):
    common = ["report", "--out", str(smoke), "--save", str(tmp_path)]
    assert figure8.main(common) == 0
    assert figure9.main(common) == 0
    assert "SD over the scans of a head" in capsys.readouterr().out
    (line,) = read_rows(tmp_path / "figure9.csv", text=("row",))
    assert line["num_patients"] >= 1
    drawn = figures4_5.main([*common, "--rows", *PAPER_TABLE1[-2:]])
    failed = "No head was found in any volume" in capsys.readouterr().err  # an epoch need not find one
    assert drawn == (1 if failed else 0)
    assert {path.name for path in tmp_path.glob("*.png")} >= {
        "figure8_USegNet-DS-HAS-Ctx.png",
        "figure9_USegNet-DS-HAS-Ctx.png",
    }


def test_volumes_of_full_size_come_out_on_the_voxels_of_their_files(smoke, tmp_path, capsys):
    small = ["--shape", "96", "64", "112", "--volumes", "1", "--filters", "2"]
    name = PAPER_TABLE1[-2]
    assert full_size.main(["report", "--out", str(smoke), "--save", str(tmp_path), "--rows", name, *small]) == 0
    trained, untrained = read_rows(tmp_path / "full_size.csv", text=("row", "subject_id", "shape", "failure"))
    assert (trained["row"], untrained["row"]) == (name, full_size.UNTRAINED)
    assert trained["shape"] == untrained["shape"] == "96 x 64 x 112"
    assert trained["volume_true_ml"] == untrained["volume_true_ml"] > 0
    assert trained["seconds"] > 0
    assert "written: " in capsys.readouterr().out


def test_networks_see_voxels_of_the_size_they_were_trained_on():
    assert full_size._trained_on(HeadPreparation(scale=0.5), (1.2,) * 3) == HeadPreparation(scale=None, spacing_mm=2.4)
    by_size = HeadPreparation(scale=None, size=(16, 16, 8))
    assert full_size._trained_on(by_size, (1.2,) * 3) is by_size


def test_a_label_map_on_other_voxels_is_refused(smoke):
    record = VolumeFolder(smoke / "data")[0]

    def moved(path):
        return replace(record.label_map(), path="unwritten", affine=np.eye(4))

    with pytest.raises(AssertionError, match="is not on its voxels"):
        full_size.measured("a row", record, moved)


def test_chosen_volumes_are_the_best_the_median_and_the_worst():
    rows = [{"subject_id": name, "adb_mm": mm, "failure": ""} for name, mm in (("b", 2.0), ("a", 1.0), ("c", 9.0))]
    lost = {"subject_id": "d", "adb_mm": float("nan"), "failure": "the predicted mask is empty"}
    assert figures4_5.chosen_volumes([*rows, lost]) == {"best": "a", "median": "b", "worst": "c"}
    with pytest.raises(ValueError, match="No head was found in any volume"):
        figures4_5.chosen_volumes([lost])


def test_unknown_rows_and_folders_without_runs_are_named(tmp_path, capsys):
    assert figure8.main(["report", "--out", str(tmp_path), "--rows", "USegNet-XL"]) == 1
    assert "yang2020.figure8: There is no row USegNet-XL. The rows: " in capsys.readouterr().err
    assert figure9.main(["report", "--out", str(tmp_path)]) == 1
    assert "USegNet-DS-HAS-Ctx fold 0 (not run)" in capsys.readouterr().err
    assert table2.main(["report", "--out", str(tmp_path), "--folds", "0"]) == 1
    assert "lacks 8 run(s)" in capsys.readouterr().err


def test_more_heads_are_trained_on_and_the_tables_own_tested():
    records = [
        SimpleNamespace(subject_id=f"head{head:03}_scan{scan}", subject=f"head{head:03}")
        for head in range(1, 201)
        for scan in (1, 2, 3)
    ]
    (own,) = protocol.repeated_split(records[: protocol.NUM_DRAWN], num_seeds=1, sizes=protocol.SIZES)
    (more,) = protocol.split_of_more(records, num_seeds=1)
    assert {part: more[part] for part in ("validation", "test")} == {part: own[part] for part in ("validation", "test")}
    assert more["training"][: len(own["training"])] == own["training"]
    assert set(more["training"][len(own["training"]) :]) == {record.subject_id for record in records[180:]}
    assert len(more["training"]) == 126 + 420


def test_longer_runs_differ_from_the_tables_by_their_epochs_only():
    for longer, row in zip(protocol.LONGER, (protocol.BASE, protocol.CONTEXT), strict=True):
        assert replace(longer, epochs=row.epochs, patience=row.patience) == row
