"""VGG16 and ResNet50 with one output in PyTorch, explained by Captum and Zennit: a process that answers requests.

Run by `experiments.benchmarks.analyzers` under a Python that has PyTorch, NumPy, Captum and Zennit, and nothing else
of hcreg's: ``python explain_torch.py WEIGHTS.npz IMAGES.npy NUM_THREADS``. It reads one JSON request a line and answers
with one line (`main`).
"""

import json
import sys
import time
import types
from contextlib import ExitStack
from importlib.metadata import version

import numpy as np
import torch
from captum import attr
from torch import nn

FORMATS = {"plain": torch.contiguous_format, "channels_last": torch.channels_last}
VGG16_CONVOLUTIONS = 2, 2, 3, 3, 3
RESNET50_BLOCKS = 3, 4, 6, 3
BATCH_NORMALIZATION_EPSILON = 1.001e-5  # of keras.applications.resnet
EPSILON = 1e-7
PRESET_EPSILON = 0.1
LOW, HIGH = -1.0, 1.0


def import_zennit():
    """Zennit without torchvision, which it imports for two classes of networks that are not explained here."""
    for name, contents in (
        ("torchvision", {}),
        ("torchvision.models", {}),
        ("torchvision.models.resnet", {"Bottleneck": type("Bottleneck", (), {}), "BasicBlock": type("Basic", (), {})}),
    ):
        module = types.ModuleType(name)
        vars(module).update(contents)
        sys.modules.setdefault(name, module)
    import zennit.attribution
    import zennit.canonizers
    import zennit.composites
    import zennit.layer
    import zennit.rules
    import zennit.types

    return zennit


class Plus(nn.Module):
    """A residual sum in PyTorch's own way."""

    def forward(self, shortcut, x):
        return shortcut + x


class StackedSum(nn.Module):
    """A residual sum as Zennit's canonizer of ResNet writes it, so that a rule can be hooked to it."""

    def __init__(self, stacked):
        super().__init__()
        self.sum = stacked()

    def forward(self, shortcut, x):
        return self.sum(torch.stack([shortcut, x], dim=-1))


def convolution(weights, name, stride=1):
    """A convolution with Keras's weights, padded by half its kernel."""
    kernel = torch.from_numpy(weights[f"{name}/kernel"]).permute(3, 2, 0, 1).contiguous()
    filters, channels, size = kernel.shape[:3]
    layer = nn.Conv2d(channels, filters, size, stride, padding=size // 2)
    layer.weight.data, layer.bias.data = kernel, torch.from_numpy(weights[f"{name}/bias"])
    return layer


def normalization(weights, name):
    """A batch normalization with Keras's weights and moving statistics."""
    layer = nn.BatchNorm2d(len(weights[f"{name}/gamma"]), eps=BATCH_NORMALIZATION_EPSILON)
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    for ours, of_keras in names.items():
        getattr(layer, ours).data = torch.from_numpy(weights[f"{name}/{of_keras}"])
    return layer


def head(weights):
    """Global average pooling and the dense layer of one output."""
    dense = nn.Linear(weights["prediction/kernel"].shape[0], 1)
    dense.weight.data = torch.from_numpy(weights["prediction/kernel"]).T.contiguous()
    dense.bias.data = torch.from_numpy(weights["prediction/bias"])
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense


def vgg16(weights):
    """`keras.applications.VGG16` without its top, averaged into one output."""
    layers = []
    for block, convolutions in enumerate(VGG16_CONVOLUTIONS, start=1):
        for number in range(1, convolutions + 1):
            layers += [convolution(weights, f"block{block}_conv{number}"), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *head(weights))


class Bottleneck(nn.Module):
    """A residual block of `keras.applications.ResNet50`, whose stride is in its first convolution."""

    def __init__(self, weights, name, stride, make_sum):
        super().__init__()

        def normalized(number, stride=1):
            return convolution(weights, f"{name}_{number}_conv", stride), normalization(weights, f"{name}_{number}_bn")

        self.body = nn.Sequential(*normalized(1, stride), nn.ReLU(), *normalized(2), nn.ReLU(), *normalized(3))
        has_convolution = f"{name}_0_conv/kernel" in weights
        self.shortcut = nn.Sequential(*normalized(0, stride)) if has_convolution else nn.Identity()
        self.sum = make_sum()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.sum(self.shortcut(x), self.body(x)))


