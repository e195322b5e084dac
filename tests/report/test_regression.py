"""The report repeats the numbers it is given, loads nothing, and survives any name and missing value."""

import base64
import io
import math
import re
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from PIL import Image

from hcreg import report
from hcreg.report import Picture, Section, Table, regression_report, write_report

NAN = float("nan")
# Each value is one of a kind, so that finding it in the page means finding that key.
SUMMARY = {
    "num_subjects": 48,
    "num_examinations": 40,
    "mae_mm": 5.1234,
    "mae_sd_mm": 4.4321,
    "median_ae_mm": 3.9876,
    "bias_mm": -1.2345,
    "p95_ae_mm": 13.5791,
    "mae_px": 37.2468,
    "mae_sd_px": 31.1357,
    "pmae_percent": 3.3579,
    "rmse_mm": 6.7891,
    "r2": 0.98765,
    "coverage": 0.875,
    "mean_interval_width_mm": 21.2121,
    "constant_mae_mm": 45.8182,
    "constant_mae_px": 208.4343,
    "constant_pmae_percent": 33.6565,
    "fold_sd_mm": 0.6543,
}
ROWS = [
    {
        "subject_id": f"{i:03d}_HC",
        "examination_id": f"{i:03d}",
        "fold": 0,
        "trimester": 1 + i,
        "pixel_size_mm": 0.1,
        "y_true_px": 1000.0,
        "y_pred_px": 1000.0 + 10 * error,
        "y_true_mm": 100.0,
        "y_pred_mm": 100.0 + error,
        "constant_px": 1500.0,
        "constant_mm": 150.0,
        "interval_low_mm": 97.0 + error,
        "interval_high_mm": 103.0 + error,
    }
    for i, error in enumerate((2.0, -7.0, 4.0))
]


@pytest.fixture
def make(read_page):
    """Give what writes the report of a run, with the changes given, and reads it."""

    def write_and_read(folder, **changes):
        arguments = {
            "title": "A run",
            "data_description": "Some images.",
            "model_description": "Some network.",
            "rows": ROWS,
            "summary": SUMMARY,
            "by_trimester": {1: SUMMARY | {"num_subjects": 7, "mae_mm": 8.7654}},
            "figures": {},
            "provenance": {
                "command": "hcreg quickstart",
                "seed": 0,
                "versions": {"keras": "3.1"},
                "commit": None,
            },
        }
        return read_page(regression_report(folder / "report.html", **(arguments | changes)))

    return write_and_read


def small_figure():
    figure = Figure(figsize=(1, 1), dpi=50)
    figure.subplots().plot([0, 1])
    return figure


def test_every_number_of_the_summary_stands_in_the_result_table(make, tmp_path):
    page = make(tmp_path)
    header, *lines = page.tables[0]
    assert header == ["Measure (unit)", "Network", "Constant guess", "How to read it"]
    shown = {line[0]: line[1:3] for line in lines}
    assert shown == {
        "Mean absolute error ± SD over images (mm)": ["5.1 ± 4.4", "45.8"],
        "Median absolute error (mm)": ["4.0", "–"],
        "95th percentile of the absolute error (mm)": ["13.6", "–"],
        "Bias, mean of predicted − true (mm)": ["−1.2", "–"],
        "Root mean squared error (mm)": ["6.8", "–"],
        "Mean absolute error ± SD over images (px)": ["37.2 ± 31.1", "208.4"],
        "Percentage mean absolute error (%)": ["3.4", "33.7"],
        "R² (no unit)": ["0.988", "–"],
        "SD of the mean absolute error between folds (mm)": ["0.7", "–"],
        "Intervals that contain the true HC (%)": ["87.5", "–"],
        "Mean width of the intervals (mm)": ["21.2", "–"],
    }


def test_full_precision_of_every_number_is_kept(make, tmp_path):
    values = make(tmp_path).values
    for key, value in SUMMARY.items():
        assert (100 * value if key == "coverage" else value) in values, key


