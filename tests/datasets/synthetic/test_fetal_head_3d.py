"""Synthetic volumes of fetal heads: known volumes, pictures as they should be, one folder whatever happens."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from hcreg.datasets import VolumeFolder
from hcreg.datasets.synthetic import fetal_head_3d, fetal_head_3d_cohort, is_synthetic
from hcreg.datasets.synthetic import fetal_head_3d_image as image
from hcreg.datasets.synthetic import fetal_head_3d_scan as scan
from hcreg.datasets.synthetic.fetal_head_3d_anatomy import Ellipsoid, Head, draw_head
from hcreg.datasets.synthetic.fetal_head_3d_cohort import _plan
from hcreg.files import read_rows

SHAPE, SPACING_MM, FULL_SHAPE = (48, 32, 56), 3.0717, (388, 258, 440)
SMALL = {"shape": (16, 12, 18), "spacing_mm": 9.0, "scans_per_head": 2}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return fetal_head_3d(tmp_path_factory.mktemp("heads") / "volumes", 6, seed=1)


@pytest.fixture(scope="module")
def drawn(cohort):
    """Image, label map, depth below the cranium's and the head's surface and the neck's, by voxel, of each volume."""
    plans = [volume for number in (1, 2) for volume in _plan(number, 1, SHAPE, SPACING_MM, 3)]
    found = []
    for plan, record in zip(plans, VolumeFolder(cohort), strict=True):
        assert plan.subject_id == record.subject_id
        places = np.meshgrid(*(np.arange(side, dtype=np.float32) * SPACING_MM for side in SHAPE), indexing="ij")
        points = plan.scan.in_head(plan.head, places)
        found.append(
            SimpleNamespace(
                image=record.image().array,
                head=record.label_map().array.astype(bool),
                cranium_mm=plan.head.cranium_distance(points) * plan.head.scale_mm,
                neck_mm=plan.head.neck_distance(points) * plan.head.scale_mm,
                height=points[2],
            )
        )
    return found


