"""What can be wrong with ACDC's files beyond their being there: each phase, and the two of a patient."""

import numpy as np

from hcreg.datasets.acdc_info import FILE
from hcreg.datasets.problems import Problem, tried
from hcreg.preprocessing import cardiac, nifti


def check_record(record, problems):
    """Read one phase and add what is wrong with it to the problems.

    Parameters
    ----------
    record : ACDCRecord
    problems : list of Problem
        Is added to.

    Returns
    -------
    hcreg.preprocessing.nifti.Volume or None
        Its label map; None where there is none that can be used.
    """
    image = tried(record.image_path, "image", record.image, problems)
    if image is not None and image.array.min() == image.array.max():
        message = f"every voxel has the value {image.array.min():g}, which cannot be standardised. Replace the image."
        problems.append(Problem(record.image_path, message, "constant image"))
    path = record.label_map_path
    if path is None:
        return None
    label_map = tried(path, "label map", record.label_map, problems)
    if label_map is None:
        return None
    if image is not None:
        tried(path, "image and label map", lambda: nifti.check_alike(image, label_map), problems)
    counts = cardiac.voxel_counts(label_map.array)
    absent = [name for name, count in counts.items() if count == 0]
    if len(absent) == len(counts):
        message = "has no foreground: every voxel is 0, background. Expected a heart. Download it again."
        problems.append(Problem(path, message, "no foreground"))
        return None
    if absent:
        message = f"has no voxel of {' and none of '.join(absent)}. Expected {', '.join(counts)}."
        problems.append(Problem(path, f"{message} Is it another data set's, or of one structure only?", "structure"))
    return label_map


def check_phases(at_ed, at_es, problems):
    """Compare the two label maps of one patient.

    Parameters
    ----------
    at_ed, at_es : hcreg.preprocessing.nifti.Volume
    problems : list of Problem
        Is added to.
    """
    if not np.allclose(at_ed.spacing_mm, at_es.spacing_mm, rtol=nifti.SPACING_TOLERANCE, atol=0):
        message = f"has a spacing of {at_es.spacing_words} at ES and {at_ed.spacing_words} at ED. Expected one."
        problems.append(Problem(at_es.path, message, "spacing of phases"))
    ed_ml, es_ml = (cardiac.volumes_ml(volume.array, volume.spacing_mm)["LV"] for volume in (at_ed, at_es))
    if es_ml > ed_ml:
        message = (
            f"its LV cavity holds {es_ml:.1f} ml at ES, more than the {ed_ml:.1f} ml at ED. Expected less: ED and ES "
            f"of {FILE} may be exchanged."
        )
        problems.append(Problem(at_es.path, message, "LV larger at ES"))
