"""What a network is to say of a batch of labels: the class of each voxel, at the scale of each of its outputs."""

from dataclasses import dataclass

import numpy as np

from hcreg.preprocessing.label_pyramids import OUTPUTS, pyramid_targets


@dataclass(frozen=True)
class Targets:
    """Labels as a network's outputs have them.

    Attributes
    ----------
    outputs : tuple of str or None
        Names of the outputs, of "mask", "mask_half" and "mask_quarter"; None for one output without a name.
    vanishing : {"refuse", "accept"}
        Of a head that a smaller scale loses; see `hcreg.preprocessing.label_pyramids.label_pyramid`.

    Raises
    ------
    ValueError
        If an output is unknown.

    Examples
    --------
    >>> labels = np.zeros((1, 4, 4), np.uint8)
    >>> labels[0, :3, :2] = 1
    >>> found = Targets(("mask", "mask_half"))(labels)
    >>> found["mask"].shape, found["mask_half"][0, ..., 1].tolist()
    ((1, 4, 4, 2), [[1.0, 0.0], [1.0, 0.0]])
    """

    outputs: tuple | None
    vanishing: str = "refuse"

    def __post_init__(self):
        unknown = [name for name in self.outputs or () if name not in OUTPUTS]
        if unknown:
            raise ValueError(f"A network of heads has outputs of {', '.join(OUTPUTS)}. Received: {', '.join(unknown)}.")

    @classmethod
    def of(cls, model, vanishing):
        """Those of a network's outputs: Targets."""
        return cls(tuple(model.output) if isinstance(model.output, dict) else None, vanishing)

    def __call__(self, labels):
        """Targets of a batch.

        Parameters
        ----------
        labels : ndarray of int of shape (batch, ...), 0 or 1

        Returns
        -------
        dict of ndarray, or ndarray, of shape (batch, ..., 2), float32
            The background first.

        Raises
        ------
        ValueError
            As `hcreg.preprocessing.label_pyramids.pyramid_targets`.
        """
        names = self.outputs or ("mask",)
        num_levels = 1 + max(map(OUTPUTS.index, names))
        found = [pyramid_targets(one, num_levels=num_levels, vanishing=self.vanishing) for one in labels]
        targets = {name: np.stack([one[name] for one in found]) for name in names}
        return targets if self.outputs else targets["mask"]
