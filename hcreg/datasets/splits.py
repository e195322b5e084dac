"""Splits that keep every group (an examination, a patient) in one part.

Two images of one examination show the same head. If one is trained on and the other tested on, the test
measures memory: in the papers' random draws, 40 to 51 of 200 test images had a sibling in training. Here
a group is never divided, each part gets its share of every stratum (a trimester), and the same seed gives
the same split everywhere.
"""

import csv
import hashlib
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np

PARTS = ("training", "validation", "test")


def grouped_kfold(groups, k=5, strata=None, seed=0):
    """Divide samples into k folds of nearly one size, no group in two folds.

    Parameters
    ----------
    groups : sequence of length num_samples
        What each sample belongs to, for example the examination id. Compared by its text.
    k : int
        Number of folds, at least 2.
    strata : sequence of length num_samples, optional
        A class of each sample, for example the trimester, to spread evenly; one group has one stratum.
    seed : int
        The same seed gives the same folds.

    Returns
    -------
    list of k tuples (train_indices, test_indices)
        Two sorted int64 arrays each. The k test parts are disjoint and hold every sample once.

    Raises
    ------
    ValueError
        If `groups` is empty, its length is not that of `strata`, `k` is below 2 or above the number of
        groups, or one group has two strata.

    Notes
    -----
    zhang2021biometrics draws five independent random test sets of 200 images, which overlap and leak
    examinations. This is a true partition.

    Groups are taken largest first, in a pseudo-random order among equals, and each goes to the fold that
    has least of its stratum, then least of all. The order comes from SHA-256 of the seed and the group's
    name, not from a random generator, so a fold depends on no library's version, nor on the order of the
    samples. On HC18 its balance equals that of scikit-learn's StratifiedGroupKFold, which rests on
    NumPy's generator: over 30 seeds the five folds differ by at most one image, in all and in each
    trimester, with either.

    Examples
    --------
    >>> folds = grouped_kfold(["a", "a", "b", "c", "d", "e"], k=2)
    >>> [len(test) for _, test in folds]
    [3, 3]
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 2:
        raise ValueError(f"k must be a whole number of folds, at least 2. Received: {k!r}.")
    sizes, stratum_of = _table_of_groups(groups, strata)
    if k > len(sizes):
        raise ValueError(
            f"k = {k} folds need at least {k} groups, and there are {len(sizes)}: a group cannot be divided. "
            f"Use k = {len(sizes)} or less, or more data."
        )
    total = sum(sizes.values())
    part_of = _assign(sizes, stratum_of, [Fraction(total, int(k))] * int(k), seed)
    parts = np.array([part_of[str(group)] for group in groups])
    everything = np.arange(len(parts), dtype=np.int64)
    return [(everything[parts != fold], everything[parts == fold]) for fold in range(k)]


def grouped_split(groups, sizes=(600, 200, 199), strata=None, seed=0):
    """Divide samples once, for example into training, validation and test, no group in two parts.

    Parameters
    ----------
    groups, strata, seed
        As in `grouped_kfold`.
    sizes : sequence of int or of float
        Whole numbers of samples that add up to all of them, kept exactly; or fractions that add up to 1,
        kept as nearly as the groups permit. A part of size 0 is empty.

    Returns
    -------
    tuple of ndarray, one for each size, int64
        Sorted indices. Together they hold every sample once.

    Raises
    ------
    ValueError
        If a size is negative or not finite, whole numbers do not add up to the number of samples or
        fractions to 1, whole groups were not found to fill whole-number sizes exactly, or as
        `grouped_kfold` raises.

    Notes
    -----
    As `grouped_kfold`, with a limit to each part. Where the last groups do not fit exactly, groups move
    or change places between parts until the sizes are right, or else the error says how near it came. The
    default is the papers' 600 / 200 / 199 split of HC18's 999 images, grouped.

    Examples
    --------
    >>> train, test = grouped_split(["a", "a", "b", "c"], sizes=(3, 1))
    >>> len(train), len(test)
    (3, 1)
    """
    group_sizes, stratum_of = _table_of_groups(groups, strata)
    targets, exact = _targets(sizes, len(groups))
    part_of = _assign(group_sizes, stratum_of, targets, seed, limited=True)
    _repair(part_of, group_sizes, stratum_of, targets, seed)
    found = _filled(part_of, group_sizes, len(targets))
    if exact and found != targets:
        raise ValueError(
            f"Whole groups do not fill parts of {targets} samples; the nearest found is {found}. "
            "Ask for those sizes, or give fractions such as (0.6, 0.2, 0.2), kept as nearly as can be."
        )
    parts = np.array([part_of[str(group)] for group in groups])
    return tuple(np.flatnonzero(parts == part).astype(np.int64) for part in range(len(targets)))


def nested_kfold(subjects, groups, k=5, strata=None, seed=0, validation_fraction=0.15):
    """k splits into training, validation and test by name, no group in two parts.

    Parameters
    ----------
    subjects : sequence of str of length num_samples
    groups, k, strata, seed
        As for `grouped_kfold`.
    validation_fraction : float
        Share of the samples outside the test fold on which weights are chosen and intervals calibrated; met as nearly
        as whole groups permit.

    Returns
    -------
    list of k dict
        Subject ids under "training", "validation" and "test"; the test parts are a partition of the samples.

    Raises
    ------
    ValueError
        As `grouped_kfold`.
    """
    subjects, groups = np.asarray(subjects), np.asarray(groups)
    strata = np.full(len(groups), "") if strata is None else np.asarray(strata)
    folds = []
    for rest, test in grouped_kfold(groups, k=k, strata=strata, seed=seed):
        # a whole number of samples, given as a fraction: whole groups need not fill it exactly
        held_out = round(validation_fraction * len(rest)) / len(rest)
        inner = grouped_split(groups[rest], sizes=(1 - held_out, held_out), strata=strata[rest], seed=seed)
        folds.append(named_parts(subjects, (rest[inner[0]], rest[inner[1]], test)))
    return folds


def named_parts(subjects, parts):
    """Subject ids of the parts training, validation and test, given their positions.

    Parameters
    ----------
    subjects : ndarray of str
    parts : sequence of three arrays of int

    Returns
    -------
    dict of str to list of str
    """
    return {name: [str(s) for s in subjects[part]] for name, part in zip(PARTS, parts, strict=True)}


def split_checksum(subject_ids_by_part):
    """Give a short fingerprint of a split, by which a run folder can tell that it came from another one.

    Parameters
    ----------
    subject_ids_by_part : mapping of part name to subject ids, or sequence of sequences of subject ids
        A sequence counts as parts named 0, 1, 2, ... The order of subjects within a part does not matter.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.

    Raises
    ------
    ValueError
        If a subject is in two parts, or twice in one.

    Examples
    --------
    >>> split_checksum([["001"], ["002", "003"]]) == split_checksum([["001"], ["003", "002"]])
    True
    """
    part_of = _part_of_subject(subject_ids_by_part)
    content = json.dumps(sorted(part_of.items()), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(content.encode("ascii")).hexdigest()[:16]


def write_split(path, subject_ids_by_part):
    """Write a split as a CSV of two columns, ``subject_id,fold``, sorted by subject.

    Parameters
    ----------
    path : str or path-like
        Its folder is made where missing.
    subject_ids_by_part
        As in `split_checksum`.

    Raises
    ------
    ValueError
        If a subject is in two parts, or twice in one.
    """
    part_of = _part_of_subject(subject_ids_by_part)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["subject_id", "fold"])
        writer.writerows(sorted(part_of.items()))


def read_split(path, subject_ids=None):
    """Read a split that `write_split` wrote, and hold it against the subjects at hand.

    Parameters
    ----------
    path : str or path-like
    subject_ids : sequence of str, optional
        Every subject of the data set. With these, the file must name each once and no other.

    Returns
    -------
    dict of str to list of str
        Sorted subject ids by part name; parts in the order of their numbers or names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the header is another, a row lacks a value, a subject comes twice, is not among `subject_ids`,
        or one of these is missing. The file, and its lines or the subjects, are named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no split file {path}. Write one with hcreg.datasets.splits.write_split.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    if not rows or [cell.strip() for cell in rows[0]] != ["subject_id", "fold"]:
        raise ValueError(
            f"{path}: expected the header 'subject_id,fold'. Received: {','.join(rows[0]) if rows else ''!r}."
        )
    part_of = {}
    for line, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise ValueError(f"{path}, line {line}: expected a subject id and a fold. Received: {','.join(row)!r}.")
        if cells[0] in part_of:
            raise ValueError(f"{path}, line {line}: subject {cells[0]} is listed twice. Keep one of its lines.")
        part_of[cells[0]] = cells[1]
    if subject_ids is not None:
        expected = set(subject_ids)
        for names, what in (
            (part_of.keys() - expected, "names {n} subject(s) that this data set lacks: {names}"),
            (expected - part_of.keys(), "lacks {n} subject(s) of this data set: {names}"),
        ):
            if names:
                message = what.format(n=len(names), names=_some(sorted(names)))
                raise ValueError(f"{path} {message}. It was made for other data: use its data, or make a new split.")
    order = sorted(
        set(part_of.values()), key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)
    )
    return {part: sorted(subject for subject in part_of if part_of[subject] == part) for part in order}


