"""Batches of volumes, patches or slices with the labels of each of a network's outputs, augmented on the fly."""

import numpy as np

from hcreg.datasets.epochs import Epochs


class HeadBatches(Epochs):
    """Samples of prepared volumes, and what they show at the scale of each output.

    Parameters
    ----------
    cache : HeadCache
    indices : array-like of int
        The volumes of this part.
    view : Whole, Patches or Slices
        What one sample is.
    targets : callable
        ``targets(labels)`` gives what the network is to say of a batch of labels (batch, ...); see
        `hcreg.head_volumes.targets`.
    augmentation : hcreg.augmentation.HeadAugmentation, optional
        Drawn for each sample of each epoch.
    batch_size : int
    shuffle : bool
    seed : int

    Raises
    ------
    ValueError
        If there are no volumes.
    """

    def __init__(self, cache, indices, view, targets, *, augmentation=None, batch_size=1, shuffle=False, seed=0):
        if not len(indices):
            raise ValueError("This part of the split has no volumes.")
        self.cache, self.view, self.targets, self.augmentation = cache, view, targets, augmentation
        self.samples = [(int(index), number) for index in indices for number in range(view.num_samples(cache.shape))]
        super().__init__(len(self.samples), batch_size=batch_size, shuffle=shuffle, seed=seed)

    def batch_of(self, epoch, rows):
        """Samples and targets of a batch; see `hcreg.datasets.epochs.Epochs`."""
        return self._served([self._sample(epoch, row) for row in rows])

    def arrays(self):
        """All samples without chance, for validation.

        Returns
        -------
        images : ndarray of shape (num_samples, ..., 1), float32
        targets : what `targets` gives
        """
        return self._served(
            [
                sample
                for index in dict.fromkeys(index for index, _ in self.samples)
                for sample in self.view.fixed(*(self.cache.padded(index, name) for name in ("image", "labels")))
            ]
        )

    def _sample(self, epoch, row):
        index, number = self.samples[row]
        rng = self.generator(epoch, row)
        image, labels = (self.cache.padded(index, name) for name in ("image", "labels"))
        if self.augmentation is not None:
            image, labels = self.augmentation.apply(image, labels, self.augmentation.draw(rng, labels))
        return self.view.sample(image, labels, number, rng)

    def _served(self, samples):
        images, labels = (np.stack(arrays) for arrays in zip(*samples))
        return images[..., None], self.targets(labels)
