"""What networks see at once: samples of training and of validation, and a whole volume's foreground from its parts."""

import doctest

import numpy as np
import pytest
from small_heads import heads

from hcreg.augmentation import HeadAugmentation
from hcreg.head_volumes import HeadPreparation, Patches, Slices, Whole, targets
from hcreg.head_volumes.batches import HeadBatches
from hcreg.head_volumes.cache import HeadCache
from hcreg.head_volumes.targets import Targets

VIEWS = [Whole(), Patches((8, 8, 8), per_volume=2), Slices(axis=1, at_once=4)]


class Threshold:
    """A network that calls what is brighter than a half foreground, and counts what it is shown at once."""

    def __init__(self, named=False):
        self.named, self.shapes = named, []

    def predict_on_batch(self, batch):
        self.shapes.append(batch.shape)
        foreground = (batch[..., 0] > 0.5).astype(np.float32)
        mask = np.stack([1 - foreground, foreground], -1)
        return {"mask": mask, "mask_half": None} if self.named else mask


@pytest.fixture(scope="module")
def cache():
    return HeadCache(heads(3), HeadPreparation(scale=0.5))


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("shape", [(16, 24, 16), (17, 9, 30)])
def test_every_voxel_is_predicted_at_its_place(view, shape):
    image = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    model = Threshold(named=True)
    found = view.foreground(model, image)
    np.testing.assert_allclose(found, image > 0.5, atol=1e-5)
    assert len(set(model.shapes)) == 1  # nothing is traced anew
    assert all(side % 8 == 0 for side in model.shapes[0][1:-1])
    np.testing.assert_allclose(view.foreground(Threshold(), image), found)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_samples_are_parts_of_volumes_with_their_labels(view, cache):
    batches = HeadBatches(cache, [0, 2], view, Targets(None), shuffle=True, batch_size=2)
    assert batches.num_samples == 2 * view.num_samples(cache.shape)
    images, shares = batches[0]
    kept = [side for axis, side in enumerate(cache.shape) if axis != getattr(view, "axis", None)]
    assert images.shape == (2, *getattr(view, "patch_shape", kept), 1)
    assert shares.shape == (*images.shape[:-1], 2)
    np.testing.assert_array_equal(shares.sum(-1), 1)
    again = HeadBatches(cache, [0, 2], view, Targets(None), shuffle=True, batch_size=2)
    np.testing.assert_array_equal(again[0][0], images)
    images, shares = (np.concatenate(parts) for parts in zip(*(batches[n] for n in range(batches.num_batches))))
    # brighter by 80 of some 200 grey values: the labels lie on their image
    assert images[..., 0][shares[..., 1] == 1].mean() > images[..., 0][shares[..., 1] == 0].mean() + 0.15


def test_validation_sees_all_of_every_volume_once(cache):
    whole, patches, slices = (HeadBatches(cache, [1, 0], view, Targets(None)).arrays() for view in VIEWS)
    assert whole[0].shape == (2, 16, 16, 16, 1)
    np.testing.assert_array_equal(whole[0][0, ..., 0], cache.padded(1, "image"))
    assert patches[0].shape == (16, 8, 8, 8, 1)
    assert slices[0].shape == (32, 16, 16, 1)
    np.testing.assert_array_equal(slices[0][3, ..., 0], cache.padded(1, "image")[:, 3])
    for images, shares in (whole, patches, slices):
        assert images.sum() == pytest.approx(whole[0].sum())
        assert shares[..., 1].sum() == whole[1][..., 1].sum()


def test_augmentation_is_another_in_each_epoch(cache):
    batches = HeadBatches(cache, [0], Whole(), Targets(("mask",)), augmentation=HeadAugmentation(), seed=3)
    served = []
    for batches.epoch in range(6):
        images, shares = batches[0]
        assert shares["mask"][..., 1].sum() == cache.volumes[0]["labels"].sum()
        served.append(images.tobytes())
    assert len(set(served)) > 3


def test_targets_of_auxiliary_outputs_are_majorities():
    labels = np.zeros((1, 4, 4, 4), np.uint8)
    labels[0, 1:, 1:, 1:] = 1
    found = Targets(("mask", "mask_half", "mask_quarter"), "accept")(labels)
    assert {name: values.shape for name, values in found.items()} == {
        "mask": (1, 4, 4, 4, 2),
        "mask_half": (1, 2, 2, 2, 2),
        "mask_quarter": (1, 1, 1, 1, 2),
    }
    half = found["mask_half"][0, ..., 1]
    for place in np.ndindex(2, 2, 2):
        assert half[place] == (sum(place) > 1)  # 1, 2, 4 or 8 of eight voxels; of four and four the foreground
    assert found["mask_quarter"][0, 0, 0, 0].tolist() == [1.0, 0.0]  # 27 of 64


def test_a_head_that_a_scale_loses_is_refused_but_in_parts():
    dot = np.zeros((1, 4, 4, 4), np.uint8)
    dot[0, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="At 1/2 of the size the label map has lost its foreground"):
        Targets(("mask", "mask_half"), Whole().vanishing)(dot)
    assert Targets(("mask", "mask_half"), Patches().vanishing)(dot)["mask_half"][..., 1].sum() == 0


def test_what_is_no_view_is_refused(cache):
    with pytest.raises(ValueError, match=r"sides are multiples of 8. Received: \(64, 60, 64\)"):
        Patches((64, 60, 64))
    with pytest.raises(ValueError, match=r"one patch an epoch or more. Received: per_volume=0"):
        Patches(per_volume=0)
    with pytest.raises(ValueError, match=r"axis 0, 1 or 2, one or more at once. Received: axis=3, at_once=8"):
        Slices(axis=3)
    with pytest.raises(ValueError, match=r"has outputs of mask, mask_half, mask_quarter. Received: hc_fraction"):
        Targets(("mask", "hc_fraction"))
    with pytest.raises(ValueError, match="This part of the split has no volumes"):
        HeadBatches(cache, [], Whole(), Targets(None))


def test_views_are_described_in_full():
    assert Patches((8, 16, 8)).described() == {
        "kind": "Patches",
        "patch_shape": (8, 16, 8),
        "overlap": 0.5,
        "foreground_probability": 1 / 3,
        "per_volume": 1,
    }
    assert Whole().described() == {"kind": "Whole"}


def test_examples_of_the_docstrings():
    result = doctest.testmod(targets)
    assert (result.failed, result.attempted) == (0, 4)