def test_constant_summary_fills_the_column_beside_the_network(make, tmp_path):
    constant = SUMMARY | {
        "mae_mm": 45.8182,
        "mae_px": 208.4343,
        "pmae_percent": 33.6565,
        "p95_ae_mm": 99.4,
        "r2": -0.1,
    }
    lines = {line[0]: line[2] for line in make(tmp_path, constant_summary=constant).tables[0]}
    assert lines["95th percentile of the absolute error (mm)"] == "99.4"
    assert lines["R² (no unit)"] == "−0.100"
    assert lines["Intervals that contain the true HC (%)"] == "–"


def test_constant_summary_of_other_rows_is_refused(make, tmp_path):
    with pytest.raises(ValueError, match=r"of the same rows as summary\. Its mae_mm is 5\.1234, but .* 45\.8182"):
        make(tmp_path, constant_summary=SUMMARY)


def test_guess_in_px_has_the_spread_of_the_same_guess_or_none(make, tmp_path):
    constant = SUMMARY | {"mae_mm": 45.8182, "mae_px": 208.4343, "mae_sd_px": 77.7}
    for mae_px, shown in ((208.4343, "208.4 ± 77.7"), (333.3, "208.4")):
        page = make(tmp_path, constant_summary=constant | {"mae_px": mae_px})
        lines = {line[0]: line[2] for line in page.tables[0]}
        assert lines["Mean absolute error ± SD over images (px)"] == shown


def test_headline_is_the_answer():
    assert report.headline(SUMMARY) == (
        "On 48 unseen images of 40 examinations the network missed the head circumference by 5.1 mm "
        "on average (constant guess: 45.8 mm)."
    )


def test_headline_says_when_the_network_is_of_no_use():
    text = report.headline(SUMMARY | {"mae_mm": 46.0})
    assert text.endswith("It is no better than guessing the same value for every image.")


def test_headline_of_one_image_and_of_a_missing_mean():
    assert report.headline(SUMMARY | {"num_subjects": 1, "num_examinations": 1}).startswith(
        "On 1 unseen image of 1 examination the"
    )
    assert "could not be computed" in report.headline(SUMMARY | {"mae_mm": NAN})
    assert "guess" not in report.headline(SUMMARY | {"constant_mae_mm": NAN})


def test_trimesters_and_all_stand_in_the_second_table(make, tmp_path):
    header, first, everything = make(tmp_path).tables[1]
    assert header[3] == "MAE ± SD (mm)"
    assert first == ["First", "7", "40", "8.8 ± 4.4", "45.8", "3.4", "33.7", "−1.2", "87.5"]
    assert everything[:4] == ["All", "48", "40", "5.1 ± 4.4"]


def test_the_table_of_images_is_folded_and_starts_with_the_worst(make, tmp_path):
    page = make(tmp_path)
    (table,) = [table for table in page.tables if table[0][0] == "Image"]
    assert table[1][:3] == ["001_HC", "001", "0"]
    assert table[1][5:] == ["100.0", "93.0", "−7.0", "−7.0", "150.0", "90.0", "96.0", "no"]
    assert [line[0] for line in table[1:]] == ["001_HC", "002_HC", "000_HC"]
    assert table[3][-1] == "yes"
    assert re.search(r"<details>\s*<summary>Show the table of 3 images</summary>", page.html)


def test_missing_values_are_dashes_with_a_reason_and_never_nan(make, tmp_path):
    nothing = dict.fromkeys(SUMMARY, NAN) | {"num_subjects": 3, "num_examinations": 3}
    rows = [ROWS[0] | {"y_pred_mm": NAN, "interval_low_mm": NAN, "interval_high_mm": float("inf")}, *ROWS[1:]]
    provenance = {"command": "", "seed": None, "commit": "", "seconds": NAN, "versions": {}}
    page = make(tmp_path, summary=nothing, by_trimester={2: nothing}, rows=rows, provenance=provenance)
    assert not re.search(r"\b(nan|inf|none|infinity)\b", page.text.lower())
    assert all(math.isfinite(value) for value in page.values)
    assert "there is one fold only, so nothing to compare" in page.titles
    assert "the network gave no prediction" in page.titles
    assert all(page.titles), "a dash without a reason"
    for reason in set(page.titles):
        assert page.text.count(reason), f"{reason!r} is in the tooltip only, which paper does not show"
    (table,) = [table for table in page.tables if table[0][0] == "Image"]
    assert table[1] == ["000_HC", "000", "0", "1", "0.1000", "100.0", "–", "–", "–", "150.0", "–", "–", "–"]


