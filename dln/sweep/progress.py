"""A progress bar with the time that is left, quiet where nobody looks."""

import sys
from contextlib import contextmanager


@contextmanager
def bar(progress, plan, order, finished):
    """Give a function that is called with every `TileReport`.

    Parameters
    ----------
    progress : bool, callable or None
        None: a bar on a terminal only; a function is called as ``progress(done, n_cells)``.
    plan : Plan
    order : sequence of int
        All tiles of the sweep, or of its shard.
    finished : sequence of int
        Tiles that were there before.
    """
    if progress is None:
        progress = sys.stderr is not None and sys.stderr.isatty()
    if not progress:
        yield lambda report: None
        return
    done, n_cells = (sum(_cells(plan, tile) for tile in some) for some in (finished, order))
    if callable(progress):

        def call(report):
            nonlocal done
            done += report.n_cells
            progress(done, n_cells)

        yield call
        return
    from tqdm import tqdm

    # The bar counts predicted cost, not cells: the expensive ones come first, and the time left would be far too long.
    total, failed = sum(plan.cost(tile) for tile in order), 0
    form = "{percentage:3.0f}%|{bar}| {postfix} [{elapsed}<{remaining}]"
    with tqdm(total=total, initial=sum(plan.cost(tile) for tile in finished), bar_format=form, file=sys.stderr) as shown:

        def show(report):
            nonlocal done, failed
            done, failed = done + report.n_cells, failed + report.n_failed
            shown.set_postfix_str(f"{done}/{n_cells} cells" + (f", {failed} failed" if failed else ""), refresh=False)
            shown.update(plan.cost(report.tile))

        yield show


def _cells(plan, tile):
    count = 1
    for part in plan.region(tile):
        count *= part.stop - part.start
    return count
