"""Synthetic cardiac volumes: ACDC's layout, volumes known beforehand, hearts and diseases as they should be."""

import json

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from hcreg.datasets.acdc import ACDC
from hcreg.datasets.synthetic import cardiac_volumes, cardiac_volumes_3d, is_synthetic
from hcreg.datasets.synthetic.cardiac_volumes_anatomy import GROUPS, draw_heart
from hcreg.datasets.synthetic.cardiac_volumes_image import draw_label_map
from hcreg.files import read_rows

NUM_PATIENTS = 6
RV, MYO, LV = 1, 2, 3


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return cardiac_volumes(tmp_path_factory.mktemp("hearts") / "ACDC", NUM_PATIENTS, seed=1)


@pytest.fixture(scope="module")
def plans():
    """What is decided about twelve patients of every group."""
    return [cardiac_volumes_3d._plan(number, seed=3) for number in range(1, 61)]


@pytest.fixture(scope="module")
def drawn(plans):
    """Plan and both label maps of four patients of every group, without pictures."""
    return [
        (patient, [draw_label_map(phase, patient.placement) for phase in (patient.heart.ed, patient.heart.es)])
        for patient in plans[:20]
    ]


def info(folder):
    return dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def measured_ml(label_map, spacing_mm):
    return np.array([(label_map == label).sum() for label in (RV, MYO, LV)]) * np.prod(spacing_mm) / 1000


def test_layout_is_that_of_acdc(cohort):
    patients = sorted(path.name for path in (cohort / "training").iterdir())
    assert patients == [f"patient{number:03d}" for number in range(1, NUM_PATIENTS + 1)]
    for number, name in enumerate(patients):
        folder = cohort / "training" / name
        record = info(folder)
        assert list(record) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert record["Group"] == ("NOR", "DCM", "HCM", "MINF", "RV")[number % 5]
        assert 130 < float(record["Height"]) < 210
        assert 30 < float(record["Weight"]) < 160
        frames = int(record["ED"]), int(record["ES"])
        assert frames[0] != frames[1]
        assert all(1 <= frame <= int(record["NbFrame"]) for frame in frames)
        stems = [f"{name}_frame{frame:02d}" for frame in frames]
        expected = {"Info.cfg", *(f"{stem}{end}.nii.gz" for stem in stems for end in ("", "_gt"))}
        assert {path.name for path in folder.iterdir()} == expected


def test_ed_is_not_always_the_first_frame(cohort):
    first = [int(info(folder)["ED"]) == 1 for folder in sorted((cohort / "training").iterdir())]
    assert first == [True, False, True, True, True, False]


def test_plain_nibabel_reads_images_and_labels(cohort):
    for path in sorted(cohort.rglob("*_gt.nii.gz")):
        image, labels = nibabel.load(str(path).replace("_gt", "")), nibabel.load(path)
        assert image.get_data_dtype() == np.int16
        assert labels.get_data_dtype() == np.uint8
        assert image.shape == labels.shape
        assert set(np.unique(np.asarray(labels.dataobj))) == {0, RV, MYO, LV}
        for volume in (image, labels):
            # As in all files of ACDC: the affine knows nothing of the spacing.
            np.testing.assert_array_equal(volume.affine, np.diag([-1.0, -1.0, 1.0, 1.0]))
            assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
            x, y, z = volume.header.get_zooms()
            assert x == y
            assert 0.69 < x < 1.93
            assert 5 <= z <= 10


def test_the_reader_of_the_real_data_reads_it(cohort):
    data = ACDC(cohort)
    assert data.check() == []
    assert len(data) == 2 * NUM_PATIENTS
    truth = {row["subject_id"]: row for row in read_rows(cohort / "true_volumes.csv")}
    for record in data:
        volumes = record.volumes_ml()
        for name in ("RV", "MYO", "LV"):
            assert volumes[name] == pytest.approx(truth[record.subject_id][f"{name.lower()}_ml"], rel=0.03)


