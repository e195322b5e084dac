"""Overlays and post-processing: each panel shows its own network's mask and numbers, the most changed images first."""

import numpy as np
import pytest

from hcreg import plotting

NAN = float("nan")
SKY, FAILURE = "#56B4E9", "#B00000"


def titles(figure):
    return [axes.get_title().split("\n") for axes in figure.axes]


def colours(axes):
    return [line.get_color() for line in axes.lines if line.get_color() != "white"]


@pytest.fixture
def networks(rows, segmented):
    """Two networks on the same six images; the second errs by 10 mm more."""
    worse = [row | {"y_pred_mm": row["y_pred_mm"] + 10.0} for row in rows]
    return {"unet_dice": [segmented(row) for row in rows], "unet_kappa": [segmented(row) for row in worse]}


def test_overlays_have_a_line_for_each_network_and_a_column_for_each_image(networks, black_image, head):
    figure = plotting.overlays(networks, {"001_HC": "typical", "004_HC": "worst"}, black_image, head)
    assert titles(figure) == [
        ["001_HC, HC 90.0 mm", "typical", "Dice 0.900, HC −2.0 mm"],
        ["004_HC, HC 280.0 mm", "worst", "Dice 0.900, HC +5.0 mm"],
        ["Dice 0.900, HC +8.0 mm"],
        ["Dice 0.900, HC +15.0 mm"],
    ]
    assert [axes.get_ylabel() for axes in figure.axes] == ["unet_dice", "", "unet_kappa", ""]


def test_each_panel_shows_the_mask_of_its_own_network(networks, black_image, head, load_mask):
    asked = []

    def load(network, subject):
        asked.append((network, subject))
        return load_mask(subject) if network == "unet_kappa" else None

    figure = plotting.overlays(networks, ["000_HC"], black_image, head, load)
    assert asked == [("unet_dice", "000_HC"), ("unet_kappa", "000_HC")]
    assert colours(figure.axes[0]) == [plotting.ORANGE, plotting.GREEN]
    assert colours(figure.axes[1]) == [SKY, SKY, plotting.ORANGE, plotting.GREEN]  # the head and a speck
    tint = figure.axes[1].images[1].get_array()
    np.testing.assert_array_equal(tint[..., 3] > 0, load_mask(""))


def test_a_failed_mask_says_why_in_red(networks, failed, black_image, head):
    networks["unet_kappa"][0] = failed(networks["unet_kappa"][0])
    figure = plotting.overlays(networks, ["000_HC"], black_image, head)
    assert " ".join(titles(figure)[1]) == "failed: the mask is empty: no pixel of it lies above the threshold."
    assert [axes.title.get_color() for axes in figure.axes] == ["black", FAILURE]
    assert colours(figure.axes[1]) == [plotting.GREEN]


def test_a_network_that_measures_its_failed_mask_shows_both(networks, failed, black_image):
    row = networks["unet_dice"][0]
    networks["unet_dice"][0] = failed(row) | {"y_pred_mm": row["y_pred_mm"]}
    figure = plotting.overlays(networks, ["000_HC"], black_image)
    assert titles(figure)[0][2] == "Dice 0.000, HC +1.0 mm"
    assert titles(figure)[0][3].startswith("failed: the mask is empty")


@pytest.mark.parametrize(("dice", "colour"), [(0.49, FAILURE), (0.51, "black")])
def test_a_mask_beside_the_head_is_red_too(networks, black_image, dice, colour):
    networks["unet_dice"][0] |= {"dice_ellipse": dice}
    assert plotting.overlays(networks, ["000_HC"], black_image).axes[0].title.get_color() == colour


def test_overlays_refuse_what_they_cannot_draw(networks, black_image):
    with pytest.raises(ValueError, match=r"The rows of unet_kappa lack 003_HC: take images that all networks tested"):
        plotting.overlays(networks | {"unet_kappa": networks["unet_kappa"][:3]}, ["000_HC", "003_HC"], black_image)
    with pytest.raises(ValueError, match=r"at least one network and one image\. Received: 0 network\(s\) and 1 image"):
        plotting.overlays({}, ["000_HC"], black_image)
    with pytest.raises(ValueError, match=r"Received: 2 network\(s\) and 0 image\(s\)"):
        plotting.overlays(networks, [], black_image)


