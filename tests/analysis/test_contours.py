from __future__ import annotations

import math

import pytest
from drawn import overlapping
from handmade import Trial, make_runs, seeds
from handmade_designs import grid_trials

from analysis.contours import contours_frame, contours_info, draw_contours, grid_breaks
from analysis.frames import RunsError


def test_a_grid_has_its_levels_in_order_and_its_baseline() -> None:
    (grid,) = contours_info(make_runs(grid_trials())).grids
    assert (grid.across, grid.up, grid.train_size) == ("beta", "gamma", 100)
    assert grid.across_levels == ("0.01", "1", "100")
    assert grid.up_levels == ("0.001", "0.01", "1", "100")
    assert [(t.across, t.up) for t in grid.tiles if t.is_baseline] == [("1", "0.01")]
    assert grid.missing == 0 and all(tile.n == 3 for tile in grid.tiles)


def test_where_seeds_broke_is_marked_and_counted() -> None:
    info = contours_info(make_runs(grid_trials()))
    ((_, broken),) = grid_breaks(info)
    assert {(tile.across, tile.up) for tile in broken} == {("100", "1"), ("100", "100")}
    assert all((tile.broken, tile.seeds) == (3, 3) for tile in broken)
    assert "diverged or failed (not in it): 6." in info.footer


def test_a_diverged_seed_is_in_no_mean() -> None:
    trials = grid_trials(collapsing=False)
    values = {0: ("finished", 0.9), 1: ("finished", 0.88), 2: ("diverged", math.nan)}
    trials[0] = trials[0]._replace(seeds=values, outcome="diverged")
    tile = contours_info(make_runs(trials)).grids[0].tiles[0]
    assert (tile.mean, tile.n, tile.broken) == (pytest.approx(0.89), 2, 1)


def test_a_cell_not_run_yet_leaves_a_gap_and_a_note() -> None:
    info = contours_info(make_runs(grid_trials()[:-2]))
    assert info.grids[0].missing == 2
    assert info.notes == ("n = 100, β × γ: 2 cells not run yet.",)


def test_without_a_grid_there_is_one_sentence() -> None:
    with pytest.raises(RunsError, match=r"no grid of two factors.*--mode grid"):
        contours_info(make_runs([Trial(seeds(0.9))]))


@pytest.mark.parametrize("sizes", [(100,), (100, 1000), (100, 1000, 10000)])
def test_texts_do_not_overlap(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial for size in sizes for trial in grid_trials(size)]
    info = contours_info(make_runs(trials))
    assert overlapping(draw_contours(info), monkeypatch) == []
    assert len(contours_frame(info)) == 12 * len(sizes)