@pytest.fixture(scope="module")
def heads():
    return [draw_head(np.random.default_rng(seed)) for seed in range(12)]


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class TestFolder:
    def test_it_is_read_as_pairs_of_three_scans_a_head(self, cohort):
        data = VolumeFolder(cohort)
        assert data.scheme == "folders"
        assert data.subjects == [f"head00{head}_scan{number}" for head in (1, 2) for number in (1, 2, 3)]
        assert [record.subject for record in data] == ["head001"] * 3 + ["head002"] * 3
        assert data.check() == []
        for record in data:
            assert record.image().array.shape == SHAPE
            assert record.spacing_mm == pytest.approx((SPACING_MM,) * 3, abs=1e-4)
        assert is_synthetic(cohort)

    def test_the_scans_of_a_head_have_its_volume(self, cohort):
        rows = read_rows(cohort / "true_volumes.csv")
        assert [row["subject_id"] for row in rows] == VolumeFolder(cohort).subjects
        volumes = [row["volume_ml"] for row in rows]
        assert volumes[0] == volumes[1] == volumes[2] != volumes[3] == volumes[4] == volumes[5]
        for row, record in zip(rows, VolumeFolder(cohort), strict=True):
            assert record.volume_ml() == pytest.approx(row["volume_ml"], rel=0.015)

    def test_bytes_do_not_depend_on_workers_and_a_larger_cohort_contains_the_smaller(self, tmp_path):
        one = contents(fetal_head_3d(tmp_path / "one", 3, seed=5, num_workers=1, **SMALL))
        two = contents(fetal_head_3d(tmp_path / "two", 3, seed=5, num_workers=3, **SMALL))
        assert one == two
        more = contents(fetal_head_3d(tmp_path / "more", 4, seed=5, **SMALL))
        other = contents(fetal_head_3d(tmp_path / "other", 3, seed=6, **SMALL))
        for name in one:
            if name.endswith(".nii.gz"):
                assert more[name] == one[name] != other[name]

    def test_an_interrupted_call_is_completed(self, tmp_path, monkeypatch):
        whole = contents(fetal_head_3d(tmp_path / "whole", 4, seed=5, **SMALL))
        root = tmp_path / "begun"
        draw, done = image.draw_label_map, []

        def interrupted(*arguments):
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(1)
            return draw(*arguments)

        monkeypatch.setattr(fetal_head_3d_cohort, "draw_label_map", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetal_head_3d(root, 4, seed=5, num_workers=1, **SMALL)
        assert json.loads((root / "cohort.json").read_text())["complete"] is False
        assert not (root / "true_volumes.csv").exists()
        monkeypatch.undo()
        kept = {name: (root / name).stat().st_mtime_ns for name in contents(root) if name.startswith("labels")}
        assert len(kept) == 2
        assert contents(fetal_head_3d(root, 4, seed=5, **SMALL)) == whole
        assert {name: (root / name).stat().st_mtime_ns for name in kept} == kept

    def test_a_lost_file_is_drawn_again(self, tmp_path):
        root = fetal_head_3d(tmp_path / "heads", 2, seed=5, **SMALL)
        before = contents(root)
        (root / "labels" / "head001_scan2.nii.gz").unlink()
        assert contents(fetal_head_3d(root, 2, seed=5, **SMALL)) == before

    def test_another_cohorts_folder_is_refused(self, tmp_path):
        fetal_head_3d(tmp_path / "heads", 1, seed=5, **SMALL)
        with pytest.raises(ValueError, match=r"holds another synthetic cohort: seed is 5 there and 6 here"):
            fetal_head_3d(tmp_path / "heads", 1, seed=6, **SMALL)
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.png").touch()
        with pytest.raises(FileExistsError, match=r"is not empty and holds no cohort.json.*it has a.png"):
            fetal_head_3d(tmp_path / "photos", 1, seed=6, **SMALL)

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            (
                {"num_volumes": 0},
                ValueError,
                r"num_volumes must be between 1 and 2997\. Received: 0\. There are 999 heads",
            ),
            ({"num_volumes": 2.0}, TypeError, r"num_volumes must be a whole number\. Received: 2.0 of type float"),
            ({"seed": -1}, ValueError, r"seed must be at least 0"),
            ({"scans_per_head": 10}, ValueError, r"scans_per_head must be between 1 and 9\. Received: 10"),
            ({"num_workers": 0}, ValueError, r"num_workers must be at least 1"),
            ({"shape": (48, 32)}, ValueError, r"shape must be three sides in voxels.*Received: \(48, 32\)"),
            ({"shape": 48}, ValueError, r"shape must be three sides in voxels.*Received: 48"),
            ({"shape": (48, 32, 7)}, ValueError, r"each side of shape must be at least 8\. Received: 7"),
            ({"spacing_mm": 0}, ValueError, r"spacing_mm must be one positive number, or None\. Received: 0"),
            ({"spacing_mm": (1, 1, 2)}, ValueError, r"spacing_mm must be one positive number"),
            (
                {"spacing_mm": 0.5},
                ValueError,
                r"24 x 16 x 28 mm has no room for a fetal head .*Give more voxels or a la",
            ),
        ],
    )
    def test_arguments_that_are_refused_write_nothing(self, tmp_path, arguments, error, words):
        with pytest.raises(error, match=words):
            fetal_head_3d(tmp_path / "heads", **{"num_volumes": 1, "seed": 0, **arguments})
        assert not (tmp_path / "heads").exists()


