"""Perturbed images as one stream of batches through a model: made in threads ahead, of bounded memory, seeded."""

import contextlib
import functools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import special

from hcreg.analyzers.aopc_regions import RegionGrid
from hcreg.progress import progress_bar

# What a generator is for. Each has its own numbers, whatever the seed and whatever else is drawn.
_NOISE, _RANDOM_ORDER, _TIE_BREAKS = range(3)

# Noise picks among so many quantiles of the normal distribution, seven times faster than drawing from it: a fast
# network would wait for its noise otherwise.
_NUM_VALUES = 65536


@functools.cache
def _standard_normal_quantiles():
    quantiles = special.ndtri((np.arange(_NUM_VALUES) + 0.5) / _NUM_VALUES)
    return quantiles / quantiles.std()


@dataclass(frozen=True)
class Perturbation:
    """How regions are replaced by noise: every random number is drawn here, apart from where it goes.

    Each draw depends only on the seed and on what it is for (image, draw, step), never on the other images, the
    batches or the order of the regions. Two orders therefore see the same noise at the same pixel.

    Attributes
    ----------
    grid : RegionGrid
    noise : float
        Standard deviation: of the image's own where `noise_scale` is ``"image"``, else in grey values.
    noise_scale : {"image", "absolute"}
        ``"image"``: around the mean of each channel of the image. ``"absolute"``: around 0.
    channels : {"all", "first"}
    regions_per_step : int
    seed : int
    """

    grid: RegionGrid
    noise: float
    noise_scale: str
    channels: str
    regions_per_step: int
    seed: int

    def _generator(self, *key):
        seeds = np.random.SeedSequence(self.seed, spawn_key=key)
        return np.random.Generator(np.random.SFC64(seeds))

    def random_order(self, image, number):
        """A random order of the regions: shape (num_regions,)."""
        return self._generator(_RANDOM_ORDER, image, number).permutation(self.grid.num_regions)

    def tie_breaks(self, image):
        """Which region goes first among those of equal score: shape (num_regions,)."""
        return self._generator(_TIE_BREAKS, image).permutation(self.grid.num_regions)

    def noise_values(self, image):
        """The values that noise takes, all equally likely.

        Parameters
        ----------
        image : ndarray of shape (*spatial, channels)

        Returns
        -------
        ndarray of float32, shape (channels, 65536), or (1, 65536) where all channels have the same
            Quantiles of the normal distribution.
        """
        means_sds = np.array([[0.0, self.noise]])
        if self.noise_scale == "image":
            pixels = image.reshape(-1, image.shape[-1])
            means, sds = pixels.mean(axis=0, dtype=np.float64), pixels.std(axis=0, dtype=np.float64)
            means_sds = np.stack([means, self.noise * sds], axis=1)
            means_sds = means_sds[:1] if (means_sds == means_sds[0]).all() else means_sds
        return (means_sds[:, :1] + means_sds[:, 1:] * _standard_normal_quantiles()).astype(np.float32)

    def noise_field(self, shape, values, image, draw, step):
        """Noise for all pixels of an image, of which a step uses its regions.

        Parameters
        ----------
        shape : tuple of int
            ``(*spatial, channels)``
        values : ndarray of shape (channels, 65536) or (1, 65536)
            Of `noise_values`.
        image, draw, step : int
            Numbers from 0, 0 and 1 on.

        Returns
        -------
        ndarray of float32, of that shape
        """
        picked = self._generator(_NOISE, image, draw, step).integers(0, _NUM_VALUES, shape, dtype=np.uint16)
        if len(values) == 1:
            return values[0].take(picked)
        return np.stack([of_channel.take(picked[..., c]) for c, of_channel in enumerate(values)], axis=-1)

    def replace(self, perturbed, order, step, field):
        """Replace the first regions of an order by noise, in place.

        Parameters
        ----------
        perturbed : ndarray of shape (*spatial, channels)
            A copy of the clean image; written into.
        order : ndarray of int, shape (num_regions,)
        step : int
            Number of steps taken: ``step * regions_per_step`` regions are replaced.
        field : ndarray of the shape of `perturbed`
            Of `noise_field`.
        """
        for region in order[: step * self.regions_per_step]:
            where = self.grid.slices[region]
            if self.channels == "first":
                where = (*where, slice(0, 1))
            perturbed[where] = field[where]


