"""Whether other processes of this machine are still there."""

import os
import socket


def has_ended(host, process):
    """Whether a process, by its number, was one of this machine and is no more; where that cannot be told, it has not."""
    if host != socket.gethostname() or os.name != "posix":  # elsewhere os.kill would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's
        pass
    return False
