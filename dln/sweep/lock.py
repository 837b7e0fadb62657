"""One process per store, or per shard of it: a second one is refused, and a dead one does not count."""

import contextlib
import errno
import json
import os
import socket
import uuid

from .._processes import has_ended

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}


@contextlib.contextmanager
def locked(path, shard=None):
    """Hold the lock of a store: alone, or together with other shards.

    The lock is that of the operating system on a file beside the store: it goes when the process goes, however that ends, so
    it cannot be left behind.  On a file system without such locks the file itself is the lock; one that a process of this
    machine has left behind is then recognised by the number of the process.

    Raises
    ------
    BlockingIOError
        If another process holds it: one line that says which.
    """
    whole = path.with_name(f"{path.name}.lock")
    with contextlib.ExitStack() as stack:
        if shard is None:
            stack.enter_context(_file_locked(whole, True, path))
        else:
            stack.enter_context(_file_locked(whole, False, path))
            mine = path.with_name(f"{path.name}.shard-{shard[0]}-of-{shard[1]}.lock")
            stack.enter_context(_file_locked(mine, True, path))
        yield


@contextlib.contextmanager
def _file_locked(file, alone, path):
    if not _has_locks(file):
        with _by_existence(file, path, alone):
            yield
        return
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            holder = _read(file)
            os.close(handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _refusal(path, holder) from None
            raise
        # Whoever had it before may have removed the file between its opening and its locking: then this is a lock of nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == os.stat(file).st_ino:
                break
        os.close(handle)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, _signature(), 0)
        yield
    finally:
        # Only who holds it alone may remove it: other shards may have it, too.
        with contextlib.suppress(OSError):
            if not alone:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(file)
        os.close(handle)


def _has_locks(file):
    """Whether the file system has locks; tried on another file, as who has the lock may have made the file itself."""
    if fcntl is None:
        return False
    other = file.with_name(f".{file.name}.{uuid.uuid4().hex[:12]}.part")
    handle = os.open(other, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    finally:
        os.close(handle)
        os.unlink(other)
    return True


@contextlib.contextmanager
def _by_existence(file, path, alone):
    if not alone:  # shards have locks of their own
        yield
        return
    for _ in range(2):
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            break
        except FileExistsError:
            holder = _read(file)
            if not (holder and has_ended(holder["host"], holder["pid"])):
                raise _refusal(path, holder) from None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
    else:
        raise _refusal(path, _read(file))
    try:
        os.write(handle, _signature())
        os.close(handle)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(file)


def _signature():
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()


def _read(file):
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {"pid": int(found["pid"]), "host": str(found["host"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _refusal(path, holder):
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    return BlockingIOError(errno.EWOULDBLOCK, f"{who} works on this store: wait for it, or give another store", str(path))
