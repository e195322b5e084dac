"""ACDC: short-axis cardiac MRI at end-diastole and end-systole with its three structures, read as downloaded."""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from hcreg.datasets.acdc_check import check_phases, check_record
from hcreg.datasets.acdc_folder import (
    FOLDERS,
    frame_name,
    frame_path,
    frames_there,
    is_there,
    no_folder,
    other_folders,
    patient_folders,
    split_folder,
)
from hcreg.datasets.acdc_info import FILE, read_info
from hcreg.datasets.folder_dataset import FolderDataset
from hcreg.preprocessing import cardiac, nifti

# Table 9 of zhang2021biometrics.
ABNORMAL_PATIENTS = ("patient019", "patient078", "patient079", "patient080", "patient093", "patient099")


@dataclass(frozen=True)
class ACDCRecord:
    """One patient's heart at one phase; voxels are read when asked for.

    Attributes
    ----------
    subject_id : str
        Such as ``patient001_ED``.
    patient_id : str
        Such as ``patient001``. Both phases show one heart: never divide them between training and test.
    phase : {"ED", "ES"}
        End-diastole, when the heart is fullest, or end-systole.
    frame : int
        Number of the frame in the cine, from 1 on.
    group : {"NOR", "MINF", "DCM", "HCM", "RV"} or None
        Normal, infarction, dilated or hypertrophic cardiomyopathy, abnormal right ventricle; None where the test
        set does not tell it.
    height_cm : float or None, cm
    weight_kg : float or None, kg
    image_path : pathlib.Path
    label_map_path : pathlib.Path or None
        None where the test set has none.
    """

    subject_id: str
    patient_id: str
    phase: str
    frame: int
    group: str | None
    height_cm: float | None
    weight_kg: float | None
    image_path: Path
    label_map_path: Path | None

    @property
    def spacing_mm(self):
        """Spacing (row, column, slice) in mm, of the label map's own header; of the image's where there is none."""
        return nifti.read_spacing_mm(self.label_map_path or self.image_path)

    def image(self):
        """Read the intensities: a `Volume` of (height, width, slices) float32. Raises as `read_volume`."""
        return nifti.read_volume(self.image_path)

    def label_map(self):
        """Read the labels.

        Returns
        -------
        hcreg.preprocessing.nifti.Volume
            Of (height, width, slices) uint8: 0 background, 1 RV cavity, 2 myocardium, 3 LV cavity.

        Raises
        ------
        FileNotFoundError, ValueError
            As `read_label_map`, and if this record has no label map.
        """
        if self.label_map_path is None:
            raise ValueError(
                f"{self.image_path} has no label map {frame_name(self.patient_id, self.frame, True)} beside it. Those "
                "of the test set are in the newest download only."
            )
        return nifti.read_label_map(self.label_map_path)

    def voxel_counts(self):
        """Count the voxels of each structure, read from the label map: dict by `STRUCTURES`; raises as `label_map`."""
        return cardiac.voxel_counts(self.label_map().array)

    def volumes_ml(self):
        """Volume of each structure in ml, by the label map and its header: dict by `STRUCTURES`; raises likewise."""
        volume = self.label_map()
        return cardiac.volumes_ml(volume.array, volume.spacing_mm)


