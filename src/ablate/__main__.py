"""`python -m ablate`: the first word is a verb, or else Hydra overrides."""

import sys

from ablate.search_path import leave_out_working_folder

if __name__ == "__main__":  # before any import that a file of the working folder could answer
    leave_out_working_folder()

import errno
import os
import select
from collections.abc import Sequence
from pathlib import Path

VERBOSE = ("-v", "--verbose")  # print log messages (see `ablate.log`)
UNREAD = 141  # exit code where nobody reads standard output any more, as after `| head -1`; a shell says it of SIGPIPE
INTERRUPTED = 130  # exit code after Ctrl-C, as a shell says it of SIGINT
# What the system refuses, whoever asks: of a disk that is full, of a path that cannot be or must not be used.
REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    if arguments is None:
        leave_out_working_folder()  # of a console script, into whose path PYTHONPATH may bring it
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _answered(words)
    except KeyboardInterrupt:  # before the command has begun, such as while libraries are imported
        return INTERRUPTED
    except Exception as error:
        from ablate.cli.unforeseen import report_unforeseen

        return report_unforeseen(error, words)


def _answered(words: Sequence[str]) -> int:
    """Run the command line; return the exit code, also for what the system refuses."""
    try:
        code = _run(words)
        _flush()
    except BrokenPipeError:
        if not _is_unread():
            raise
        _drop_output()
        return UNREAD
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        is_of_output = _drop_output()
        place = error.filename or ("standard output" if is_of_output else "")
        from ablate.cli.messages import fail

        return fail(f"{place}: {error.strerror}" if place else str(error.strerror))
    return code


def _run(words: Sequence[str]) -> int:
    try:
        Path.cwd()
    except FileNotFoundError:
        print("ablate: the working folder does not exist any more: cd into one that does", file=sys.stderr)  # noqa: T201
        return 2
    from ablate.cli.help import asks_for_help, help_text

    verbose = any(word in VERBOSE for word in words)
    words = [word for word in words if word not in VERBOSE]  # neither Hydra nor the record of a sweep's command has it
    if asks_for_help(words):
        print(help_text())  # noqa: T201
        return 0
    from ablate.cli.hydra_bridge import run
    from ablate.cli.messages import fail
    from ablate.cli.verbs import VERBS
    from ablate.errors import ConfigError, nearest
    from ablate.log import configure

    try:
        configure(verbose=verbose)
    except ConfigError as error:
        return fail(str(error))
    odd = next((word for word in words if not _is_text(word)), None)
    if odd is not None:
        return fail(f"{odd.encode(errors='surrogateescape').decode(errors='replace')}: this is no UTF-8")
    if "#" in words:
        return fail("'#': the shell passed a comment on; zsh takes one where it is told to: setopt interactivecomments")
    first = words[0] if words else ""
    if first in VERBS:
        return VERBS[first](words[1:])
    if first.isidentifier():
        guess = nearest(first, VERBS)
        return fail(f"'{first}': no such command. {guess}valid: {', '.join(VERBS)}, or overrides such as module=hmha")
    return run(words)


def _is_text(word: str) -> bool:
    """Tell whether a word of the command line is text; records, which hold the command and its paths, are UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _flush() -> None:
    if sys.stdout is not None:  # None where it was closed before we were started
        sys.stdout.flush()


def _is_unread() -> bool:
    """Tell whether standard output is a pipe that nobody reads any more."""
    if sys.stdout is None:
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _drop_output() -> bool:
    """Send what is left of standard output nowhere where it cannot be written, so that Python ends quietly.

    Returns:
        Whether that was so.
    """
    try:
        _flush()
    except OSError:
        pass
    else:
        if not _is_unread():
            return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return True


if __name__ == "__main__":
    sys.exit(main())