class TestShapes:
    def test_volume_of_a_plain_ellipsoid_is_its_formula(self):
        head = Head(Ellipsoid((0.0, 0.0, 0.0), (0.8, 1.0, 0.85)), 0.0, (), 0.0, 0.4, scale_mm=40.0)
        # Far from the ellipsoid, so that nothing is blended; inside it, so that nothing is added.
        head = Head(head.cranium, 0.0, (Ellipsoid((0.0, 0.0, 0.0), (0.1, 0.1, 0.1)),), 0.0, 0.4, 40.0)
        assert head.volume_ml == pytest.approx(4 / 3 * math.pi * 0.8 * 1.0 * 0.85 * 64, rel=0.002)
        np.testing.assert_allclose(np.abs(head.surface).max(axis=0), (0.8, 1.0, 0.85), atol=0.03)

    def test_volume_is_that_of_a_finer_grid(self, heads):
        axes = [np.arange(-1.4, 1.4, 0.03, dtype=np.float32)] * 3
        inside = heads[0].distance(np.meshgrid(*axes, indexing="ij", sparse=True)) < 0
        assert heads[0].volume_ml == pytest.approx(inside.sum() * (0.03 * heads[0].scale_mm) ** 3 / 1000, rel=0.002)

    def test_heads_differ_and_are_of_the_sizes_of_20_to_30_weeks(self, heads):
        volumes = [head.volume_ml for head in heads]
        assert 60 < min(volumes) < 150 < max(volumes) < 400
        assert len(set(volumes)) == len(volumes)

    def test_a_face_looks_to_the_front_and_is_not_round(self, heads):
        for head in heads:
            front, back = head.surface[head.surface[:, 1] > 0.3], head.surface[head.surface[:, 1] < -0.3]
            # Chin below the skull's floor in front, nothing of it behind.
            assert front[:, 2].min() < -head.cranium.semi_axes[2] - 0.1 < back[:, 2].min()
            nose = head.surface[np.abs(head.surface[:, 0]) < 0.2][:, 1].max()
            assert nose > 0.95

    def test_distance_to_a_sphere_and_how_squarely_it_is_met(self):
        sphere = Ellipsoid((1.0, 0.0, 0.0), (2.0, 2.0, 2.0))
        points = [np.float32([4.0, 1.0, 2.0]), np.float32([0.0, 5.0, 1.0]), np.float32([0.0, 0.0, 0.0])]
        np.testing.assert_allclose(sphere.distance(points), [1.0, 3.0, math.sqrt(2) - 2], rtol=1e-4)
        # Beams along x: square to the first surface, along the second, askew to the third.
        np.testing.assert_allclose(sphere.facing(points, (1.0, 0.0, 0.0)), [1, 0, math.sqrt(0.5)], atol=1e-4)

    def test_the_whole_head_lies_in_the_volume_in_one_piece(self, drawn):
        for volume in drawn:
            assert not any(volume.head.take([0, -1], axis).any() for axis in range(3))
            parts = np.bincount(ndimage.label(volume.head)[0].ravel())[1:]
            assert parts.max() > 0.99 * parts.sum()

    def test_the_paper_s_own_size_has_its_spacing_and_room_for_every_head(self):
        for number in range(1, 7):
            for plan in _plan(number, 2, FULL_SHAPE, 0.38, 3):
                low, high = scan.extents(plan.head, plan.scan.to_head)
                field_mm = (np.array(FULL_SHAPE) - 1) * 0.38
                assert (plan.scan.center_mm + low * plan.head.scale_mm > 1).all()
                assert (plan.scan.center_mm + high * plan.head.scale_mm < field_mm - 1).all()


