"""Clients that break the rules, while a good client's jobs go on."""
import os
import pathlib
import random
import select
import socket
import struct
import sys
import threading
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent),
                str(pathlib.Path(__file__).resolve().parent.parent)]
import lib
import wire

SEED = int(os.environ.get('PL_TEST_SEED', '20260714'))
CONFIG = """\
version: 1
name: load
pools:
  p:
    max_units: 8
    max_queue_depth: 1000
    queue: memory
    workers:
      - {name: echo, kind: cpu, replicas: 2, handles: [echo], executor: {plugin: echo}}
"""


class Good(threading.Thread):
    """Runs one job after the other; `step()` waits until some more have ended."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.count, self.error, self.ending = path, 0, None, False
        self.more = threading.Condition()
        self.start()

    def run(self):
        try:
            client = wire.Client(self.path)
            while not self.ending:
                payload = b'job %d' % self.count
                ended = client.run(payload)
                assert ended['outcome'] == 1 and ended['result'] == payload, ended
                with self.more:
                    self.count += 1
                    self.more.notify_all()
            client.close()
        except BaseException as error:  # told by step() in the test's own thread
            with self.more:
                self.error = error
                self.more.notify_all()

    def step(self, jobs=20):
        with self.more:
            goal = self.count + jobs
            done = self.more.wait_for(lambda: self.error or self.count >= goal, lib.LIMIT)
            if self.error:
                raise AssertionError(f'the good client failed: {self.error!r}') from self.error
            assert done, f'the good client stands at job {self.count}, {goal} were to come'

    def end(self):
        self.ending = True
        self.join(lib.LIMIT)
        assert not self.is_alive(), 'the good client does not end'
        if self.error:
            raise AssertionError(f'the good client failed: {self.error!r}')


def closed(sock):
    """Reads until the server has closed; what it sent before."""
    data = b''
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionError:
            piece = b''
        if not piece:
            sock.close()
            return data
        data += piece


class Hostile(lib.Test):
    config = CONFIG

    def setUp(self):
        super().setUp()
        self.path = wire.socket_of(self.instance)
        self.pid = self.instance.supervisor_pid()
        self.good = Good(self.path)
        self.good.step()

    def tearDown(self):
        self.good.end()
        self.assertEqual(self.instance.supervisor_pid(), self.pid, 'the supervisor was replaced')

    def test_garbage(self):
        """Random bytes: cut off, or silently waited for; never harmful."""
        print('seed', SEED)
        rng = random.Random(SEED)
        for _ in range(60):
            sock = wire.raw(self.path)
            try:
                sock.sendall(rng.randbytes(rng.randrange(1, 3000)))
                sock.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass  # it has seen enough
            closed(sock)
        self.good.step()

    def test_half_frames(self):
        """Messages cut at every place; those that stay open cost the others nothing."""
        whole = wire.pack([0, 1, 'hello', [{'proto': 1, 'client': 'half'}]])
        held = []
        for length in range(1, len(whole)):
            sock = wire.raw(self.path)
            sock.sendall(whole[:length])
            held.append(sock)
        self.good.step()
        for sock in held[::2]:  # some leave in the middle, some say the rest first
            sock.close()
        for at, sock in list(enumerate(held))[1::2]:
            sock.sendall(whole[at + 1:])
            first = sock.recv(65536)
            self.assertTrue(first)
            sock.close()
        self.good.step()

    def test_bombs(self):
        """Five bytes that announce gigabytes."""
        bombs = [b'\xdd\xff\xff\xff\xff', b'\xdf\xff\xff\xff\xff', b'\xc6\xff\xff\xff\xff',
                 b'\xdb\xff\xff\xff\xff', b'\x91' * 5, b'\x81' * 5, b'\xc9\xff\xff\xff\xff']
        before = self.memory()
        for first in bombs + [b'\x91' * 100000]:
            for greeted in (False, True):
                client = wire.Client(self.path, hello=greeted)
                try:
                    client.sock.sendall(first)
                    client.sock.shutdown(socket.SHUT_WR)
                except ConnectionError:
                    pass
                closed(client.sock)
        frame = b'\x94\x00\x02' + wire.pack('job.submit') + b'\x91\x81' + wire.pack('payload')
        for lie in (b'\xc6' + struct.pack('>I', 0xfffffff0), b'\xdd\x7f\xff\xff\xff'):
            client = wire.Client(self.path)
            client.sock.sendall(frame + lie)
            client.sock.shutdown(socket.SHUT_WR)
            closed(client.sock)
        self.good.step()
        self.assertLess(self.memory() - before, 64 << 20, 'memory was taken for what was announced')

    def memory(self):
        with open(f'/proc/{self.pid}/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')

    def test_subscriber_that_never_reads(self):
        """It is given up or told that it lags; nobody waits for it."""
        client = wire.Client(self.path)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.call('event.subscribe', credit=1 << 40)
        requests = wire.pack([0, 77, 'api.describe', [{}]])
        client.sock.setblocking(False)
        try:  # and asks for large answers that it does not take either
            for _ in range(2000):
                client.sock.send(requests)
        except (BlockingIOError, ConnectionError):
            pass
        before = self.memory()
        self.good.step(600)
        self.assertLess(self.memory() - before, 128 << 20)
        # At least some of what was meant for it is there, or it was cut off.
        self.assertTrue(select.select([client.sock], [], [], lib.LIMIT)[0])
        client.close()
        self.good.step()

    def test_five_hundred_connections(self):
        """They come at once, half of them mute, and all leave at once."""
        mute = [wire.raw(self.path) for _ in range(250)]
        speaking = [wire.Client(self.path) for _ in range(250)]
        self.good.step()
        numbers = [client.send('job.submit', type='echo', payload=b'x') for client in speaking]
        for client, number in zip(speaking, numbers):
            self.assertEqual(len(client.reply(number)['id']), 16)
        for sock in mute:
            sock.close()
        for client in speaking:
            client.close()
        self.good.step()
        control = wire.Client(self.path)
        lib.until('the connections are gone',
                  lambda: control.call('instance.status')['clients'] <= 3)
        control.close()

    def test_requests_without_hello_and_nonsense(self):
        client = wire.Client(self.path, hello=False)
        with self.assertRaises((wire.Failure, ConnectionError)):
            client.call('job.submit', type='echo')
        client.close()
        client = wire.Client(self.path)
        for method, params in [('no.such', {}), ('job.submit', {'type': 7}),
                               ('job.wait', {'id': b'short'}), ('job.cancel', {}),
                               ('job.submit', {'type': 'echo', 'cost': -1})]:
            with self.assertRaises(wire.Failure, msg=method):
                client.call(method, **params)
        self.assertEqual(client.run(b'still fine')['result'], b'still fine')
        client.close()
        self.good.step()


if __name__ == '__main__':
    unittest.main(verbosity=2)