@pytest.fixture
def specks(make_row, segmented, failed):
    """Changes of 0.05, 30, -4, infinitely many, and of two rows no mm: the last measured by neither way."""
    rows = [make_row(number, 100.0, 101.0) for number in range(6)]
    return [
        segmented(rows[0], 101.05),
        segmented(rows[1], 131.0),
        segmented(rows[2], 97.0),
        segmented(rows[3], NAN, failure_original="no component of the mask has an outline."),
        segmented(rows[4]),
        failed(rows[5]),
    ]


def test_the_most_changed_images_come_first(specks):
    order = [row["subject_id"][:3] for row in plotting.rank_post_processing(specks, 6)]
    assert order == ["003", "001", "002", "000", "004", "005"]
    assert len(plotting.rank_post_processing(specks, 2)) == 2


def test_equal_changes_are_ordered_by_dice_then_by_subject(make_row, segmented):
    rows = [
        segmented(make_row(number, 100.0, 101.0), dice_original=dice) for number, dice in ((2, 0.8), (0, 0.8), (1, 0.1))
    ]
    assert [row["subject_id"] for row in plotting.rank_post_processing(rows)] == ["001_HC", "000_HC", "002_HC"]


def test_before_stands_above_after_with_the_numbers_of_each(specks, black_image, head, load_mask):
    figure = plotting.post_processing(specks[1:3], black_image, load_mask, head, num=2)
    assert titles(figure) == [
        ["001_HC, HC 100.0 mm", "Dice 0.800, HC +31.0 mm"],
        ["002_HC, HC 100.0 mm", "Dice 0.800, HC −3.0 mm"],
        ["Dice 0.900, HC +1.0 mm"],
        ["Dice 0.900, HC +1.0 mm"],
    ]
    assert [figure.axes[0].get_ylabel(), figure.axes[2].get_ylabel()] == ["mask as it is", "after post-processing"]


def test_what_is_removed_is_red_before_and_gone_after(specks, black_image, head, load_mask):
    figure = plotting.post_processing(specks[1:2], black_image, load_mask, head, num=1)
    before, after = figure.axes
    assert colours(before) == [SKY, plotting.RED, plotting.GREEN]
    assert colours(after) == [SKY, plotting.ORANGE, plotting.GREEN]
    speck = before.lines[2].get_xydata()
    assert (speck.min(axis=0).tolist(), speck.max(axis=0).tolist()) == ([4, 2], [6, 4])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["predicted mask", "removed by post-processing", "ellipse fitted to the mask", "annotated ellipse"]


def test_the_share_of_changed_images_stands_above(specks, black_image, load_mask):
    figure = plotting.post_processing(specks, black_image, load_mask)
    title = figure.legends[0].get_title().get_text()
    assert title == "HC differs by more than 0.1 mm in 3 of 6 images; the 3 most changed"
    assert figure.axes[0].title.get_color() == FAILURE  # 003 cannot be measured before
    assert figure.axes[3].title.get_color() == "black"  # and can after


def test_a_mask_that_is_not_there_is_not_drawn(specks, black_image):
    figure = plotting.post_processing(specks[5:], black_image, lambda _: None, num=1)
    assert titles(figure)[1][0].startswith("failed: the mask is empty")
    assert colours(figure.axes[0]) == []


def test_errors_after_stand_against_errors_before(specks):
    figure = plotting.post_processing_errors(specks)
    (points,) = (found for found in figure.axes[0].collections if "second" in found.get_label())
    np.testing.assert_allclose(points.get_offsets(), [[1.05, 1], [31, 1], [3, 1], [1, 1]])
    title = figure.axes[0].get_title()
    assert title == ("4 images: MAE 9.01 mm before, 1.00 mm after\n(2 of 6 measured by one way or none, not drawn)")
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == (
        "absolute error, mask as it is (mm)",
        "absolute error, fitted ellipse (mm)",
    )


def test_a_perfect_image_stands_on_the_edge_of_the_logarithmic_axes(make_row, segmented):
    figure = plotting.post_processing_errors([segmented(make_row(0, 100.0, 100.0))])
    (points,) = figure.axes[0].collections
    np.testing.assert_allclose(points.get_offsets(), [[0.01, 0.01]])


def test_rows_of_a_regressor_are_refused(rows, failed, black_image):
    with pytest.raises(ValueError, match=r"must have the column 'hc_original_mm' of predictions\.csv"):
        plotting.post_processing(rows, black_image, lambda _: None)
    with pytest.raises(ValueError, match=r"must have the column 'hc_original_mm' of predictions\.csv"):
        plotting.post_processing_errors(rows)
    with pytest.raises(ValueError, match=r"No row has a finite hc_original_mm and hc_ellipse_mm"):
        plotting.post_processing_errors([failed(rows[0])])
