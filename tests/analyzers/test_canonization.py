"""A map is the same whether normalisation has a layer of its own or was folded, by hand, into a neighbour's weights."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg.analyzers import create_analyzer
from hcreg.analyzers.canonization import canonize, keep
from hcreg.analyzers.parts import Affine, read_parts

ANALYZERS = {
    "gradient": {},
    "input_t_gradient": {},
    "guided_backprop": {},
    "deconvnet": {},
    "lrp.z": {},
    "lrp.epsilon": {"epsilon": 1e-2},
    "lrp.alpha_2_beta_1": {},
    "lrp.z_plus": {},
    "lrp.flat": {},
    "lrp.w_square": {},
    "lrp.sequential_preset_a_flat": {},
    "deep_taylor.bounded": {"low": -5.0, "high": 5.0, "lowest_output": -1000.0},
}


def of_bn(weights, epsilon=1e-3):
    """Factor and offset of a normalisation, from its definition."""
    gamma, beta, mean, variance = weights
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, beta - mean * factor


class Folder:
    """Builds a network with normalisations, or the same network with their numbers in the neighbours' weights."""

    def __init__(self, gamma="both"):
        self.generator, self.gamma = np.random.default_rng(5), gamma

    def numbers(self, *shape, scale=0.5):
        return self.generator.normal(0, scale, shape).astype("float32")

    def bn(self, channels):
        signs = self.generator.choice([-1, 1], channels) if self.gamma == "both" else 1
        gamma = self.generator.uniform(0.5, 1.5, channels) * signs
        return [gamma, self.numbers(channels), self.numbers(channels), self.generator.uniform(0.5, 1.5, channels)]


def model_of(shape, *chain):
    """A sequential model of layers, or of pairs of a layer and its weights."""
    pairs = [link if isinstance(link, tuple) else (link, None) for link in chain]
    model = keras.Sequential([keras.Input(shape), *(layer for layer, _ in pairs)])
    for layer, weights in pairs:
        if weights is not None:
            layer.set_weights(weights)
    return model


def backwards(make, kernel, filters, fold, shape=(6, 6, 2), head=72):
    """Kernel -> BN -> ReLU -> dense, and the kernel times the factor -> ReLU -> dense."""
    folder = Folder()
    bn = folder.bn(filters)
    kernels, bias = [folder.numbers(*size) for size in kernel], folder.numbers(filters)
    factor, offset = of_bn(bn)
    end = [(layers.Dense(1), [folder.numbers(head, 1, scale=0.3), folder.numbers(1)])]
    chain = [layers.ReLU(), layers.Flatten()]
    left = model_of(shape, (make(), [*kernels, bias]), (layers.BatchNormalization(), bn), *chain, *end)
    folded = [*kernels[:-1], fold(kernels[-1], factor)]
    end = [(layers.Dense(1), end[0][1])]
    right = model_of(shape, (make(), [*folded, bias * factor + offset]), layers.ReLU(), layers.Flatten(), *end)
    return left, right


def channels_last(kernel, factor):
    return kernel * factor


BACKWARDS = {
    "conv": lambda: backwards(lambda: layers.Conv2D(2, 3, padding="same"), [(3, 3, 2, 2)], 2, channels_last),
    "conv, strides": lambda: backwards(
        lambda: layers.Conv2D(3, 2, strides=2), [(2, 2, 2, 3)], 3, channels_last, head=27
    ),
    "transposed": lambda: backwards(
        lambda: layers.Conv2DTranspose(3, 2, padding="same"), [(2, 2, 3, 2)], 3, lambda k, f: k * f[:, None], head=108
    ),
    "depthwise": lambda: backwards(
        lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        [(3, 3, 2, 2)],
        4,
        lambda k, f: k * f.reshape(2, 2),
        head=144,
    ),
    "separable": lambda: backwards(
        lambda: layers.SeparableConv2D(3, 3, padding="same"), [(3, 3, 2, 1), (1, 1, 2, 3)], 3, channels_last, head=108
    ),
    "1D": lambda: backwards(lambda: layers.Conv1D(3, 3), [(3, 2, 3)], 3, channels_last, (6, 2), 12),
    "3D": lambda: backwards(lambda: layers.Conv3D(2, 2), [(2, 2, 2, 1, 2)], 2, channels_last, (3, 3, 3, 1), 16),
    "dense": lambda: backwards(lambda: layers.Dense(4), [(5, 4)], 4, channels_last, (5,), 4),
}


