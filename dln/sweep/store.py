"""The store: a Zarr group on disk, one array with exactly one chunk, and so one file, per tile.

Zarr makes the template and reads; chunks are written here, because a chunk must be on the disk, whole, before it has its
name, and Zarr does not flush.  A chunk is raw little-endian floats and their CRC-32C, as Zarr's codecs ``bytes`` and
``crc32c`` define it.  All measures of a tile are in one chunk: there is no state in which half of a tile is known.
"""

import contextlib
import errno
import json
import os
import shutil
import struct
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dataset import count, dataset, dtype_of, schema, typed
from .identity import difference
from .lock import locked
from .measures import STATUS

FORMAT = "dln sweep 1"
ARRAY = "values"
#: Cells up to which opening a store counts the failed ones: it must read all chunks.
COUNTED = 10_000_000


def _checksum(data):
    from google_crc32c import value  # what Zarr itself uses

    return struct.pack("<I", value(data))


@dataclass(frozen=True)
class Writer:
    """Writes tiles; small enough to be sent to workers."""

    path: str

    def file(self, place):
        """Return the file of the tile at a position among the tiles."""
        return os.path.join(self.path, ARRAY, "c", "0", *map(str, place))

    def write(self, plan, report):
        """Write a tile: beside its place, flushed to the disk, then moved there, which cannot be seen half done."""
        file, region = self.file(plan.place(report.tile)), plan.region(report.tile)
        chunk = np.full((len(plan.measures), *plan.tile), np.nan, dtype="<f8")
        inside = tuple(slice(0, part.stop - part.start) for part in region)
        chunk[(slice(None), *inside)] = report.values.reshape(-1, *(part.stop for part in inside))
        data = chunk.tobytes()
        write_file(file, data + _checksum(data))


def write_file(file, data):
    """Write a file that is there as a whole or not at all, whatever happens and when.

    It is flushed before it has its name. The name itself is not: a tile that is not there after a power cut is computed again,
    while flushing folders would take as long as the files.
    """
    folder = os.path.dirname(file)
    os.makedirs(folder, exist_ok=True)
    beside = os.path.join(folder, f".{os.path.basename(file)}.{uuid.uuid4().hex[:12]}.part")
    try:
        with open(beside, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = file
        raise


def _flush_folder(folder):
    # The new name is in the folder, which has a buffer of its own; where folders cannot be flushed there is nothing to do.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Store:
    """A store that is open for one sweep, or one shard of it; a context manager that holds its lock."""

    def __init__(self, path, plan, shard):
        self.path, self.plan, self.shard = Path(path), plan, shard
        self.writer = Writer(str(self.path.absolute()))
        self.n_damaged = 0

    @classmethod
    def opened(cls, path, plan, shard=None):
        """Return the store of a plan: a new one, or the one that is there if it is of the same sweep."""
        path = Path(path)
        if path.suffix != ".zarr":
            raise ValueError(f"store {str(path)!r} must end in .zarr")
        if not path.parent.is_dir():
            raise ValueError(f"store {str(path)!r}: the folder {str(path.parent)!r} does not exist; make it first")
        return cls(path, plan, shard)

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        try:
            self._stack.enter_context(locked(self.path, self.shard))
            if not self.path.exists():
                self._create()
            self._compare()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error):
        self._stack.close()

    # --- the template ---------------------------------------------------------------------------------------------------

    def _create(self):
        """Make the template beside its place, then move it there: of several shards that begin at once one is first."""
        import zarr
        from zarr.codecs import BytesCodec, Crc32cCodec

        plan = self.plan
        beside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:12]}.part")
        try:
            told = schema(plan)
            group = zarr.open_group(str(beside), mode="w", zarr_format=3)
            group.attrs.update({"format": FORMAT, "identity": plan.identity, "schema": told, **told["attributes"]})
            names = [axis["name"] for axis in told["axes"]]
            group.create_array(
                ARRAY, shape=(len(plan.measures), *plan.shape), chunks=(len(plan.measures), *plan.tile), dtype="float64",
                fill_value=float("nan"), filters=None, compressors=[Crc32cCodec()],
                serializer=BytesCodec(endian="little"), dimension_names=["measure", *names],
                attributes={"measures": [measure.name for measure in plan.measures]})
            for axis in told["axes"]:
                for name, values in axis["values"].items():
                    column = np.array(values)
                    if column.dtype.kind in "if" and column.ndim == 1:  # words and vectors are in the attributes
                        made = group.create_array(name, shape=column.shape, chunks=column.shape, dtype=column.dtype,
                                                  dimension_names=[axis["name"]])
                        made[:] = column
            for folder, _, files in os.walk(beside):
                for file in files:
                    with open(os.path.join(folder, file), "rb") as written:
                        os.fsync(written.fileno())
                _flush_folder(folder)
            try:
                os.rename(beside, self.path)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            _flush_folder(self.path.absolute().parent)
        except OSError as error:
            if error.filename is None:  # a full disk, which zarr tells without the file
                error.filename = str(self.path)
            raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _compare(self):
        """Refuse a store of another sweep, naming the first thing that differs."""
        attributes = read_attributes(self.path)
        here = json.loads(json.dumps(self.plan.identity))
        found = difference(attributes["identity"], here)
        if found:
            raise ValueError(f"{self.path} holds another sweep: {found}; give another store, or the same arguments")
        told = schema(self.plan)
        for name in ("dln_sources", "versions"):
            if attributes["schema"]["attributes"][name] != told["attributes"][name]:
                before = attributes["schema"]["attributes"][name]
                warnings.warn(f"{self.path} was begun with other software ({name}: {before} there, {told['attributes'][name]} "
                              f"here): cells may differ in their last digits", RuntimeWarning, stacklevel=4)

    # --- tiles ----------------------------------------------------------------------------------------------------------

    def unfinished(self, order):
        """Return those of the tiles that must be computed: not there, or damaged; these are removed, and counted."""
        left = []
        for tile in map(int, order):
            file = self.writer.file(self.plan.place(tile))
            found = read_chunk(file, (len(self.plan.measures), *self.plan.tile))
            if found is None:
                left.append(tile)
                if os.path.exists(file):
                    self.n_damaged += 1
                    os.unlink(file)
        self._sweep_up(left)
        return np.array(left, dtype=np.int64)

    def _sweep_up(self, left):
        # What a killed run has left half written; beside its own tiles only, as other shards may be at work.
        for folder in {os.path.dirname(self.writer.file(self.plan.place(tile))) for tile in left}:
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(folder):
                    if name.endswith(".part") and self.shard is None:
                        os.unlink(os.path.join(folder, name))

    def dataset(self):
        """Return what is in the store as a Dataset."""
        return open_sweep(self.path)


