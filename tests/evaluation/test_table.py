"""Score tables: percent, n/a where undefined, readable in 80 columns."""

import io

from rich.console import Console

from tis_ray.evaluation.coco import CocoReport, KindScores
from tis_ray.evaluation.table import members_table, report_table

SCORES = KindScores(AP=0.3125, AP50=0.5, AP75=0.25, APs=0.0, AR100=1.0, AP_interval=(0.21, 0.408))
REPORT = CocoReport(40, 200, 1234, {"bbox": SCORES, "segm": KindScores()})


def _lines(table, *, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue().splitlines()


def test_report_has_a_row_for_boxes_and_one_for_masks():
    lines = _lines(report_table(REPORT))
    (box,) = [line for line in lines if "box" in line]
    (mask,) = [line for line in lines if "mask" in line]
    assert box.replace("│", " ").split() == [
        "box",
        "31.2",
        "50.0",
        "25.0",
        "0.0",
        *["n/a"] * 2,
        "100.0",
        "[21.0,",
        "40.8]",
    ]
    assert mask.replace("│", " ").split() == ["mask", *["n/a"] * 8]
    assert any("40 images, 200 objects, 1234 found" in line for line in lines)


def test_no_interval_column_without_a_bootstrap():
    report = CocoReport(1, 1, 1, {"bbox": KindScores(AP=0.5)})
    assert not any("interval" in line for line in _lines(report_table(report)))


def test_the_names_of_rows_stay_whole_where_the_screen_is_narrow():
    perfect = KindScores(*[1.0] * 7, AP_interval=(1.0, 1.0))
    lines = _lines(report_table(CocoReport(9, 113, 113, {"bbox": perfect, "segm": perfect}, "lvis")))
    assert any(line.startswith("│ mask │") for line in lines)


def test_scores_by_frequency_stand_below_each_other_with_their_intervals():
    scores = KindScores(AP=0.3125, APr=0.1, APc=0.2, AR300=1.0, AP_interval=(0.21, 0.408), APr_interval=(0.0, 0.15))
    names = ("AP", "APr", "APc", "AR300")
    report = CocoReport(40, 200, 1234, {"bbox": scores, "segm": KindScores()}, "lvis", names)
    lines = _lines(report_table(report))
    rows = {line.replace("│", " ").split()[0]: line.replace("│", " ").split()[1:] for line in lines if "│" in line}
    assert rows["AP"] == ["31.2", "[21.0,", "40.8]", "n/a", "n/a"]
    assert rows["APr"] == ["10.0", "[0.0,", "15.0]", "n/a", "n/a"]
    assert rows["APc"] == ["20.0", "n/a", "n/a", "n/a"]
    assert rows["AR300"] == ["100.0", "n/a"]
    assert any("1234 found, by LVIS's rules" in line for line in lines)
    assert not any("AP50" in line for line in lines)
    without = CocoReport(1, 1, 1, {"bbox": KindScores(AP=0.5, APr=0.5)}, "coco", ("AP", "APr", "AR100"))
    assert not any("interval" in line or "LVIS" in line for line in _lines(report_table(without)))


def test_members_keep_their_figures_whole_in_80_columns():
    rows = [("shufflenet_v2_x0_5 at four scales, flipped", REPORT), ("name with [markup]", REPORT)]
    text = "\n".join(_lines(members_table(rows)))
    assert text.count("31.2 [21.0, 40.8]") == 2
    assert "…" not in text
    assert "[markup]" in text


def test_members_scored_on_boxes_alone_have_no_mask_columns():
    lines = _lines(members_table([("a", CocoReport(1, 1, 1, {"bbox": SCORES}))]))
    assert any("box" in line for line in lines)
    assert not any("mask" in line for line in lines)


def test_a_member_without_masks_among_others_shows_n_a():
    lines = _lines(members_table([("a", REPORT), ("boxes", CocoReport(1, 1, 1, {"bbox": SCORES}))]))
    (row,) = [line for line in lines if "boxes" in line]
    assert row.split()[-3:] == ["n/a"] * 3


def test_members_scored_without_draws_have_no_heading_of_an_interval():
    plain = CocoReport(1, 1, 1, {"bbox": KindScores(AP=0.3125)})
    assert not any("95%" in line for line in _lines(members_table([("a", plain)])))
    assert any("95%" in line for line in _lines(members_table([("a", plain), ("b", REPORT)])))