def resnet50(weights, make_sum):
    """`keras.applications.ResNet50` without its top, averaged into one output."""
    layers = [
        convolution(weights, "conv1_conv", stride=2),
        normalization(weights, "conv1_bn"),
        nn.ReLU(),
        nn.ZeroPad2d(1),  # not the pooling's own, whose maximum of zeros is never a padded one, where DeConvNet differs
        nn.MaxPool2d(3, stride=2),
    ]
    for stage, blocks in enumerate(RESNET50_BLOCKS, start=2):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            layers.append(Bottleneck(weights, f"conv{stage}_block{block}", stride, make_sum))
    return nn.Sequential(*layers, *head(weights))


def network(weights, memory_format, make_sum=Plus):
    """The network whose weights these are, fixed, since nothing here trains."""
    made = vgg16(weights) if "block1_conv1/kernel" in weights else resnet50(weights, make_sum)
    return made.eval().requires_grad_(False).to(memory_format=FORMATS[memory_format])


def composite(analyzer, zennit):
    """What Zennit has in the place of one of hcreg's analyzers.

    Parameters
    ----------
    analyzer : str
    zennit : module

    Returns
    -------
    zennit.core.Composite
        Sums and average pooling by `Norm`, as in all of Zennit's composites; batch normalization is merged.
    """
    rules, composites, kinds = zennit.rules, zennit.composites, zennit.types
    canonizers = [zennit.canonizers.SequentialMergeBatchNorm()]
    base = composites.layer_map_base()
    of_all_layers = {
        "lrp.z": rules.Epsilon(EPSILON),
        "lrp.epsilon": rules.Epsilon(EPSILON),
        "lrp.alpha_2_beta_1": rules.AlphaBeta(2, 1),
        "lrp.alpha_1_beta_0": rules.ZPlus(),
        "deep_taylor": rules.ZPlus(zero_params="bias"),
        "deep_taylor.bounded": rules.ZPlus(zero_params="bias"),
    }
    if analyzer == "lrp.sequential_preset_a":
        return composites.EpsilonPlus(epsilon=PRESET_EPSILON, canonizers=canonizers)
    if analyzer == "lrp.sequential_preset_b":
        return composites.EpsilonAlpha2Beta1(epsilon=PRESET_EPSILON, canonizers=canonizers)
    layer_map = [*base, (kinds.Linear, of_all_layers[analyzer])]
    if analyzer == "deep_taylor.bounded":
        first = [(kinds.Convolution, rules.ZBox(low=LOW, high=HIGH, zero_params="bias"))]
        return composites.SpecialFirstLayerMapComposite(layer_map, first, canonizers=canonizers)
    return composites.LayerMapComposite(layer_map, canonizers=canonizers)


