"""Splits: a partition, no group in two parts, balanced, and the same on every machine."""

import hashlib
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.datasets import HC18
from hcreg.datasets.splits import (
    grouped_kfold,
    grouped_split,
    named_parts,
    nested_kfold,
    read_split,
    split_checksum,
    write_split,
)


def cohort(group_sizes):
    """Samples of groups g0, g1, ... of these sizes, and a stratum for each sample (by its group's number)."""
    groups = [f"g{number}" for number, size in enumerate(group_sizes) for _ in range(size)]
    return groups, [int(group[1:]) % 3 for group in groups]


# Like HC18: 642, 141, 17, 6 examinations with 1, 2, 3, 4 images, strata of 133, 564, 109 examinations.
HC18_LIKE = [1] * 642 + [2] * 141 + [3] * 17 + [4] * 6
random.Random(0).shuffle(HC18_LIKE)
HC18_GROUPS = [f"{number:03d}" for number, size in enumerate(HC18_LIKE) for _ in range(size)]
HC18_STRATA = [1 if int(group) <= 132 else 2 if int(group) <= 696 else 3 for group in HC18_GROUPS]

group_sizes = st.lists(st.integers(1, 6), min_size=5, max_size=60)
properties = settings(max_examples=60, deadline=None)


@properties
@given(group_sizes, st.integers(2, 5), st.integers(0, 10**6))
def test_kfold_is_a_partition_and_divides_no_group(sizes, k, seed):
    groups, strata = cohort(sizes)
    folds = grouped_kfold(groups, k, strata, seed)
    assert len(folds) == k
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(groups)))
    for train, test in folds:
        assert test.dtype == np.int64
        assert len(test) > 0
        assert sorted([*train, *test]) == list(range(len(groups)))
        assert not {groups[i] for i in train} & {groups[i] for i in test}
        assert list(test) == sorted(test)


@properties
@given(group_sizes, st.integers(2, 5), st.integers(0, 10**6))
def test_kfold_is_balanced_in_every_stratum(sizes, k, seed):
    groups, strata = cohort(sizes)
    folds = grouped_kfold(groups, k, strata, seed)
    for stratum in set(strata):
        counts = [sum(strata[i] == stratum for i in test) for _, test in folds]
        # Filling the emptiest fold keeps two folds within one group of each other.
        assert max(counts) - min(counts) <= max(sizes)
    without = [len(test) for _, test in grouped_kfold(groups, k, None, seed)]
    assert max(without) - min(without) <= max(sizes)


