#!/usr/bin/python3
"""Idempotency keys: the same key is the same job, whatever died in between."""
import json
import os
import signal
import subprocess
import uuid

import lib
import peer

CONFIG = """\
version: 1
name: keys
pools:
  quick:
    max_units: 10
    queue: QUEUE
    mailbox: {storage: {type: STORAGE, max_messages: 3}}
    workers:
      - {name: echo, replicas: 1, handles: [echo], executor: {plugin: echo}}
  other:
    max_units: 10
    queue: QUEUE
    idempotency_window: 1s
    workers:
      - {name: echo, replicas: 1, handles: [echo], executor: {plugin: echo}}
  off:
    max_units: 10
    queue: memory
    idempotency_window: 0s
    workers:
      - {name: echo, replicas: 1, handles: [echo], executor: {plugin: echo}}
"""


class Durable(lib.Test):
    config = CONFIG.replace('QUEUE', 'lmdb').replace('STORAGE', 'lmdb')

    def submit(self, key, data='x', pool='quick', code=0, options=()):
        result = self.instance.plctl('submit', 'echo', '-p', pool, '-d', data, '--id-only',
                                     '--idempotency-key', key, *options, code=code)
        return result.out.strip()

    def one(self, program):
        def find():
            pids = [pid for pid in lib.processes_with(self.instance.dir.name)
                    if lib.program_of(pid) == program]
            return pids[0] if len(pids) == 1 else None
        return lib.until(f'one {program} runs', find)

    def supervisor_dies(self):
        old = self.instance.supervisor_pid()
        os.kill(old, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: self.instance.plctl('status').code == 0 and
                  self.instance.supervisor_pid() != old)

    def store_dies(self):
        os.kill(self.one('pl-store'), signal.SIGKILL)

    def power_cut(self):
        self.instance.power_cut()
        self.instance.start()

    def restarts(self):
        return [self.supervisor_dies, self.store_dies, self.power_cut, self.supervisor_dies]

    def test_a_key_is_one_job(self):
        plctl = self.instance.plctl
        first = self.submit('order-42', 'work')
        plctl('wait', first, code=0)
        self.assertEqual(self.submit('order-42', 'work'), first)
        refused = plctl('submit', 'echo', '-p', 'quick', '-d', 'other work', '--idempotency-key',
                        'order-42', code=2)
        self.assertIn('idempotency key', refused.err)
        self.assertNotEqual(self.submit('order-43', 'work'), first)
        self.assertNotEqual(self.submit('order-42', 'work', pool='other'), first)
        # How it is scheduled is not what is to be done.
        self.assertEqual(self.submit('order-42', 'work', options=['--priority', 'high']), first)
        # The outcome is the first one's.
        again = plctl('submit', 'echo', '-p', 'quick', '-d', 'work', '--wait', '--idempotency-key',
                      'order-42', code=0)
        self.assertEqual(again.out, 'work')

    def test_refusals(self):
        plctl = self.instance.plctl
        off = plctl('submit', 'echo', '-p', 'off', '-d', 'x', '--idempotency-key', 'k', code=2)
        self.assertIn('idempotency_window', off.err)
        plctl('submit', 'echo', '-p', 'quick', '-d', 'x', '--idempotency-key', 'k' * 300, code=2)
        # A refused submit, and one that is only tried, use no key up.
        plctl('submit', 'nothing', '-p', 'quick', '-d', 'x', '--idempotency-key', 'k', code=4)
        plctl('submit', 'echo', '-p', 'quick', '-d', 'y', '--dry-run', '--idempotency-key', 'k',
              code=0)
        self.assertTrue(self.submit('k', 'x'))

    def test_keys_outlive_everything(self):
        """Queued, ended, acknowledged, pushed out of the mailbox: it stays the same job."""
        plctl = self.instance.plctl
        ended = {f'ended-{i}': self.submit(f'ended-{i}', f'data {i}') for i in range(8)}
        for job in ended.values():
            plctl('wait', job)
        acked = self.submit('acked', 'a')
        plctl('wait', acked, code=0)
        plctl('mailbox', 'ack', acked)
        plctl('pool', 'pause', 'quick', code=0)
        queued = {f'queued-{i}': self.submit(f'queued-{i}', f'wait {i}') for i in range(5)}
        for restart in self.restarts():
            restart()
            plctl('pool', 'pause', 'quick', code=0)
            with self.subTest(restart=restart.__name__):
                for i in range(8):
                    self.assertEqual(self.submit(f'ended-{i}', f'data {i}'), ended[f'ended-{i}'])
                    self.submit(f'ended-{i}', 'another', code=2)
                for i in range(5):
                    self.assertEqual(self.submit(f'queued-{i}', f'wait {i}'), queued[f'queued-{i}'])
                self.assertEqual(self.submit('acked', 'a'), acked)
        plctl('pool', 'resume', 'quick', code=0)
        for i in range(5):
            plctl('wait', queued[f'queued-{i}'])
        pools = self.instance.stats()['pools']
        quick = next(pool for pool in pools if pool['name'] == 'quick')
        self.assertEqual(quick['queued'] + quick['running'], 0)
        if self.power_cut in self.restarts():
            self.power_cut()
            for i in range(5):
                self.assertEqual(self.submit(f'queued-{i}', f'wait {i}'), queued[f'queued-{i}'])

    def test_a_window_ends(self):
        first = self.submit('short', 'x', pool='other')
        self.assertEqual(self.submit('short', 'x', pool='other'), first)
        self.instance.plctl('wait', first, code=0)
        second = lib.until('the window is over', lambda: (
            lambda job: job if job != first else None)(self.submit('short', 'x', pool='other')))
        for restart in self.restarts():
            restart()
        third = self.submit('short', 'x', pool='other')
        self.assertNotIn(third, (first, None))
        self.assertNotEqual(second, first)

    def test_twice_in_one_batch(self):
        if peer.msgpack is None:
            self.skipTest('python3-msgpack is not there')
        client = peer.Client(self.instance.dir / 'run/parking-lot/keys/pl.sock')
        self.addCleanup(client.close)
        job = {'type': 'echo', 'pool': 'quick', 'payload': b'p', 'idempotency_key': 'batch'}
        other = {**job, 'payload': b'q'}
        results = client.call('job.submit_many', jobs=[job, job, other, job])['results']
        self.assertEqual(results[0]['id'], results[1]['id'])
        self.assertEqual(results[0]['id'], results[3]['id'])
        self.assertTrue(results[1]['duplicate'] and not results[0].get('duplicate'))
        self.assertEqual(results[2][0], peer.CONFLICT)
        with self.assertRaises(peer.Refused) as refused:
            client.call('job.submit', **other)
        self.assertEqual(refused.exception.code, peer.CONFLICT)
        self.assertEqual(client.call('job.run', **job)['id'], results[0]['id'])
        # The number of another submit that was the same job is that job's too.
        numbered = client.call('job.submit', **job)
        self.assertEqual(numbered['id'], results[0]['id'])
        self.instance.plctl('wait', str(uuid.UUID(bytes=numbered['id'])), code=0)