def test_the_right_ventricle_lies_on_the_left_of_the_picture(cohort):
    for path in cohort.rglob("*_gt.nii.gz"):
        labels = np.asarray(nibabel.load(path).dataobj)
        assert np.nonzero(labels == RV)[0].mean() < np.nonzero(labels == LV)[0].mean()


def test_blood_is_bright_and_muscle_and_lung_are_dark(cohort):
    around_heart = []
    for path in cohort.rglob("*_gt.nii.gz"):
        labels = np.asarray(nibabel.load(path).dataobj)
        image = np.asarray(nibabel.load(str(path).replace("_gt", "")).dataobj)
        rv, myo, lv = (np.median(image[labels == label]) for label in (RV, MYO, LV))
        # ACDC: from 0.3 to 0.66, but for one patient with small cavities.
        assert 0.3 < myo / lv < 0.66
        assert 0.7 < rv / lv < 1.15
        assert 1.0 < np.percentile(image, 99) / lv < 2.6
        heart = labels > 0
        around = ndimage.binary_dilation(heart, np.ones((9, 9, 1))) & ~heart
        around_heart.append(np.percentile(image[around], (10, 90)) / lv)
    # What touches the heart is no single grey: fat, wall, lung, liver.
    low, high = np.median(around_heart, axis=0)
    assert low < 0.3
    assert high > 0.55


