"""Epochs: the order and the random numbers of a sample are functions of seed, epoch and sample, and of nothing else."""

import numpy as np
import pytest

from hcreg.datasets.epochs import Epochs


class Noise(Epochs):
    """Each sample's number and a random number of its own."""

    def batch_of(self, epoch, rows):
        return np.asarray(rows), np.array([self.generator(epoch, row).random() for row in rows])


def noise(num_samples=10, batch_size=4, shuffle=True, seed=0):
    return Noise(num_samples, batch_size=batch_size, shuffle=shuffle, seed=seed)


def served(batches):
    """All of an epoch: a dict of sample to its random number, and the order."""
    rows, numbers = (np.concatenate(parts) for parts in zip(*(batches[i] for i in range(batches.num_batches))))
    return rows.tolist(), dict(zip(rows.tolist(), numbers.tolist()))


def test_every_sample_is_served_once_and_the_last_batch_is_smaller():
    batches = noise()
    assert batches.num_batches == 3
    assert [len(batches[i][0]) for i in range(3)] == [4, 4, 2]
    assert sorted(served(batches)[0]) == list(range(10))


def test_unshuffled_samples_come_in_order():
    batches = noise(shuffle=False)
    batches.epoch = 5
    assert served(batches)[0] == batches.order().tolist() == list(range(10))


def test_each_epoch_has_an_order_of_its_own_and_a_resumed_one_the_same():
    batches, orders = noise(40), []
    for _ in range(3):
        orders.append(served(batches))
        batches.on_epoch_end()
    assert orders[0][0] != orders[1][0] != orders[2][0]
    resumed = noise(40)
    resumed.epoch = 2
    assert served(resumed) == orders[2]
    assert resumed.order().tolist() == orders[2][0]


def test_going_back_gives_the_order_of_then():
    batches = noise(40)
    first = served(batches)
    batches.epoch = 1
    served(batches)
    batches.epoch = 0
    assert served(batches) == first


def test_random_numbers_depend_on_the_sample_and_not_on_its_batch():
    assert served(noise())[1] == served(noise(batch_size=3, shuffle=False))[1]
    assert served(noise(seed=0))[1] != served(noise(seed=1))[1]
    assert served(noise(40, seed=0))[0] != served(noise(40, seed=1))[0]


def test_the_order_takes_nothing_from_a_samples_numbers():
    """Sample 0 and the order of the epoch have streams of their own."""
    batches = noise(20)
    assert batches.generator(0, 0).permutation(20).tolist() != batches.order().tolist()


@pytest.mark.parametrize("batch", [-1, 3])
def test_a_batch_that_is_not_there_is_refused(batch):
    with pytest.raises(IndexError, match=rf"has the batches 0 to 2\. Received: {batch}"):
        noise()[batch]


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match=r"A batch holds one sample or more\. Received: batch_size=0"):
        noise(batch_size=0)


def test_the_base_serves_nothing_itself():
    with pytest.raises(NotImplementedError):
        Epochs(3, batch_size=1, shuffle=False, seed=0)[0]
