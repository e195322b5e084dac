"""HC18's folder: read as downloaded, mirrors understood, and each fault named with its file."""

import math
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from hcreg import datasets
from hcreg.datasets.hc18 import HC18
from hcreg.geometry import Ellipse

HEADER = "filename,pixel size(mm),head circumference (mm)"
ELLIPSE = Ellipse(60.0, 45.0, 40.0, 30.0, 0.4)
PIXEL_SIZE_MM = 0.5
# Ramanujan II by hand: h = (10/70)^2 = 1/49, HC = pi 70 (1 + (3/49) / (10 + sqrt(4 - 3/49))) = 221.034 px.
HC_MM = 221.034 * PIXEL_SIZE_MM
SHAPE = (96, 130)


def outline(ellipse=ELLIPSE, shape=SHAPE):
    drawn = np.zeros(shape, np.uint8)
    points = np.round(ellipse.contour(2000)).astype(np.int32)
    cv2.polylines(drawn, [points.reshape(-1, 1, 2)], True, 255, 1)
    return drawn


def picture(shape=SHAPE):
    return np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)


def write_csv(root, *rows, header=HEADER, name="training_set_pixel_size_and_HC.csv"):
    (root / name).write_text("\n".join([header, *rows]) + "\n")


def row(name, pixel_size=PIXEL_SIZE_MM, hc=f"{HC_MM:.2f}"):
    return f"{name},{pixel_size},{hc}"


NAMES = ("010_HC.png", "010_2HC.png", "200_HC.png", "700_HC.png")


@pytest.fixture
def root(tmp_path):
    """A sound folder: three examinations, one of them with two images."""
    root = tmp_path / "HC18"
    (root / "training_set").mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(picture()).save(root / "training_set" / name)
        annotation = name.replace(".png", "_Annotation.png")
        Image.fromarray(outline()).save(root / "training_set" / annotation)
    write_csv(root, *map(row, NAMES))
    return root


def test_records_hold_what_the_folder_says(root):
    data = datasets.HC18(root)
    assert len(data) == 4
    assert data.subjects == ["010_HC", "010_2HC", "200_HC", "700_HC"]
    assert data.examinations == ["010", "200", "700"]
    record = data[1]
    assert record.examination_id == "010"
    assert record.image_path == root / "training_set" / "010_2HC.png"
    assert record.annotation_path == root / "training_set" / "010_2HC_Annotation.png"
    assert record.pixel_size_mm == 0.5
    assert record.hc_mm == pytest.approx(110.52)
    assert record.hc_px == pytest.approx(221.04)
    np.testing.assert_array_equal(record.image(), picture())
    assert [r.trimester for r in data] == [1, 1, 2, 3]
    assert [r.subject_id for r in data[1:3]] == ["010_2HC", "200_HC"]
    assert data.check() == []
    assert "4 images" in repr(data)


@pytest.mark.parametrize(
    ("examination", "trimester"), [("000", 1), ("132", 1), ("133", 2), ("696", 2), ("697", 3), ("805", 3)]
)
def test_trimester_follows_the_examinations_number(root, examination, trimester):
    for ending in (".png", "_Annotation.png"):
        folder = root / "training_set"
        (folder / f"200_HC{ending}").rename(folder / f"{examination}_HC{ending}")
    write_csv(root, *(row(name.replace("200", examination)) for name in NAMES))
    assert HC18(root)[2].trimester == trimester


def test_ellipse_of_an_outline_is_the_drawn_one(root):
    record = HC18(root)[0]
    ellipse = record.ellipse()
    assert ellipse.center_x_px == pytest.approx(60, abs=0.1)
    assert ellipse.semi_axis_a_px == pytest.approx(40, abs=0.15)
    assert ellipse.semi_axis_b_px == pytest.approx(30, abs=0.15)
    assert ellipse.angle_rad == pytest.approx(0.4, abs=0.01)
    assert ellipse.circumference_mm(0.5) == pytest.approx(HC_MM, abs=0.3)
    assert record.mask().dtype == bool
    assert record.mask().sum() == pytest.approx(math.pi * 40 * 30, rel=0.01)


def test_a_zip_in_a_folder_of_its_own_name_is_understood(root):
    (root / "training_set").rename(root / "inner")
    (root / "training_set").mkdir()
    (root / "inner").rename(root / "training_set" / "training_set")
    for given in (root, root / "training_set", root.parent):
        data = HC18(given)
        assert len(data) == 4
        assert data.check() == []


def test_the_training_folder_itself_is_understood(root):
    assert len(HC18(root / "training_set")) == 4


