"""What a person sees of runs."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tis_ray.training.progress import Bars, Board, Meter, PlainLines, RunProgress, display_for

BEGIN = RunProgress("r50", epochs=2, total_steps=20)


def test_the_meter_averages_loss_and_speed():
    meter = Meter(BEGIN, decay=0.5)
    meter.seen(step=1, loss=4.0, images=2, seconds=1.0)
    progress = meter.seen(step=2, loss=2.0, images=2, seconds=0.5)
    assert progress.loss == pytest.approx(3.0)
    assert progress.images_per_s == pytest.approx((0.5 * 2 + 2) / (0.5 * 1.0 + 0.5))
    assert (progress.step, progress.state) == (2, "training")
    assert meter.change(state="validating", box_ap=0.25).box_ap == 0.25


def test_the_share_of_waiting_for_data_is_told_where_it_matters():
    meter = Meter(BEGIN, decay=0.5)
    assert "waiting for data" not in meter.seen(step=1, loss=1, images=2, seconds=1, data_wait_s=0.01).numbers()
    progress = meter.seen(step=2, loss=1, images=2, seconds=2, data_wait_s=1)
    assert progress.data_wait == pytest.approx((0.5 * 0.01 + 1) / (0.5 * 1 + 2))
    assert "40% waiting for data" in progress.numbers()


def test_the_board_keeps_the_last_word_of_every_run():
    board = Board()
    board.update(BEGIN)
    board.update(RunProgress("x101"))
    board.update(Meter(BEGIN).seen(step=3, loss=1.0, images=2, seconds=1.0))
    assert {name: run.step for name, run in board.read()[0].items()} == {"r50": 3, "x101": 0}


def test_the_board_keeps_every_note_and_where_the_workers_are():
    board = Board()
    board.change("r50", state="waiting", note="a worker was lost")
    for note in ("goes on", "goes on", ""):
        board.update(replace(BEGIN, note=note))
    board.change("x101", note="begins")
    assert board.read()[1] == ["r50: a worker was lost", "r50: goes on", "x101: begins"]
    assert board.read(2)[1] == ["x101: begins"]
    board.place("r50", 1, "b")
    board.place("r50", 0, "a")
    board.place("r50", 1, "c")
    assert board.places("r50") == {0: "a", 1: "c"}
    assert board.places("x101") == {}


def test_plain_lines_come_when_the_state_changes_and_else_rarely():
    out = io.StringIO()
    meter = Meter(BEGIN)
    with PlainLines(Console(file=out, width=200), every_s=3600) as lines:
        for step in range(1, 6):
            lines.show({"r50": meter.seen(step=step, loss=1.25, images=2, seconds=0.5)})
        lines.show({"r50": meter.change(state="finished", box_ap=0.4321, epoch=2)})
    assert out.getvalue().splitlines() == [
        "r50: training, epoch 0/2, step 1/20, loss 1.250, 4.0 images/s",
        "r50: finished, epoch 2/2, step 5/20, loss 1.250, 4.0 images/s, box AP 43.2",
    ]


def test_plain_lines_repeat_when_they_are_due():
    out = io.StringIO()
    meter = Meter(BEGIN)
    lines = PlainLines(Console(file=out, width=200), every_s=0)
    for step in range(1, 4):
        lines.show({"r50": meter.seen(step=step, loss=1.0, images=1, seconds=1.0)})
    lines.show({"r50": meter.progress})
    assert len(out.getvalue().splitlines()) == 3


def test_a_terminal_gets_a_bar_for_every_run():
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=True)
    display = display_for(console, ["r50", "x101"])
    assert isinstance(display, Bars)
    with display:
        display.show({"r50": BEGIN, "x101": RunProgress("x101")})
        display.show({"r50": Meter(BEGIN).seen(step=7, loss=0.5, images=2, seconds=1.0)})
        display.line("x101: lost")
    shown = out.getvalue()
    for text in ("7/20", "loss 0.500", "2.0 images/s", "x101", "waiting for workers", "x101: lost"):
        assert text in shown


def test_without_a_console_nothing_is_shown(capsys):
    with display_for(None, ["r50"]) as display:
        display.show({"r50": BEGIN})
        display.line("news")
    assert capsys.readouterr().out == ""


def test_a_run_that_waits_says_what_for():
    assert str(RunProgress("r50", state="waiting for 2 workers (1 CPU each)")) == (
        "r50: waiting for 2 workers (1 CPU each)"
    )


def test_elsewhere_there_are_plain_lines():
    assert isinstance(display_for(Console(file=io.StringIO()), ["r50"]), PlainLines)
