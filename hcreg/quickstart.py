"""The main job in one call: data, a direct head-circumference regressor, an honest test, a report."""

import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras

from hcreg import evaluation, head_circumference, models, plotting, report, runs, training
from hcreg.datasets import HC18, synthetic
from hcreg.datasets.batches import read_images
from hcreg.explanation import explanation_section
from hcreg.files import read_rows

NUM_EXAMINATIONS = 220
RECIPE = head_circumference.Recipe(
    name="cnn_1m",
    build=models.cnn_1m,
    loss=keras.losses.MeanAbsoluteError(),
    augmentation="default",
    schedule="cosine",
    learning_rate=2e-3,
    batch_size=8,
    epochs=80,
    patience=80,
)


def quickstart(output, *, data=None, epochs=None, seed=0):
    """Train and test a head-circumference regressor and write ``report.html``.

    Parameters
    ----------
    output : path-like
        Folder for the synthetic data, the run folder and the report. Called again on the same folder, a stopped run
        goes on, and a finished one is only reported anew.
    data : path-like, optional
        The HC18 folder as downloaded; without it a cohort of synthetic ultrasound is made.
    epochs : int, optional
        Passes over the training images, 80 by default.
    seed : int

    Returns
    -------
    str
        The result in words, with the path of the report.
    """
    started = time.perf_counter()
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot make the output folder {output} ({error.strerror}); name another with --output"
        ) from error
    folder = Path(data) if data is not None else output / "data"
    if data is None:
        _say(f"Making {NUM_EXAMINATIONS} synthetic examinations in {folder} (or using those already there)")
        synthetic.fetal_head(folder, NUM_EXAMINATIONS, seed)
    dataset = HC18(folder)
    recipe = RECIPE if epochs is None else replace(RECIPE, epochs=epochs, patience=epochs)
    split = head_circumference.single_split(dataset, seed=seed)
    run_folder = output / recipe.name / "fold_0"
    head_circumference.open_run(recipe, dataset, split, run_folder, seed=seed)
    _say(f"Reading {len(dataset)} images and annotations of {folder}")
    cache = read_images(dataset, recipe.input_shape)
    _say(
        f"Training {recipe.name} on {len(split['training'])} images; {len(split['validation'])} choose the epoch, "
        f"{len(split['test'])} are kept for the test"
    )
    rows = head_circumference.run(recipe, cache, split, run_folder, seed=seed)
    _say("Explaining some test images, and writing the report")
    command = ["hcreg", "quickstart", "--output", str(output), "--seed", str(seed)]
    command += [] if data is None else ["--data", str(data)]
    command += [] if epochs is None else ["--epochs", str(epochs)]
    path = write_run_report(output / "report.html", run_folder, dataset, rows, split, command=shlex.join(command))
    summary = evaluation.summarise(rows)
    return (
        f"On {summary['num_subjects']} test images the head circumference is off by {summary['mae_mm']:.1f} mm on "
        f"average ({summary['mae_px']:.0f} px, {summary['pmae_percent']:.1f} %); a constant guess by "
        f"{summary['constant_mae_mm']:.1f} mm.\nReport: {path}\nTrained model: {run_folder}\n"
        f"Finished in {time.perf_counter() - started:.0f} s. Measure an image with\n"
        f"  hcreg measure IMAGE --pixel-size-mm X --model {shlex.quote(str(run_folder))}\n"
        "and show where its answer comes from with hcreg explain, in the same words."
    )


def write_run_report(path, run_folder, dataset, rows, split, *, command):
    """Write the report of one run, and its figures into the run folder.

    Parameters
    ----------
    path, run_folder : path-like
    dataset : HC18
    rows : list of dict
        The run's ``predictions.csv``.
    split : dict
        Subject ids by part.
    command : str
        What repeats the run.

    Returns
    -------
    pathlib.Path
    """
    run_folder = Path(run_folder)
    record = runs.read_run(run_folder)
    history = read_rows(run_folder / training.HISTORY)
    by_subject = {item.subject_id: item for item in dataset}
    parts = {part: [by_subject[subject_id] for subject_id in ids] for part, ids in split.items()}
    figures = plotting.regression_figures(
        rows,
        history,
        {part: [item.hc_mm for item in items] for part, items in parts.items()},
        load_image=lambda subject_id: by_subject[subject_id].image(),
        load_ellipse=lambda subject_id: by_subject[subject_id].ellipse(),
    )
    for name, figure in figures.items():
        plotting.save(figure, run_folder / "figures" / f"{name}.png")
    explained = explanation_section(run_folder, parts["test"], rows, save_to=run_folder / "figures")
    arguments = record["arguments"]
    drawn = arguments["data"]["synthetic"]
    kind = "synthetic ultrasound images in HC18's layout" if drawn else "ultrasound images of the HC18 data set"
    return report.regression_report(
        path,
        title="Fetal head circumference by direct regression",
        data_description=f"{len(dataset)} {kind}, of {len({item.examination_id for item in dataset})} "
        "examinations, with the head outlined as an ellipse in each. The split keeps all images of one examination "
        "in one part and gives each part its share of the three trimesters.",
        model_description=f"{arguments['builder']}: a convolutional network of {record['num_parameters']:,} "
        f"parameters that sees the image at {arguments['input_shape'][1]} x {arguments['input_shape'][0]} pixels and "
        "answers with one number, the circumference in pixels; the pixel size turns it into millimetres. It draws no "
        "outline.",
        rows=rows,
        summary=evaluation.summarise(rows),
        by_trimester=evaluation.summarise_by_trimester(rows),
        figures=figures,
        provenance={
            "command": command,
            "seed": arguments["seed"],
            "versions": record["versions"],
            "commit": record["commit"],
            "seconds": record["training_seconds"],
            "run folder": str(run_folder),
        },
        history=history,
        splits=parts,
        constant_summary=evaluation.summarise(evaluation.constant_rows(rows)),
        interval_level=evaluation.COVERAGE,
        synthetic=drawn,
        extra_sections=(explained,),
    )


def _say(text):
    print(text, file=sys.stderr, flush=True)
