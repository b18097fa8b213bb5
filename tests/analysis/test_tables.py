from __future__ import annotations

import math

import pytest
from handmade import SEARCH, Trial, make_runs, seeds
from handmade_tags import with_metrics

from analysis.tables import best_markdown, best_rows
from analysis.tasks import data_note


def trial(alpha: float, test: float, valid: float, n: int = 2, **changes: object) -> Trial:
    made = Trial(seeds(*[test] * n), alpha=alpha, valid=dict.fromkeys(range(n), valid))
    return made._replace(**changes)  # type: ignore[arg-type]


def test_validation_chooses_and_test_does_not() -> None:
    runs = make_runs([trial(0.1, test=0.99, valid=0.80), trial(0.2, test=0.85, valid=0.90)])
    (row,) = best_rows(runs)
    assert (row.alpha, row.candidates) == (0.2, 2)
    assert row.test.mean == pytest.approx(0.85) and row.valid.mean == pytest.approx(0.90)


def test_only_trials_with_the_most_seeds_compete() -> None:
    runs = make_runs([trial(0.1, 0.9, 0.99, n=1), trial(0.2, 0.8, 0.85, n=3)])
    (row,) = best_rows(runs)
    assert (row.alpha, row.test.n, row.candidates) == (0.2, 3, 1)


@pytest.mark.parametrize("outcome", ["diverged", "collapsed", "stopped", "failed"])
def test_a_trial_with_a_bad_seed_does_not_compete_but_is_counted(outcome: str) -> None:
    bad = trial(0.1, 0.9, 0.99, n=3)
    score = 0.9 if outcome == "collapsed" else math.nan
    bad = bad._replace(seeds={**bad.seeds, 1: (outcome, score)}, outcome=outcome)
    (row,) = best_rows(make_runs([bad, trial(0.2, 0.8, 0.85)]))
    assert row.alpha == 0.2
    assert row.outcomes == {"finished": 1, outcome: 1}


def test_a_seed_added_later_counts_with_the_others() -> None:
    first, other = trial(0.1, test=0.8, valid=0.9), trial(0.2, test=0.9, valid=0.99)
    later = first._replace(seeds={2: ("finished", 0.6)}, valid={2: 0.6})
    (row,) = best_rows(make_runs([first, other, later], planned_trials=3))
    assert (row.alpha, row.candidates, row.test.n) == (0.1, 1, 3)
    assert row.valid.mean == pytest.approx(0.8)
    assert row.outcomes == {"finished": 3}
    assert row.trial_id == f"{first.trial_id},{later.trial_id}"
    page = best_markdown(make_runs([first, other, later], planned_trials=3))
    assert f"`{first.trial_id}`, `{later.trial_id}`" in page
    assert "3 of 3 planned trials recorded" in page


def test_the_seeds_of_a_search_trial_do_not_join_its_cell() -> None:
    searched = trial(0.1, test=0.1, valid=0.1)._replace(
        seeds={8: ("finished", 0.1)}, rows=(SEARCH,), valid={8: 0.1}
    )
    (row,) = best_rows(make_runs([searched, trial(0.1, test=0.8, valid=0.9)]))
    assert (row.test.n, row.test.mean) == (2, pytest.approx(0.8))


def test_the_best_search_trial_has_a_test_score_though_a_stopped_one_validates_better() -> None:
    stopped = trial(0.1, math.nan, 0.99)._replace(
        seeds=seeds(math.nan, math.nan, outcome="stopped"), outcome="stopped", rows=(SEARCH,)
    )
    kept = trial(0.2, 0.8, 0.85, rows=(SEARCH,))
    (row,) = best_rows(make_runs([stopped, kept]))
    assert (row.alpha, row.test.n, row.candidates) == (0.2, 2, 1)
    alone = best_markdown(make_runs([stopped]))
    assert "none qualifies" in alone and "1 stopped" in alone


def test_a_trial_without_a_test_score_does_not_compete() -> None:
    (row,) = best_rows(make_runs([trial(0.1, math.nan, 0.99), trial(0.2, 0.8, 0.85)]))
    assert row.alpha == 0.2


def test_none_qualifies() -> None:
    bad = trial(0.1, math.nan, math.nan, n=1)._replace(
        seeds={0: ("diverged", math.nan)}, valid={}, outcome="diverged"
    )
    (row,) = best_rows(make_runs([bad]))
    assert (row.trial_id, row.candidates) == ("", 0)
    assert "none qualifies" in best_markdown(make_runs([bad]))


def test_a_row_per_size_and_method() -> None:
    cells = [
        trial(0.1, 0.8, 0.8),
        trial(0.2, 0.9, 0.9, train_size=1000),
        trial(0.3, 0.7, 0.7, method="nagan"),
    ]
    found = [(row.train_size, row.method) for row in best_rows(make_runs(cells))]
    assert found == [(100, "kdgan"), (100, "nagan"), (1000, "kdgan")]


def test_the_page_says_rule_interval_and_published_statistic() -> None:
    cell = Trial(seeds(0.84, 0.86, 0.88), valid={0: 0.9, 1: 0.9, 2: 0.9})
    page = best_markdown(make_runs([cell], planned_trials=9, dirty=True))
    # t(0.975, 2) = 4.30265; the standard error is 0.02 / sqrt(3).
    assert "86.00 [81.03, 90.97]" in page
    assert (
        "77.96 at \N{GREEK SMALL LETTER ALPHA} = 0.7 (best over test evaluations of one run)"
        in page
    )
    assert "highest mean best validation accuracy" in page
    assert "1 of 9 planned trials recorded" in page and "(dirty)" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1 and len(table) == 3


def test_published_values_are_for_kdgan_on_mnist_only() -> None:
    digits = make_runs([trial(0.1, 0.8, 0.8, dataset="digits")])
    assert "ublished" not in best_markdown(digits)
    other = make_runs([trial(0.1, 0.8, 0.8, method="nagan")])
    assert best_rows(other)[0].published is None


def test_tags_are_chosen_by_validation_map_and_printed_as_fractions() -> None:
    cells = [
        trial(0.1, 0.52, 0.50, dataset="flickr8k", train_size=0),
        trial(0.2, 0.51, 0.53, dataset="flickr8k", train_size=0),
        trial(0.2, 0.40, 0.41, dataset="flickr8k", train_size=500),
    ]
    runs = make_runs([with_metrics(cell) for cell in cells])
    assert [row.train_size for row in best_rows(runs)] == [500, 0]
    assert best_rows(runs)[1].alpha == 0.2
    page = best_markdown(runs)
    assert "highest mean best validation MAP" in page and "accuracy" not in page
    assert "| validation MAP | test MAP | seeds |" in page
    assert "| all | kdgan | 0.2 |" in page and "| 0.5300 [0.5300, 0.5300] | 0.5100 [" in page
    assert data_note("flickr8k") in page
