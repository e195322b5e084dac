"""Share of relevance inside regions: hand numbers, a second derivation of the enlargement, streaming, every error."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hcreg.metrics import RelevanceOverlap, relevance_inside

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True, max_examples=40)
REGIONS = {"heart": (11, 12, 13, 14), "fat": (15,), "sex label": (16,)}
CLASSES = ["NOR", "DCM"]
SHARES = ("pooled_share", "mean_share", "mean_share_where_present")


def random_set(num_images=12, seed=0, shape=(13, 17), cells=(4, 5)):
    generator = np.random.default_rng(seed)
    maps = generator.normal(size=(num_images, *cells)).astype("float32")
    label_maps = generator.choice([0, 11, 12, 13, 14, 15, 16], size=(num_images, *shape)).astype(np.uint8)
    return maps, label_maps, np.arange(num_images) % len(CLASSES)


def weights_of_cells(num_cells, num_pixels):
    """Weight of each cell in each pixel along one axis, from the pixel-centre rule, pixel by pixel."""
    weights = np.zeros((num_pixels, num_cells))
    for pixel in range(num_pixels):
        place = (pixel + 0.5) * num_cells / num_pixels - 0.5
        place = min(max(place, 0.0), num_cells - 1.0)  # beyond the outermost centres: the outermost value
        left = min(math.floor(place), max(num_cells - 2, 0))
        weights[pixel, left] += 1 - (place - left)
        if num_cells > 1:
            weights[pixel, left + 1] += place - left
    return weights


def by_name(rows, region="heart", part="positive"):
    return {row["class_name"]: row for row in rows if row["region"] == region and row["part"] == part}


def test_hand_numbers_at_the_size_of_the_mask():
    maps = np.array([[[4.0, -2.0], [1.0, 3.0]], [[-1.0, -1.0], [0.0, -2.0]]])
    masks = np.array([[[1, 1], [0, 0]], [[0.0, 0.5], [0, 1]]])
    # positive: 4 of 8; the second map has none. absolute: 4 + 2 of 10; half of 1 and 2, of 4.
    np.testing.assert_array_equal(relevance_inside(maps, masks), [0.5, np.nan])
    np.testing.assert_allclose(relevance_inside(maps, masks, part="absolute"), [0.6, 0.625])


def test_hand_number_of_an_enlarged_map():
    # Two cells over four pixels: centres at -0.25, 0.25, 0.75 and 1.25 cells, so 8, 6, 2, 0.
    maps, mask = [[[8.0, 0.0]]], [[[0, 1, 0, 0]]]
    assert relevance_inside(maps, mask)[0] == pytest.approx(6 / 16)
    # The parts are taken first: -8 in the second cell leaves the positive part alone, and makes |R| 8 throughout.
    maps = [[[8.0, -8.0]]]
    assert relevance_inside(maps, mask)[0] == pytest.approx(6 / 16)
    assert relevance_inside(maps, mask, part="absolute")[0] == pytest.approx(8 / 32)


@pytest.mark.parametrize(("cells", "shape"), [((6, 8), (105, 135)), ((27, 34), (105, 135)), ((1, 3), (4, 3))])
def test_enlargement_against_its_adjoint(cells, shape):
    generator = np.random.default_rng(3)
    maps, masks = generator.normal(size=(2, *cells)), generator.random((2, *shape))
    maps[:, 0, 0] = abs(maps[:, 0, 0])  # some relevance in each
    rows, columns = weights_of_cells(cells[0], shape[0]), weights_of_cells(cells[1], shape[1])
    for part, relevance in (("positive", maps.clip(0)), ("absolute", abs(maps))):
        # Shrink the mask by the adjoint instead of enlarging the map.
        inside = (relevance * (rows.T @ masks @ columns)).sum((1, 2))
        total = (relevance * (rows.T @ np.ones(shape) @ columns)).sum((1, 2))
        np.testing.assert_allclose(relevance_inside(maps, masks, part), inside / total, rtol=1e-5)


MAPS = arrays(np.float32, (2, 3, 4), elements=st.floats(-8, 8, width=16))
MASKS = arrays(np.float32, (2, 6, 7), elements=st.sampled_from([0.0, 0.25, 1.0])).map(
    lambda masks: np.maximum(masks, np.eye(6, 7) > 0)
)


@PROPERTIES
@given(MAPS, MASKS, st.sampled_from(["positive", "absolute"]))
def test_shares_of_a_mask_and_its_complement_sum_to_one(maps, masks, part):
    share, rest = relevance_inside(maps, masks / 2, part), relevance_inside(maps, 1 - masks / 2, part)
    has_relevance = ((maps > 0) if part == "positive" else (maps != 0)).any((1, 2))
    np.testing.assert_array_equal(np.isfinite(share), has_relevance)
    assert ((share >= 0) & (share <= 1 + 1e-9))[has_relevance].all()
    np.testing.assert_allclose((share + rest)[has_relevance], 1.0, rtol=1e-6)


@PROPERTIES
@given(MAPS, MASKS, st.floats(1e-6, 1e6))
def test_shares_do_not_depend_on_the_unit_of_relevance(maps, masks, factor):
    maps, expected = maps.astype(float), relevance_inside(maps, masks)
    np.testing.assert_allclose(relevance_inside(maps * factor, masks), expected, rtol=1e-9)
    np.testing.assert_allclose(relevance_inside(abs(maps), masks), relevance_inside(maps, masks, "absolute"))


def test_last_axes_of_one_and_other_types_change_nothing():
    maps, label_maps, _ = random_set()
    masks = np.isin(label_maps, REGIONS["heart"])
    expected = relevance_inside(maps, masks)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(relevance_inside(maps[..., None], masks[..., None]), expected)
    np.testing.assert_array_equal(relevance_inside(maps.tolist(), masks.astype(int).tolist()), expected)
    assert (relevance_inside(np.ones((1, 2, 2), np.int64), np.ones((1, 4, 4), np.uint8)) == 1.0).all()


def test_rows_by_hand():
    overlap = RelevanceOverlap({"heart": (11, 12), "mark": 16}, CLASSES)
    maps = [[[3.0, 1.0, 0.0]], [[0.0, 0.0, -5.0]], [[10.0, 20.0, -10.0]], [[0.0, 6.0, 0.0]]]
    label_maps = [[[11, 0, 16]], [[12, 0, 16]], [[12, 11, 0]], [[0, 16, 0]]]
    overlap.update(maps, np.array(label_maps), [0, 0, 0, 1])

    heart = by_name(overlap.rows())
    # NOR: 3 of 4, nothing, 30 of 30; DCM: 0 of 6, the heart is absent.
    nor, dcm, mean = heart["NOR"], heart["DCM"], heart["mean of classes"]
    assert [nor[key] for key in ("num_images", "num_without_relevance", "num_with_region")] == [3, 1, 3]
    assert [nor[key] for key in SHARES] == [33 / 34, (0.75 + 1) / 2, (0.75 + 1) / 2]
    assert [dcm[key] for key in ("num_images", "num_without_relevance", "num_with_region")] == [1, 0, 0]
    assert dcm["pooled_share"] == dcm["mean_share"] == 0.0
    assert math.isnan(dcm["mean_share_where_present"])
    assert [mean[key] for key in ("num_images", "num_without_relevance", "num_with_region")] == [4, 1, 3]
    assert mean["pooled_share"] == pytest.approx(33 / 34 / 2)
    assert mean["mean_share"] == pytest.approx(0.875 / 2)
    assert math.isnan(mean["mean_share_where_present"])

    mark = by_name(overlap.rows(), "mark", "absolute")
    # NOR: 0 of 4, 5 of 5, and 0 of 40 where the mark is absent.
    assert mark["NOR"]["num_with_region"] == 2
    assert mark["NOR"]["num_without_relevance"] == 0
    assert [mark["NOR"][key] for key in SHARES] == pytest.approx([5 / 49, 1 / 3, 1 / 2])
    assert [mark["DCM"][key] for key in SHARES] == [1.0, 1.0, 1.0]


def test_order_of_the_rows():
    overlap = RelevanceOverlap(REGIONS, CLASSES)
    overlap.update(*random_set())
    found = [(row["region"], row["part"], row["class_name"]) for row in overlap.rows()]
    classes = [*CLASSES, "mean of classes"]
    assert found == [(r, p, c) for r in REGIONS for p in ("positive", "absolute") for c in classes]
    assert {type(row["num_images"]) for row in overlap.rows()} == {int}
    assert {type(row[key]) for row in overlap.rows() for key in SHARES} == {float}


def test_mean_of_shares_agrees_with_relevance_inside():
    maps, label_maps, labels = random_set()
    overlap = RelevanceOverlap(REGIONS, CLASSES)
    overlap.update(maps, label_maps, labels)
    for part in ("positive", "absolute"):
        for region, ids in REGIONS.items():
            shares = relevance_inside(maps, np.isin(label_maps, ids), part)
            rows = by_name(overlap.rows(), region, part)
            means = [shares[labels == label].mean() for label in range(len(CLASSES))]
            assert [rows[name]["mean_share"] for name in CLASSES] == pytest.approx(means, rel=1e-9)
            assert rows["mean of classes"]["mean_share"] == pytest.approx(np.mean(means), rel=1e-9)


def test_in_pieces_as_at_once():
    maps, label_maps, labels = random_set(num_images=23)
    maps[4] = 0.0
    at_once, in_pieces = RelevanceOverlap(REGIONS, CLASSES), RelevanceOverlap(REGIONS, CLASSES)
    at_once.update(maps, label_maps, labels)
    for start in range(0, 23, 5):
        piece = slice(start, start + 5)
        in_pieces.update(maps[piece, ..., None], label_maps[piece, ..., None].astype(np.int64), labels[piece])
        in_pieces.rows()  # looking changes nothing
    assert in_pieces.rows() == at_once.rows()
    assert by_name(at_once.rows())["NOR"]["num_without_relevance"] == 1


def test_memory_does_not_grow_with_the_number_of_images():
    def num_bytes(overlap):
        return sum(item.nbytes for item in vars(overlap).values() if isinstance(item, np.ndarray))

    overlap = RelevanceOverlap(REGIONS, CLASSES)
    before = num_bytes(overlap)
    for seed in range(3):
        overlap.update(*random_set(seed=seed))
    assert num_bytes(overlap) == before < 5000
    assert set(map(type, vars(overlap).values())) <= {np.ndarray, dict, tuple}


def test_strong_maps_decide_the_pooled_share_alone():
    maps, label_maps = np.array([[[1e6, 0.0]], [[0.0, 1e-6]]]), np.array([[[11, 0]], [[11, 0]]])
    overlap = RelevanceOverlap(REGIONS, CLASSES)
    overlap.update(maps, label_maps, [0, 0])
    nor = by_name(overlap.rows())["NOR"]
    assert nor["pooled_share"] == pytest.approx(1.0)
    assert nor["mean_share"] == 0.5


def test_a_class_without_images_or_relevance_leaves_no_mean():
    overlap = RelevanceOverlap(REGIONS, CLASSES)
    maps, label_maps, _ = random_set(2)
    overlap.update(maps, label_maps, [0, 0])
    rows = by_name(overlap.rows())
    assert rows["DCM"]["num_images"] == 0
    assert all(math.isnan(rows[name][key]) for name in ("DCM", "mean of classes") for key in SHARES)
    assert not math.isnan(rows["NOR"]["pooled_share"])


@PROPERTIES
@given(MAPS, arrays(np.int32, (2, 6, 7), elements=st.sampled_from([0, 3, 11, 15, 16, 2**30])))
def test_regions_that_cover_every_id_hold_everything(maps, label_maps):
    overlap = RelevanceOverlap({"all": (0, 3, 11, 15, 16, 2**30), "some": (3, 2**30), "rest": (0, 11, 15, 16)}, ["any"])
    overlap.update(maps, label_maps, [0, 0])
    everything, some, rest = (by_name(overlap.rows(), name)["any"] for name in ("all", "some", "rest"))
    if everything["num_without_relevance"] == 2:
        assert math.isnan(everything["pooled_share"])
        return
    for key in SHARES[:2]:
        assert everything[key] == pytest.approx(1.0)
        assert some[key] + rest[key] == pytest.approx(1.0)


class TestErrorsOfMaps:
    """Both refuse the same maps, and with the same words."""

    @pytest.fixture(params=["relevance_inside", "RelevanceOverlap"])
    def measure(self, request):
        if request.param == "relevance_inside":
            return lambda maps, label_maps: relevance_inside(maps, np.asarray(label_maps) > 0)
        overlap = RelevanceOverlap(REGIONS, CLASSES)
        return lambda maps, label_maps: overlap.update(maps, label_maps, np.zeros(len(maps), int))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, measure, value):
        maps, label_maps, _ = random_set()
        maps[5, 1, 2] = maps[7, 0, 0] = value
        with pytest.raises(ValueError, match=r"image 5 holds NaN or infinity, as do those of 2 of 12 .*diverged"):
            measure(maps, label_maps)

    def test_another_number_of_images(self, measure):
        maps, label_maps, _ = random_set()
        with pytest.raises(ValueError, match=r"as many images\. Received: 12 and 11\. Pass one for each"):
            measure(maps, label_maps[1:])

    @pytest.mark.parametrize("cells", [(14, 5), (4, 18)])
    def test_maps_larger_than_the_masks(self, measure, cells):
        maps, label_maps, _ = random_set(cells=cells)
        with pytest.raises(ValueError, match=rf"or smaller.*\({cells[0]}, {cells[1]}\) cells and \(13, 17\) pixels"):
            measure(maps, label_maps)

    def test_maps_of_several_classes(self, measure):
        _, label_maps, _ = random_set()
        with pytest.raises(ValueError, match=r"`maps` is of shape .*Received: \(12, 4, 5, 2\)\. Take one class"):
            measure(np.ones((12, 4, 5, 2)), label_maps)

    def test_a_single_label_map(self, measure):
        maps, label_maps, _ = random_set()
        with pytest.raises(ValueError, match=r"`(masks|label_maps)` is of shape .*Received: \(13, 17\).*array\[None\]"):
            measure(maps[:1], label_maps[0])

    def test_no_images(self, measure):
        with pytest.raises(ValueError, match=r"`maps` has no images or no pixels\. Received: shape \(0, 4, 5\)"):
            measure(np.ones((0, 4, 5)), np.ones((0, 13, 17), int))


@pytest.mark.parametrize("value", [-0.5, 255, np.nan])
def test_mask_outside_0_to_1(value):
    masks = np.ones((3, 4, 4))
    masks[2, 0, 0] = value
    with pytest.raises(ValueError, match=r"Received: values from .* in the mask of image 2\. Divide a 0/255 mask"):
        relevance_inside(np.ones((3, 2, 2)), masks)


def test_mask_of_zeros():
    masks = np.ones((3, 4, 4))
    masks[1:] = 0
    with pytest.raises(ValueError, match=r"mask of image 1 is all zero, as are those of 2 of 3 images"):
        relevance_inside(np.ones((3, 2, 2)), masks)


def test_unknown_part():
    with pytest.raises(ValueError, match=r'`part` is "positive" or "absolute"\. Received: \'negative\''):
        relevance_inside(np.ones((1, 2, 2)), np.ones((1, 2, 2)), part="negative")


class TestErrorsOfTheStream:
    @pytest.mark.parametrize(("label", "shown"), [(2, "2"), (-1, "-1")])
    def test_label_out_of_range(self, label, shown):
        maps, label_maps, labels = random_set()
        labels[3] = label
        words = rf"A label is 0 to 1, for the classes NOR, DCM\. Received: {shown} for image 3\."
        with pytest.raises(ValueError, match=words):
            RelevanceOverlap(REGIONS, CLASSES).update(maps, label_maps, labels)

    def test_a_refused_update_adds_nothing(self):
        overlap, (maps, label_maps, labels) = RelevanceOverlap(REGIONS, CLASSES), random_set()
        overlap.update(maps, label_maps, labels)
        before = overlap.rows()
        labels[-1] = 9
        with pytest.raises(ValueError, match="Received: 9 for image 11"):
            overlap.update(maps, label_maps, labels)
        assert overlap.rows() == before

    def test_labels_of_another_number_or_one_hot(self):
        maps, label_maps, labels = random_set()
        for wrong, shape in ((labels[1:], r"\(11,\)"), (np.eye(2)[labels], r"\(12, 2\)")):
            with pytest.raises(ValueError, match=rf"each of the 12 maps\. Received: shape {shape}\. Take argmax"):
                RelevanceOverlap(REGIONS, CLASSES).update(maps, label_maps, wrong)

    def test_labels_that_are_no_whole_numbers(self):
        maps, label_maps, labels = random_set()
        with pytest.raises(ValueError, match=r"`labels` are whole numbers\. Received: float64"):
            RelevanceOverlap(REGIONS, CLASSES).update(maps, label_maps, labels / 2)

    def test_label_maps_that_are_masks_or_negative(self):
        maps, label_maps, labels = random_set()
        with pytest.raises(ValueError, match=r"`label_maps` hold whole numbers, the ids .*Received: float32"):
            RelevanceOverlap(REGIONS, CLASSES).update(maps, label_maps.astype("float32"), labels)
        label_maps = label_maps.astype(int)
        label_maps[6, 0, 0] = -3
        with pytest.raises(ValueError, match=r"0 or more\. Received: -3 in the label map of image 6"):
            RelevanceOverlap(REGIONS, CLASSES).update(maps, label_maps, labels)

    def test_rows_before_any_image(self):
        with pytest.raises(ValueError, match=r"has no images yet\. Call update\("):
            RelevanceOverlap(REGIONS, CLASSES).rows()

    @pytest.mark.parametrize("ids", [(), (1.5,), (-1,), ("heart",), (True,)])
    def test_regions_that_are_no_ids(self, ids):
        with pytest.raises(ValueError, match=r"whole numbers of 0 or more\. Received: .* for 'heart'"):
            RelevanceOverlap({"heart": ids}, CLASSES)

    def test_no_regions(self):
        with pytest.raises(ValueError, match=r"`regions` is empty\. Pass for example"):
            RelevanceOverlap({}, CLASSES)

    @pytest.mark.parametrize("names", [(), ("NOR", "NOR"), "NOR", ("NOR", "mean of classes")])
    def test_class_names_that_do_not_tell_classes_apart(self, names):
        with pytest.raises(ValueError, match=r"`class_names` are the names of the labels .*Received: "):
            RelevanceOverlap(REGIONS, names)