def forwards(between, consumer, kernel, spread, gamma="both", shape=(6, 6, 2)):
    """Conv -> ReLU -> BN -> something -> kernel, and the same without BN and with the kernel that takes it up."""
    folder = Folder(gamma)
    bn = folder.bn(4)
    factor, offset = of_bn(bn)
    first = [folder.numbers(3, 3, shape[-1], 4), folder.numbers(4)]
    second = [folder.numbers(*kernel), folder.numbers(kernel[-1])]
    inputs = kernel[-2] // 4
    scale, shift = (spread(np.tile(v, inputs)) for v in (factor, offset))
    weights = second[0] * scale[:, None]
    bias = second[1] + (shift[:, None] * second[0]).reshape(-1, kernel[-1]).sum(0)

    def build(bn, second):
        middle = [] if bn is None else [(layers.BatchNormalization(), bn)]
        end = [layers.ReLU(), layers.Flatten(), (layers.Dense(1), last)]
        return model_of(
            shape, (layers.Conv2D(4, 3, activation="relu"), first), *middle, *between(), (consumer(), second), *end
        )

    probe = keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3), *between(), consumer(), layers.Flatten()])
    last = [folder.numbers(probe.output_shape[-1], 1), folder.numbers(1)]
    return build(bn, second), build(None, [weights, bias])


def same(v):
    return v


FORWARDS = {
    "conv": lambda: forwards(lambda: [], lambda: layers.Conv2D(3, 2), (2, 2, 4, 3), same),
    "dropout": lambda: forwards(lambda: [layers.Dropout(0.5)], lambda: layers.Conv2D(3, 2), (2, 2, 4, 3), same),
    "flatten": lambda: forwards(lambda: [layers.Flatten()], lambda: layers.Dense(3), (64, 3), same),
    "global mean": lambda: forwards(lambda: [layers.GlobalAveragePooling2D()], lambda: layers.Dense(3), (4, 3), same),
    "mean": lambda: forwards(lambda: [layers.AveragePooling2D(2)], lambda: layers.Conv2D(3, 2), (2, 2, 4, 3), same),
    "mean and flatten": lambda: forwards(
        lambda: [layers.AveragePooling2D(2), layers.Flatten()], lambda: layers.Dense(3), (16, 3), same
    ),
    "upsampling": lambda: forwards(lambda: [layers.UpSampling2D(2)], lambda: layers.Conv2D(3, 2), (2, 2, 4, 3), same),
    "cropping": lambda: forwards(lambda: [layers.Cropping2D(1)], lambda: layers.Conv2D(3, 2), (2, 2, 4, 3), same),
    "max pooling": lambda: forwards(
        lambda: [layers.MaxPooling2D(2), layers.Flatten()], lambda: layers.Dense(3), (16, 3), same, gamma="positive"
    ),
}


def input_scaling():
    """A scaling layer at the input, and a first convolution that does the scaling."""
    folder = Folder()
    mean, variance = np.array([0.3, -0.4]), np.array([2.0, 0.5])
    kernel, bias = folder.numbers(3, 3, 2, 3), folder.numbers(3)
    end = [folder.numbers(48, 1), folder.numbers(1)]
    scaled = kernel / np.sqrt(variance)[:, None]
    for layer, factor, offset in (
        (layers.Normalization(mean=mean, variance=variance), 1 / np.sqrt(variance), -mean / np.sqrt(variance)),
        (layers.Rescaling([2.0, -0.5], offset=[0.1, 1.0]), np.array([2.0, -0.5]), np.array([0.1, 1.0])),
    ):
        chain = lambda: [layers.ReLU(), layers.Flatten()]  # noqa: E731
        scaled = kernel * factor[:, None]
        shifted = bias + (kernel * offset[:, None]).sum((0, 1, 2))
        yield (
            model_of((6, 6, 2), layer, (layers.Conv2D(3, 3), [kernel, bias]), *chain(), (layers.Dense(1), end)),
            model_of((6, 6, 2), (layers.Conv2D(3, 3), [scaled, shifted]), *chain(), (layers.Dense(1), end)),
        )


def joined():
    """One branch with a normalisation, one without, a concatenation and a convolution; and the same folded."""
    folder = Folder()
    bn = folder.bn(2)
    factor, offset = of_bn(bn)
    weights = [[folder.numbers(3, 3, 2, 2), folder.numbers(2)] for _ in range(2)]
    kernel, bias = folder.numbers(2, 2, 4, 3), folder.numbers(3)
    end = [folder.numbers(27, 1), folder.numbers(1)]
    models = []
    for norm, head in (
        (bn, [kernel, bias]),
        (
            None,
            [kernel * np.append(factor, [1, 1])[:, None], bias + (kernel[:, :, :2] * offset[:, None]).sum((0, 1, 2))],
        ),
    ):
        inputs = keras.Input((6, 6, 2))
        branches = [layers.Conv2D(2, 3, activation="relu") for _ in weights]
        a, b = (branch(inputs) for branch in branches)
        last, dense = layers.Conv2D(3, 2, activation="relu"), layers.Dense(1)
        normalise = layers.BatchNormalization()
        x = layers.Concatenate()([a if norm is None else normalise(a), b])
        model = keras.Model(inputs, dense(layers.Flatten()(last(x))))
        for layer, values in zip([*branches, last, dense], [*weights, head, end], strict=True):
            layer.set_weights(values)
        if norm is not None:
            normalise.set_weights(norm)
        models.append(model)
    return tuple(models)


