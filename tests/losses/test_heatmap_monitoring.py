"""Metrics over the whole set, by hand; and the warnings, by their words and once each."""

import doctest
import warnings

import keras
import numpy as np
import pytest

import hcreg.losses.heatmap_monitoring as module
from hcreg.attention import CHANNELS
from hcreg.losses import HeatmapMetric, HeatmapMonitor, heatmap_metrics

CHANNEL = {name: number for number, name in enumerate(CHANNELS)}
LABELS = np.array([0, 1, 2, 0, 1])
OUTSIDE = np.array([0.0, 1.0, 3.0, 2.0, 4.0])
TOTAL = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
SIGNED = np.array([-1.0, 1.0, -2.0, 2.0, 4.0])


def predictions():
    """Five images of three classes; what the maps of the others than the true class hold must not count."""
    values = np.full((5, 3, len(CHANNELS)), 1e6, "float32")
    values[..., CHANNEL["logit"]] = np.eye(3)[[0, 1, 2, 1, 2]]  # the last two are wrong
    values[..., CHANNEL["swapped_logit"]] = values[..., CHANNEL["logit"]] + [[3.0], [-3.0], [0.0], [0.0], [6.0]]
    for name, numbers in (("outside", OUTSIDE), ("total", TOTAL), ("signed_total", SIGNED)):
        values[np.arange(5), LABELS, CHANNEL[name]] = numbers
    return values


EXPECTED = {
    "accuracy": 0.6,
    "share_outside": 10 / 20,
    "inflation": 20 / 10,
    "relevance": 4.0,
    "swap_effect": 12 / 5,
}


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("one_hot", [False, True])
def test_metrics_are_over_the_whole_set(kind, one_hot):
    labels = np.eye(3)[LABELS] if one_hot else LABELS
    metric = HeatmapMetric(kind)
    assert np.isnan(float(metric.result()))
    for batch in (slice(0, 4), slice(4, 5)):  # uneven, so that a mean of batches is another number
        metric.update_state(labels[batch], predictions()[batch])
    assert float(metric.result()) == pytest.approx(EXPECTED[kind], rel=1e-6)
    metric.reset_state()
    metric.update_state(labels[:, None] if not one_hot else labels, predictions())
    assert float(metric.result()) == pytest.approx(EXPECTED[kind], rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("accuracy", 1 / 4),
        ("share_outside", 11 / 25),
        ("inflation", 25 / 11),
        ("relevance", 25 / 4),
        ("swap_effect", 15 / 4),
    ],
)
def test_sample_weights_weigh_images(kind, expected):
    weights = np.array([1.0, 0.0, 0.0, 1.0, 2.0])
    metric = HeatmapMetric(kind)
    metric.update_state(LABELS, predictions(), sample_weight=weights)
    if kind in ("share_outside", "inflation"):  # 0 + 2 + 8 outside, 1 + 4 + 20 in all, 1 + 2 + 8 net
        expected = {"share_outside": 10 / 25, "inflation": 25 / 11}[kind]
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_one_score_and_regression():
    values = np.zeros((3, 1, len(CHANNELS)), "float32")
    values[:, 0, CHANNEL["logit"]] = [0.5, -0.5, 2.0]
    values[:, 0, CHANNEL["total"]] = [1.0, 2.0, 5.0]
    values[:, 0, CHANNEL["outside"]] = [1.0, 0.0, 1.0]
    for kind, labels, expected in (
        ("accuracy", [1, 1, 1], 2 / 3),
        ("share_outside", [170.5, 0.3, 99.0], 0.25),
        ("share_outside", [[170.5], [0.3], [99.0]], 0.25),
        ("relevance", [0.1, 0.2, 0.3], 8 / 3),
    ):
        metric = HeatmapMetric(kind)
        metric.update_state(np.array(labels), values)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_names_and_what_is_left_out():
    assert [metric.name for metric in heatmap_metrics()] == ["accuracy", "share_outside", "inflation", "relevance"]
    assert [metric.name for metric in heatmap_metrics(regression=True, swap=True)] == [
        "share_outside",
        "inflation",
        "relevance",
        "swap_effect",
    ]
    assert HeatmapMetric("relevance", name="sum").name == "sum"


