"""How a layer with weights distributes the relevance of its output over its inputs: one rule a class.

With z = Wx + b and R the relevance of z, a rule gives every input its share. `Linear` parts offer what rules need:
``apply(inputs, weights)``, the weighted sum without a bias, whose pull-back carries numbers from outputs to inputs.

To add a rule, write a class with ``propagate(call, relevance)``.
"""

from dataclasses import dataclass

from keras import ops

from hcreg import backend


@dataclass(frozen=True)
class Stabiliser:
    """Division of relevance by a sum that may be zero.

    Attributes
    ----------
    amount : float
        What replaces an exact zero.
    """

    amount: float = 1e-7

    def divide(self, relevance, total):
        """``relevance / total``, or over `amount` where the total is exactly 0.

        Parameters
        ----------
        relevance, total : tensors of one shape

        Returns
        -------
        tensor
        """
        return relevance / ops.where(total == 0, ops.convert_to_tensor(self.amount, dtype=total.dtype), total)


STABILISER = Stabiliser()


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a layer with weights, as its rule sees it.

    Attributes
    ----------
    part : Linear
    inputs : list of tensors
        Less the offsets of normalisations in front.
    output : tensor
        z, with the bias, without the activation.
    bias : tensor or None
        Of the layer, the offsets times the weights included.
    nonnegative : bool
        Whether all inputs are known to be zero or more.
    bounds : tuple of (list of tensors, list of tensors) or None
        Lowest and highest possible inputs, of layers at the model's input where they are asked for.
    """

    part: object
    inputs: list
    output: object
    bias: object
    nonnegative: bool
    bounds: tuple | None = None

    def weights(self, change=None):
        """Weights of the layer, each changed by a function where one is given."""
        found = self.part.weights()
        return found if change is None else [change(weights) for weights in found]

    def sum(self, inputs, weights):
        """Weighted sum of inputs, without a bias, and its pull-back: a function from outputs to a list of inputs."""
        return backend.vjp(lambda *tensors: self.part.apply(list(tensors), weights), *inputs)


def positive(x):
    """Positive part of a tensor."""
    return ops.maximum(x, ops.cast(0, x.dtype))


def negative(x):
    """Negative part of a tensor."""
    return ops.minimum(x, ops.cast(0, x.dtype))


@dataclass(frozen=True)
class Z:
    """Each input gets what it contributed to z: R_i = x_i sum_j w_ij R_j / z_j.

    Attributes
    ----------
    bias : bool
        Whether the bias is part of z and takes its share away.
    """

    bias: bool = True

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        total, pull_back = call.sum(call.inputs, call.weights())
        total = call.output if self.bias else total
        products = pull_back(STABILISER.divide(relevance, total))
        return [x * product for x, product in zip(call.inputs, products, strict=True)]


@dataclass(frozen=True)
class Epsilon:
    """As Z, with z moved away from zero: z + epsilon sign(z), sign(0) = 1.

    Attributes
    ----------
    epsilon : float, above 0
    bias : bool
    """

    epsilon: float = 1e-7
    bias: bool = True

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        total, pull_back = call.sum(call.inputs, call.weights())
        total = call.output if self.bias else total
        epsilon = ops.convert_to_tensor(self.epsilon, dtype=total.dtype)
        products = pull_back(relevance / (total + ops.where(total >= 0, epsilon, -epsilon)))
        return [x * product for x, product in zip(call.inputs, products, strict=True)]


@dataclass(frozen=True)
class AlphaBeta:
    """Positive contributions get alpha R, negative ones -beta R, each among themselves.

    Attributes
    ----------
    alpha, beta : float
        alpha - beta = 1, beta >= 0.
    bias : bool
        Whether positive biases count among the positive contributions and negative ones among the negative.
    whole_bias : bool
        Whether the whole bias counts among both, as in iNNvestigate, which adds the positive and the negative part of
        the bias to each of the two sums.
    """

    alpha: float
    beta: float
    bias: bool = True
    whole_bias: bool = False

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        upper, lower = call.weights(positive), call.weights(negative)
        helping = self._part(call, relevance, upper, lower, positive)
        found = [self.alpha * share for share in helping]
        if self.beta:
            hindering = self._part(call, relevance, lower, upper, negative)
            found = [a - self.beta * share for a, share in zip(found, hindering, strict=True)]
        return found

    def _part(self, call, relevance, weights, opposite, sign):
        """Shares among contributions of one sign: inputs above zero times `weights`, below times `opposite`."""
        above = call.inputs if call.nonnegative else [positive(x) for x in call.inputs]
        total, pull_back = call.sum(above, weights)
        if not call.nonnegative:
            below = [negative(x) for x in call.inputs]
            total_below, pull_back_below = call.sum(below, opposite)
            total = total + total_below
        if self.bias and call.bias is not None:
            total = total + (call.bias if self.whole_bias else sign(call.bias))
        ratio = STABILISER.divide(relevance, total)
        shares = [x * product for x, product in zip(above, pull_back(ratio), strict=True)]
        if call.nonnegative:
            return shares
        lower_shares = [x * product for x, product in zip(below, pull_back_below(ratio), strict=True)]
        return [a + b for a, b in zip(shares, lower_shares, strict=True)]


def z_plus():
    """The z+ rule: alpha 1, beta 0, without a bias, so that no relevance is lost while anything helps.

    Returns
    -------
    AlphaBeta
    """
    return AlphaBeta(1.0, 0.0, bias=False)


@dataclass(frozen=True)
class WSquare:
    """Shares in proportion to squared weights, whatever the inputs."""

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        return _by_weights(call, relevance, call.weights(lambda weights: weights * weights))


@dataclass(frozen=True)
class Flat:
    """Equal shares for all inputs of an output."""

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        return _by_weights(call, relevance, call.weights(ops.ones_like))


@dataclass(frozen=True)
class Bounded:
    """The z^B rule for inputs between two bounds: shares of Wx - W+ low - W- high, without the bias."""

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        lowest, highest = call.bounds
        terms = (
            (call.inputs, call.weights(), 1.0),
            (lowest, call.weights(positive), -1.0),
            (highest, call.weights(negative), -1.0),
        )
        sums = [call.sum(inputs, weights) for inputs, weights, _ in terms]
        total = sums[0][0] - sums[1][0] - sums[2][0]
        ratio = STABILISER.divide(relevance, total)
        found = [ops.zeros_like(x) for x in call.inputs]
        for (inputs, _, factor), (_, pull_back) in zip(terms, sums, strict=True):
            shares = zip(found, inputs, pull_back(ratio), strict=True)
            found = [so_far + factor * x * product for so_far, x, product in shares]
        return found


@dataclass(frozen=True)
class AlphaBetaOfPositiveInputs:
    """Alpha and beta shares among inputs above zero only; what iNNvestigate's presets do with batch normalisation.

    Attributes
    ----------
    alpha, beta : float
        Of the shares among positive and negative weights.
    """

    alpha: float = 2.0
    beta: float = 1.0

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        above = [positive(x) for x in call.inputs]
        found = [ops.zeros_like(x) for x in above]
        for factor, sign in ((self.alpha, positive), (-self.beta, negative)):
            total, pull_back = call.sum(above, call.weights(sign))
            if call.bias is not None:
                total = total + sign(call.bias)
            products = pull_back(STABILISER.divide(relevance, total))
            found = [a + factor * x * product for a, x, product in zip(found, above, products, strict=True)]
        return found


@dataclass(frozen=True)
class Unchanged:
    """Relevance as it is: for layers of one weight per number, none of which can share with another."""

    def propagate(self, call, relevance):
        """Relevance of the inputs, a list of tensors, from that of the output."""
        return [relevance for _ in call.inputs]


@dataclass(frozen=True)
class Derivative:
    """The ordinary gradient, in the place of a rule."""

    def propagate(self, call, relevance):
        """Gradient of the inputs, a list of tensors, from that of the output."""
        return call.sum(call.inputs, call.weights())[1](relevance)


def _by_weights(call, relevance, weights):
    total, pull_back = call.sum([ops.ones_like(x) for x in call.inputs], weights)
    return pull_back(STABILISER.divide(relevance, total))