class TestScans:
    def test_scans_of_a_head_come_from_other_directions_never_from_the_neck(self):
        for seed in range(20):
            rotations = scan.draw_rotations(np.random.default_rng(seed), 3)
            beams = np.array([rotation @ (1.0, 0.0, 0.0) for rotation in rotations])
            angles = np.degrees(np.arccos((beams @ beams.T).clip(-1, 1)))
            assert angles[np.triu_indices(3, 1)].min() > 40
            assert beams[:, 2].max() < 0.75
            assert beams[:, 2].min() < -0.7  # one of them from above
            for rotation in rotations:
                np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
                assert np.linalg.det(rotation) == pytest.approx(1)

    def test_samples_come_to_the_place_of_their_voxel(self):
        place = scan.Scan(np.eye(3), np.zeros(3), np.array([-40.0, 30.0, 50.0]), (0.8, 0.9), 45.0, 150.0)
        beams = scan.Beams(place, (40, 30, 50), 2.0)
        for axis, places_mm in enumerate(beams.places_mm(slice(None))):
            level = np.broadcast_to(places_mm, beams.shape) + np.float32(100)
            volume = beams.scan_convert(level.astype(np.float32)).astype(float)
            seen = ndimage.binary_erosion(volume > 0)
            assert seen.mean() > 0.3
            expected = 100 + 2.0 * np.indices(beams.shape)[axis]
            assert np.abs(volume - expected)[seen].max() <= 1.0  # rounded, and between beams of some width

    def test_nothing_is_seen_beyond_the_fan(self):
        place = scan.Scan(np.eye(3), np.zeros(3), np.array([-40.0, 29.0, 49.0]), (0.8, 0.9), 45.0, 100.0)
        beams = scan.Beams(place, (40, 30, 50), 2.0)
        seen = beams.scan_convert(np.full(beams.shape, 200, np.float32)) > 0
        depth, across, sweep = (2.0 * index - apex for index, apex in zip(np.indices(beams.shape), place.apex_mm))
        radius = np.sqrt(depth**2 + across**2 + sweep**2)
        inside = (np.abs(across) < 0.8 * depth) & (np.abs(sweep) < 0.9 * depth) & (radius > 45) & (radius < 100)
        assert (seen == inside).mean() > 0.995

    def test_smooth_fields_are_of_unit_deviation_and_alike_by_planes(self):
        shape = (40, 50, 60)
        fields = [scan.SmoothField(np.random.default_rng(seed), shape, (9, 9, 9)) for seed in range(4)]
        values = np.stack([field[:] for field in fields])
        assert abs(values.mean()) < 0.1
        assert 0.85 < values.std() < 1.15
        np.testing.assert_allclose(fields[0][7:9], values[0, 7:9], atol=1e-5)
        # From one of 60 places to the next, six of them between two knots: far less than they vary.
        assert np.diff(values, axis=3).std() < 0.25 * values.std()

    def test_speckle_has_the_mean_of_rayleighs_law(self):
        place = scan.Scan(np.eye(3), np.zeros(3), np.array([-60.0, 30.0, 30.0]), (0.7, 0.7), 60.0, 150.0)
        beams = scan.Beams(place, (40, 40, 40), 1.5)
        flat = [np.full(beams.shape, value, np.float32) for value in (0.4, 0.0, 1.0)]
        magnitude = image._receive(np.random.default_rng(0), beams, *flat)[4:-4, 4:-4, 4:-4]
        assert magnitude.mean() == pytest.approx(0.4 * math.sqrt(math.pi) / 2, rel=0.04)


class TestPictures:
    def test_the_skull_is_bright_and_the_brain_is_dark(self, drawn):
        for volume in drawn:
            seen = volume.image > 0
            above = seen & (volume.height > -0.2)
            skull = volume.image[above & (np.abs(volume.cranium_mm + 3) < 2)]
            brain = volume.image[above & (volume.cranium_mm < -9)]
            assert np.percentile(skull, 90) > 2 * np.median(brain)

    def test_parts_of_the_skull_hide(self, drawn):
        hidden = []
        for volume in drawn:
            skull = volume.image[(np.abs(volume.cranium_mm + 3) < 2) & (volume.height > -0.2)]
            hidden.append((skull < 0.3 * np.percentile(skull, 95)).mean())
        assert 0.15 < np.mean(hidden) < 0.85

    def test_the_neck_hardly_differs_from_the_head_it_carries(self, drawn):
        ratios = []
        for volume in drawn:
            seen = volume.image > 0
            neck = seen & (volume.neck_mm < -3) & ~volume.head
            near = ndimage.binary_dilation(neck, iterations=3) & volume.head & seen & (volume.cranium_mm > 0)
            if min(neck.sum(), near.sum()) > 20:
                near_neck = neck & ndimage.binary_dilation(near, iterations=3)
                ratios.append(volume.image[near_neck].mean() / volume.image[near].mean())
        assert len(ratios) >= 3
        assert 0.6 < np.exp(np.mean(np.log(ratios))) < 1.6

    def test_most_of_the_head_is_seen_and_corners_are_not(self, drawn):
        for volume in drawn:
            assert (volume.image[volume.head] > 0).mean() > 0.5
            assert volume.image[0, 0, 0] == volume.image[0, -1, -1] == 0
            assert 8 < volume.image[volume.image > 0].mean() < 140
            assert volume.image.max() > 150