def check_folding(pair, names=ANALYZERS):
    left, right = pair
    shape = left.inputs[0].shape[1:]
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    np.testing.assert_allclose(left(x), right(x), rtol=1e-4, atol=1e-5)
    for name in names:
        maps = [create_analyzer(name, model, **ANALYZERS[name]).analyze(x) for model in (left, right)]
        assert np.abs(maps[1]).max() > 0, name
        np.testing.assert_allclose(*maps, atol=2e-4 * np.abs(maps[1]).max(), err_msg=name)


@pytest.mark.parametrize("pair", BACKWARDS)
def test_folded_into_the_weights_in_front(pair, eager):
    check_folding(BACKWARDS[pair]())


@pytest.mark.parametrize("pair", FORWARDS)
def test_folded_into_the_weights_behind(pair, eager):
    # squared weights forget their inputs, and with them the factor in front
    check_folding(FORWARDS[pair](), [name for name in ANALYZERS if name != "lrp.w_square"])


def test_scaling_at_the_input(eager):
    for pair in input_scaling():
        gradients = ("gradient", "guided_backprop", "deconvnet", "input_t_gradient")
        relevances = ("lrp.z", "lrp.epsilon", "lrp.alpha_2_beta_1", "lrp.z_plus", "lrp.flat", "deep_taylor.bounded")
        check_folding(pair, [*gradients, *relevances])


def test_one_normalised_branch_of_two(eager):
    check_folding(joined(), [name for name in ANALYZERS if name != "lrp.w_square"])


def test_the_offset_is_missing_in_a_padding(eager):
    # relu(x) = x > 0; BN 2 x + 3; padding 0; kernel 1 1 1: ends see a 0 that has no offset in it
    model = keras.Sequential(
        [
            keras.Input((2, 1)),
            layers.ReLU(),
            layers.BatchNormalization(epsilon=0.0),
            layers.Conv1D(1, 3, padding="same"),
            layers.GlobalMaxPooling1D(),
        ]
    )
    model.set_weights([np.array([value]) for value in (2.0, 3.0, 0.0, 1.0)] + [np.ones((3, 1, 1)), np.array([-6.0])])
    x = np.array([[[1.0], [4.0]]], "float32")
    # both outputs are 2 (1 + 4) + 3 + 3 - 6 = 10, all of it from the inputs; the first maximum takes it
    assert np.asarray(model(x)).tolist() == [[10.0]]
    for name in ("lrp.z", "lrp.z_plus", "lrp.alpha_1_beta_0"):
        np.testing.assert_allclose(create_analyzer(name, model).analyze(x).ravel(), [2.0, 8.0], rtol=1e-5, err_msg=name)


def names(parts):
    return [part.name for part in parts.parts]


def network(*chain, shape=(8, 8, 2)):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(shape)
    for link in chain:
        x = link(x)
    return keras.Model(inputs, x)


def bn(name="bn", **kwargs):
    return layers.BatchNormalization(name=name, **kwargs)


def conv(name="conv", filters=2, **kwargs):
    return layers.Conv2D(filters, 3, padding="same", name=name, **kwargs)


def test_what_is_folded_where():
    model = network(
        bn("bn0"), conv("conv1"), bn("bn1"), layers.ReLU(name="relu"), bn("bn2"), layers.Flatten(), layers.Dense(1)
    )
    found = canonize(read_parts(model))
    assert names(found.parts)[:3] == ["bn0", "conv1 + bn1", "relu"]
    assert {part.name for part in found.passed} == {"bn0", "bn2"}


def test_two_normalisations_in_a_row():
    found = canonize(
        read_parts(network(conv(), bn("bn1"), bn("bn2"), layers.ReLU(), layers.Flatten(), layers.Dense(1)))
    )
    assert names(found.parts)[0] == "conv + bn1 + bn2"
    found = canonize(read_parts(network(layers.Flatten(), layers.Dense(3, name="d"), bn("bn1"), bn("bn2"))))
    assert names(found.parts)[1:] == ["d + bn1 + bn2"]
    found = canonize(read_parts(network(layers.ReLU(), bn("bn1"), bn("bn2"), conv())))
    assert {part.name for part in found.passed} == {"bn1", "bn2"}