def test_test_set_has_no_truth(root):
    (root / "test_set").mkdir()
    Image.fromarray(picture()).save(root / "test_set" / "000_HC.png")
    write_csv(root, "000_HC.png,0.25", header="filename,pixel size(mm)", name="test_set_pixel_size.csv")
    data = HC18(root, split="test")
    assert len(data) == 1
    assert data[0].pixel_size_mm == 0.25
    assert data[0].hc_mm is None
    assert data[0].hc_px is None
    assert data[0].trimester is None
    assert data.check() == []
    assert HC18.check_folder(root) == []
    with pytest.raises(ValueError, match=r"000_HC\.png has no annotation: the test set's are not public"):
        data[0].ellipse()


def test_macos_and_other_files_are_ignored(root):
    (root / "__MACOSX" / "training_set").mkdir(parents=True)
    (root / "training_set" / "._010_HC.png").write_bytes(b"\0")
    (root / "training_set" / "Thumbs.db").write_bytes(b"\0")
    assert len(HC18(root)) == 4
    assert len(HC18(root.parent)) == 4


def test_unknown_split(root):
    with pytest.raises(ValueError, match=r"split must be 'train' or 'test'\. Received: 'val'"):
        HC18(root, split="val")


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: there is no such folder"):
        HC18(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no training_set"):
        HC18(tmp_path)
    (tmp_path / "training_set.zip").write_bytes(b"PK")
    with pytest.raises(FileNotFoundError, match=r"Unpack training_set\.zip there"):
        HC18(tmp_path)


def test_missing_csv(root):
    (root / "training_set_pixel_size_and_HC.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"training_set_pixel_size_and_HC\.csv: there is no such file"):
        HC18(root)


@pytest.mark.parametrize(
    ("pixel_size", "hc", "words"),
    [
        ("abc", "100", r"line 4 \(200_HC\.png\): pixel size\(mm\) must be a number. Received: 'abc'"),
        ("", "100", r"line 4 \(200_HC\.png\): pixel size\(mm\) must be a number. Received: ''"),
        ("0", "100", r"line 4 \(200_HC\.png\): pixel size\(mm\) must be positive. Received: 0"),
        ("-0.1", "100", r"pixel size\(mm\) must be positive. Received: -0\.1"),
        ("nan", "100", r"pixel size\(mm\) is NaN"),
        ("140", "100", r"pixel size\(mm\) is implausible, expected 0\.025 to 0\.8 mm. Received: 140"),
        ("inf", "100", r"pixel size\(mm\) is implausible"),
        ("0.5", "NaN", r"line 4 \(200_HC\.png\): head circumference \(mm\) is NaN"),
        ("0.5", "0", r"head circumference \(mm\) must be positive"),
        ("0.5", "-3", r"head circumference \(mm\) must be positive"),
        ("0.5", "11.05", r"head circumference \(mm\) is implausible.*Is it in another unit"),
        ("0,5", "100", "line 4 has 4 fields, expected 3.*need a decimal point"),
    ],
)
def test_each_wrong_number_is_named_with_its_line(root, pixel_size, hc, words):
    rows = [row(name) for name in NAMES]
    rows[2] = row("200_HC.png", pixel_size, hc)
    write_csv(root, *rows)
    with pytest.raises(ValueError, match=words) as error:
        HC18(root)
    assert "training_set_pixel_size_and_HC.csv" in str(error.value)
    data = HC18(root, strict=False)
    assert data.subjects == ["010_HC", "010_2HC", "700_HC"]
    assert len(data.check()) == 1


def test_row_without_image(root):
    write_csv(root, *map(row, NAMES), row("300_HC.png"))
    with pytest.raises(FileNotFoundError, match=r"line 6 names 300_HC\.png, which is not in .*training_set"):
        HC18(root)


def test_image_without_row(root):
    write_csv(root, *map(row, NAMES[:-1]))
    with pytest.raises(ValueError, match=r"700_HC\.png: has no row in training_set_pixel_size_and_HC\.csv"):
        HC18(root)


def test_image_without_annotation(root):
    (root / "training_set" / "200_HC_Annotation.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"200_HC\.png: has no annotation 200_HC_Annotation\.png"):
        HC18(root)


def test_annotation_without_image(root):
    shutil.copy(root / "training_set" / "200_HC_Annotation.png", root / "training_set" / "201_HC_Annotation.png")
    with pytest.raises(ValueError, match=r"201_HC_Annotation\.png: has no image 201_HC\.png"):
        HC18(root)


@pytest.mark.parametrize("name", ["head.png", "10_HC.png", "010_HC.jpg", "010_HC (1).png"])
def test_file_of_another_name(root, name):
    Image.fromarray(picture()).save(root / "training_set" / name)
    with pytest.raises(ValueError, match="is not named as HC18's files are"):
        HC18(root)


def test_many_problems_are_five_names_and_a_way_to_see_all(root):
    write_csv(root, *map(row, NAMES), *(row(f"{number}_HC.png") for number in range(300, 320)))
    with pytest.raises(FileNotFoundError, match=r"20 problems in all; `hcreg check .*` lists every one") as error:
        HC18(root)
    assert str(error.value).count("which is not in") == 5


def test_size_mismatch_is_named(root):
    Image.fromarray(picture((96, 131))).save(root / "training_set" / "200_HC.png")
    words = r"200_HC_Annotation\.png is 130 x 96 pixels but its image 200_HC\.png is 131 x 96"
    with pytest.raises(ValueError, match=words):
        HC18(root)[2].ellipse()
    [problem] = HC18(root).check()
    assert "is 130 x 96 pixels but its image" in problem.message


def test_unreadable_images_are_named_by_check(root):
    folder = root / "training_set"
    (folder / "010_HC.png").write_bytes((folder / "010_HC.png").read_bytes()[:3000])
    (folder / "010_2HC_Annotation.png").write_bytes(b"")
    Image.fromarray(np.full(SHAPE, 7, np.uint8)).save(folder / "200_HC.png")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(folder / "700_HC_Annotation.png")
    found = {problem.path.name: problem.message for problem in HC18(root).check()}
    assert set(found) == {"010_HC.png", "010_2HC_Annotation.png", "200_HC.png", "700_HC_Annotation.png"}
    assert "is truncated or damaged" in found["010_HC.png"]
    assert "is empty (0 bytes)" in found["010_2HC_Annotation.png"]
    assert "every pixel has the value 7" in found["200_HC.png"]
    assert "nothing is drawn" in found["700_HC_Annotation.png"]


def test_circumference_of_another_image_is_found(root):
    rows = [row(name) for name in NAMES]
    rows[1] = row("010_2HC.png", hc=f"{HC_MM + 2:.2f}")
    write_csv(root, *rows)
    [problem] = HC18(root).check()
    assert problem.path.name == "010_2HC_Annotation.png"
    assert "the CSV says 112.52 mm" in problem.message


def test_check_folder_lists_faults_of_every_kind_at_once(root):
    folder = root / "training_set"
    Image.fromarray(picture()).save(folder / "stray.png")
    (folder / "200_HC.png").write_bytes(b"no image")
    write_csv(root, row("010_HC.png", "-1"), row("010_2HC.png"), row("200_HC.png"), row("300_HC.png"))
    seen = []
    problems = HC18.check_folder(root, on_progress=lambda done, total: seen.append((done, total)))
    text = "\n".join(map(str, problems))
    for words in (
        "stray.png",
        "must be positive",
        "names 300_HC.png",
        "700_HC.png: has no row",
        "is not a PNG",
    ):
        assert words in text
    assert len(problems) == 5
    assert seen == [(1, 2), (2, 2)]


def test_check_folder_of_a_folder_that_is_not_there(tmp_path):
    [problem] = HC18.check_folder(tmp_path / "nowhere")
    assert "there is no such folder" in str(problem)


def test_names_of_the_package():
    assert datasets.HC18 is HC18
    assert set(dir(datasets)) == {"ACDC", "HC18", "VolumeFolder", "splits", "synthetic"}
    with pytest.raises(AttributeError, match="has no attribute 'MNIST'"):
        datasets.MNIST  # noqa: B018


@pytest.mark.data
def test_real_data_are_clean_and_agree_with_their_csv(hc18_root):
    data = HC18(hc18_root)
    assert len(data) == len(set(data.subjects))
    differences_mm = []
    # Each 40th image and those whose head leaves the picture: enough to notice, and quick.
    cut = {"186_HC", "346_HC", "352_2HC", "628_2HC", "787_HC"}
    for record in data:
        if record.subject_id in cut or data.subjects.index(record.subject_id) % 40 == 0:
            differences_mm.append(record.ellipse().circumference_mm(record.pixel_size_mm) - record.hc_mm)
    assert len(differences_mm) > 20
    assert np.abs(differences_mm).max() < 0.1


@pytest.mark.data
@pytest.mark.slow
def test_check_of_the_real_data_finds_nothing(hc18_root):
    assert HC18.check_folder(hc18_root) == []