class OnDisk(Durable):
    def test_a_repeat_waits_for_the_disk_whoever_has_died(self):
        args = ['submit', 'echo', '-p', 'quick', '-d', 'x', '--id-only', '--idempotency-key', 'k']
        self.submit('before')
        store = self.one('pl-store')
        os.kill(store, signal.SIGSTOP)
        try:
            first = self.instance.popen(*args)
            lib.until('it was taken', lambda: self.submitted() == 2)
            first.kill()
            first.communicate()
            self.supervisor_dies()
            again = self.instance.popen(*args)
            with self.assertRaises(subprocess.TimeoutExpired):
                again.wait(timeout=1)
        finally:
            os.kill(store, signal.SIGCONT)
        out, _ = again.communicate(timeout=lib.LIMIT)
        self.assertEqual(again.returncode, 0)
        self.power_cut()
        self.instance.plctl('wait', out.decode().strip(), code=0)

    def submitted(self):
        return sum(pool['submitted_total'] for pool in self.instance.stats()['pools']
                   if pool['name'] == 'quick')

    def test_a_repeat_waits_for_the_disk_too(self):
        store = self.one('pl-store')
        os.kill(store, signal.SIGSTOP)
        try:
            waits = [self.instance.popen('submit', '--id-only', 'echo', '-p', 'quick', '-d', 'x',
                                         '--idempotency-key', 'gate') for _ in range(2)]
            lib.until('the job was taken', lambda: next(
                pool for pool in self.instance.stats()['pools']
                if pool['name'] == 'quick')['submitted_total'] == 1)
            for wait in waits:
                with self.assertRaises(subprocess.TimeoutExpired):
                    wait.wait(timeout=0.3)
        finally:
            os.kill(store, signal.SIGCONT)
        out = {wait.communicate(timeout=lib.LIMIT)[0] for wait in waits}
        self.assertEqual(len(out), 1)

    def test_tools_know_them(self):
        plctl = self.instance.plctl
        jobs = {i: self.submit(f'tool-{i}', str(i)) for i in range(20)}
        for job in jobs.values():
            plctl('wait', job)
        state = self.instance.dir / 'state'
        plctl('stop', '--now', code=0)
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        self.instance.started = False
        checked = json.loads(plctl('db', 'check', '--state-dir', state, '--json', code=0).raw)
        self.assertNotIn('DAMAGED', json.dumps(checked))
        saved = self.instance.dir / 'saved'
        plctl('db', 'salvage', saved, '--state-dir', state, code=0)
        state.rename(self.instance.dir / 'old')
        saved.rename(state)
        self.instance.start()
        for i, job in jobs.items():
            self.assertEqual(self.submit(f'tool-{i}', str(i)), job)


class Memory(Durable):
    config = CONFIG.replace('QUEUE', 'memory').replace('STORAGE', 'in_memory')

    def restarts(self):
        return [self.supervisor_dies, self.supervisor_dies]


del Durable


if __name__ == '__main__':
    lib.main()