class Explainer:
    """Everything that Captum and Zennit do with one network in one memory format.

    Parameters
    ----------
    weights : mapping of str ("layer/variable") to ndarray
        Of Keras: kernels of shape (height, width, in, out).
    memory_format : {"plain", "channels_last"}
    """

    def __init__(self, weights, memory_format):
        self.weights, self.format = weights, memory_format
        self.model = network(weights, memory_format)
        self.open = ExitStack()
        self.attributor = None, None

    def tensor(self, images):
        """A tensor (batch, channels, height, width) of an array (batch, height, width, channels)."""
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=FORMATS[self.format])

    def predict(self, images):
        """Outputs (batch, 1)."""
        with torch.inference_mode():
            return self.model(self.tensor(images)).numpy()

    def forward_backward(self, images):
        """The gradient by PyTorch alone, one pass forward and one backward."""
        x = self.tensor(images).requires_grad_()
        return torch.autograd.grad(self.model(x).sum(), x)[0]

    def relevance(self, images, analyzer):
        """Zennit's map, its composite registered once and left registered until another is asked for."""
        if self.attributor[0] != analyzer:
            self.open.close()
            zennit = import_zennit()
            model = network(self.weights, self.format, make_sum=lambda: StackedSum(zennit.layer.Sum))
            made = zennit.attribution.Gradient(model, composite(analyzer, zennit))
            self.attributor = analyzer, self.open.enter_context(made)
        return self.attributor[1](self.tensor(images), attr_output=lambda output: output)[1]

    def explain(self, images, analyzer, samples=64, batch=8, noise=0.1):
        """A map (batch, height, width, channels), by Captum where it has the analyzer and otherwise by Zennit.

        Parameters
        ----------
        images : ndarray of shape (batch, height, width, channels)
        analyzer : str
        samples : int
            Of each image, for the two analyzers that average over them.
        batch : int
            Most samples in one pass.
        noise : float
            Standard deviation of SmoothGrad's.
        """
        if analyzer == "smoothgrad":
            found = attr.NoiseTunnel(attr.Saliency(self.model)).attribute(
                self.tensor(images),
                nt_samples=samples,
                nt_samples_batch_size=max(1, batch // len(images)),
                stdevs=noise,
                abs=False,
            )
        elif analyzer == "integrated_gradients":
            found = attr.IntegratedGradients(self.model).attribute(
                self.tensor(images),
                n_steps=samples,
                internal_batch_size=max(len(images), batch),
                method="riemann_middle",
            )
        elif analyzer == "gradient":
            found = attr.Saliency(self.model).attribute(self.tensor(images), abs=False)
        elif analyzer in {"input_t_gradient", "guided_backprop", "deconvnet"}:
            of_captum = {
                "input_t_gradient": attr.InputXGradient,
                "guided_backprop": attr.GuidedBackprop,
                "deconvnet": attr.Deconvolution,
            }[analyzer]
            found = of_captum(self.model).attribute(self.tensor(images).requires_grad_())
        else:
            found = self.relevance(images, analyzer)
        return found.detach().permute(0, 2, 3, 1).numpy()


def main(arguments):
    """Answer requests until there are no more.

    Parameters
    ----------
    arguments : list of str
        Weights of a Keras network by layer and variable; images (batch, height, width, channels); threads.

    Notes
    -----
    The first line out tells the versions. Every request names a ``format``, what to ``do`` and the number of
    ``images``, repeated where more are asked for than there are:

    - "predict": outputs;
    - "pass": one pass forward and backward;
    - "explain": by ``analyzer``, with further arguments of `Explainer.explain` in ``options``.

    The answer is the seconds of each of ``repeats`` calls; with a ``path``, what came of the last is saved there.
    """
    weights_path, images_path, num_threads = arguments
    torch.set_num_threads(int(num_threads))
    torch.manual_seed(0)
    with np.load(weights_path) as stored:
        weights = dict(stored)
    images = np.load(images_path)
    versions = {package: version(package) for package in ("torch", "captum", "zennit")}
    _answer({**versions, "python": sys.version.split()[0], "threads": torch.get_num_threads()})
    explainers = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["format"] not in explainers:
            explainers[request["format"]] = Explainer(weights, request["format"])
        explainer = explainers[request["format"]]
        some = np.resize(images, (request["images"], *images.shape[1:]))
        seconds = []
        for _ in range(request["repeats"]):
            started = time.perf_counter()
            if request["do"] == "predict":
                found = explainer.predict(some)
            elif request["do"] == "pass":
                found = explainer.forward_backward(some).permute(0, 2, 3, 1).numpy()
            else:
                found = explainer.explain(some, request["analyzer"], **request.get("options", {}))
            seconds.append(time.perf_counter() - started)
        if "path" in request:
            np.save(request["path"], found)
        _answer(seconds)


def _answer(found):
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
