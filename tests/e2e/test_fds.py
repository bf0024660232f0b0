#!/usr/bin/python3
"""The guard lives as long as the instance: whatever comes and goes below it, it has as many
descriptors open afterwards as before, of the same kinds.

    PL_TEST_ROUNDS=N … python3 test_fds.py
"""
import collections
import os
import re
import signal
import unittest

import lib
import test_adopt

ROUNDS = int(os.environ.get('PL_TEST_ROUNDS', '10'))


class Base(test_adopt.Base):
    def one(self, name):
        found = [pid for pid in lib.processes_with(self.instance.dir.name)
                 if lib.program_of(pid) == name]
        return found[0] if len(found) == 1 else None

    def descriptors(self, name='pl-guard'):
        """What is open, without numbers: {'socket:[N]': 12, '/dev/null': 1, …}"""
        folder = f'/proc/{self.one(name)}/fd'
        kinds = collections.Counter()
        for fd in os.listdir(folder):
            try:
                kinds[re.sub(r'\d+', 'N', os.readlink(f'{folder}/{fd}'))] += 1
            except OSError:
                pass
        return kinds

    def repeat(self, action):
        """The first time may open what stays: it is not counted."""
        action()
        before = self.settled()
        for _ in range(ROUNDS):
            action()
        after = self.settled()
        self.assertEqual((after - before, before - after), ({}, {}))

    def settled(self):
        """No worker comes or goes, and none has a job."""
        def calm():
            found = self.instance.plctl('workers', 'ls', '--json').json()['workers']
            return len(found) == 4 and all(worker['state'] == 'idle' for worker in found)
        lib.until('all workers wait', calm)
        last = None
        for _ in range(100):
            now = self.descriptors()
            if now == last:
                return now
            last = now
            self.instance.plctl('status', code=0)  # a round through supervisor
        return last


class Memory(Base):
    def test_supervisors_come_and_go(self):
        self.repeat(self.kill_supervisor)

    def test_supervisors_are_replaced(self):
        self.repeat(lambda: self.instance.plctl('upgrade', '--workers', 'keep', code=0))

    def test_upgrades_are_refused(self):
        bad = self.instance.dir / 'bad'
        bad.mkdir()
        (bad / 'pl-supervisor').write_text('nothing')
        self.repeat(lambda: self.instance.plctl('upgrade', '--from', bad, code=1))

    def test_workers_come_and_go(self):
        def kill():
            worker, = self.workers('echo')
            self.assertGreater(worker, 1)
            os.kill(worker, signal.SIGKILL)
            lib.until('another one is ready', lambda: any(
                pid != worker and found['state'] == 'idle'
                for pid, found in self.workers('echo').items()))
        self.repeat(kill)

    def test_jobs_come_and_go(self):
        def run():
            self.assertEqual(self.result(self.instance.run_detached('echo', 'x')).out, 'x\n')
        self.repeat(run)


class Durable(Base):
    config = test_adopt.Durable.config

    def test_supervisors_come_and_go(self):
        self.repeat(self.kill_supervisor)

    def test_all_are_replaced(self):
        self.repeat(lambda: self.instance.plctl('upgrade', '--workers', 'keep', code=0))

    def test_guards_come_and_go(self):
        """Each guard adopts the worker that has the job: the next one has no more open for it."""
        job, names, counts = self.gated('a'), ('pl-guard', 'pl-supervisor', 'pl-store'), []
        for _ in range(ROUNDS):
            self.instance.kill_at_once(*names)
            self.instance.start()
            lib.until('all workers are there', lambda: len(self.workers()) == 4)
            busy = [pid for pid, found in self.workers().items() if found['state'] == 'busy']
            self.assertEqual(len(busy), 1)
            counts.append((busy[0], len(os.listdir(f'/proc/{busy[0]}/fd')),
                           sum(self.descriptors().values())))
        # the first guard had started the worker, all others have adopted it
        self.assertEqual(len(set(counts)), 1, counts)
        self.let_go('a')
        self.assertEqual(self.result(job).out, 'done\n')


if __name__ == '__main__':
    lib.main()
