"""Table 9: the six patients of ACDC that the paper calls abnormal, and whether they are, by their own headers.

python -m experiments.zhang2021.table9 report --data ACDC
python -m experiments.zhang2021.table9 report --data ACDC --save experiments/zhang2021/results/volumes

Nothing is trained: the voxels of the label maps at end-diastole are counted, and their volumes, by each label map's own
header, stand beside the figures that the paper prints. The whole cohort's then say whether the six stand out.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from hcreg.datasets.acdc import ABNORMAL_PATIENTS, ACDC
from hcreg.files import write_rows
from hcreg.preprocessing.cardiac import volumes_ml, voxel_counts
from hcreg.statistics import tukey_fences

NAME = "table9.csv"


@dataclass(frozen=True)
class Row:
    """One row of Table 9, as the paper prints it: the whole heart at end-diastole."""

    patient_id: str
    paper_voxels: int
    paper_volume_ml: float


ROWS = (
    Row("patient019", 32269, 673.8),
    Row("patient078", 25813, 482.4),
    Row("patient079", 18667, 348.8),
    Row("patient080", 9173, 283.5),
    Row("patient093", 23491, 401.7),
    Row("patient099", 27180, 433.5),
)


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.zhang2021.table9", description=__doc__.split("\n")[0])
    report = parser.add_subparsers(dest="command", required=True).add_parser("report", help="count, and compare")
    report.add_argument("--data", type=Path, required=True, metavar="DIR", help="the ACDC folder as downloaded")
    report.add_argument("--save", type=Path, metavar="DIR", help=f"write {NAME} there too")
    options = parser.parse_args(arguments)
    try:
        rows, cohort = table(ACDC(options.data))
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            write_rows(options.save / NAME, rows)
    except (ValueError, OSError) as error:
        print(f"table9: {error}", file=sys.stderr)
        return 1
    print(_as_text(rows, cohort))
    return 0


@dataclass(frozen=True)
class Cohort:
    """Total volumes at end-diastole of all patients.

    Attributes
    ----------
    volumes_ml : dict of str to float, ml
        By patient.
    fences_ml : (float, float), ml
        Tukey's, at 1.5 interquartile ranges from the quartiles.
    """

    volumes_ml: dict
    fences_ml: tuple

    @property
    def outside(self):
        """Patients beyond the fences, the smallest volume first."""
        low, high = self.fences_ml
        beyond = [name for name, volume in self.volumes_ml.items() if not low <= volume <= high]
        return sorted(beyond, key=self.volumes_ml.get)


def table(data):
    """Count the voxels of every patient at end-diastole.

    Parameters
    ----------
    data : ACDC

    Returns
    -------
    rows : list of dict
        One for each of the six patients: voxels and volume, the paper's, the differences, the share of the cohort that
        is smaller, and whether the volume is beyond the cohort's fences.
    cohort : Cohort

    Raises
    ------
    ValueError
        If the data lack one of the six; as the label maps' own errors.
    """
    missing = [row.patient_id for row in ROWS if row.patient_id not in data.patients]
    if missing:
        raise ValueError(f"{data.root} lacks {', '.join(missing)} of the table. Take the whole training set of ACDC.")
    label_maps = {record.patient_id: record.label_map() for record in data if record.phase == "ED"}
    totals_ml = {name: sum(volumes_ml(v.array, v.spacing_mm).values()) for name, v in label_maps.items()}
    cohort = Cohort(totals_ml, tukey_fences(list(totals_ml.values())))
    rows = []
    for row in ROWS:
        voxels, volume_ml = sum(voxel_counts(label_maps[row.patient_id].array).values()), totals_ml[row.patient_id]
        smaller = sum(other < volume_ml for other in totals_ml.values())
        rows.append(
            {
                "patient_id": row.patient_id,
                "voxels": voxels,
                "paper_voxels": row.paper_voxels,
                "difference_voxels": voxels - row.paper_voxels,
                "volume_ml": round(volume_ml, 3),
                "paper_volume_ml": row.paper_volume_ml,
                "difference_ml": round(volume_ml - row.paper_volume_ml, 3),
                "cohort_patients": len(totals_ml),
                "smaller_percent": 100 * smaller / (len(totals_ml) - 1),
                "fence_low_ml": round(cohort.fences_ml[0], 3),
                "fence_high_ml": round(cohort.fences_ml[1], 3),
                "beyond_fences": int(row.patient_id in cohort.outside),
            }
        )
    return rows, cohort


def _as_text(rows, cohort):
    lines = [
        f"{'patient':12}{'voxels':>8}{'paper':>8}{'diff':>6}{'ml':>9}{'paper':>8}{'diff':>7}{'smaller':>9}"
        "  beyond fences"
    ]
    lines += [
        f"{row['patient_id']:12}{row['voxels']:8d}{row['paper_voxels']:8d}{row['difference_voxels']:+6d}"
        f"{row['volume_ml']:9.1f}{row['paper_volume_ml']:8.1f}{row['difference_ml']:+7.1f}"
        f"{row['smaller_percent']:7.0f} %  {'yes' if row['beyond_fences'] else 'no'}"
        for row in rows
    ]
    low, high = cohort.fences_ml
    others = [name for name in cohort.outside if name not in ABNORMAL_PATIENTS]
    num_beyond = len(cohort.outside) - len(others)
    lines.append(
        f"\nTotal volume at ED of all {len(cohort.volumes_ml)} patients, by their own headers: Tukey's fences are "
        f"{low:.1f} and {high:.1f} ml."
    )
    lines.append(f"Beyond them: {num_beyond} of the six, and of the others {', '.join(others) or 'none'}.")
    if num_beyond == 0:
        lines.append("By their own headers none of the six is abnormal: there is no reason here to leave them out.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
