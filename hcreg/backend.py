"""The one module that talks to TensorFlow or JAX directly: gradients, compilation, seeds, devices.

Everything else in hcreg uses `keras.ops`. The backend is Keras's own choice (environment variable ``KERAS_BACKEND``
or ``~/.keras/keras.json``); TensorFlow is the default and the fully tested one, JAX passes the same tests of models,
losses and training.
"""

import os
import platform
import resource
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported, or its start-up log is printed

import keras
import numpy as np

SUPPORTED = ("tensorflow", "jax")


def name():
    """Name of the Keras backend in use.

    Returns
    -------
    str
        ``"tensorflow"`` or ``"jax"``.

    Raises
    ------
    RuntimeError
        If Keras runs on a backend hcreg does not support.

    Examples
    --------
    >>> name() in SUPPORTED
    True
    """
    current = keras.backend.backend()
    if current not in SUPPORTED:
        raise RuntimeError(
            f"hcreg runs on the Keras backends {' and '.join(SUPPORTED)}. Received: {current!r}. "
            "Set the environment variable KERAS_BACKEND=tensorflow before the first import of keras."
        )
    return current


if name() == "tensorflow":
    import tensorflow as tf
else:
    import jax


def value_and_vjp(function, x, cotangent=None):
    """Value of a function and the product of a cotangent with its Jacobian.

    Parameters
    ----------
    function : callable
        Maps one tensor to one tensor, in `keras.ops`, backend operations or a `keras.Model` called with
        ``training=False``.
    x : array-like
        Where to differentiate; converted to a tensor of its own dtype, so pass floating-point numbers.
    cotangent : array-like of the shape of ``function(x)``, optional
        Weights of the outputs. Ones by default, which gives the gradient of the sum of the outputs: for a model that
        treats the images of a batch apart, that is each image's own gradient.

    Returns
    -------
    value : tensor
        ``function(x)``.
    product : tensor of the shape of `x`
        ``cotangent @ d function / d x``; zero where the value does not depend on `x`.

    Raises
    ------
    ValueError
        If `x` is not floating-point, or `cotangent` is not of the shape of the value.

    Examples
    --------
    >>> value, product = value_and_vjp(lambda x: x**2, np.array([1.0, 3.0], "float32"))
    >>> np.asarray(product).tolist()
    [2.0, 6.0]
    """
    x = keras.ops.convert_to_tensor(x)
    if not keras.backend.is_float_dtype(x.dtype):
        raise ValueError(f"A gradient needs floating-point input. Received: {x.dtype}. Cast it to float32 first.")
    if name() == "tensorflow":
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        weights = tf.ones_like(value) if cotangent is None else tf.cast(cotangent, value.dtype)
        _check_cotangent(weights, value)
        return value, tape.gradient(value, x, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    value, pull_back = jax.vjp(function, x)
    weights = jax.numpy.ones_like(value) if cotangent is None else jax.numpy.asarray(cotangent, value.dtype)
    _check_cotangent(weights, value)
    return value, pull_back(weights)[0]


def gradient(function, x):
    """Gradient of the sum of a function's outputs.

    Parameters
    ----------
    function, x
        As in `value_and_vjp`.

    Returns
    -------
    tensor of the shape of `x`

    Examples
    --------
    >>> float(np.asarray(gradient(lambda x: 3.0 * x, np.float32(2.0))))
    3.0
    """
    return value_and_vjp(function, x)[1]


def vjp(function, *inputs, variables=(), repeated=False):
    """Value of a function of several tensors, and the function that carries cotangents back to them.

    Parameters
    ----------
    function : callable
        Maps tensors to one tensor.
    *inputs : tensors of floating-point numbers
    variables : sequence of keras.Variable
        What the function may change as it runs, such as the statistics of a normalisation in training, with whatever
        else it reads of a model's. Needed on JAX alone, where a changed value would not leave the derivative.
    repeated : bool
        Whether the second result will be called several times.

    Returns
    -------
    value : tensor
        ``function(*inputs)``
    pull_back : callable
        Maps a tensor of the shape of `value` to a list of tensors of the shapes of `inputs`: the cotangent times the
        Jacobian of each, zero where the value does not depend on it. To be called once, or as often as wanted if
        `repeated`. Can be differentiated itself.

    Examples
    --------
    >>> value, pull_back = vjp(lambda a, b: a * b, keras.ops.array([2.0]), keras.ops.array([3.0]))
    >>> [float(np.asarray(product)[0]) for product in pull_back(keras.ops.ones_like(value))]
    [3.0, 2.0]
    """
    if name() == "tensorflow":
        inputs = [tf.identity(x) for x in inputs]  # apart from each other, were they one tensor
        with tf.GradientTape(persistent=repeated, watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            with _running(tape):
                value = function(*inputs)
        return value, lambda cotangent: tape.gradient(
            value, inputs, cotangent, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
    variables = list(variables)

    def with_changes(*tensors):
        # Inside a training step the variables' values are those of its own scope, which this one hides.
        mapping = [(variable, variable.value) for variable in variables]
        own_scope = keras.StatelessScope(state_mapping=mapping) if mapping else nullcontext()
        with own_scope as scope, _running(tensors[0]._trace):
            value = function(*tensors)
        return value, [scope.get_current_value(variable) for variable in variables]

    value, pull_back, changed = jax.vjp(with_changes, *inputs, has_aux=True)
    for variable, new_value in zip(variables, changed, strict=True):
        if not variable.trainable:
            variable.assign(new_value)
    return value, lambda cotangent: list(pull_back(cotangent))


def held(x):
    """The same numbers, which the derivative of the `vjp` that runs takes for constants, and any other does not.

    Parameters
    ----------
    x : tensor

    Returns
    -------
    tensor
        `x` itself outside the function of a `vjp`.

    Notes
    -----
    A stopped gradient is one for all derivatives. This one is for the inner one of two: a map in a loss is a derivative
    that holds the statistics of its batch, while the loss's own is that of the whole computation.

    Examples
    --------
    >>> value, pull_back = vjp(lambda a: a * held(a), keras.ops.array([3.0]))
    >>> float(value[0]), float(pull_back(keras.ops.ones_like(value))[0][0])
    (9.0, 3.0)
    """
    running = getattr(_derivatives, "running", ())
    if not running:
        return x
    if name() == "tensorflow":
        with running[-1].stop_recording():
            return tf.identity(x)
    # JAX has no public word for it: a number on its way through a derivative carries what it is without it.
    return x.primal if getattr(x, "_trace", None) is running[-1] else x


_derivatives = threading.local()


@contextmanager
def _running(derivative):
    outer = getattr(_derivatives, "running", ())
    _derivatives.running = (*outer, derivative)
    try:
        yield
    finally:
        _derivatives.running = outer


def compile_function(function, jit_compile=None, variables=()):
    """Compile a function of tensors into one graph.

    Parameters
    ----------
    function : callable
        A pure function of tensors.
    jit_compile : bool, optional
        Whether TensorFlow uses XLA. By default only where there is an accelerator (`has_accelerator`), since XLA is
        several times slower than TensorFlow's own kernels for convolutions on a CPU. JAX always uses XLA.
    variables : sequence of keras.Variable
        What the function reads besides its arguments, such as a model's weights.

    Returns
    -------
    callable
        The same function, compiled on first use for each shape of its arguments.

    Notes
    -----
    The function's own ``if`` and ``for`` are Python's: a condition or a length must not depend on a tensor's values.

    A variable that the function reads, such as a model's weight, is read at every call on TensorFlow. On JAX the value
    at the first call is a constant of the compiled graph, unless the variable is named in `variables`.
    """
    if name() == "tensorflow":
        use_xla = has_accelerator() if jit_compile is None else jit_compile
        # Without AutoGraph, as Keras traces its own steps: tracing then takes less than half the time.
        compiled = tf.function(function, jit_compile=use_xla, reduce_retracing=True, autograph=False)
        # TensorFlow counts tracings by line of code, and would warn of many analyzers, each traced once.
        compiled._omit_frequent_tracing_warning = True
        return compiled
    variables = list(variables)
    if not variables:
        return jax.jit(function)

    def with_values(values, *arguments):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    compiled = jax.jit(with_values)
    return lambda *arguments: compiled([variable.value for variable in variables], *arguments)


def fused_batch_normalization(x, gamma, beta, mean, variance, epsilon, training):
    """Normalise images channel by channel in one kernel, which the gradient has too; TensorFlow only.

    Parameters
    ----------
    x : tensor of float32, shape (batch, height, width, channels)
    gamma, beta : tensors of float32, shape (channels,)
        Scale and offset of the normalised maps.
    mean, variance : tensors of float32, shape (channels,)
        To normalise by where `training` is False; unused otherwise.
    epsilon : float, 1.001e-5 or more
        Added to the variance.
    training : bool
        Whether to normalise by the batch's own moments.

    Returns
    -------
    output : tensor of the shape of `x`
        ``(x - mean) / sqrt(variance + epsilon) * gamma + beta``
    mean, variance : tensors of shape (channels,)
        What was normalised by. The batch's variance is the mean squared deviation, divided by the number of pixels n
        and not by n - 1. No gradient flows through them.

    Raises
    ------
    RuntimeError
        On JAX, whose compiler fuses the plain formula by itself.

    Examples
    --------
    >>> x = np.array([1.0, 3.0], "float32").reshape(1, 1, 2, 1)
    >>> one, zero = np.ones(1, "float32"), np.zeros(1, "float32")
    >>> if name() == "tensorflow":
    ...     output, mean, variance = fused_batch_normalization(x, one, zero, zero, one, 1e-3, training=True)
    ...     assert (float(mean[0]), float(variance[0])) == (2.0, 1.0)
    """
    if name() != "tensorflow":
        raise RuntimeError(
            f"The fused kernel is TensorFlow's. Received: the backend {name()!r}. Use keras.ops.batch_normalization."
        )
    if not training:
        if has_accelerator():
            # On a GPU the fused gradient of inference has no deterministic kernel, and fails after `seed_everything`.
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon), mean, variance
        output = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
        ).y
        return output, mean, variance
    fused = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    num_pixels = tf.cast(tf.reduce_prod(tf.shape(x, tf.int64)[:3]), x.dtype)
    # The kernel divides by n - 1. Of a single pixel that may be 0 / 0: its variance is 0.
    batch_variance = tf.math.multiply_no_nan(fused.batch_variance, (num_pixels - 1.0) / num_pixels)
    return fused.y, tf.stop_gradient(fused.batch_mean), tf.stop_gradient(batch_variance)


def required(x, conditions, message):
    """A tensor, if conditions hold that only a running graph knows.

    Parameters
    ----------
    x : tensor
    conditions : sequence of tensors of bool, or of bool
    message : str
        Of the error.

    Returns
    -------
    tensor
        `x`

    Raises
    ------
    ValueError
        Where the conditions are known. A compiled graph of TensorFlow raises its own InvalidArgumentError of the same
        words when it runs, and with XLA none.

    Examples
    --------
    >>> required(3.0, [True], "three")
    3.0
    """
    if all(isinstance(condition, bool) for condition in conditions):
        if not all(conditions):
            raise ValueError(message)
        return x
    with tf.control_dependencies([tf.debugging.Assert(condition, [message]) for condition in conditions]):
        return tf.identity(x)


def seed_everything(seed):
    """Fix every random number and every operation's order of summation that can be fixed.

    Parameters
    ----------
    seed : int
        Seeds Python, NumPy and the backend. On TensorFlow, deterministic kernels are asked for as well.

    Notes
    -----
    Two runs on one machine and one set of versions are then equal to the bit. Other processors and thread counts
    may sum in another order and differ in the last digits. Layers, initializers and NumPy draw anew from the seed;
    `keras.random` functions called without a seed of their own do so too, except on older Keras (3.10), where they
    go on from the numbers drawn before.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"A seed is an integer from 0 to 4294967295. Received: {seed!r}.")
    keras.utils.set_random_seed(int(seed))
    if name() == "tensorflow":
        tf.config.experimental.enable_op_determinism()


def fresh_session(seed):
    """Begin anew: no layers' names of before, every random number from the seed, the precision as it is.

    Parameters
    ----------
    seed : int
        See `seed_everything`.
    """
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()  # forgets the seed and the precision too
    keras.config.set_dtype_policy(policy)
    seed_everything(seed)


def has_accelerator():
    """Whether this process may compute on more than the CPU.

    Returns
    -------
    bool
        Whether `device_report` names accelerators. One that was hidden (``CUDA_VISIBLE_DEVICES``,
        ``tf.config.set_visible_devices``) is none.

    Examples
    --------
    >>> has_accelerator() == bool(device_report()["accelerators"])
    True
    """
    return bool(_accelerators())


def device_report():
    """What this process computes on.

    Returns
    -------
    dict
        Backend and its version, Keras and Python versions, platform, CPU count, accelerators by name.
    """
    return {
        "backend": name(),
        "backend_version": tf.__version__ if name() == "tensorflow" else jax.__version__,
        "keras_version": keras.__version__,
        "python_version": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "accelerators": _accelerators(),
    }


def _accelerators():
    """Names of the devices beside the CPU that this process may use."""
    if name() == "tensorflow":
        return [device.name for device in tf.config.get_visible_devices() if device.device_type != "CPU"]
    return [str(device) for device in jax.devices() if device.platform != "cpu"]


def peak_memory_mb():
    """Largest resident memory of this process so far.

    Returns
    -------
    float, MB
        Main memory only; an accelerator's own memory is not counted.
    """
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux getrusage begins with the peak of the process that started this one
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kilobytes elsewhere
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def _check_cotangent(weights, value):
    # TensorFlow would broadcast in silence, and give another number than JAX, which refuses.
    if tuple(weights.shape) != tuple(value.shape):
        raise ValueError(
            f"A cotangent has the shape of the function's value, {tuple(value.shape)}. "
            f"Received: {tuple(weights.shape)}. Reshape it, or broadcast it yourself."
        )