def test_coverage_of_infinite_intervals_is_not_shown(make, tmp_path):
    page = make(tmp_path, summary=SUMMARY | {"coverage": 1.0, "mean_interval_width_mm": float("inf")})
    lines = {line[0]: line[1] for line in page.tables[0]}
    assert lines["Intervals that contain the true HC (%)"] == "–"
    assert lines["Mean width of the intervals (mm)"] == "–"


def test_nothing_is_loaded_from_anywhere(make, tmp_path):
    figures = {"residuals": small_figure()}
    page = make(tmp_path, figures=figures, synthetic=True)
    loading = {"src", "srcset", "data", "action", "poster", "background", "href"}
    targets = [value for _, name, value in page.attributes if name in loading]
    assert targets
    assert all(value.startswith(("data:image/png;base64,", "#section-")) for value in targets)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page.html)
    (policy,) = [v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "src" in v]
    assert "default-src 'none'" in policy


def test_links_lead_to_sections_that_exist(make, tmp_path):
    page = make(tmp_path)
    links = {value[1:] for _, name, value in page.attributes if name == "href"}
    assert links == {value for _, name, value in page.attributes if name == "id"}


def test_pictures_are_whole_png_files_with_caption_and_text_for_the_blind(make, tmp_path):
    figures = {name: small_figure() for name in report.FIGURES}
    page = make(tmp_path, figures=figures)
    sources = page.sources()
    assert len(sources) == len(report.FIGURES)
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1], validate=True))) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("PNG", (50, 50))
    for caption, look_for in report.FIGURES.values():
        assert caption in page.text
        assert look_for in page.text
        assert ("img", "alt", caption) in page.attributes


def test_everything_is_escaped(make, tmp_path):
    evil = "<script>alert('x')</script> & \"quoted\" {{ 7 * 6 }}"
    rows = [row | {"subject_id": f"{i} {evil}", "examination_id": evil} for i, row in enumerate(ROWS)]
    picture = Picture(small_figure(), evil, evil)
    terms, table = {evil: evil}, Table((evil,), ((evil,),), evil, collapsed=evil)
    extra = Section(evil, (evil,), (evil,), terms, evil, (table,), (picture,))
    page = make(
        tmp_path,
        title=evil,
        data_description=evil,
        model_description=evil,
        rows=rows,
        provenance={"command": evil, "versions": {evil: evil}, evil: evil},
        splits={evil: rows},
        caveats=(evil,),
        extra_sections=(extra,),
    )
    assert "<script" not in page.html
    assert page.text.count(evil) >= 20
    assert "script" not in {tag for tag, _, _ in page.attributes}


def test_equal_input_gives_equal_bytes(make, tmp_path):
    for name in ("a", "b"):
        make(tmp_path / name, figures={"residuals": small_figure(), "best_cases": small_figure()})
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_synthetic_data_are_announced_at_the_top_and_only_then(make, tmp_path):
    text = "The images are synthetic: drawn by a program, not taken from patients."
    synthetic = make(tmp_path, synthetic=True).text
    assert synthetic.index(text) < synthetic.index("Mean absolute error")
    assert "synthetic:" not in make(tmp_path).text


def test_every_page_says_it_is_no_medical_device(make, read_page, tmp_path):
    assert "research software, not a medical device" in make(tmp_path).text
    assert "research software, not a medical device" in read_page(write_report(tmp_path / "r.html", "t", [])).text