def _table_of_groups(groups, strata):
    """Number of samples of each group by name, and each group's stratum."""
    names = [str(group) for group in groups]
    if not names:
        raise ValueError("There is nothing to split: `groups` is empty.")
    blank = [index for index, group in enumerate(groups) if group is None or group != group or not str(group).strip()]
    if blank:
        raise ValueError(f"Every sample needs a group. Sample(s) {_some(blank)} of `groups` have none.")
    if strata is None:
        labels = [""] * len(names)
    else:
        labels = [str(stratum) for stratum in strata]
        if len(labels) != len(names):
            raise ValueError(f"`groups` and `strata` must be of one length. Received: {len(names)} and {len(labels)}.")
    stratum_of = {}
    for name, label in zip(names, labels):
        if stratum_of.setdefault(name, label) != label:
            raise ValueError(
                f"Group {name!r} has two strata, {stratum_of[name]!r} and {label!r}; a group stays "
                "in one part, so it needs one. Give all of its samples the same."
            )
    return Counter(names), stratum_of


def _targets(sizes, num_samples):
    """Whole sizes of the parts, and whether they must be met exactly."""
    sizes = list(sizes)
    if not sizes:
        raise ValueError("`sizes` is empty: give the size of each part, such as (0.8, 0.2).")
    wrong = [size for size in sizes if not np.isfinite(size) or size < 0]
    if wrong:
        raise ValueError(f"Sizes must be zero or more. Received: {wrong[0]} in {tuple(sizes)}.")
    if all(isinstance(size, (int, np.integer)) for size in sizes):
        if sum(sizes) != num_samples:
            raise ValueError(
                f"Sizes {tuple(sizes)} add up to {sum(sizes)}, but there are {num_samples} samples. "
                "Give sizes that add up to that, or fractions such as (0.6, 0.2, 0.2)."
            )
        return [int(size) for size in sizes], True
    if abs(sum(sizes) - 1) > 1e-6:
        raise ValueError(f"Fractions must add up to 1. Received: {tuple(sizes)}, which add up to {sum(sizes):g}.")
    # Largest remainder: whole sizes that add up to all, none more than one sample from its fraction.
    quotas = [Fraction(size).limit_denominator(10**6) * num_samples for size in sizes]
    whole = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(sizes)), key=lambda part: (whole[part] - quotas[part], part))
    for part in by_remainder[: num_samples - sum(whole)]:
        whole[part] += 1
    return whole, False


