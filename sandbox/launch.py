"""Become a server process that does not outlive the process that started it.

    python -I -S launch.py PARENT SIGNAL USER GROUP REACH... -- COMMAND...

A script of its own, not a `preexec_fn`: the code that runs between fork and exec
in a process with threads can deadlock, and a fresh interpreter without `site`
costs 15 ms. It replaces itself by COMMAND, so the pid that was started is the
server's. Needs the standard library only.

PARENT is the pid that must stay alive, SIGNAL what the kernel sends when it dies
(Linux; elsewhere a server may outlive a killed parent). USER and GROUP are
numbers, or "-" to stay who we are. REACH are the paths the server must be able
to enter.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
# <linux/securebits.h>
SECBIT_NO_SETUID_FIXUP = 4
# <linux/capability.h>
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8


class CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(number) for number in (*arguments, 0, 0, 0, 0)[:4]]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(ctypes.c_int(option), *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_capabilities(now: int, after_exec: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
    data = (CapabilityData * 2)(CapabilityData(now, now, after_exec), CapabilityData(0, 0, 0))
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def keep_capability(capability: int) -> None:
    """Hold one capability, and nothing else of root's power, through the exec."""
    mask = 1 << capability
    set_capabilities(mask | 1 << CAP_SETPCAP, mask)
    # PostgreSQL looks for its own binaries with access(2), which else ignores capabilities.
    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    set_capabilities(mask, mask)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def can_enter(path: str) -> bool:
    # access(2) asks for the real user without its capabilities: the plain answer.
    return os.access(path, os.X_OK)


def become(user: int, group: int, reach: Sequence[str]) -> None:
    """Give up root; keep the right to walk through directories only where it is needed.

    A data directory or a virtualenv below /root (mode 0700) is out of reach of any other
    user. Opening /root to everybody would outlast us and moving the data elsewhere would
    surprise its owner, so the server keeps CAP_DAC_READ_SEARCH; containers that do not
    grant it to their root usually grant the wider CAP_DAC_OVERRIDE.
    """
    linux = sys.platform == "linux"
    if linux:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    closed = [path for path in reach if not can_enter(path)]
    if not closed:
        return  # what KEEPCAPS kept ends with the exec
    if linux:
        for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
            try:
                keep_capability(capability)
            except OSError:
                continue
            return
    sys.exit(
        f"This server does not run as root, and the user it runs as (uid {user}) cannot enter "
        f"{closed[0]}: put it where every user may enter, or do not run as root."
    )


def main(parent: str, death_signal: str, user: str, group: str, *rest: str) -> None:
    border = rest.index("--")
    reach, command = rest[:border], rest[border + 1 :]
    if user != "-":
        become(int(user), int(group), reach)
    if sys.platform == "linux":
        # After the change of user, which clears it.
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != int(parent):
            sys.exit("The process that wanted this server is gone.")  # before we could listen
    # Python ignores SIGPIPE, and what is ignored stays ignored through an exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
