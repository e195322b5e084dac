"""Where the subjects of a split lie in what was read of a data set."""

import numpy as np


def positions(records, subject_ids):
    """Positions of subjects among records.

    Parameters
    ----------
    records : sequence of records with ``subject_id``
    subject_ids : sequence of str

    Returns
    -------
    ndarray of int of shape (len(subject_ids),)

    Raises
    ------
    ValueError
        If a subject is not there.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> positions([SimpleNamespace(subject_id="a"), SimpleNamespace(subject_id="b")], ["b", "a", "b"]).tolist()
    [1, 0, 1]
    """
    position = {record.subject_id: index for index, record in enumerate(records)}
    missing = [subject_id for subject_id in subject_ids if subject_id not in position]
    if missing:
        raise ValueError(f"{len(missing)} subject(s) are not in the cache, the first: {missing[:5]}.")
    return np.array([position[subject_id] for subject_id in subject_ids], int)