@properties
@given(group_sizes, st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_order_of_the_samples_does_not_matter(sizes, seed, shuffler):
    groups, strata = cohort(sizes)
    order = list(range(len(groups)))
    shuffler.shuffle(order)
    mixed, mixed_strata = [groups[i] for i in order], [strata[i] for i in order]
    for straight, shuffled in zip(grouped_kfold(groups, 3, strata, seed), grouped_kfold(mixed, 3, mixed_strata, seed)):
        assert {groups[i] for i in straight[1]} == {mixed[i] for i in shuffled[1]}
    halves, mixed_halves = (grouped_split(g, (0.5, 0.5), s, seed) for g, s in ((groups, strata), (mixed, mixed_strata)))
    for straight, shuffled in zip(halves, mixed_halves):
        assert {groups[i] for i in straight} == {mixed[i] for i in shuffled}


def test_the_same_seed_gives_the_same_folds_and_another_others():
    def tests(seed):
        return [test.tolist() for _, test in grouped_kfold(HC18_GROUPS, 5, HC18_STRATA, seed)]

    assert tests(3) == tests(3)
    assert tests(3) != tests(4)


def test_single_groups_are_dealt_round_in_the_order_of_their_hashes():
    names = [f"{number:03d}" for number in range(20)]
    order = sorted(names, key=lambda name: hashlib.sha256(f"7:{name}".encode()).hexdigest())
    folds = grouped_kfold(names, 3, seed=7)
    for fold, (_, test) in enumerate(folds):
        assert {names[i] for i in test} == set(order[fold::3])


def test_folds_stay_what_they_were():
    # Written down once: if this fails, every published split has changed.
    groups = ["000", "000", "001", "002", "003", "003", "004", "005", "006", "007"]
    assert [test.tolist() for _, test in grouped_kfold(groups, 3, seed=0)] == [
        [0, 1, 3, 6],
        [2, 4, 5],
        [7, 8, 9],
    ]


def test_hc18_folds_differ_by_one_image_in_all_and_in_each_trimester():
    folds = grouped_kfold(HC18_GROUPS, 5, HC18_STRATA)
    counts = [Counter(HC18_STRATA[i] for i in test) for _, test in folds]
    for spread in ([len(test) for _, test in folds], *([c[s] for c in counts] for s in (1, 2, 3))):
        assert max(spread) - min(spread) <= 1


def test_the_papers_sizes_are_met_exactly_and_in_proportion():
    parts = grouped_split(HC18_GROUPS, strata=HC18_STRATA)
    assert [len(part) for part in parts] == [600, 200, 199]
    of_all = Counter(HC18_STRATA)
    for part in parts:
        counts = Counter(HC18_STRATA[i] for i in part)
        for stratum in (1, 2, 3):
            assert counts[stratum] == pytest.approx(len(part) * of_all[stratum] / 999, abs=2)
    owners = [{HC18_GROUPS[i] for i in part} for part in parts]
    assert not owners[0] & owners[1]
    assert not owners[0] & owners[2]
    assert not owners[1] & owners[2]


@properties
@given(group_sizes, st.integers(0, 10**6), st.data())
def test_split_meets_any_sizes_if_enough_groups_are_single(sizes, seed, data):
    groups, strata = cohort([*sizes, *[1] * 12])
    first = data.draw(st.integers(0, len(groups)))
    second = data.draw(st.integers(0, len(groups) - first))
    wanted = (first, second, len(groups) - first - second)
    parts = grouped_split(groups, wanted, strata, seed)
    assert tuple(map(len, parts)) == wanted
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    owners = [{groups[i] for i in part} for part in parts]
    assert sum(map(len, owners)) == len(set(groups))


def test_groups_change_places_where_a_plain_filling_fails():
    # 3 + 3 = 2 + 2 + 2 is the only way.
    parts = grouped_split(["a"] * 3 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2 + ["e"] * 2, (6, 6))
    assert [len(part) for part in parts] == [6, 6]


def test_fractions_are_kept_as_nearly_as_whole_groups_permit():
    groups, _ = cohort([1] * 10)
    assert [len(p) for p in grouped_split(groups, (0.6, 0.25, 0.15))] == [6, 3, 1]
    assert [len(p) for p in grouped_split(groups, (0.7, 0.3, 0.0))] == [7, 3, 0]
    assert sorted(len(p) for p in grouped_split(["a", "a", "b", "b", "c", "c"], (0.5, 0.5))) == [2, 4]


def test_groups_may_be_numbers_or_an_array():
    numbers = np.array([1, 1, 2, 3, 4])
    texts = ["1", "1", "2", "3", "4"]
    for (_, by_number), (_, by_text) in zip(grouped_kfold(numbers, 2), grouped_kfold(texts, 2)):
        np.testing.assert_array_equal(by_number, by_text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"groups": []}, "nothing to split: `groups` is empty"),
        ({"groups": ["a", "b"], "k": 3}, "k = 3 folds need at least 3 groups, and there are 2"),
        ({"groups": ["a", "a", "a"], "k": 2}, "k = 2 folds need at least 2 groups, and there are 1"),
        ({"groups": ["a", "b"], "k": 1}, r"at least 2\. Received: 1"),
        ({"groups": ["a", "b"], "k": 2.5}, r"whole number of folds.*Received: 2\.5"),
        ({"groups": ["a", "b"], "k": 2, "strata": [1]}, r"must be of one length\. Received: 2 and 1"),
        ({"groups": ["a", "a", "b"], "k": 2, "strata": [1, 2, 1]}, "Group 'a' has two strata, '1' and '2'"),
        (
            {"groups": ["a", None, "b", float("nan"), ""], "k": 2},
            r"Sample\(s\) 1, 3, 4 of `groups` have none",
        ),
    ],
)
def test_kfold_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        grouped_kfold(**arguments)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((3, -1, 2), r"must be zero or more\. Received: -1 in \(3, -1, 2\)"),
        ((0.5, float("nan")), "must be zero or more"),
        ((3, 2), "add up to 5, but there are 4 samples"),
        ((0.5, 0.6), r"Fractions must add up to 1\. Received: \(0\.5, 0\.6\), which add up to 1\.1"),
        ((), "`sizes` is empty"),
        ((1, 3), r"Whole groups do not fill parts of \[1, 3\] samples; the nearest found is \[(2, 2|0, 4)\]"),
    ],
)
def test_split_refuses(sizes, words):
    with pytest.raises(ValueError, match=words):
        grouped_split(["a", "a", "b", "b"], sizes)


# Training, validation and test by name


def patients(num_patients, seed=0):
    """Two phases of each patient: subjects, patients, and a group of disease for each."""
    names = [f"patient{number:03d}" for number in range(num_patients)]
    subjects = [f"{name}_{phase}" for name in names for phase in ("ED", "ES")]
    random.Random(seed).shuffle(subjects)
    owners = [subject[:10] for subject in subjects]
    return subjects, owners, [int(owner[7:]) % 5 for owner in owners]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_patients", [37, 40])