@pytest.mark.parametrize(
    "chain",
    [
        [layers.ReLU(), bn(), layers.ReLU(), conv()],  # a ReLU moves with the offset
        [layers.ReLU(), bn(), layers.ZeroPadding2D(1), layers.MaxPooling2D(2), conv()],  # a padding has none
        [layers.ReLU(), bn(), layers.Reshape((128, 1)), layers.MaxPooling1D(2), layers.Conv1D(2, 2)],  # channels mix
        [layers.ReLU(), layers.Normalization(axis=(1, 2, 3), name="bn"), layers.MaxPooling2D(2), conv()],
        [layers.ReLU(), bn(axis=1), layers.MaxPooling2D(2), conv()],
        [layers.ReLU(), bn(), layers.LayerNormalization(), conv()],
        [conv(), layers.ReLU(), bn()],  # nothing behind
        [conv(), bn(axis=1), layers.ReLU()],  # another axis than the kernel's
    ],
)
def test_what_cannot_be_folded_stays_a_layer_of_its_own(chain):
    found = canonize(read_parts(network(*chain)))
    assert "bn" in names(found.parts)
    assert not found.passed
    assert not found.shifted


def test_a_tensor_that_is_read_twice_is_not_folded_backwards():
    inputs = keras.Input((8, 8, 2))
    x = conv()(inputs)
    found = canonize(read_parts(keras.Model(inputs, layers.Add()([x, layers.ReLU()(bn()(x))]))))
    assert names(found.parts)[:2] == ["conv", "bn"]
    inputs = keras.Input((8, 8, 2))
    x = bn()(layers.ReLU()(inputs))  # one way leads to weights, the other does not
    found = canonize(read_parts(keras.Model(inputs, layers.Add()([x, conv()(x)]))))
    assert not found.passed


def test_maps_are_right_where_nothing_can_be_folded(networks, eager):
    for chain in (
        [
            conv(filters=4),
            layers.ReLU(),
            bn(),
            layers.Reshape((64, 4, 1)),
            layers.MaxPooling2D((1, 2)),
            layers.Flatten(),
        ],
        [conv(), layers.ReLU(), bn(), layers.ZeroPadding2D(1), layers.MaxPooling2D(2), layers.Flatten()],
        [conv(), layers.ReLU(), bn(axis=1), layers.MaxPooling2D(2), layers.Flatten()],
        [conv(), layers.Normalization(axis=(1, 2, 3)), layers.ReLU(), layers.Flatten()],
    ):
        model = networks.randomised(network(*chain, layers.Dense(3, activation="relu"), layers.Dense(1)))
        x = networks.images(model)
        expected = create_analyzer("input_t_gradient", model).analyze(x)
        found = create_analyzer("lrp.z", model).analyze(x)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_what_is_folded_computes_the_same(networks):
    for name in ("resnet", "densenet", "cnn_263k"):
        model = networks.build(name)
        parts, x = read_parts(model), networks.images(model)
        for canonized in (canonize(parts), keep(parts)):
            values = {canonized.parts.input: x}
            for part in canonized.parts.parts:
                outputs = part.forward([values[number] for number in part.inputs])
                values.update(zip(part.outputs, outputs, strict=True))
            np.testing.assert_allclose(values[parts.output], model(x), rtol=1e-3, atol=1e-5)


def test_offsets_and_factors_are_those_of_a_black_image(networks):
    # behind a ReLU that is shut everywhere only the offsets are left
    model = networks.randomised(
        network(layers.ReLU(), bn(), layers.ZeroPadding2D(1), layers.AveragePooling2D(2), conv())
    )
    canonized = canonize(read_parts(model))
    x, values = np.full((1, 8, 8, 2), -1.0, "float32"), {}
    values[canonized.parts.input] = x
    for part in canonized.parts.parts:
        values[part.outputs[0]] = part.forward([values[part.inputs[0]]])[0]
    offsets, factors = canonized.offsets(values), canonized.factors(values)
    assert set(offsets) == set(factors) == canonized.shifted
    assert len(offsets) == 3  # of the normalisation, the padding and the means
    factor, _ = of_bn([np.asarray(weights) for weights in model.get_layer("bn").get_weights()])
    for number, offset in offsets.items():
        np.testing.assert_allclose(np.broadcast_to(offset, values[number].shape), values[number], atol=1e-6)
        inner = np.asarray(factors[number])[0, 2:-2, 2:-2]
        np.testing.assert_allclose(inner, np.broadcast_to(factor, inner.shape), rtol=1e-5)


def test_canonizing_changes_nothing_that_it_is_given():
    model = network(conv(), bn(), layers.ReLU(), bn("bn2"), layers.Flatten(), layers.Dense(1))
    parts = read_parts(model)
    before, weights = list(parts.parts), model.get_weights()
    canonized = canonize(parts)
    assert parts.parts == before
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert sum(isinstance(part, Affine) for part in canonized.parts.parts) == 1
    kept = keep(parts)
    assert kept.parts is parts
    assert not kept.shifted
    assert not kept.passed