def _assign(sizes, stratum_of, targets, seed, limited=False):
    """Give each group a part: large ones first, then each where its stratum is least filled, then all in all.

    Comparing what a part would hold *after* taking the group, over its target, in exact fractions, is
    what makes parts of unequal size fill at one pace, and the result the same on every machine.
    """
    parts = [part for part, target in enumerate(targets) if target > 0]
    held, held_of_stratum, part_of = Counter(), Counter(), {}
    for group in _shuffled_largest_first(sizes, seed):
        size, stratum = sizes[group], stratum_of[group]
        open_parts = [part for part in parts if held[part] + size <= targets[part]] if limited else parts
        part_of[group] = part = min(
            open_parts or parts,
            key=lambda part: (
                Fraction(held_of_stratum[part, stratum] + size) / targets[part],
                Fraction(held[part] + size) / targets[part],
                part,
            ),
        )
        held[part] += size
        held_of_stratum[part, stratum] += size
    return part_of


def _repair(part_of, sizes, stratum_of, targets, seed):
    """Move a group, or let two change places, as long as that brings the sizes nearer to the targets."""
    order = _shuffled_largest_first(sizes, seed)
    while True:
        surplus = [held - target for held, target in zip(_filled(part_of, sizes, len(targets)), targets)]
        best = None
        for giver in (part for part in range(len(targets)) if surplus[part] > 0):
            # One group for each size and stratum will do: others like it change nothing.
            giving = {(sizes[group], stratum_of[group]): group for group in order if part_of[group] == giver}
            for taker in (part for part in range(len(targets)) if surplus[part] < 0):
                back = {(sizes[group], stratum_of[group]): group for group in order if part_of[group] == taker}
                for (size, stratum), group in giving.items():
                    for (size_back, stratum_back), other in [((0, stratum), None), *back.items()]:
                        moved = size - size_back
                        gain = abs(surplus[giver]) + abs(surplus[taker])
                        gain -= abs(surplus[giver] - moved) + abs(surplus[taker] + moved)
                        candidate = (gain, stratum == stratum_back, -size, group, other or "", giver, taker)
                        if gain > 0 and (best is None or candidate > best):
                            best = candidate
        if best is None:
            return
        _, _, _, group, other, giver, taker = best
        part_of[group] = taker
        if other:
            part_of[other] = giver


def _shuffled_largest_first(sizes, seed):
    def key(group):
        return -sizes[group], hashlib.sha256(f"{int(seed)}:{group}".encode()).hexdigest()

    return sorted(sizes, key=key)


def _filled(part_of, sizes, num_parts):
    held = Counter()
    for group, part in part_of.items():
        held[part] += sizes[group]
    return [held[part] for part in range(num_parts)]


def _part_of_subject(subject_ids_by_part):
    parts = subject_ids_by_part
    items = parts.items() if hasattr(parts, "items") else enumerate(parts)
    part_of = {}
    for part, subjects in items:
        if isinstance(subjects, str):
            raise ValueError(f"Part {part!r} must be a list of subject ids. Received: the text {subjects!r}.")
        for subject in map(str, subjects):
            if subject in part_of:
                raise ValueError(
                    f"Subject {subject!r} is in part {part_of[subject]!r} and again in part {str(part)!r}; "
                    "the parts of a split must not overlap."
                )
            part_of[subject] = str(part)
    return part_of


def _some(names, limit=5):
    shown = ", ".join(map(str, names[:limit]))
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