def test_split_is_counted_from_its_records(make, tmp_path):
    records = [
        SimpleNamespace(examination_id=str(i // 2), trimester=1 + i % 2, hc_mm=100.0 + i if i else None)
        for i in range(4)
    ]
    page = make(tmp_path, splits={"training": records, "test": ROWS})
    (table,) = [table for table in page.tables if table[0][0] == "Part"]
    assert table[1] == ["training", "4", "2", "2", "2", "0", "101.0", "102.0", "103.0"]
    assert table[2] == ["test", "3", "3", "1", "1", "1", "100.0", "100.0", "100.0"]
    assert "No examination is in two parts" in page.text


def test_an_examination_in_two_parts_is_told_at_the_top(make, tmp_path):
    page = make(tmp_path, splits={"training": ROWS[1:], "test": ROWS[:2]})
    warning = "The test is not a fair one: 1 examination of 3 is in more than one part of the data, the first"
    assert page.text.index(warning) < page.text.index("Mean absolute error")
    assert "being 001 (in training and test)" in page.text
    assert "unseen" not in page.text
    assert "No examination is in two parts" not in page.text


def test_a_split_record_without_examination_is_refused(make, tmp_path):
    with pytest.raises(ValueError, match="A record of splits must have examination_id"):
        make(tmp_path, splits={"test": [{"trimester": 1}]})


def test_training_names_the_epoch_whose_weights_were_kept(make, tmp_path):
    history = [{"epoch": e, "loss": -e, "val_loss": loss} for e, loss in ((1, 0.5), (2, 0.3), (3, 0.4))]
    text = make(tmp_path, history=history).text
    assert "Training ran for 3 epochs (passes over the training images). The weights of epoch 2, which" in text


def test_how_to_reproduce(make, tmp_path):
    provenance = {"command": "hcreg quickstart --seed 3", "seed": 3, "commit": None, "seconds": 90.0}
    page = make(tmp_path, provenance=provenance | {"versions": {"keras": "3.15", "numpy": "2.4"}})
    assert "<code>hcreg quickstart --seed 3</code>" in page.html
    (table,) = [table for table in page.tables if table[0][0] == "Item"]
    assert table[1:] == [
        ["Seed", "3"],
        ["Commit", "–"],
        ["Seconds", "90 (1.5 minutes)"],
        ["Versions", "keras 3.15, numpy 2.4"],
    ]


def test_a_further_section_disturbs_no_other(make, tmp_path):
    headings = re.compile("<h2>(.*?)</h2>")
    before = headings.findall(make(tmp_path).html)
    extra = Section("Explanation", ("Where it looked.",), tables=(Table(("a", "AOPC (px)"), (("g", 1.5),), "c"),))
    page = make(tmp_path, extra_sections=(extra,))
    after = headings.findall(page.html)
    assert [heading for heading in after if heading != "Explanation"] == before
    assert [["a", "AOPC (px)"], ["g", "1.5"]] in page.tables
    assert "Worst and best cases" not in before, "a heading without anything below it"


def test_tables_and_figures_are_numbered_through(make, tmp_path):
    page = make(tmp_path, figures={"residuals": small_figure(), "history_curves": small_figure()})
    assert re.findall(r"Table (\d+)\.", page.text) == [str(i + 1) for i in range(len(page.tables))]
    assert re.findall(r"Figure (\d+)\.", page.text) == ["1", "2"]


def test_summaries_are_checked(make, tmp_path):
    short = {key: value for key, value in SUMMARY.items() if key not in ("r2", "mae_px")}
    with pytest.raises(ValueError, match=r"by_trimester\[3\] lacks mae_px, r2\. Pass what hcreg.evaluation.summarise"):
        make(tmp_path, by_trimester={3: short})
    with pytest.raises(ValueError, match=r"\['coverage'\] must be a fraction from 0 to 1\. Received: 87"):
        make(tmp_path, summary=SUMMARY | {"coverage": 87.5})


def test_a_figure_without_caption_is_refused(make, tmp_path):
    with pytest.raises(ValueError, match=r"No caption is known for the figures \['saliency'\]\. Known: actual_"):
        make(tmp_path, figures={"saliency": small_figure()})


def test_every_measure_of_the_tables_is_in_the_glossary(make, tmp_path):
    words = " ".join(report.GLOSSARY)
    for word in (
        "HC",
        "MAE",
        "PMAE",
        "Bland-Altman",
        "Conformal interval",
        "px",
        "Bias",
        "R²",
        "Constant guess",
        "Fold",
    ):
        assert word in words
    text = make(tmp_path).text
    assert all(meaning in text for meaning in report.GLOSSARY.values())
