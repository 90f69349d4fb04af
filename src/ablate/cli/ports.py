"""The port of `ablate ui`: read, and tried before MLflow is started."""

from __future__ import annotations

import argparse
import errno

from ablate.errors import ConfigError


def port(text: str) -> int:
    """Read the number of a port."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: a whole number from 1 to 65535 is needed")
    return int(text)


def check_port(port: int) -> None:
    """Raise ConfigError where nothing can be served on a port of this machine."""
    import socket

    for number in (port, 0):  # 0: the system picks a free one, to propose it
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("127.0.0.1", number))
                if number == port:
                    return
                free = server.getsockname()[1]
            except OSError as error:
                if number != port:
                    raise ConfigError(f"--port={port}: nothing can be served here: {error.strerror}") from error
                reason = "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    raise ConfigError(f"--port={port}: {reason}; another one is free, such as --port={free}")
