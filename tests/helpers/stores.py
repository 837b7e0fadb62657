"""The files of a stored sweep."""

from pathlib import Path


def tiles(store):
    """List the files of the tiles of a store; a worker that was killed may leave a part of one, which does not count."""
    files = (Path(store) / "values" / "c").rglob("*")
    return sorted(file for file in files if file.is_file() and not file.name.endswith(".part"))
