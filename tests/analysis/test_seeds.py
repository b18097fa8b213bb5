from __future__ import annotations

import numpy as np
import pytest
from drawn import overlapping
from handmade import Trial, make_runs, realistic_trials, seeds, sensitivity

from analysis.frames import RunsError
from analysis.seeds import draw_seeds, needed_text, seeds_frame, seeds_info
from analysis.stats import half_width_at, seeds_needed

OFFSETS = (-0.02, 0.0, 0.02)


def cells(noise: float = 0.001) -> list[Trial]:
    """Return cells whose seeds have the same offsets everywhere, and a little noise."""
    generator = np.random.default_rng(0)
    trials = []
    for number in range(8):
        values = [0.9 + offset + float(generator.normal(0, noise)) for offset in OFFSETS]
        level = round(0.1 * number, 1)
        trials.append(Trial(seeds(*values), (sensitivity("alpha", level),), alpha=level))
    return trials


def test_a_seeds_own_part_is_found() -> None:
    (part,) = seeds_info(make_runs(cells())).parts
    assert [seed.median for seed in part.seeds] == pytest.approx(OFFSETS, abs=0.001)
    assert part.std == pytest.approx(0.02, abs=0.002) and part.paired_std < 0.004
    assert part.cells == 8


def test_pairing_needs_fewer_seeds() -> None:
    (part,) = seeds_info(make_runs(cells())).parts
    plain, paired = part.needed[0.005]
    assert plain == seeds_needed(part.std, 0.005) > 50 > 5 > paired
    assert half_width_at(plain, part.std) <= 0.005 < half_width_at(plain - 1, part.std)
    assert f"±0.5 points takes {plain} and {paired}" in (
        needed_text(part, seeds_info(make_runs(cells())).task)
    )


def test_cells_with_a_broken_seed_are_left_out_and_counted() -> None:
    broken = cells()[0]._replace(
        alpha=0.95, seeds={**seeds(0.9, 0.9), 2: ("collapsed", 0.1)}, outcome="collapsed"
    )
    info = seeds_info(make_runs([*cells(), broken]))
    assert (info.parts[0].cells, info.parts[0].left_out) == (8, 1)
    assert "has no score: 1." in info.footer


def test_one_seed_or_one_cell_is_one_sentence() -> None:
    for trials in ([Trial(seeds(0.9)), Trial(seeds(0.8), alpha=0.1)], [Trial(seeds(0.9, 0.8))]):
        with pytest.raises(RunsError, match="fewer than 2 cells with the same seeds"):
            seeds_info(make_runs(trials))


@pytest.mark.parametrize("sizes", [(100,), (100, 1000)])
def test_texts_do_not_overlap(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    info = seeds_info(make_runs(realistic_trials(sizes)))
    assert overlapping(draw_seeds(info), monkeypatch) == []
    assert set(seeds_frame(info)["mark"]) == {"seed", "needed"}
