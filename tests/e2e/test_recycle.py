#!/usr/bin/python3
"""Processes that are replaced between jobs, after so many, by age, by memory, and what is started again."""
import collections
import os
import signal

import lib
from test_plugins import PLUGINS, PluginTest, config, group


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

    def begun(self, gate):
        """A job that holds its worker until something is written to @gate, and that worker's pid."""
        os.mkfifo(gate)
        job = self.shell(f'read line < {gate}; echo $PPID')
        return job, self.instance.until_state(job, 'running')['worker_pid']


class MaxJobs(Recycle):
    def test_three_jobs_each(self):
        jobs = [self.shell('echo $PPID') for _ in range(12)]
        count = collections.Counter(self.pid_of(job) for job in jobs)
        self.assertEqual(sorted(count.values()), [3, 3, 3, 3])
        for pid in count:
            lib.until('it has ended', lambda: not lib.alive(pid))
        lib.until('one is left', lambda: len(self.pids()) == 1)


class OneJob(Recycle):
    config = config(group('sh', 'command', 'command', replicas=2, recycle='{max_jobs: 1}'))

    def test_a_process_for_each_job(self):
        jobs = [self.shell('echo $PPID') for _ in range(20)]
        self.assertEqual(len({self.pid_of(job) for job in jobs}), 20)
        lib.until('both places are taken', lambda: len(self.pids()) == 2)


class Forgotten(Recycle):
    config = config(group('sh', 'command', 'command', recycle='{max_jobs: 1}'))

    def held(self):
        """Descriptors that the guard keeps."""
        guard = next(pid for pid in lib.processes_with(self.instance.dir.name)
                     if lib.program_of(pid) == 'pl-guard')
        return len(os.listdir(f'/proc/{guard}/fd'))

    def test_the_guard_keeps_nothing_of_those_that_are_gone(self):
        self.pid_of(self.shell('echo $PPID'))
        lib.until('one is left', lambda: len(self.pids()) == 1)
        before = self.held()
        for _ in range(20):
            self.pid_of(self.shell('echo $PPID'))
        # One keeps about ten; the last one's end may not have been told yet.
        lib.until('all are let go', lambda: self.held() < before + 20)


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
        gate = self.instance.dir / 'gate'
        job, old = self.begun(gate)
        lib.until('its successor is ready', lambda: set(self.pids()) - {old})
        self.assertNotEqual(self.pid_of(self.shell('echo $PPID')), old)
        self.assertTrue(lib.alive(old))
        gate.write_text('\n')
        self.assertEqual(self.pid_of(job), old)
        lib.until('it has ended', lambda: not lib.alive(old))
        self.assertTrue(self.log_has('worker is replaced', 'max_age'))


class MaxMemory(Recycle):
    config = config(group('sh', 'command', 'command', recycle='{max_memory: 1MiB}'))

    def test_too_large(self):
        self.replaced(lib.until('it is ready', self.pids)[0])
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


class Never(PluginTest):
    config = config(group('sh', 'command', 'command', restart='never'),
                    group('open', PLUGINS / 'bad_open.so, config: {how: exit}', 'open',
                          restart='never'))

    def test_stays_down(self):
        pid = self.until_worker('sh', 'idle')['pid']
        os.kill(pid, signal.SIGKILL)
        self.assertIn('signal 9', self.until_worker('sh', 'failed')['error'])
        self.assertTrue(self.log_has('not started again', 'p/sh/0'))
        self.instance.plctl('workers', 'restart', 'p/sh', code=0)
        self.until_worker('sh', 'idle')

    def test_failed_start_is_the_last(self):
        self.until_worker('open', 'failed')
        self.assertFalse(self.log_has('did not start', 'p/open/0'))


class OnFailure(PluginTest):
    config = config(group('bad', PLUGINS / 'hostile.so', 'bad', restart='on-failure')
                    ).replace('    grace', '    crash_limit: 1\n    grace')

    def test_by_how_it_ended(self):
        pid = self.until_worker('bad', 'idle')['pid']
        self.ended(self.act('segv'), 'crashed')
        lib.until('it is started again', lambda: self.until_worker('bad', 'idle')['pid'] != pid)
        self.ended(self.act('exit'), 'crashed')
        self.assertIn('ended with status 0', self.until_worker('bad', 'failed')['error'])


if __name__ == '__main__':
    lib.main()
