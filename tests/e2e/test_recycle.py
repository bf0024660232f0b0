#!/usr/bin/python3
"""Processes that are replaced between jobs: after so many, by age, by memory. Nothing is lost."""
import collections
import os

import lib
from test_plugins import PluginTest, config, group


class Recycle(PluginTest):
    config = config(group('sh', 'command', 'command', recycle='{max_jobs: 3}'))

    def shell(self, text, *options):
        return self.instance.plctl('run', '-p', 'p', '-n', '--id-only', *options, '--', 'sh', '-c',
                                   text, code=0).out.strip()

    def pid_of(self, job):
        self.assertEqual(self.ended(job, 'succeeded')['attempt'], 1)
        return int(self.instance.plctl('result', job, code=0).out)

    def replaced(self, pid):
        """The process that has the place of @pid."""
        return lib.until('another process has its place', lambda: (
            lambda found: found[0] if len(found) == 1 and found[0] != pid else None)(self.pids()))

    def pids(self):
        return [worker['pid'] for worker in
                self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
                if worker['group'] == 'sh' and worker['state'] in ('idle', 'busy')]

    def begun(self, pids, gate):
        """A job that holds its worker until something is written to @gate."""
        os.mkfifo(gate)
        job = self.shell(f'read line < {gate}; echo $PPID')
        self.assertIn(self.instance.until_state(job, 'running')['worker_pid'], pids)
        return job


class MaxJobs(Recycle):
    def test_three_jobs_each(self):
        jobs = [self.shell('echo $PPID') for _ in range(12)]
        count = collections.Counter(self.pid_of(job) for job in jobs)
        self.assertEqual(sorted(count.values()), [3, 3, 3, 3])
        for pid in count:
            lib.until('it has ended', lambda: not lib.alive(pid))
        self.assertEqual(len(self.pids()), 1)


class OneJob(Recycle):
    config = config(group('sh', 'command', 'command', replicas=2, recycle='{max_jobs: 1}'))

    def test_a_process_for_each_job(self):
        jobs = [self.shell('echo $PPID') for _ in range(20)]
        self.assertEqual(len({self.pid_of(job) for job in jobs}), 20)
        lib.until('both places are taken', lambda: len(self.pids()) == 2)


class SideBySide(Recycle):
    config = config(group('sh', 'command', 'command', concurrency=4, recycle='{max_jobs: 8}'))

    def test_few_more(self):
        """Slots that come free together are filled together."""
        jobs = [self.shell('echo $PPID') for _ in range(40)]
        count = collections.Counter(self.pid_of(job) for job in jobs)
        self.assertLessEqual(max(count.values()), 8 + 3)
        self.assertGreaterEqual(sorted(count.values())[1], 8)


class MaxAge(Recycle):
    config = config(group('sh', 'command', 'command', recycle='{max_age: 1s}'))

    def test_the_successor_comes_first(self):
        """While the old one finishes its job the new one works."""
        old = self.pids()
        gate = self.instance.dir / 'gate'
        job = self.begun(old, gate)
        lib.until('its successor is ready', lambda: len(set(self.pids()) - set(old)) >= 1)
        self.assertNotIn(self.pid_of(self.shell('echo $PPID')), old)
        self.assertTrue(lib.alive(old[0]))
        gate.write_text('\n')
        self.assertEqual(self.pid_of(job), old[0])
        lib.until('it has ended', lambda: not lib.alive(old[0]))
        self.assertTrue(self.log_has('worker is replaced', 'max_age'))


class MaxMemory(Recycle):
    config = config(group('sh', 'command', 'command', recycle='{max_memory: 1MiB}'))

    def test_too_large(self):
        self.replaced(self.pids()[0])
        self.assertTrue(self.log_has('worker is replaced', 'max_memory'))
        self.ended(self.shell('exit 0'), 'succeeded')


class Card(Recycle):
    """Two processes may not fit on one card: the old one goes first."""
    config = config(group('sh', 'command', 'command', recycle='{max_jobs: 2}').replace(
        'kind: cpu', 'kind: gpu'))

    def test_one_at_a_time(self):
        jobs = [self.shell('echo $PPID') for _ in range(6)]
        count = collections.Counter(self.pid_of(job) for job in jobs)
        self.assertEqual(sorted(count.values()), [2, 2, 2])


if __name__ == '__main__':
    lib.main()
