#!/usr/bin/python3
"""Retries, delays and deadlines are where they were after every kind of restart."""
import os
import signal
import time
import unittest
import uuid

import lib
import peer

CONFIG = """\
version: 1
name: retries
pools:
  build:
    max_units: {cpu: 4}
    queue: QUEUE
    lanes:
      soon: {priority: 0, retry: {strategy: fixed, max_retries: 3, delay: 1ms, jitter: none}}
      late: {priority: 1, retry: {strategy: fixed, max_retries: 3, delay: 1h, max_delay: 2h, jitter: none}}
      strict: {priority: 2, timeout: 300ms, retry: {strategy: fixed, max_retries: 5, delay: 1ms}}
    default_lane: soon
    grace: 60s
    crash_limit: 3
    workers:
      - {name: sh, kind: cpu, replicas: 2, handles: [command], executor: {plugin: command}}
"""


class Base(lib.Test):
    config = CONFIG.replace('QUEUE', 'lmdb')

    def supervisor_dies(self):
        old = self.instance.supervisor_pid()
        os.kill(old, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: self.instance.plctl('status').code == 0 and
                  self.instance.supervisor_pid() != old)

    def details(self, job):
        """Its times too."""
        client = peer.Client(self.instance.dir / 'run/parking-lot/retries/pl.sock')
        try:
            return client.call('job.get', id=uuid.UUID(job).bytes)
        finally:
            client.close()

    def power_cut(self):
        self.instance.power_cut()
        self.instance.start()

    def runs(self, path):
        return len(path.read_text().split()) if path.exists() else 0

    def finish_failing(self, job, gate):
        """Lets attempts fail until there is no other. Return: how many that were."""
        fd = os.open(gate, os.O_RDWR)
        try:
            os.write(fd, b'fail\n' * 20)
            self.instance.plctl('wait', job, code=10)
        finally:
            os.close(fd)
        return self.instance.job(job)['attempt']

    def test_retries_go_on_counting(self):
        restarts = [self.supervisor_dies] + ([self.power_cut] if 'lmdb' in self.config else [])
        for restart in restarts:
            with self.subTest(restart=restart.__name__):
                gate = self.instance.dir / f'gate-{restart.__name__}'
                out = self.instance.dir / f'out-{restart.__name__}'
                os.mkfifo(gate)
                job = self.instance.run_detached(
                    'sh', '-c', f'echo run >> {out}; read line < {gate}; exit 1')
                for attempt in (1, 2):
                    lib.until(f'attempt {attempt} runs', lambda: self.runs(out) == attempt)
                    with open(gate, 'w', encoding='utf-8') as file:
                        file.write('fail\n')
                lib.until('attempt 3 runs', lambda: self.runs(out) == 3)
                self.instance.until_state(job, 'running')
                restart()
                # The attempt that was lost with everything is repeated, and is no retry.
                lost = 1 if restart == self.power_cut else 0
                self.assertEqual(self.finish_failing(job, gate), 4 + lost)
                self.assertEqual(self.runs(out), 4 + lost)

    @unittest.skipUnless(peer.msgpack, 'python3-msgpack is not there')
    def test_due_times_come_back(self):
        plctl = self.instance.plctl
        retrying = self.instance.run_detached('false', options=['-l', 'late'])
        self.instance.until_state(retrying, 'retrying')
        delayed = self.instance.submit('command', '-p', 'build', '--delay', '2h', '-d', '["true"]')
        dated = self.instance.submit('command', '-p', 'build', '--hold', '--deadline', '+3h', '-d',
                                     '["true"]')
        before = {job: self.details(job) for job in (retrying, delayed, dated)}
        self.assertAlmostEqual(before[retrying]['run_at_ms'], time.time() * 1000 + 3600_000,
                               delta=30_000)
        restarts = [self.supervisor_dies] + ([self.power_cut] if 'lmdb' in self.config else [])
        for restart in restarts * 2:
            restart()
            for job, was in before.items():
                now = self.details(job)
                self.assertEqual(now['state'], was['state'])
                self.assertEqual(now['attempt'], was['attempt'])
                for name in ('run_at_ms', 'deadline_ms'):
                    # A wall clock that is slewed moves them by no more than it was slewed.
                    self.assertAlmostEqual(now.get(name, 0), was.get(name, 0), delta=100)
        for job in before:
            plctl('cancel', job, code=0)

    def test_a_cancel_behind_a_time_out_ends_it(self):
        """The time-out was decided; that nothing follows it is not forgotten."""
        restarts = [self.supervisor_dies] + ([self.power_cut] if 'lmdb' in self.config else [])
        for restart in restarts:
            with self.subTest(restart=restart.__name__):
                out = self.instance.dir / f'stubborn-{restart.__name__}'
                job = self.instance.run_detached(
                    'sh', '-c', f'trap "echo asked >> {out}" TERM; echo run >> {out}; '
                    'while :; do sleep 1; done', options=['-l', 'strict'])
                lib.until('its time is over', lambda: self.runs(out) == 2)
                self.instance.plctl('cancel', job, code=0)
                restart()
                if restart == self.supervisor_dies:
                    self.assertEqual(self.instance.job(job)['state'], 'running')
                    self.instance.plctl('cancel', '--force', job)
                self.instance.plctl('wait', job, code=12)
                self.assertEqual(self.instance.job(job)['outcome'], 'timed_out')
                self.assertEqual(out.read_text().split().count('run'), 1)


class Memory(Base):
    config = CONFIG.replace('QUEUE', 'memory')


if __name__ == '__main__':
    lib.main()
