"""Tuning finds what is wrong with an ensemble, says so by images that it did not see, and goes on where it stopped."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuning.kept_runs import CATEGORIES, Skill, ensemble_of, write_run, write_truth
from tis_ray.errors import ConfigError
from tis_ray.evaluation.paired import Difference
from tis_ray.tuning.run import Tuned, tune
from tis_ray.tuning.scoring import Bench, Metric
from tis_ray.tuning.search import Searches, Tried
from tis_ray.tuning.space import Space
from tis_ray.views import View

BOX_AP = Metric.of("box.AP")
TRIALS = 12


def skill(view: View) -> Skill:
    """One of the two members is sure of what is not there."""
    if view.member == "bad":
        return Skill(jitter_px=6.0, recall=0.5, misses=4, hit_score=0.5, miss_score=0.9)
    return Skill()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("tune")
    truth = write_truth(folder / "gt.json", num_images=10)
    ensemble = ensemble_of({"good": {"scales": [100]}, "bad": {"scales": [100], "flip": False}}, {})
    return Bench.of(write_run(folder / "run", ensemble, truth, skill, masks=False), truth, masks=False)


def space(*parts: str) -> Space:
    ensemble = ensemble_of({"good": {"scales": [100]}, "bad": {"scales": [100], "flip": False}}, {})
    return Space.of(ensemble, CATEGORIES, sized=False, masked=False, parts=parts or ("rules", "weights", "calibration"))


def tuned(
    bench: Bench, path: Path, *, resume: bool = False, seed: int = 0, stop_after: int = 0, trials: int = TRIALS
) -> Tuned:
    made: list[Tried] = []

    def count(tried: Tried) -> None:
        made.append(tried)
        if len(made) == stop_after:
            raise KeyboardInterrupt

    searches = Searches(path, {"seed": seed}, resume=resume)
    return tune(bench, space(), searches, metric=BOX_AP, trials=trials, folds=2, seed=seed, on_trial=count)


@pytest.fixture(scope="module")
def whole(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tuned(bench, tmp_path_factory.mktemp("whole") / "trials")


def test_it_is_better_on_images_that_were_not_searched(whole: Tuned) -> None:
    assert whole.gain > 0.02
    assert BOX_AP(whole.on_all) > BOX_AP(whole.baseline)
    assert all(len(fold.tried) == TRIALS for fold in whole.folds)
    assert not whole.stopped
    assert whole.worth
    assert sum(whole.importances.values()) == pytest.approx(1)


def test_a_fold_is_scored_by_what_was_chosen_without_it(whole: Tuned, bench: Bench) -> None:
    held_out = sorted(fold.before.num_objects for fold in whole.folds)
    assert sum(held_out) == whole.baseline.num_objects
    assert whole.gain == pytest.approx(
        sum(BOX_AP(fold.after) - BOX_AP(fold.before) for fold in whole.folds) / len(whole.folds)
    )
    assert {fold.before.num_images for fold in whole.folds} == {5}


def test_the_interval_of_the_gain_is_narrower_than_those_of_the_folds(whole: Tuned) -> None:
    folds = [replace(fold, difference=Difference(0.2, 0.3, (0.06, 0.14), 1.0)) for fold in whole.folds]
    low, high = replace(whole, folds=tuple(folds)).gain_interval
    assert (whole.gain - low, high - whole.gain) == pytest.approx((0.04 / 2**0.5, 0.04 / 2**0.5))
    assert whole.gain_interval is None


def test_the_first_trial_is_the_ensemble_as_it_was(whole: Tuned) -> None:
    for fold in whole.folds:
        assert set(fold.tried[0].setting.values()) == {"as it is"}


def test_a_member_that_misleads_counts_less(bench: Bench, tmp_path: Path) -> None:
    searches = Searches(tmp_path / "trials", {}, resume=False)
    found = tune(bench, space("weights"), searches, metric=BOX_AP, trials=TRIALS)
    members = found.ensemble.fusion.members
    assert members["bad"].weight < members["good"].weight


def test_another_seed_is_another_search(whole: Tuned, bench: Bench, tmp_path: Path) -> None:
    other = tuned(bench, tmp_path / "other", seed=1, trials=3)
    assert [fold.tried[:3] for fold in whole.folds] != [fold.tried for fold in other.folds]


def test_a_search_that_was_stopped_goes_on_to_the_answer_of_one_that_was_not(
    whole: Tuned, bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "trials"
    first = tuned(bench, path, stop_after=6)
    assert first.stopped
    assert [len(fold.tried) for fold in first.folds] == [6, 0]
    killed = Searches(path, {"seed": 0}, resume=True)._study("without fold 1 of 2")
    killed.ask()  # and never told
    assert tuned(bench, path, resume=True) == whole


def test_trials_of_something_else_are_not_gone_on_with(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "trials"
    Searches(path, {"seed": 0, "--metric": "box.AP"}, resume=False)
    with pytest.raises(ConfigError, match="holds the trials of a search; go on with --resume"):
        Searches(path, {"seed": 0, "--metric": "box.AP"}, resume=False)
    with pytest.raises(ConfigError, match=r"--metric: expected box\.AP, with which the search .* began; got mask\.AP"):
        Searches(path, {"seed": 0, "--metric": "mask.AP"}, resume=True)


def test_a_score_that_the_objects_do_not_have_is_refused(bench: Bench, tmp_path: Path) -> None:
    searches = Searches(tmp_path / "trials", {}, resume=False)
    with pytest.raises(ConfigError, match=r"box APl has no value in one of them"):
        tune(bench, space(), searches, metric=Metric.of("box.APl"), trials=1)
    with pytest.raises(ConfigError, match=r"--folds: expected 2 to 10"):
        tune(bench, space(), searches, metric=BOX_AP, trials=1, folds=11)
