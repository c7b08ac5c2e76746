"""Both stages and both kinds of self-training, from scenes to a table, as small as they can be."""

import json
import statistics

import pytest

from tests.benchmarks.long_tail import ROWS, STAGE_A, Runs, measure, said, table
from tis_ray.formats import coco
from tis_ray.formats.unlabelled import read_unlabelled

SMALL = {
    "num_train": 6,
    "num_val": 3,
    "num_pool": 3,
    "external_per_epoch": 2,
    "epochs": 1,
    "tuned_epochs": 1,
    "short_edge": 96,
    "min_score": 0.0,
    "max_instances": 5,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("long_tail"), {"shufflenet_v2_x0_5": {"norm": "frozen"}}, **SMALL)


def test_every_line_is_trained_scored_and_told(runs: Runs) -> None:
    found, teachers = measure(ROWS, [0], runs=runs, pool=None)
    assert [len(rows) for rows in found.values()] == [1] * len(ROWS)
    assert all(0 <= rows[0]["mask_ap"] <= 1 for rows in found.values())
    train, teacher = coco.read(runs.scenes.train, runs.scenes.images), runs.teacher(0)
    assert 0 < sum(map(len, read_unlabelled(teacher / "unlabelled.json", train).values())) == teachers[0]["unlabelled"]
    external = coco.read(teacher / "external.json", runs.scenes.pool)
    assert sum(len(external.entries(record.id)) for record in external.images) == teachers[0]["external"] > 0
    names = [row.name for row in ROWS]
    assert [line.split(" | ")[0] for line in table(found).splitlines()[2:]] == [f"| {name}" for name in names]
    assert f"found {teachers[0]['unlabelled']} unlabelled boxes" in said(teachers)
    again, _ = measure(ROWS[:1], [0], runs=runs, pool=None)  # noted, and not trained again
    assert again[STAGE_A.name] == found[STAGE_A.name]


def test_labels_are_taken_away_from_training_alone(runs: Runs) -> None:
    runs.scenes.write(processes=1)
    full, left, removed = (
        json.loads(path.read_text())
        for path in (
            runs.scenes.folder / "labelled" / "instances_train.json",
            runs.scenes.train,
            runs.scenes.folder / "removed.json",
        )
    )
    ids = [{one["id"] for one in content["annotations"]} for content in (left, removed)]
    assert ids[0] | ids[1] == {one["id"] for one in full["annotations"]}
    assert not ids[0] & ids[1]
    assert 0.5 < len(ids[0]) / len(full["annotations"]) < 0.9
    for category in left["categories"]:
        assert category["instance_count"] == sum(one["category_id"] == category["id"] for one in left["annotations"])
    val = json.loads(runs.scenes.val.read_text())
    assert val["categories"] == left["categories"]
    assert (
        val["annotations"]
        == json.loads((runs.scenes.folder / "labelled" / "instances_val.json").read_text())["annotations"]
    )


def test_the_table_has_means_ranges_and_differences_by_seed() -> None:
    plain = [{"box_ap": 0.2, "mask_ap": 0.1 * seed, "mask_ap_rare": 0.05} for seed in (1, 2, 3)]
    better = [{"box_ap": 0.2, "mask_ap": 0.1 * seed + 0.01} for seed in (1, 2, 3)]
    head, _, first, second = table({STAGE_A.name: plain, "other": better}).splitlines()
    assert head.startswith("| training | box AP | mask AP | APr | APc | APf | mask AP beside stage A")
    mean = 100 * statistics.mean([0.1, 0.2, 0.3])
    assert first == f"| stage A | 20.0 (20.0 to 20.0) | {mean:.1f} (10.0 to 30.0) | 5.0 (5.0 to 5.0) | - | - | - | - |"
    assert second.endswith("| - | - | - | +1.0, +1.0, +1.0 | - |")
