"""`hcreg.models.unet()` written directly in PyTorch, and a process that times its steps on request.

Run by `experiments.benchmarks.segmentation` under a Python that has PyTorch and NumPy, and nothing else of hcreg's:
``python unet_torch.py WEIGHTS.npz DATA.npz NUM_THREADS``. It reads one JSON request a line and answers with one line
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

NUM_LEVELS = 4
KERAS_ADAM_EPSILON = 1e-7
LEARNING_RATE = 1e-3
FORMATS = {
    "plain": torch.contiguous_format,
    "channels_last": torch.channels_last,
    "compiled": torch.channels_last,
}


class Convolution(nn.Conv2d):
    """A convolution with bias and ReLU that keeps height and width, an even kernel padded at the end as Keras does."""

    def __init__(self, in_channels, filters, kernel_size):
        super().__init__(in_channels, filters, kernel_size, padding=kernel_size // 2 if kernel_size % 2 else 0)
        self.pads_end = kernel_size % 2 == 0

    def forward(self, x):
        return functional.relu(super().forward(functional.pad(x, (0, 1, 0, 1)) if self.pads_end else x))


class UNet(nn.Module):
    """The network of `hcreg.models.unet`, layer by layer and by the same names.

    Parameters
    ----------
    filters : int
        Of the first level; each level doubles them.
    dropout_rate : float
    """

    def __init__(self, filters, dropout_rate):
        super().__init__()
        widths = [filters * 2**level for level in range(NUM_LEVELS + 1)]
        channels = 1
        for level in range(1, NUM_LEVELS + 1):
            self._add_block(f"down{level}", channels, widths[level - 1])
            channels = widths[level - 1]
        self._add_block("bottom", channels, widths[-1])
        for level in range(NUM_LEVELS, 0, -1):
            width = widths[level - 1]
            self.add_module(f"up{level}_upconv", Convolution(2 * width, width, 2))
            self._add_block(f"up{level}", 2 * width, width)
        self.mask_logits = nn.Conv2d(widths[0], 1, 1)
        self.dropout_rate = dropout_rate

    def _add_block(self, name, in_channels, width):
        for number in (1, 2):
            self.add_module(f"{name}_conv{number}", Convolution(in_channels, width, 3))
            # Keras's momentum 0.99 is the share of the old value
            self.add_module(f"{name}_bn{number}", nn.BatchNorm2d(width, eps=1e-3, momentum=0.01))
            in_channels = width

    def _block(self, x, name):
        for number in (1, 2):
            x = getattr(self, f"{name}_bn{number}")(getattr(self, f"{name}_conv{number}")(x))
        return x

    def _dropout(self, x):
        return functional.dropout(x, self.dropout_rate, self.training)

    def forward(self, x):
        skips = []
        for level in range(1, NUM_LEVELS + 1):
            x = self._block(x, f"down{level}")
            if level == NUM_LEVELS:
                x = self._dropout(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self._dropout(self._block(x, "bottom"))
        for level in range(NUM_LEVELS, 0, -1):
            x = getattr(self, f"up{level}_upconv")(functional.interpolate(x, scale_factor=2, mode="nearest"))
            x = self._block(torch.cat([skips[level - 1], x], 1), f"up{level}")
        return torch.sigmoid(self.mask_logits(x))


def dice_loss(y_true, y_pred):
    """`hcreg.losses.Dice()`: a mean over the images of one minus the soft Dice coefficient."""
    pixels = (1, 2, 3)
    disagreement = (y_pred * (1 - y_true) + y_true * (1 - y_pred)).sum(pixels)
    return (disagreement / (y_true.sum(pixels) + y_pred.sum(pixels)).clamp(min=1.0)).mean()


def load(model, weights):
    """Set a network's weights from Keras's arrays, by the names of the layers.

    Parameters
    ----------
    model : UNet
    weights : mapping of str ("layer/variable") to ndarray
        Kernels of shape (height, width, in, out).
    """
    of_keras = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state = {}
    for name in weights:
        layer, variable = name.split("/")
        if variable == "kernel":
            state[f"{layer}.weight"] = torch.from_numpy(weights[name]).permute(3, 2, 0, 1).contiguous()
        else:
            state[f"{layer}.{of_keras.get(variable, variable)}"] = torch.from_numpy(weights[name])
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict({**state, **counters})


class Trainee:
    """One network in one memory format, with its optimiser.

    Parameters
    ----------
    variant : {"plain", "channels_last", "compiled"}
    weights : mapping of str to ndarray
    filters : int
    dropout_rate : float
    """

    def __init__(self, variant, weights, filters, dropout_rate):
        self.format = FORMATS[variant]
        self.model = UNet(filters, dropout_rate)
        load(self.model, weights)
        self.model.to(memory_format=self.format)
        self.run = torch.compile(self.model) if variant == "compiled" else self.model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, eps=KERAS_ADAM_EPSILON, fused=True)

    def tensor(self, images):
        """A tensor (batch, channels, height, width) of an array (batch, height, width, channels)."""
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=self.format)

    def train(self, images, masks):
        """Loss of one step of training."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = dice_loss(self.tensor(masks), self.run(self.tensor(images)))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, images):
        """Masks (batch, height, width, 1) of images of that shape."""
        self.model.eval()
        with torch.inference_mode():
            return self.run(self.tensor(images)).permute(0, 2, 3, 1).numpy()


def main(arguments):
    """Answer requests until there are no more.

    Parameters
    ----------
    arguments : list of str
        Weights of `hcreg.models.unet` by layer and variable; a file of the arrays ``images`` and ``masks`` (batch,
        height, width, 1); threads.

    Notes
    -----
    The first line out tells the versions. Then for each request of ``variant`` and ``do``: "train" or "predict" with
    ``repeats``, answered by the seconds of each call; "mask" with a ``path`` to save the predicted masks at; "losses"
    with ``repeats`` and ``batch``, the losses of so many steps of a fresh network without dropout on so many images.
    """
    weights_path, data_path, num_threads = arguments
    torch.set_num_threads(int(num_threads))
    torch.manual_seed(0)
    with np.load(weights_path) as stored:
        weights = dict(stored)
    with np.load(data_path) as stored:
        images, masks, dropout_rate = stored["images"], stored["masks"], float(stored["dropout_rate"])
    filters = weights["down1_conv1/kernel"].shape[-1]
    trainees = {}
    num_parameters = sum(parameter.numel() for parameter in UNet(filters, 0.0).parameters())
    _answer(
        {
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "threads": torch.get_num_threads(),
            "parameters": num_parameters,
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        variant, do = request["variant"], request["do"]
        if do == "losses":
            trainee = Trainee(variant, weights, filters, dropout_rate=0.0)
            few = images[: request["batch"]], masks[: request["batch"]]
            _answer([trainee.train(*few) for _ in range(request["repeats"])])
            continue
        if variant not in trainees:
            trainees[variant] = Trainee(variant, weights, filters, dropout_rate)
        trainee = trainees[variant]
        if do == "mask":
            np.save(request["path"], trainee.predict(images))
            _answer(request["path"])
            continue
        step = {"train": partial(trainee.train, images, masks), "predict": partial(trainee.predict, images)}[do]
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