@dataclass(frozen=True)
class Plan:
    """Every perturbed image of a run, numbered: image by image its clean self, then draws, steps and orders.

    Orders run fastest, since those of one draw and step share their noise.

    Attributes
    ----------
    perturbation : Perturbation
    images : ndarray of shape (num_images, *spatial, channels)
    orders : ndarray of int, shape (num_images, num_orders, num_regions)
    draws, steps : int
    """

    perturbation: Perturbation
    images: np.ndarray
    orders: np.ndarray
    draws: int
    steps: int

    @property
    def per_image(self):
        """How many images the model sees for each: int."""
        return 1 + self.draws * self.steps * self.orders.shape[1]

    def __len__(self):
        return len(self.images) * self.per_image

    def fill(self, batch, start):
        """Write perturbed images into a batch.

        Parameters
        ----------
        batch : ndarray of float32, shape (batch_size, *spatial, channels)
            Written into, as far as there are images left.
        start : int
            Number of the first.

        Returns
        -------
        ndarray
            `batch`
        """
        last_image = last_noise = values = field = None
        for row, number in enumerate(range(start, min(start + len(batch), len(self)))):
            image, rest = divmod(number, self.per_image)
            batch[row] = self.images[image]
            if not rest:
                continue
            rest, order = divmod(rest - 1, self.orders.shape[1])
            draw, step = divmod(rest, self.steps)
            if image != last_image:
                last_image, values = image, self.perturbation.noise_values(self.images[image])
            if (image, rest) != last_noise:
                last_noise = image, rest
                field = self.perturbation.noise_field(batch.shape[1:], values, image, draw, step + 1)
            self.perturbation.replace(batch[row], self.orders[image, order], step + 1, field)
        return batch

    def describe(self, number):
        """Where a number of the plan stands, in words: str."""
        image, rest = divmod(number, self.per_image)
        if not rest:
            return f"clean image {image}"
        rest, order = divmod(rest - 1, self.orders.shape[1])
        draw, step = divmod(rest, self.steps)
        return f"image {image} after step {step + 1} (draw {draw}, order {order})"


def predict_plan(predict, plan, batch_size, progress=False):
    """Outputs of a model for all images of a plan, in batches of one size.

    Parameters
    ----------
    predict : callable
        Maps a batch of images to a tensor of shape (batch_size,).
    plan : Plan
    batch_size : int
    progress : bool

    Returns
    -------
    ndarray of float64, shape (len(plan),)

    Raises
    ------
    ValueError
        If an output is not finite, as soon as it is found.

    Notes
    -----
    Batches are filled by threads while the model computes, never more than a few ahead, so memory does not grow with
    the number of images. The last batch is as large as the others, so that the model is compiled for one shape.
    """
    batch_size = min(batch_size, len(plan))
    num_batches = -(-len(plan) // batch_size)
    num_threads = max(1, min(4, _num_cpus() - 1))
    # One computes, one is read, the others are filled ahead.
    num_buffers = min(num_threads + 3, num_batches + 1)
    buffers = [np.zeros((batch_size, *plan.images.shape[1:]), plan.images.dtype) for _ in range(num_buffers)]
    outputs = np.empty(len(plan))
    filled, submitted, computing = deque(), 0, None
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="aopc")
    with progress_bar() if progress else contextlib.nullcontext() as bar:
        task = bar.add_task("AOPC", total=len(plan)) if progress else None
        try:
            for number in range(num_batches + 1):
                # The buffer of batch `number - 2` is free again: its output has been read.
                while submitted < min(number + num_buffers - 1, num_batches):
                    buffer = buffers[submitted % num_buffers]
                    filled.append(pool.submit(plan.fill, buffer, submitted * batch_size))
                    submitted += 1
                # Where the backend computes on its own, it has the next batch before the last is read.
                launched = predict(filled.popleft().result()) if filled else None
                if computing is not None:
                    start = (number - 1) * batch_size
                    found = np.asarray(computing)[: len(plan) - start]
                    _check_finite(found, plan, start)
                    outputs[start : start + len(found)] = found
                    if progress:
                        bar.advance(task, len(found))
                computing = launched
        finally:
            pool.shutdown(cancel_futures=True)
    return outputs


def _check_finite(found, plan, start):
    finite = np.isfinite(found)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ValueError(
            f"The model's output must be finite. Received: {found[first]} for {plan.describe(start + first)}. "
            "Check the model on that image."
        )


def _num_cpus():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