def test_configuration_makes_the_round_trip():
    metric = keras.metrics.deserialize(keras.metrics.serialize(HeatmapMetric("inflation", name="other")))
    assert isinstance(metric, HeatmapMetric)
    assert (metric.kind, metric.name) == ("inflation", "other")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"one of accuracy, share_outside, inflation, relevance, swap_effect.*'loss'"):
        HeatmapMetric("loss")


def warned(monitor, *epochs):
    """What a run of these epochs, of inflation and relevance, is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor.on_train_begin()
        for number, (inflation, relevance) in enumerate(epochs):
            monitor.on_epoch_end(number, {"loss": 1.0, "inflation": inflation, "relevance": relevance})
    assert all(warning.category is RuntimeWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def test_a_healthy_run_is_left_in_peace():
    assert warned(HeatmapMonitor(), (2.0, 0.5), (19.9, 40.0), (2.0, 0.41)) == []


def test_inflation_is_warned_of_once():
    (text,) = warned(HeatmapMonitor(), (2.0, 5.0), (35.4, 5.0), (80.0, 5.0))
    assert text.startswith("Epoch 2: the network inflates its relevance: absolute relevance is 35 times its sum, ab")
    assert 'Use attention="absolute", or lower the weight' in text
    assert len(warned(HeatmapMonitor(highest_inflation=3.0), (3.5, 1.0))) == 1


def test_collapse_is_warned_of_once():
    (text,) = warned(HeatmapMonitor(), (2.0, 5.0), (2.0, 0.04), (2.0, 0.0))
    assert text.startswith("Epoch 2: the network collapses: its relevance is 0.04, after 5.")
    assert "Lower the weight of the attention term, or let it grow over more steps (ramp_steps)." in text
    assert len(warned(HeatmapMonitor(lowest_relevance=0.5), (2.0, 5.0), (2.0, 2.0))) == 1


def test_no_relevance_from_the_start_and_nan_are_collapses():
    assert len(warned(HeatmapMonitor(), (float("nan"), 0.0))) == 1
    (text,) = warned(HeatmapMonitor(), (2.0, 3.0), (float("nan"), float("nan")))
    assert "its relevance is nan, after 3." in text


def test_both_are_warned_of_and_again_in_the_next_run():
    monitor = HeatmapMonitor()
    assert len(warned(monitor, (2.0, 5.0), (50.0, 0.01))) == 2
    assert len(warned(monitor, (50.0, 0.01))) == 1


def test_in_fit_the_monitor_needs_its_metrics():
    inputs = keras.Input((3, len(CHANNELS)))
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match=r"metrics=hcreg\.losses\.heatmap_metrics\(\)\. Received: loss\."):
        model.fit(predictions(), predictions(), verbose=0, callbacks=[HeatmapMonitor()])


def test_in_fit_metrics_reach_the_monitor():
    from hcreg.losses import Heatmap

    inputs = keras.Input((3, len(CHANNELS)))
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    model.compile("sgd", loss=Heatmap(), metrics=heatmap_metrics(swap=True))
    monitor = HeatmapMonitor(highest_inflation=1.5)
    with pytest.warns(RuntimeWarning, match="Epoch 1: the network inflates its relevance: .* is 2 times its sum"):
        history = model.fit(
            predictions(), LABELS, batch_size=2, epochs=2, verbose=0, shuffle=False, callbacks=[monitor]
        ).history
    assert {name: history[name][1] for name in EXPECTED} == pytest.approx(EXPECTED, rel=1e-5)


def test_examples():
    assert doctest.testmod(module) == (0, 1)