def test_papillary_muscles_are_dark_and_belong_to_the_cavity(cohort):
    dark = []
    for path in cohort.rglob("*_gt.nii.gz"):
        labels = np.asarray(nibabel.load(path).dataobj)
        image = np.asarray(nibabel.load(str(path).replace("_gt", "")).dataobj).astype(float)
        core = ndimage.binary_erosion(labels == LV, np.ones((3, 3, 1)))
        middle = np.flatnonzero(core.any(axis=(0, 1)))
        middle = middle[len(middle) // 2]
        cavity = image[..., middle][core[..., middle]]
        dark.append((cavity < 0.65 * np.median(cavity)).mean())
    assert 0.02 < np.mean(dark) < 0.35


def test_label_maps_come_to_the_true_volumes(drawn):
    true, measured = [], []
    for patient, label_maps in drawn:
        for ventricles, label_map in zip((patient.heart.ed, patient.heart.es), label_maps, strict=True):
            volumes = ventricles.volumes_ml()
            true.append([volumes["RV"], volumes["MYO"], volumes["LV"]])
            measured.append(measured_ml(label_map, patient.spacing_mm))
    true, measured = np.array(true), np.array(measured)
    np.testing.assert_allclose(measured, true, rtol=0.03)
    np.testing.assert_allclose(measured.sum(axis=0), true.sum(axis=0), rtol=0.003)


@pytest.mark.parametrize("group", GROUPS)
def test_true_volumes_are_those_of_a_fine_grid(group):
    # Thin slices of small pixels around the axis, decided pixel by pixel.
    heart = draw_heart(np.random.default_rng(8), group)
    side = np.arange(-85, 85, 0.5) + 0.25
    x, y = np.meshgrid(side, side)
    radius, angle = np.hypot(x, y), np.rint(np.degrees(np.arctan2(y, x))).astype(int) % 360
    for ventricles in (heart.ed, heart.es):
        step = 2.0
        z = np.arange(-30, 150, step) + step / 2
        inner, outer = ventricles.endocardium(z), ventricles.epicardium(z)
        right = outer + ventricles.rv_depth(z)
        area = np.zeros(3)
        for number, height in enumerate(z):
            in_lv = radius < inner[number][angle]
            in_wall = radius < outer[number][angle]
            above, beyond = height < ventricles.lv_base_mm, height > ventricles.lv_base_mm + ventricles.lv_length_mm
            area[0] += ((radius < right[number][angle]) & ~in_wall).sum() * (height > ventricles.rv_base_mm)
            area[1] += (in_wall.sum() - in_lv.sum() * (not beyond)) * (not above)
            area[2] += in_lv.sum() * (not above and not beyond)
        volumes = ventricles.volumes_ml()
        expected = [volumes["RV"], volumes["MYO"], volumes["LV"]]
        np.testing.assert_allclose(area * 0.25 * step / 1000, expected, rtol=0.006)


def test_myocardium_parts_the_cavity_from_all_else(drawn):
    neighbours = np.ones((3, 3, 1), bool)
    for _, label_maps in drawn:
        for label_map in label_maps:
            beside = label_map[ndimage.binary_dilation(label_map == LV, neighbours)]
            assert set(beside) == {MYO, LV}
            # The right ventricle lies on the wall, and neither reaches the border of the image.
            touching = ndimage.binary_dilation(label_map == RV, neighbours) & (label_map == MYO)
            assert touching.sum() > 30
            assert not label_map[[0, -1]].any()
            assert not label_map[:, [0, -1]].any()


def test_slices_run_from_the_base_to_the_apex(drawn):
    areas, without_rv, empty = [], 0, 0
    for _, (label_map, _) in drawn:
        ventricle = (label_map >= MYO).sum(axis=(0, 1))
        there = np.flatnonzero(ventricle)
        assert (np.diff(there) == 1).all()
        areas.append(ventricle[there[0]] / ventricle[there[-1]])
        without_rv += not (label_map[..., there[-1]] == RV).any()
        empty += not label_map.any(axis=(0, 1)).all()
    assert min(areas) > 1.5
    # Apical slices often have no right ventricle; some stacks have slices without any heart.
    assert 5 < without_rv < 20
    assert 2 < empty < 18


def test_volumes_lie_where_real_ones_do(plans):
    ed = np.array([list(patient.heart.ed.volumes_ml().values()) for patient in plans])
    es = np.array([list(patient.heart.es.volumes_ml().values()) for patient in plans])
    for volumes, (low, high) in ((ed[:, 0], (50, 300)), (ed[:, 1], (35, 300)), (ed[:, 2], (50, 351))):
        assert low < volumes.min() < volumes.max() < high
    assert (es[:, [0, 2]] < ed[:, [0, 2]]).all()
    assert 22 < es[:, 2].min() < es[:, 2].max() < 330
    # Muscle is nearly incompressible.
    ratio = es[:, 1] / ed[:, 1]
    assert 0.99 < ratio.min() < ratio.max() < 1.13


def test_groups_differ_as_diseases_do(plans):
    facts = {group: [] for group in GROUPS}
    for patient in plans:
        ed, es = patient.heart.ed.volumes_ml(), patient.heart.es.volumes_ml()
        facts[patient.heart.group].append(
            [ed["LV"], 1 - es["LV"] / ed["LV"], ed["MYO"], ed["RV"], 1 - es["RV"] / ed["RV"]]
        )
    lv, lv_ef, myo, rv, rv_ef = ({group: np.mean(rows, axis=0)[i] for group, rows in facts.items()} for i in range(5))
    assert lv["DCM"] > 1.5 * lv["NOR"]
    assert lv_ef["DCM"] < 0.35 < 0.55 < lv_ef["NOR"] < lv_ef["HCM"]
    assert lv_ef["MINF"] < 0.42
    assert myo["HCM"] > 1.3 * myo["NOR"]
    assert myo["NOR"] > 1.2 * myo["RV"]
    assert rv["RV"] > 1.1 * rv["NOR"]
    assert rv_ef["RV"] < 0.42 < rv_ef["NOR"]


def test_walls_thicken_but_for_an_infarction():
    z = np.array([60.0])
    for seed in range(5):
        for group in ("NOR", "MINF"):
            heart = draw_heart(np.random.default_rng(seed), group)
            ed, es = ((phase.epicardium(z) - phase.endocardium(z))[0] for phase in (heart.ed, heart.es))
            scar = heart.ed.scar > 0.9
            assert es[~scar].mean() > 1.1 * ed[~scar].mean()
            assert scar.any() == (group == "MINF")
            if scar.any():
                assert ed[scar].mean() < 0.8 * ed[heart.ed.scar < 0.1].mean()
                inwards = 1 - heart.es.endocardium(z)[0] / heart.ed.endocardium(z)[0]
                assert inwards[scar].mean() < 0.5 * inwards[heart.ed.scar < 0.1].mean()


def test_shapes_spacings_and_places_vary(drawn, plans):
    shapes = {patient.placement.shape for patient in plans}
    assert len({shape[:2] for shape in shapes}) > 5
    assert {shape[2] for shape in shapes} >= {8, 9, 10}
    assert all(6 <= shape[2] <= 18 for shape in shapes)
    assert len({patient.spacing_mm[0] for patient in plans}) > 5
    assert {5.0, 10.0} <= {patient.spacing_mm[2] for patient in plans}
    centers = np.array(
        [
            (np.argwhere(label_maps[0]).mean(axis=0)[1::-1] - (np.array(label_maps[0].shape[1::-1]) - 1) / 2)
            * patient.spacing_mm[0]
            for patient, label_maps in drawn
        ]
    )
    assert -32 < centers[:, 0].mean() < -10
    assert 10 < centers[:, 1].std() < 35


def test_one_seed_gives_the_same_bytes_and_a_larger_cohort_contains_the_smaller(cohort, tmp_path):
    smaller = contents(cardiac_volumes(tmp_path / "smaller", 2, seed=1, num_workers=1) / "training")
    larger = contents(cohort / "training")
    assert len(smaller) == 10
    assert smaller.items() <= larger.items()
    other = contents(cardiac_volumes(tmp_path / "other", 1, seed=2) / "training")
    assert all(other[name] != smaller[name] for name in other.keys() & smaller.keys())


def test_an_interrupted_generation_is_completed(tmp_path, monkeypatch):
    whole = contents(cardiac_volumes(tmp_path / "whole", 2, seed=4))
    root, draw, calls = tmp_path / "broken", cardiac_volumes_3d.draw_image, []

    def break_off(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return draw(*arguments)

    monkeypatch.setattr(cardiac_volumes_3d, "draw_image", break_off)
    with pytest.raises(KeyboardInterrupt):
        cardiac_volumes(root, 2, seed=4, num_workers=1)
    assert json.loads((root / "cohort.json").read_text())["complete"] is False
    assert not (root / "true_volumes.csv").exists()
    assert not (root / "training" / "patient002" / "Info.cfg").exists()
    monkeypatch.setattr(cardiac_volumes_3d, "draw_image", draw)
    assert contents(cardiac_volumes(root, 2, seed=4)) == whole


def test_a_whole_cohort_is_not_drawn_again(cohort, monkeypatch):
    def refuse(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(cardiac_volumes_3d, "draw_image", refuse)
    assert is_synthetic(cohort)
    assert cardiac_volumes(str(cohort), NUM_PATIENTS, seed=1) == cohort


def test_other_folders_are_left_alone(cohort, tmp_path):
    with pytest.raises(ValueError, match=r"another synthetic cohort: seed is 1 there and 2 here .*cohort\.json"):
        cardiac_volumes(cohort, NUM_PATIENTS, seed=2)
    (tmp_path / "MANDATORY_CITATION.md").write_text("precious")
    with pytest.raises(FileExistsError, match=r"not empty and holds no cohort\.json.*MANDATORY_CITATION\.md"):
        cardiac_volumes(tmp_path, 1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["MANDATORY_CITATION.md"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0, 0), ValueError, "num_patients must be between 1 and 999. Received: 0"),
        ((-3, 0), ValueError, "num_patients must be between 1 and 999. Received: -3"),
        ((1000, 0), ValueError, "num_patients must be between 1 and 999. Received: 1000"),
        ((2.5, 0), TypeError, "num_patients must be a whole number. Received: 2.5 of type float"),
        ((3, -1), ValueError, "seed must be at least 0. Received: -1"),
        ((3, 0, 0), ValueError, "num_workers must be at least 1. Received: 0"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(tmp_path, arguments, error, words):
    with pytest.raises(error) as caught:
        cardiac_volumes(tmp_path / "none", *arguments)
    assert str(caught.value).startswith(words)
    assert not (tmp_path / "none").exists()