class ACDC(FolderDataset):
    """The ACDC data set, from its folder as downloaded.

    Parameters
    ----------
    root : str or path-like
        Folder that holds ``training`` and ``testing``, or ``database`` with them in it. One folder around all, and
        the ``training`` folder itself are understood too.
    split : {"train", "test"}
        The training set is patients 001 to 100, the test set 101 to 150, with label maps in newer downloads only.
    strict : bool
        Whether to raise at once when something is wrong. False leaves out the faulty phases or patients and keeps
        the reasons, which `check` returns: for looking at a broken folder, not for training on it.
    exclude_abnormal : bool
        Whether to leave out the six patients of Table 9 [2]_, `ABNORMAL_PATIENTS`.

    Attributes
    ----------
    subjects : list of str
        Subject ids in the order of the records: patient by patient, ED before ES.
    patients : list of str
        Patient ids, each once. For a split, group by each record's own: ``[record.patient_id for record in data]``.
    groups : dict of str to (str or None)
        Patient id to group.

    Raises
    ------
    FileNotFoundError
        If the folder, an Info.cfg, a frame or, in the training set, a label map is missing.
    ValueError
        If an Info.cfg lacks a key or says something impossible, or a folder's name is not ACDC's. The file is named.

    See Also
    --------
    ACDC.check_folder : everything that is wrong with a folder, at once.

    Notes
    -----
    :Licence: CC BY-NC-SA 4.0, for research; cite bernard2018acdc.
    :Version: of humanheart-project.creatis.insa-lyon.fr, as "ACDC" (2017; label maps of the test set since 2022).
    :Size: 100 training patients, 20 of each group, and 50 test patients, 10 of each; of each two phases of 6 to 18
        slices, 154 x 224 to 428 x 512 voxels each.
    :Orientation: turned to anterior at the top and the patient's right at the left, see `read_volume`; slices run
        from base to apex; the affine is nominal. The first and last slices may lie beyond the heart.
    :Units: 0.70 to 1.92 mm in the slice, 5 to 10 mm from slice to slice; intensities are of each scanner's own unit.

    ED is not always frame 1: Info.cfg says which. The cine, ``patientNNN_4d.nii.gz``, is not read.

    Volumes are those of the label maps' own headers. The six patients of Table 9 have faultless label maps; their
    headers contradict a list of spacings that the paper does not publish.

    Constructing lists the folder and reads each Info.cfg; volumes are read when a record is asked for them.

    References
    ----------
    .. [1] bernard2018acdc
    .. [2] zhang2021biometrics, section 5 and Table 9.
    """

    FOLDERS = FOLDERS
    MISSING = frozenset({"no folder", "no patients", "no Info.cfg", "no frame", "no label map"})
    _is_there = staticmethod(is_there)

    def __init__(self, root, split="train", strict=True, exclude_abnormal=False):
        self.exclude_abnormal = exclude_abnormal
        super().__init__(root, split, strict)

    def __repr__(self):
        return f"ACDC({str(self.root)!r}, split={self.split!r}): {len(self.patients)} patients, {len(self)} volumes"

    @property
    def patients(self):
        """Patient ids, each once."""
        return list(dict.fromkeys(record.patient_id for record in self._records))

    @property
    def groups(self):
        """Group of each patient."""
        return {record.patient_id: record.group for record in self._records}

    def ejection_fraction_percent(self, patient_id, structure="LV"):
        """Share of the end-diastolic volume that the heart ejects, by the label maps.

        Parameters
        ----------
        patient_id : str
        structure : {"LV", "RV"}

        Returns
        -------
        float, percent

        Raises
        ------
        ValueError
            If there is no such patient or cavity, the patient lacks a phase, or the cavity is empty at ED.
        """
        if structure not in ("LV", "RV"):
            raise ValueError(f"structure must be a cavity, 'LV' or 'RV'. Received: {structure!r}.")
        records = {record.phase: record for record in self._records if record.patient_id == patient_id}
        if not records:
            raise ValueError(f"there is no {patient_id!r} in {self!r}; patients are named as {self.patients[:1]}.")
        if len(records) < len(cardiac.PHASES):
            raise ValueError(f"{patient_id} has only {', '.join(records)}; an ejection fraction needs ED and ES.")
        filled_ml, emptied_ml = (records[phase].volumes_ml()[structure] for phase in cardiac.PHASES)
        if filled_ml == 0:
            raise ValueError(f"{records['ED'].label_map_path} has no voxel of {structure}: nothing could be ejected.")
        return cardiac.ejection_fraction_percent(filled_ml, emptied_ml)

    def check(self, on_progress=None):
        """Read every image and label map and list all that is wrong.

        Parameters
        ----------
        on_progress : callable(num_done, num_volumes), optional
            Called after each patient's phase.

        Returns
        -------
        list of Problem
            Empty if all is well. Beyond what the constructor refuses: unreadable files, images of one single value,
            image and label map of other shape, spacing or place, labels outside 0 to 3, label maps without
            foreground or without one of the structures, phases of one patient with other spacings, and an LV cavity
            that is larger at ES than at ED.
        """
        problems, num_done = list(self._problems), 0
        for _, records in groupby(self._records, key=lambda record: record.patient_id):
            label_maps = []
            for record in records:
                label_maps.append(check_record(record, problems))
                num_done += 1
                if on_progress is not None:
                    on_progress(num_done, len(self._records))
            if len(label_maps) == len(cardiac.PHASES) and None not in label_maps:
                check_phases(*label_maps, problems)
        return problems

    def _read(self):
        folder = split_folder(self.root, self.split)
        if folder is None:
            self._problem(self.root, "no folder", no_folder(self.root, self.split))
            return []
        for path in other_folders(folder):
            message = "is not named as ACDC's folders are, patient001 and so on. Rename or move it."
            self._problem(path, "name", message)
        patients = patient_folders(folder)
        if not patients:
            self._problem(folder, "no patients", "holds no folder patient001 or the like. Download the data set again.")
        if self.exclude_abnormal:
            patients = [path for path in patients if path.name not in ABNORMAL_PATIENTS]
        return [record for path in patients for record in self._read_patient(path)]

    def _read_patient(self, folder):
        info, problems = read_info(folder / FILE, self.split)
        self._problems.extend(problems)
        if info is None:
            return
        for phase in cardiac.PHASES:
            frame = info.frames[phase]
            image_path = frame_path(folder, frame)
            label_map_path = frame_path(folder, frame, is_label_map=True)
            if image_path is None:
                there = ", ".join(map(str, frames_there(folder))) or "none"
                message = f"holds no {frame_name(folder.name, frame)}.nii.gz, the frame that {FILE} names for {phase}"
                self._problem(folder, "no frame", f"{message}. Frames there: {there}. Copy it there.")
            elif label_map_path is None and self.split == "train":
                name = frame_name(folder.name, frame, is_label_map=True)
                self._problem(image_path, "no label map", f"has no label map {name}.nii.gz beside it. Copy it there.")
            else:
                yield ACDCRecord(
                    subject_id=f"{folder.name}_{phase}",
                    patient_id=folder.name,
                    phase=phase,
                    frame=frame,
                    group=info.group,
                    height_cm=info.height_cm,
                    weight_kg=info.weight_kg,
                    image_path=image_path,
                    label_map_path=label_map_path,
                )
