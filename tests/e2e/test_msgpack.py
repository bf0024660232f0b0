#!/usr/bin/python3
"""A client that has only a MessagePack codec and docs/PROTOCOL.md."""
import socket
import sys

import lib

try:
    import msgpack
except ImportError:  # Debian: python3-msgpack
    print('skipped: python3-msgpack is not installed')
    sys.exit(77)


class Peer:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(lib.LIMIT)
        self.socket.connect(str(path))
        self.unpacker = msgpack.Unpacker(raw=False)
        self.id = 0

    def call(self, method, **params):
        self.id += 1
        self.socket.sendall(msgpack.packb([0, self.id, method, [params]], use_bin_type=True))
        while True:
            for message in self.unpacker:
                if message[0] == 1 and message[1] == self.id:
                    return message[2], message[3]
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError('the supervisor hung up')
            self.unpacker.feed(data)


class Protocol(lib.Test):
    def setUp(self):
        super().setUp()
        path = self.instance.dir / 'run/parking-lot/e2e/pl.sock'
        self.peer = Peer(path)
        self.addCleanup(self.peer.socket.close)

    def test_submit_and_result(self):
        error, hello = self.peer.call('hello', proto=1, client='python test')
        self.assertIsNone(error)
        self.assertEqual(hello['proto'], 1)
        error, ticket = self.peer.call('job.submit', pool='quick', type='echo', payload=b'\x00hi')
        self.assertIsNone(error)
        self.assertEqual(len(ticket['id']), 16)
        error, outcome = self.peer.call('job.wait', id=ticket['id'], result=True)
        self.assertIsNone(error)
        self.assertEqual((outcome['outcome'], outcome['result']), (1, b'\x00hi'))

    def test_errors_have_three_parts(self):
        self.peer.call('hello', proto=1)
        error, result = self.peer.call('job.submit', pool='nowhere', type='echo')
        self.assertIsNone(result)
        self.assertEqual(error[0], -14)
        self.assertIn('nowhere', error[1])

    def test_describe(self):
        self.peer.call('hello', proto=1)
        error, api = self.peer.call('api.describe')
        self.assertIsNone(error)
        self.assertIn('job.submit', {method['name'] for method in api['methods']})


if __name__ == '__main__':
    lib.main()
