from reconpatch.pipeline.figures.positions import on_grid


def test_positions_of_the_figure_lie_on_every_grid() -> None:
    for side in range(1, 300):
        positions = on_grid(side, side)
        assert all(0 <= x < side and 0 <= y < side for x, y in positions)
        assert len(set(positions)) == len(positions) or side <= 10  # on coarse grids two coincide
