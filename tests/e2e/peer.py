"""A client of its own for tests that must know exactly which request was answered when a connection
breaks: MessagePack-RPC as in docs/PROTOCOL.md, nothing of ours but the bytes.
"""
import socket

import lib

try:
    import msgpack
except ImportError:  # Debian: python3-msgpack
    msgpack = None

# Numbers of include/parkinglot/status.h.
NOT_FOUND, NO_JOB, CONFLICT, NOT_READY, TIMEOUT = -12, -13, -23, -37, -8

IN_FLIGHT = 128  # requests sent ahead of their replies; the server takes 256


class Refused(Exception):
    """The server answered with an error: code, message."""

    @property
    def code(self):
        return self.args[0][0]


class Client:
    """One connection; raises OSError or EOFError when it breaks."""

    def __init__(self, path, timeout=lib.LIMIT):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.number = 0
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        try:
            self.socket.connect(str(path))
            self.hello = self.call('hello', proto=1, client='python test')
        except (OSError, EOFError):
            self.socket.close()
            raise

    def send(self, method, params):
        self.number += 1
        self.socket.sendall(msgpack.packb([0, self.number, method, [params]]))
        return self.number

    def receive(self):
        """The next reply: (number, error, result)."""
        while True:
            for message in self.unpacker:
                if message[0] == 1:
                    return message[1:]
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self.unpacker.feed(data)

    def call(self, method, **params):
        number = self.send(method, params)
        while True:
            answered, error, result = self.receive()
            if answered == number:
                if error is not None:
                    raise Refused(error)
                return result

    def call_many(self, requests):
        """Replies to [(method, params)] in their order: a result, or a Refused."""
        replies = {}
        numbers = []
        for method, params in requests:
            if len(numbers) - len(replies) >= IN_FLIGHT:
                self._take(replies)
            numbers.append(self.send(method, params))
        while len(replies) < len(numbers):
            self._take(replies)
        return [replies[number] for number in numbers]

    def _take(self, replies):
        number, error, result = self.receive()
        replies[number] = result if error is None else Refused(error)

    def close(self):
        self.socket.close()


def connect(path, timeout=lib.LIMIT):
    """A client, or None when nobody serves."""
    try:
        return Client(path, timeout)
    except (OSError, EOFError, Refused):
        return None
