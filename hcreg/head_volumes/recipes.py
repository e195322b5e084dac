"""How a network of whole heads is built, fed and trained: a row of a table."""

from dataclasses import asdict, dataclass, field

import keras

from hcreg.augmentation import yang2020_augmentation
from hcreg.head_volumes.batches import HeadBatches
from hcreg.head_volumes.preparation import HeadPreparation
from hcreg.head_volumes.targets import Targets
from hcreg.head_volumes.views import Whole
from hcreg.models import AutoContext
from hcreg.recipe_arguments import described_builder, described_loss

AUGMENTATIONS = {"none": lambda: None, "yang2020": yang2020_augmentation}


@dataclass(frozen=True)
class HeadRecipe:
    """A row: one network, or two as `hcreg.models.AutoContext`.

    Attributes
    ----------
    name : str
        Names the row and its folder.
    build : callable
        A builder of `hcreg.models`: "mask" as output, alone or in a dict with "mask_half" and "mask_quarter".
    loss : keras.losses.Loss, or dict of them by output
        See `hcreg.losses.deep_supervision`.
    build_arguments : dict
        Arguments of `build` beside ``input_shape`` and ``seed``.
    loss_weights : dict of str to float
    preparation : HeadPreparation
    view : Whole, Patches or Slices
    context : bool
        Whether a second network follows, shown what the first found.
    first_of : str, optional
        With `context`: name of the row whose networks are the first level, their runs lying beside this row's. By
        default the first level is trained here.
    learning_rate, beta_1 : float
        Of Adam. The paper: 1e-5 and 0.5.
    schedule : {"constant", "cosine"}
    batch_size : int
    epochs, patience : int
        Of each level.
    augmentation : {"none", "yang2020"}
    keep_largest : bool
        Whether all but the largest connected piece of a prediction is dropped.

    Raises
    ------
    ValueError
        If the augmentation is unknown, or `first_of` is given without `context`.
    """

    name: str
    build: object
    loss: keras.losses.Loss | dict
    build_arguments: dict = field(default_factory=dict)
    loss_weights: dict = field(default_factory=dict)
    preparation: HeadPreparation = field(default_factory=HeadPreparation)
    view: object = field(default_factory=Whole)
    context: bool = False
    first_of: str | None = None
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    schedule: str = "cosine"
    batch_size: int = 1
    epochs: int = 30
    patience: int = 30
    augmentation: str = "yang2020"
    keep_largest: bool = False

    def __post_init__(self):
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"An augmentation is one of {', '.join(AUGMENTATIONS)}. Received: {self.augmentation!r}.")
        if self.first_of is not None and not self.context:
            raise ValueError(
                f"first_of names the first level of an Auto-Context; {self.name} has context=False. "
                f"Received: first_of={self.first_of!r}."
            )

    def arguments(self):
        """What decides the result, as ``run.json`` keeps it: dict of JSON values."""
        own = ("context", "first_of", "learning_rate", "beta_1", "schedule", "batch_size", "epochs", "patience")
        return {
            "row": self.name,
            "kind": type(self).__name__,
            **described_builder(self.build, self.build_arguments),
            "loss": described_loss(self.loss),
            "loss_weights": self.loss_weights,
            "preparation": asdict(self.preparation),
            "view": self.view.described(),
            **{name: getattr(self, name) for name in (*own, "augmentation", "keep_largest")},
        }

    @property
    def shown(self):
        """What the history shows beside the losses; see `hcreg.training.fit`."""
        return dict.fromkeys(("dice_score", "mask_dice_score"), ("dice_score", 1.0))

    def level(self, seed):
        """Build one network, uncompiled; volumes of any size."""
        return self.build(input_shape=(*(None,) * self.view.ndim, 1), seed=seed, **self.build_arguments)

    def network(self, seed=None):
        """Build what predicts, uncompiled: the network, or both levels."""
        return AutoContext(self.level(seed), self.level(seed)) if self.context else self.level(seed)

    def batches(self, cache, indices, model, seed, training=False):
        """Batches of a part; augmented and shuffled for training.

        Parameters
        ----------
        cache : HeadCache
        indices : ndarray of int
        model : keras.Model
            Whose outputs are served.
        seed : int
        training : bool

        Returns
        -------
        HeadBatches
        """
        return HeadBatches(
            cache,
            indices,
            self.view,
            Targets.of(model, self.view.vanishing),
            augmentation=AUGMENTATIONS[self.augmentation]() if training else None,
            batch_size=self.batch_size,
            shuffle=training,
            seed=seed,
        )
