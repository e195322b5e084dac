"""What the network that `final_model` writes says of itself."""

from experiments.direct_regression.train import MAIN_PIECE
from hcreg import evaluation
from hcreg.tables import views
from hcreg.tables.comparing import aligned

COLUMNS = {
    "mae_mm": "MAE",
    "mae_sd_mm": "SD",
    "median_ae_mm": "median",
    "bias_mm": "bias",
    "p95_ae_mm": "95 %",
    "pmae_percent": "PMAE",
}
CARD = """hc18_direct: head circumference from an ultrasound image
=======================================================

**Not a medical device.** For research; nobody's treatment may rest on it.

- **What it is**: {num_members} networks ``hcreg.models.direct_hc`` side by side, {num_parameters:,} parameters
  together, kernels in half precision. Their mean logits give a mask, and the moments of the mask give the
  circumference, in one pass.
- **What it takes**: one grey image with a fetal head in the standard plane for head circumference, and the size of its
  pixels. Everything from there is ``hcreg measure IMAGE --pixel-size-mm X``.
- **Data**: {num_images} images of {num_examinations} examinations of the training set of HC18 (van den Heuvel et al.
  2018, CC BY 4.0), of one hospital. Each network was trained on four fifths of them, whole examinations, less 15 %,
  which chose its epoch; seed {seed}. Made by ``python -m experiments.direct_regression.final_model write``.
- **Errors**, of each image by the one network that had not seen it nor its examination (mm; PMAE in percent)::

{table}
- **Intervals** are split-conformal, from these same errors: 90 % of images like these lie inside. The mean of all
  networks is what measures a new image; it should miss by a little less than the table says, and was not measured on
  images that none of them has seen.
- **Limits**: heads in other planes, of other scanners, with more of the skull outside the picture than in HC18, and
  anything that is not a head are measured as confidently as the rest. The annotation itself is uncertain, see
  ``experiments/direct_regression/README.rst``. Heads below 60 mm and above 330 mm have few examples.
"""


def card(rows, num_parameters, num_members, seed):
    """What the network says of itself.

    Parameters
    ----------
    rows : list of dict
        Of ``predictions.csv``, all folds.
    num_parameters, num_members, seed : int

    Returns
    -------
    str
    """
    parts = {"all": rows, **views.by_trimester(MAIN_PIECE, rows)}
    lines = [["", "images", *COLUMNS.values()]]
    for name, part in parts.items():
        found = evaluation.summarise(part)
        label = name.removeprefix(f"{MAIN_PIECE.name}, ")
        lines.append([label, str(found["num_subjects"]), *(f"{found[column]:.2f}" for column in COLUMNS)])
    return CARD.format(
        num_members=num_members,
        num_parameters=num_parameters,
        num_images=len(rows),
        num_examinations=len({row["examination_id"] for row in rows}),
        seed=seed,
        table="\n".join(f"    {line}".rstrip() for line in aligned(lines).split("\n")) + "\n",
    )
