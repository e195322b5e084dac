"""`hcreg.models.usegnet()` written directly in PyTorch, and a process that times its steps on request.

Run by `experiments.benchmarks.usegnet` under a Python that has PyTorch and NumPy, and nothing else of hcreg's:
``python usegnet_torch.py WEIGHTS.npz DATA.npz NUM_THREADS``. It reads one JSON request a line and answers with one line
(`main`). Processes of their own keep either framework's thread pool out of the other's measurements.

Keras's transposed convolution has more of its padding after the volume, PyTorch's before it. So that no map has to be
cut, everything is mirrored here: volumes, masks and kernels, along all three axes. All else is symmetric.
"""

import json
import sys
import time
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

LEVELS = (1, 2, 3)
OUTPUTS = ("mask", "mask_half", "mask_quarter")
KERAS_ADAM_EPSILON = 1e-7
LEARNING_RATE = 1e-5  # the paper's; larger steps drive two networks apart that differ by rounding
FORMATS = {"plain": torch.contiguous_format, "channels_last": torch.channels_last_3d}
SPATIAL = (1, 2, 3)


def layer_of(path, kernel):
    """The layer of PyTorch for a convolution of Keras, by its name and its kernel of (height, width, slices, ...)."""
    (size, _, _, *channels) = kernel.shape
    if path.endswith("_upconv"):
        out_channels, in_channels = channels
        return nn.ConvTranspose3d(in_channels, out_channels, size, stride=2, padding=size // 2, output_padding=1)
    in_channels, out_channels = channels
    return nn.Conv3d(in_channels, out_channels, size, padding=size // 2)


class USegNet(nn.Module):
    """The network of `hcreg.models.usegnet` with batch statistics, layer by layer and by the same names.

    Parameters
    ----------
    weights : mapping of str ("layer/[convolution/]variable") to ndarray
        Their shapes are the network's; attention modules and auxiliary outputs are there if they have weights.
    """

    def __init__(self, weights):
        super().__init__()
        for name in weights:
            layer, variable = name.rsplit("/", 1)
            if variable == "kernel":
                self.add_module(layer, layer_of(layer, weights[name]))
            elif variable == "gamma":
                width = len(weights[name])
                self.add_module(layer, nn.BatchNorm3d(width, eps=1e-3, track_running_stats=False))

    def forward(self, x):
        """Logits by output."""
        skips = []
        for level in LEVELS:
            x = self._block(x, f"down{level}")
            skips.append(x)
            x = functional.max_pool3d(x, 2)
        x = self._block(x, "bottom")
        logits = {}
        for level in reversed(LEVELS):
            x = self._normalised(self._modules[f"up{level}_upconv"](x), f"up{level}_norm")
            x = torch.cat([x, self._attended(skips[level - 1], f"skip{level}_attention")], dim=1)
            x = self._attended(x, f"up{level}_attention")
            output = OUTPUTS[level - 1]
            if f"{output}_logits" in self._modules:
                logits[output] = self._modules[f"{output}_logits"](x)
        return logits

    def _block(self, x, name):
        for number in (1, 2):
            x = self._normalised(self._modules[f"{name}_conv{number}"](x), f"{name}_norm{number}")
        return x

    def _normalised(self, x, name):
        return functional.relu(self._modules[name](x), inplace=True)

    def _attended(self, x, name):
        if f"{name}/projection" not in self._modules:
            return x
        projected = self._modules[f"{name}/projection"](x)
        attention = self._modules[f"{name}/attention2"](self._modules[f"{name}/attention1"](projected))
        weighed = projected * torch.softmax(attention, dim=1)
        return self._modules[f"{name}/fusion"](torch.cat([projected, weighed], dim=1))


def load(model, weights):
    """Set a network's weights from Keras's arrays, by the names of the layers.

    Parameters
    ----------
    model : USegNet
    weights : mapping of str to ndarray
    """
    of_keras = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
    state = {}
    for name, array in weights.items():
        layer, variable = name.rsplit("/", 1)
        tensor = torch.from_numpy(np.array(array))
        if variable == "kernel":  # the last two are (in, out), of a transposed convolution (out, in)
            tensor = tensor.flip((0, 1, 2)).permute(4, 3, 0, 1, 2).contiguous()
        state[f"{layer}.{of_keras[variable]}"] = tensor
    model.load_state_dict(state)


class Trainee:
    """One network in one memory format, with its optimiser.

    Parameters
    ----------
    variant : {"plain", "channels_last"}
    weights : mapping of str to ndarray
    """

    def __init__(self, variant, weights):
        self.format = FORMATS[variant]
        self.model = USegNet(weights)
        load(self.model, weights)
        self.model.to(memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, eps=KERAS_ADAM_EPSILON, fused=True)

    def tensor(self, volumes):
        """A tensor (batch, channels, height, width, slices) of an array with its channels last."""
        return torch.from_numpy(volumes).permute(0, 4, 1, 2, 3).contiguous(memory_format=self.format)

    def train(self, volumes, labels):
        """Loss of one step of training: the sum of the outputs' cross-entropies."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(self.tensor(volumes))
        loss = sum(functional.cross_entropy(logits[name], torch.from_numpy(labels[name])) for name in logits)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, volumes):
        """Masks by output, of (batch, height, width, slices, classes)."""
        self.model.eval()
        with torch.inference_mode():
            logits = self.model(self.tensor(volumes))
            return {name: torch.softmax(each, dim=1).permute(0, 2, 3, 4, 1).numpy() for name, each in logits.items()}


def mirrored(array):
    """An array (batch, height, width, slices, ...) the other way round along its three sides."""
    return np.ascontiguousarray(np.flip(array, SPATIAL))


def main(arguments):
    """Answer requests until there are no more.

    Parameters
    ----------
    arguments : list of str
        Weights of `hcreg.models.usegnet` by their paths; a file of the arrays ``volumes`` (batch, height, width,
        slices, 1) and, by the names of the outputs, of labels (batch, height, width, slices); threads.

    Notes
    -----
    The first line out tells the versions. Then for each request of ``variant`` and ``do``: "train" or "predict" with
    ``repeats`` and ``batch``, answered by the seconds of each call on so many volumes; "output" with a ``path`` to save
    the mask of full size at; "losses" with ``repeats`` and ``batch``, the losses of so many steps of a fresh network.
    """
    weights_path, data_path, num_threads = arguments
    torch.set_num_threads(int(num_threads))
    with np.load(weights_path) as stored:
        weights = dict(stored)
    with np.load(data_path) as stored:
        volumes = mirrored(stored["volumes"])
        labels = {name: mirrored(stored[name].astype(np.int64)) for name in OUTPUTS if name in stored}
    trainees = {}
    _answer(
        {
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "threads": torch.get_num_threads(),
            "parameters": sum(parameter.numel() for parameter in USegNet(weights).parameters()),
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        variant, do = request["variant"], request["do"]
        if variant not in trainees:
            trainees[variant] = Trainee(variant, weights)
        trainee = trainees[variant]
        if do == "output":
            np.save(request["path"], mirrored(trainee.predict(volumes)["mask"]))
            _answer(request["path"])
            continue
        few = volumes[: request["batch"]], {name: each[: request["batch"]] for name, each in labels.items()}
        if do == "losses":
            fresh = Trainee(variant, weights)
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
