"""The picture of one explained image: panels, scales, reasons, and the errors."""

import numpy as np
import pytest

from hcreg.geometry import Ellipse
from hcreg.plotting.explanations import explanation_panels

IMAGE = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (80, 1))


def test_the_image_and_one_panel_for_each_analyzer():
    signed = np.zeros(IMAGE.shape)
    signed[:40], signed[40:] = 3.0, -1.0
    maps = {"gradient": signed, "deep_taylor": np.abs(signed), "lrp.z": np.zeros(IMAGE.shape)}
    units = {"gradient": "mm per unit of input"}
    head = Ellipse(60.0, 40.0, 30.0, 20.0, 0.0)
    figure = explanation_panels(IMAGE, maps, "010_HC.png: 170.9 mm", 0.5, units, head, {"lrp.w_square": "no rule."})
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["image and measured ellipse", "gradient", "deep_taylor", "lrp.z", "lrp.w_square"]
    assert figure.get_suptitle() == "010_HC.png: 170.9 mm"
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert panels["gradient"].images[1].get_clim() == (-3.0, 3.0)
    assert panels["deep_taylor"].images[1].get_clim() == (0.0, 3.0)
    assert panels["lrp.z"].images[1].get_clim() == (0.0, 1.0)
    assert panels["gradient"].images[0].get_array().shape == IMAGE.shape
    assert [text.get_text() for text in panels["lrp.w_square"].texts] == ["no map:\nno rule."]
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert "mm per unit of input" in labels
    figure.canvas.draw()


def test_a_single_outlier_does_not_set_the_scale():
    values = np.ones(IMAGE.shape)
    values[0, 0] = 1e6
    figure = explanation_panels(IMAGE, {"gradient": values}, "", 0.5)
    assert figure.axes[1].images[1].get_clim() == (0.0, 1.0)
    assert figure.axes[0].get_title() == "image"


def test_without_a_map_there_are_the_reasons():
    figure = explanation_panels(IMAGE, {}, "", 0.5, reasons={"deep_taylor": "the prediction is negative."})
    assert "the prediction is negative" in figure.axes[1].texts[0].get_text()
    with pytest.raises(ValueError, match=r"needs the map of one analyzer at least\. Received: none"):
        explanation_panels(IMAGE, {}, "", 0.5)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(
        ValueError, match=r"map of 'gradient' must have .* = \(80, 120\)\. Received: \(40, 60\).*maps\.rel"
    ):
        explanation_panels(IMAGE, {"gradient": np.ones((40, 60))}, "", 0.5)
