"""Entry point of the `reconpatch` command."""

import errno
import os
import select
import sys
from importlib.util import find_spec
from typing import TextIO

from reconpatch.cli.arguments import make_parser
from reconpatch.errors import ReconpatchError, quote
from reconpatch.runtime import sleep_between_work

INTERRUPTED, READER_GONE = 130, 141  # what shells show of processes that SIGINT and SIGPIPE ended


def main() -> None:
    """Run one command. Exit status: what the command returns, 1 with a message for an error, 130 if interrupted, 141
    if the reader of the output, as `head`, has gone.
    """
    sleep_between_work()
    try:
        try:
            status = run()
        finally:  # here, where it may fail: Python would do it at its end, and complain
            if sys.stdout is not None:  # as it is if the shell closed it
                sys.stdout.flush()
    except BrokenPipeError:  # also of other pipes and of sockets
        streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
        if not any(map(reader_gone, streams)):
            raise
        drop_output(*streams)
        status = READER_GONE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        if sys.stdout is not None:
            drop_output(sys.stdout)
        place = quote(error.filename) if error.filename else "the output or for a file"  # unknown once it is open
        print(f"error: no space left for {place}; make room, or set TMPDIR", file=sys.stderr)
        status = 1
    sys.exit(status)


def run() -> int:
    """Run the command that the arguments name -> its exit status."""
    try:
        given = make_parser().parse_args()
        return int(given.call(given) or 0)
    except ReconpatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "reconpatch") or find_spec(package) is not None:  # it is there and lacks a part
            raise
        print(f"error: {package} is not installed; pip install 'reconpatch[workflow]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def reader_gone(stream: TextIO) -> bool:
    """Whether what is written to a stream has no reader any more."""
    gone = select.poll()
    gone.register(stream.fileno(), 0)  # the system tells of errors unasked
    return bool(gone.poll(0))


def drop_output(*streams: TextIO) -> None:
    """Let what was not yet written to these streams vanish, and what is written later."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
