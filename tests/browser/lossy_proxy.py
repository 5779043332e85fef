"""A TCP proxy between a client and the service that loses a connection, once."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

CHUNK_BYTES = 16_384


class LossyProxy:
    """After `limit` bytes of the body of the first PATCH its connection is cut, or falls silent towards the service, as
    that of a lost Wi-Fi does: nothing comes over it any more, and nobody closes it."""

    def __init__(self, address: str, limit: int, silent: bool = False):
        url = urlsplit(address)
        self.target, self.limit, self.silent = (url.hostname, url.port), limit, silent
        self.losses = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._silent_sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()
        for connection in self._silent_sockets:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self.target)
            threading.Thread(target=self._forward_requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._forward_responses, args=(server, client), daemon=True).start()

    def _forward_requests(self, client: socket.socket, server: socket.socket) -> None:
        sent, is_part = 0, False
        try:
            while chunk := client.recv(CHUNK_BYTES):
                is_part = is_part or b"PATCH " in chunk
                if is_part and not self.losses:
                    sent += len(chunk)
                    if sent > self.limit:
                        self.losses += 1
                        if self.silent:
                            self._silent_sockets.append(server)
                            while client.recv(CHUNK_BYTES):
                                pass
                            return
                        break
                server.sendall(chunk)
        except OSError:
            pass
        if server not in self._silent_sockets:
            _close(server)
            _close(client)

    def _forward_responses(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while chunk := server.recv(CHUNK_BYTES):
                client.sendall(chunk)
        except OSError:
            pass
        _close(client)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
