"""`hcreg.models.vgg3d()` written directly in PyTorch, and a process that times its steps on request.

Run by `experiments.benchmarks.volumes` under a Python that has PyTorch and NumPy, and nothing else of hcreg's:
``python vgg3d_torch.py WEIGHTS.npz DATA.npz NUM_THREADS``. It reads one JSON request a line and answers with one line
(`main`). Processes of their own keep either framework's thread pool out of the other's measurements.
"""

import json
import sys
import time
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CONVOLUTIONS = (2, 2, 3, 3, 3)
POOLED_BLOCKS = (1, 2, 5)
POOL_SIZE, POOL_STRIDE = 3, 2
KERAS_ADAM_EPSILON = 1e-7
LEARNING_RATE = 1e-3
FORMATS = {"plain": torch.contiguous_format, "channels_last": torch.channels_last_3d}


def pooled(x):
    """Max-pooling of size 3 and stride 2, padded as Keras pads, without a copy.

    Odd sizes lack a voxel on either side, even ones one at the end, which the last window, begun inside, does without.
    """
    padding = [size % 2 for size in x.shape[2:]]
    return functional.max_pool3d(x, POOL_SIZE, POOL_STRIDE, padding=padding, ceil_mode=True)


class VGG3D(nn.Module):
    """The network of `hcreg.models.vgg3d` with odd kernels, layer by layer and by the same names.

    Parameters
    ----------
    weights : mapping of str ("layer/variable") to ndarray
        Their shapes are the network's.
    dropout_rate : float
    """

    def __init__(self, weights, dropout_rate):
        super().__init__()
        for block, count in enumerate(CONVOLUTIONS, start=1):
            for number in range(1, count + 1):
                *kernel_size, in_channels, width = weights[f"block{block}_conv{number}/kernel"].shape
                padding = [size // 2 for size in kernel_size]
                convolution = nn.Conv3d(in_channels, width, tuple(kernel_size), padding=tuple(padding))
                self.add_module(f"block{block}_conv{number}", convolution)
                # Keras's momentum 0.99 is the share of the old value
                self.add_module(f"block{block}_bn{number}", nn.BatchNorm3d(width, eps=1e-3, momentum=0.01))
        self.volumes = nn.Linear(*weights["volumes/kernel"].shape)
        self.dropout_rate = dropout_rate

    def forward(self, x):
        for block, count in enumerate(CONVOLUTIONS, start=1):
            for number in range(1, count + 1):
                x = getattr(self, f"block{block}_bn{number}")(getattr(self, f"block{block}_conv{number}")(x))
                x = functional.relu(x, inplace=True)
            if block in POOLED_BLOCKS:
                x = pooled(x)
        x = functional.dropout(x, self.dropout_rate, self.training)
        return self.volumes(x.permute(0, 2, 3, 4, 1).flatten(1))  # Keras flattens channels last


def load(model, weights):
    """Set a network's weights from Keras's arrays, by the names of the layers.

    Parameters
    ----------
    model : VGG3D
    weights : mapping of str ("layer/variable") to ndarray
        Kernels of shape (height, width, slices, in, out).
    """
    of_keras = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state = {}
    for name in weights:
        layer, variable = name.split("/")
        if variable == "kernel":
            kernel = torch.from_numpy(weights[name])
            state[f"{layer}.weight"] = kernel.permute(
                *range(kernel.ndim)[::-1][:2], *range(kernel.ndim - 2)
            ).contiguous()
        else:
            state[f"{layer}.{of_keras.get(variable, variable)}"] = torch.from_numpy(weights[name])
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({**state, **counters})


class Trainee:
    """One network in one memory format, with its optimiser.

    Parameters
    ----------
    variant : {"plain", "channels_last"}
    weights : mapping of str to ndarray
    dropout_rate : float
    """

    def __init__(self, variant, weights, dropout_rate):
        self.format = FORMATS[variant]
        self.model = VGG3D(weights, dropout_rate)
        load(self.model, weights)
        self.model.to(memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, eps=KERAS_ADAM_EPSILON, fused=True)

    def tensor(self, stacks):
        """A tensor (batch, channels, height, width, slices) of an array with its channels last."""
        return torch.from_numpy(stacks).permute(0, 4, 1, 2, 3).contiguous(memory_format=self.format)

    def train(self, stacks, volumes):
        """Loss of one step of training."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = functional.mse_loss(self.model(self.tensor(stacks)), torch.from_numpy(volumes))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, stacks):
        """Volumes (batch, outputs) of stacks (batch, height, width, slices, 1)."""
        self.model.eval()
        with torch.inference_mode():
            return self.model(self.tensor(stacks)).numpy()


def main(arguments):
    """Answer requests until there are no more.

    Parameters
    ----------
    arguments : list of str
        Weights of `hcreg.models.vgg3d` by layer and variable; a file of the arrays ``stacks`` (batch, height, width,
        slices, 1) and ``volumes`` (batch, outputs); threads.

    Notes
    -----
    The first line out tells the versions. Then for each request of ``variant`` and ``do``: "train" or "predict" with
    ``repeats`` and ``batch``, answered by the seconds of each call on so many stacks; "output" with a ``path`` to save
    the predicted volumes at; "losses" with ``repeats`` and ``batch``, the losses of so many steps of a fresh network
    without dropout on so many stacks.
    """
    weights_path, data_path, num_threads = arguments
    torch.set_num_threads(int(num_threads))
    torch.manual_seed(0)
    with np.load(weights_path) as stored:
        weights = dict(stored)
    with np.load(data_path) as stored:
        stacks, volumes, dropout_rate = stored["stacks"], stored["volumes"], float(stored["dropout_rate"])
    trainees = {}
    _answer(
        {
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "threads": torch.get_num_threads(),
            "parameters": sum(parameter.numel() for parameter in VGG3D(weights, 0.0).parameters()),
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        variant, do = request["variant"], request["do"]
        if variant not in trainees:
            trainees[variant] = Trainee(variant, weights, dropout_rate)
        trainee = trainees[variant]
        if do == "output":
            np.save(request["path"], trainee.predict(stacks))
            _answer(request["path"])
            continue
        few = stacks[: request["batch"]], volumes[: request["batch"]]
        if do == "losses":
            fresh = Trainee(variant, weights, dropout_rate=0.0)
            _answer([fresh.train(*few) for _ in range(request["repeats"])])
            continue
        step = {"train": partial(trainee.train, *few), "predict": partial(trainee.predict, few[0])}[do]
        seconds = []
        for _ in range(request["repeats"]):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        _answer(seconds)


def _answer(found):
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