def test_nested_folds_divide_no_patient_and_test_each_subject_once(num_patients, seed):
    subjects, owners, strata = patients(num_patients)
    folds = nested_kfold(subjects, owners, 5, strata, seed)
    assert sorted(subject for fold in folds for subject in fold["test"]) == sorted(subjects)
    for fold in folds:
        assert list(fold) == ["training", "validation", "test"]
        parts = [{subject[:10] for subject in fold[part]} for part in fold]
        assert sorted(subject for part in fold for subject in fold[part]) == sorted(subjects)
        assert sum(len(part) for part in parts) == num_patients
        # as near to 15 % of the rest as pairs come
        rest = len(fold["training"]) + len(fold["validation"])
        assert abs(len(fold["validation"]) - 0.15 * rest) <= 2.5


def test_nested_folds_test_what_plain_folds_do():
    subjects, owners, strata = patients(20)
    plain = grouped_kfold(owners, 5, strata, 3)
    for fold, (_, test) in zip(nested_kfold(subjects, owners, 5, strata, 3), plain, strict=True):
        assert fold["test"] == [subjects[index] for index in test]


def test_a_share_for_validation_may_be_asked_for():
    subjects = [f"s{number}" for number in range(50)]
    for fold in nested_kfold(subjects, subjects, validation_fraction=0.25):
        assert [len(fold[part]) for part in fold] == [30, 10, 10]


def test_parts_are_named_in_their_order():
    named = named_parts(np.array(["a", "b", "c", "d"]), ([3, 0], [1], [2]))
    assert named == {"training": ["d", "a"], "validation": ["b"], "test": ["c"]}
    assert type(named["test"][0]) is str


def test_checksum_knows_parts_and_not_the_order_within():
    one = split_checksum([["001_HC", "002_HC"], ["003_HC"]])
    assert len(one) == 16
    assert int(one, 16) >= 0
    assert one == split_checksum({1: ["003_HC"], 0: ["002_HC", "001_HC"]})
    assert one == split_checksum({"0": ["001_HC", "002_HC"], "1": ["003_HC"]})
    assert one != split_checksum([["003_HC"], ["001_HC", "002_HC"]])
    assert one != split_checksum([["001_HC"], ["002_HC", "003_HC"]])
    assert one != split_checksum([["001_HC", "002_HC"], ["004_HC"]])


def test_checksum_refuses_overlap_and_text():
    with pytest.raises(ValueError, match="Subject '001_HC' is in part '0' and again in part '1'"):
        split_checksum([["001_HC"], ["001_HC"]])
    with pytest.raises(ValueError, match=r"Part 0 must be a list of subject ids\. Received: the text '001_HC'"):
        split_checksum(["001_HC"])


def test_split_file_round_trips(tmp_path):
    path = tmp_path / "splits" / "folds.csv"
    folds = [["003_HC"], ["001_HC", "002_HC"], *[[f"{n}_HC"] for n in range(100, 109)]]
    write_split(path, folds)
    found = read_split(path, [subject for fold in folds for subject in fold])
    assert list(found) == [str(n) for n in range(11)]
    assert found["1"] == ["001_HC", "002_HC"]
    assert split_checksum(found) == split_checksum(folds)
    assert path.read_text().startswith("subject_id,fold\n001_HC,1\n")
    write_split(path, {"train": ["b"], "test": ["a"]})
    assert read_split(path) == {"test": ["a"], "train": ["b"]}


def test_split_file_of_other_data_is_refused(tmp_path):
    path = tmp_path / "folds.csv"
    write_split(path, [["001_HC"], ["002_HC"]])
    with pytest.raises(ValueError, match=r"folds\.csv lacks 1 subject\(s\) of this data set: 003_HC"):
        read_split(path, ["001_HC", "002_HC", "003_HC"])
    with pytest.raises(ValueError, match=r"folds\.csv names 1 subject\(s\) that this data set lacks: 002_HC"):
        read_split(path, ["001_HC"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected the header 'subject_id,fold'"),
        ("subject,fold\n", "Received: 'subject,fold'"),
        ("subject_id,fold\na,0\nb\n", r"line 3: expected a subject id and a fold\. Received: 'b'"),
        ("subject_id,fold\na,0\nb,\n", "line 3: expected a subject id and a fold"),
        ("subject_id,fold\na,0\na,1\n", "line 3: subject a is listed twice"),
    ],
)
def test_broken_split_file_is_refused(tmp_path, content, words):
    path = tmp_path / "folds.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=words):
        read_split(path)


def test_missing_split_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no split file .*nowhere\.csv"):
        read_split(tmp_path / "nowhere.csv")


@pytest.mark.data
def test_real_folds_keep_examinations_and_trimesters(hc18_root):
    data = HC18(hc18_root)
    groups, strata = [r.examination_id for r in data], [r.trimester for r in data]
    folds = grouped_kfold(groups, 5, strata)
    counts = [Counter(strata[i] for i in test) for _, test in folds]
    for trimester in (1, 2, 3):
        assert max(c[trimester] for c in counts) - min(c[trimester] for c in counts) <= 1
    assert all(not {groups[i] for i in train} & {groups[i] for i in test} for train, test in folds)
