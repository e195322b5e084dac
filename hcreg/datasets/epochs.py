"""The order of samples in each epoch: a function of seed and epoch, so that a resumed run sees what it would have."""

import keras
import numpy as np


class Epochs(keras.utils.PyDataset):
    """Batches for `keras.Model.fit` whose order and augmentation depend on seed, epoch and sample only.

    A subclass gives `batch_of`, what a batch of samples in an epoch holds.

    Parameters
    ----------
    num_samples : int
    batch_size : int
    shuffle : bool
        A new order each epoch.
    seed : int

    Attributes
    ----------
    epoch : int
        Which epoch's order and augmentation are served. `hcreg.training.fit` sets it at the start of each
        epoch, so that a resumed run goes on with the right one. Keras's own loops add 1 at the end of each
        (and once before the first), so that a plain ``model.fit`` sees each epoch differently too.

    Raises
    ------
    ValueError
        If a batch would hold nothing.
    """

    def __init__(self, num_samples, *, batch_size, shuffle, seed):
        super().__init__()
        self.num_samples = int(num_samples)
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.seed = int(seed)
        self.epoch = 0
        self._order = (None, None)
        if self.batch_size < 1:
            raise ValueError(f"A batch holds one sample or more. Received: batch_size={batch_size!r}.")

    @property
    def num_batches(self):
        """Batches of one epoch; the last may be smaller."""
        return -(-self.num_samples // self.batch_size)

    def order(self):
        """The order in which this epoch serves the samples: ndarray of int."""
        return self._order_of(self.epoch)

    def _order_of(self, epoch):
        if not self.shuffle:
            return np.arange(self.num_samples)
        known, order = self._order  # read and set as one, for Keras may ask from two threads
        if known != epoch:
            # spawn_key: default_rng([seed, epoch]) would be the very stream of sample 0, [seed, epoch, 0]
            rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch], spawn_key=(0,)))
            order = rng.permutation(self.num_samples)
            self._order = (epoch, order)
        return order

    def generator(self, epoch, sample):
        """The random numbers of one sample in one epoch.

        Parameters
        ----------
        epoch, sample : int

        Returns
        -------
        numpy.random.Generator
        """
        return np.random.default_rng([self.seed, epoch, int(sample)])

    def on_epoch_end(self):
        """Go on to the next epoch; Keras calls it."""
        self.epoch += 1

    def __getitem__(self, batch):
        if not 0 <= batch < self.num_batches:
            raise IndexError(f"An epoch has the batches 0 to {self.num_batches - 1}. Received: {batch}.")
        epoch = self.epoch  # one for the whole batch, should it be set meanwhile
        return self.batch_of(epoch, self._order_of(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size])

    def batch_of(self, epoch, rows):
        """What the samples hold in an epoch.

        Parameters
        ----------
        epoch : int
        rows : ndarray of int
            Samples, by number.

        Returns
        -------
        tuple
            Inputs and targets.
        """
        raise NotImplementedError