def read_chunk(file, shape):
    """Return a chunk's values, or None if it is not there, or damaged."""
    try:
        with open(file, "rb") as written:
            data = written.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    if len(data) != 8 * int(np.prod(shape)) + 4 or _checksum(data[:-4]) != data[-4:]:
        return None
    return np.frombuffer(data[:-4], dtype="<f8").reshape(shape)


def read_attributes(path):
    """Return the attributes of a store, or say in one line why it is none."""
    file = Path(path) / "zarr.json"
    if not Path(path).exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such store", str(path))
    try:
        attributes = json.loads(file.read_text(encoding="utf-8"))["attributes"]
        if attributes["format"] != FORMAT:
            raise KeyError
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a store of dln.sweep ({file.name} is missing, damaged or of another program): give "
                         f"another path") from None
    return attributes


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def open_sweep(path, *, count_failed=None):
    """Open the store of a sweep, finished or not.

    Parameters
    ----------
    path : path
        The folder ``grid.zarr``.
    count_failed : bool, optional
        Count the cells that failed and those not computed, which reads everything; by default up to ten million cells.

    Returns
    -------
    xarray.Dataset
        Shaped by the axes; cells not computed are NaN with the status -1, "not computed".  Values are read when they are
        looked at.

    Raises
    ------
    ValueError, OSError
        If there is no store of a sweep.
    """
    attributes = read_attributes(path)
    told = attributes["schema"]
    import zarr

    array = zarr.open_array(str(Path(path) / ARRAY), mode="r")
    n_cells = int(np.prod(array.shape[1:], dtype=np.int64))
    counts = None
    if count_failed or (count_failed is None and n_cells <= COUNTED):
        counts = _counts(path, array, told)
    return dataset(told, lambda k: _lazy(path, array, k, told["variables"][k]["kind"]), counts)


def _counts(path, array, told):
    """Count failed cells and those not computed, one chunk in memory at a time."""
    assert told["variables"][0]["name"] == STATUS
    failed = present = 0
    writer = Writer(str(path))
    tiles = [-(-size // step) for size, step in zip(array.shape[1:], array.chunks[1:], strict=True)]
    for place in np.ndindex(*tiles):
        chunk = read_chunk(writer.file(place), array.chunks)
        if chunk is None:
            continue
        inside = tuple(slice(0, min(step, size - k * step))
                       for k, step, size in zip(place, array.chunks[1:], array.shape[1:], strict=True))
        status = typed("status", chunk[0][inside])
        failed += count(status)[0]
        present += status.size
    return failed, int(np.prod(array.shape[1:], dtype=np.int64)) - present


def _lazy(path, array, k, kind):
    """Return variable number k as an array that is read, in its own type, when it is looked at."""
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Stored(BackendArray):
        shape, dtype = array.shape[1:], dtype_of(kind)

        def __getitem__(self, key):
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

        def _read(self, key):
            try:
                found = np.asarray(array[(k, *key)])
            except ValueError as error:
                raise ValueError(f"a chunk of {path} is damaged ({error}): run the sweep again with the same arguments, which "
                                 f"computes it again") from error
            return typed(kind, found)

    return indexing.LazilyIndexedArray(Stored())
