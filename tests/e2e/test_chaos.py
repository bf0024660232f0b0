#!/usr/bin/python3
"""Supervisor and workers die at random instants under load: every acknowledged job ends once.

    PL_TEST_SEED=N PL_TEST_SECONDS=N … python3 test_chaos.py

A client of its own speaks the protocol (docs/PROTOCOL.md), because it has to know exactly which
submits were acknowledged when a connection breaks.
"""
import os
import pathlib
import random
import signal
import socket
import threading
import time
import unittest

import lib

try:
    import msgpack
except ImportError:
    msgpack = None

SECONDS = float(os.environ.get('PL_TEST_SECONDS', '8'))

CONFIG = """\
version: 1
name: chaos
pools:
  work:
    max_units: 6
    max_queue_depth: 200000
    crash_limit: 1000
    queue: memory
    mailbox: {storage: memory}
    workers:
      - {name: echo, replicas: 2, concurrency: 4, handles: [echo], executor: {plugin: echo}}
      - {name: sleep, replicas: 2, concurrency: 4, handles: [sleep], executor: {plugin: sleep}}
"""


class Client:
    """One connection; raises OSError or EOFError when it breaks."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(lib.LIMIT)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        self.number = 0
        self.call('hello', proto=1, client='chaos')

    def call(self, method, **params):
        self.number += 1
        self.socket.sendall(msgpack.packb([0, self.number, method, [params]]))
        while True:
            for message in self.unpacker:
                if message[0] == 1 and message[1] == self.number:
                    if message[2] is not None:
                        raise RuntimeError(message[2])
                    return message[3]
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.unpacker.feed(data)

    def close(self):
        self.socket.close()


class Load(threading.Thread):
    """Submits until told to stop; remembers what was acknowledged."""

    def __init__(self, path, seed):
        super().__init__()
        self.path, self.random, self.stop = path, random.Random(seed), False
        self.acknowledged, self.breaks = {}, 0

    def run(self):
        client = None
        while not self.stop:
            try:
                client = client or Client(self.path)
                kind = self.random.choice(['echo', 'echo', 'sleep'])
                payload = str(self.random.randrange(30) if kind == 'sleep'
                              else self.random.random()).encode()
                ticket = client.call('job.submit', pool='work', type=kind, payload=payload,
                                     cost=self.random.randrange(4))
                self.acknowledged[ticket['id']] = payload
                if len(self.acknowledged) % 20 == 0:  # stay ahead of the workers, not far
                    client.call('job.wait', id=ticket['id'])
            except (OSError, EOFError):
                self.breaks += 1
                if client:
                    client.close()
                client = None
                time.sleep(0.001)  # nobody listens for an instant: not a wait for a result
        if client:
            client.close()


@unittest.skipIf(msgpack is None, 'needs python3-msgpack')
class Chaos(lib.Test):
    config = CONFIG

    def test_nothing_acknowledged_is_lost_or_ends_twice(self):
        seed = int(os.environ.get('PL_TEST_SEED', str(random.randrange(1 << 32))))
        print(f'seed {seed}, {SECONDS:.0f} s', flush=True)
        rng = random.Random(seed)
        path = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        loads = [Load(path, rng.random()) for _ in range(3)]
        for load in loads:
            load.start()
        kills = {'supervisor': 0, 'worker': 0}
        try:
            self.kill_at_random(rng, kills)
        finally:
            for load in loads:
                load.stop = True
            for load in loads:
                load.join()
        acknowledged = {}
        for load in loads:
            acknowledged.update(load.acknowledged)
        self.assertGreater(len(acknowledged), 100)
        self.assertGreater(kills['supervisor'], 0)
        again = self.check(path, acknowledged)
        # The death of a supervisor costs nobody an attempt; that of a worker those of its slots.
        self.assertLessEqual(again, 4 * kills['worker'])
        print(f'{len(acknowledged)} acknowledged, kills {kills}, '
              f'{sum(load.breaks for load in loads)} broken connections')

    def kill_at_random(self, rng, kills):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(rng.random() * 0.5)
            try:
                stats = self.instance.plctl('stats', '--json').json()
            except ValueError:
                continue
            victims = [('supervisor', stats['supervisor']['pid'])]
            for pool in stats['pools']:
                victims += [('worker', worker['pid']) for worker in pool['workers']
                            if worker['pid'] and worker['state'] in ('ready', 'busy', 'idle')]
            kind, pid = rng.choice(victims) if rng.random() < 0.7 else victims[0]
            if lib.alive(pid) and pid in lib.processes_with(self.instance.dir.name) + [pid]:
                os.kill(pid, signal.SIGKILL)
                kills[kind] += 1

    def check(self, path, acknowledged):
        client = lib.until('it serves again', lambda: connect(path))
        again = 0
        for job, payload in acknowledged.items():
            outcome = client.call('job.wait', id=job, result=True, timeout_ms=60000)
            self.assertEqual(outcome['outcome'], 1, outcome)
            self.assertEqual(outcome.get('result', b''), payload)
            again += outcome['attempt'] - 1
        self.assertEqual(client.call('instance.status')['queued'], 0)
        client.close()
        pool = self.instance.stats()['pools'][0]
        units = pool['units']['units']
        self.assertEqual(units['used'], 0)
        self.assertLessEqual(units['peak'], units['capacity'])
        return again


def connect(path):
    try:
        return Client(path)
    except (OSError, EOFError):
        return None


if __name__ == '__main__':
    lib.main()
