"""The graph of a Keras model as a flat list of nodes: the one place that reads Keras's private node list."""

from dataclasses import dataclass

import keras


@dataclass(frozen=True, eq=False)
class Node:
    """One call of one layer.

    Attributes
    ----------
    name : str
        Of the layer; inside nested models with their names before it, ``"encoder/conv1"``.
    layer : keras.Operation
    inputs, outputs : tuple of int
        Numbers of the tensors it reads and writes.
    keras_node : keras Node
        As Keras recorded the call, with the other arguments of it.
    """

    name: str
    layer: object
    inputs: tuple
    outputs: tuple
    keras_node: object

    def call(self, inputs):
        """Compute the layer as in inference.

        Parameters
        ----------
        inputs : list of tensors
            In the order of `inputs`.

        Returns
        -------
        list of tensors
            In the order of `outputs`.
        """
        values = {id(tensor): value for tensor, value in zip(self.keras_node.input_tensors, inputs, strict=True)}
        arguments, keywords = self.keras_node.arguments.fill_in(values)
        return keras.tree.flatten(self.layer(*arguments, **keywords))


@dataclass(frozen=True, eq=False)
class Graph:
    """All calls of layers between a model's input and one of its outputs, in an order in which they can be computed.

    Attributes
    ----------
    nodes : tuple of Node
    input, output : int
        Numbers of the model's input and of the chosen output.
    shapes : tuple of tuple
        Of every tensor, by its number; the first element, the batch, is None.
    """

    nodes: tuple
    input: int
    output: int
    shapes: tuple


def read_graph(model, output_index=0):
    """Read the graph of a functional or sequential model, nested models taken apart.

    Parameters
    ----------
    model : keras.Model
    output_index : int
        Which of the model's outputs, in the order of `model.outputs`.

    Returns
    -------
    Graph
        Without the layers on which that output does not depend.

    Raises
    ------
    ValueError
        If the model, or one nested in it, was written as a class of its own, or has several inputs.
    """
    tensors = _Tensors()
    if len(model.inputs or ()) != 1:
        raise ValueError(
            f"Models of one input can be taken apart. Received: model {model.name!r} with "
            f"{len(model.inputs or ())} inputs. Build a functional model of the input to be explained."
        )
    start = tensors.new(model.inputs[0].shape)
    nodes = []
    outputs = _read(model, [start], tensors, nodes, prefix="")
    return _needed(nodes, start, outputs[output_index], tuple(tensors.shapes))


def is_graph(model):
    """Whether a model was built from layers called on each other, so that its graph is known.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    bool
    """
    return _functional(model) is not None


class _Tensors:
    """Numbers for tensors."""

    def __init__(self):
        self.shapes = []

    def new(self, shape):
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1


def _functional(model):
    if isinstance(model, keras.Sequential):
        model = getattr(model, "_functional", None)
    is_plain = isinstance(model, keras.Model) and type(model).call is _FUNCTIONAL_CALL
    return model if is_plain else None


# The class of functional models has no public name.
_IMAGE = keras.Input((1,))
_FUNCTIONAL_CALL = type(keras.Model(_IMAGE, keras.layers.Identity()(_IMAGE))).call


def _keras_nodes(functional):
    """Keras's record of the calls, in an order in which they can be computed; private to Keras, hence only here."""
    depths = sorted(functional._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in functional._nodes_by_depth[depth] if not node.is_input]


def _read(model, inputs, tensors, nodes, prefix):
    functional = _functional(model)
    if functional is None:
        raise ValueError(
            f"The layers of model {prefix[:-1] or model.name!r} are not known: it is a class of its own "
            f"({type(model).__name__}), not a functional or sequential model. Rebuild it from layers called on "
            'each other, or use an analyzer that needs no graph: "gradient", "input_t_gradient", "smoothgrad", '
            '"integrated_gradients" or "occlusion".'
        )
    number_of = {id(tensor): number for tensor, number in zip(functional.inputs, inputs, strict=True)}
    for keras_node in _keras_nodes(functional):
        read = tuple(number_of[id(tensor)] for tensor in keras_node.input_tensors)
        layer = keras_node.operation
        name = prefix + layer.name
        if isinstance(layer, keras.Model):
            written = _read(layer, read, tensors, nodes, prefix=f"{name}/")
        else:
            written = tuple(tensors.new(tensor.shape) for tensor in keras_node.outputs)
            nodes.append(Node(name, layer, read, written, keras_node))
        number_of.update({id(tensor): number for tensor, number in zip(keras_node.outputs, written, strict=True)})
    return tuple(number_of[id(tensor)] for tensor in functional.outputs)


def _needed(nodes, start, end, shapes):
    wanted, kept = {end}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return Graph(tuple(reversed(kept)), start, end, shapes)
