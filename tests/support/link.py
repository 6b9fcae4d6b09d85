"""A link between two servers that can be cut: from then on, nothing gets through."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from .servers import HOST, free_port


class Link:
    """Passes on what is sent to ``port``, until it is cut.

    Who is at its ends does not notice that: a connection is open, and silent.
    """

    def __init__(self, target: int) -> None:
        """Lead to a port of this machine."""
        self.port = free_port()
        self._target = target
        self._is_cut = threading.Event()
        self._listener = socket.create_server((HOST, self.port))
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.close()
        for end in self._ends:
            end.close()

    def cut(self) -> None:
        """Let nothing more through."""
        self._is_cut.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((HOST, self._target))
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._pass_on, args=(source, sink), daemon=True
                    ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self._is_cut.is_set():
                    return
                sink.sendall(data)
