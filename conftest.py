"""Lets `pytest --nbval nbs` compare notebooks that `nbdev_clean` has cleaned.

Cleaning takes the execution counts away, and nbval refuses a cell that has outputs but no count as
one that was never run. With a count, every cell is run and compared with what it carries.
"""


def pytest_itemcollected(item):
    cell = getattr(item, 'cell', None)
    if cell is not None and cell.execution_count is None: cell.execution_count = 0
