#!/usr/bin/python3
"""The guard dies and its workers do not. With an orphan_grace of 0, and always where jobs are in memory,
they end at once, and the next start waits until they have, so no job runs twice at the same time.
Workers that go on are in test_heirs.py; the same stubborn program runs through there once."""
import os
import pathlib
import signal
import unittest

import lib

PLUGINS = pathlib.Path(os.environ.get('PL_TEST_PLUGINS') or lib.ROOT / 'build/tests/e2e/plugins')


def group(name, plugin):
    return f'      - {{name: {name}, handles: [{name}], executor: {{plugin: {plugin}}}}}\n'


CONFIG = ('version: 1\nname: orphans\nsupervisor: {shutdown: {orphan_grace: 0s}}\npools:\n  build:\n    max_units: {cpu: 4}\n    workers:\n'
          '      - {name: sh, kind: cpu, replicas: 2, handles: [command], '
          'executor: {plugin: command}}\n'
          '  bad:\n    max_units: 10\n    queue: lmdb\n    workers:\n'
          + group('plain', PLUGINS / 'hostile.so')
          + group('cancel', PLUGINS / 'hostile_cancel.so')
          + group('inline', PLUGINS / 'hostile_inline.so'))

# Takes no notice of SIGTERM, and leaves a process in a session of its own. Whoever of the two lives
# holds the lock; the second run ends.
PROGRAM = '''
exec 9>>{dir}/held
flock -n 9 || echo overlap >> {dir}/runs
trap '' TERM
(setsid sleep 1000 &)
echo start $$ >> {dir}/runs
test $(grep -c start {dir}/runs) -gt 1 || while :; do sleep 1000; done
echo end $$ >> {dir}/runs
echo done
'''


class Orphans(lib.Test):
    config = CONFIG

    def kill(self, *programs):
        """SIGKILL to these programs of the instance. Return: every process that was there."""
        left = lib.processes_with(self.instance.dir.name)
        killed = [pid for pid in left if lib.program_of(pid) in programs]
        self.assertEqual(len(killed), len(programs))
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped, none sees the other die first
            for pid in killed:
                os.kill(pid, number)
        guard = [pid for pid in killed if lib.program_of(pid) in ('pl-guard', '')]
        lib.until('the guard is dead', lambda: not any(lib.alive(pid) for pid in guard))
        return left

    def start_over(self, *programs):
        """Kills them and starts the instance at once: nothing of the last run may be left."""
        before = self.kill(*programs)
        self.instance.start()
        self.assertEqual([pid for pid in before if lib.alive(pid)], [])

    def lines(self):
        runs = self.instance.dir / 'runs'
        return runs.read_text().splitlines() if runs.exists() else []

    def runs_through(self, *programs):
        """Another guard, the same program: nothing is run again."""
        program = PROGRAM.replace('test $(grep -c start {dir}/runs) -gt 1 || while :; do sleep 1000; done',
                                  'while ! test -e {dir}/go; do sleep 0.05; done')
        self.assertNotEqual(program, PROGRAM)
        job = self.instance.run_detached('sh', '-c', program.format(dir=self.instance.dir))
        lib.until('it runs', lambda: len(self.lines()) == 1)
        self.kill(*programs)
        self.instance.start()
        (self.instance.dir / 'go').touch()
        self.instance.plctl('wait', job, code=0)
        self.assertEqual([line.split()[0] for line in self.lines()], ['start', 'end'])
        self.assertEqual(self.instance.job(job)['attempt'], 1)
        self.assertEqual(self.instance.plctl('result', job, code=0).out, 'done\n')

    def runs_again_alone(self, *programs):
        job = self.instance.run_detached('sh', '-c', PROGRAM.format(dir=self.instance.dir))
        lib.until('it runs', lambda: len(self.lines()) == 1)
        self.start_over(*programs)
        self.instance.plctl('wait', job, code=0)
        lines = self.lines()
        self.assertEqual([line.split()[0] for line in lines], ['start', 'start', 'end'])
        self.assertNotEqual(lines[0], lines[1])
        self.assertEqual(self.instance.job(job)['attempt'], 2)
        self.assertEqual(self.instance.plctl('result', job, code=0).out, 'done\n')

    def test_a_job_runs_again_when_its_first_run_is_over(self):
        self.runs_again_alone('pl-guard', 'pl-supervisor')

    def test_the_guard_alone(self):
        """No outcome is taken from a worker whose guard is dead."""
        self.runs_again_alone('pl-guard')

    def test_all_but_the_workers(self):
        self.runs_again_alone('pl-guard', 'pl-supervisor', 'pl-store')

    def test_again_and_again(self):
        job = self.instance.run_detached(
            'sh', '-c', PROGRAM.format(dir=self.instance.dir).replace('-gt 1', '-gt 4'))
        for round_ in range(4):
            lib.until('it runs', lambda n=round_: len(self.lines()) == n + 1)
            self.start_over('pl-guard', 'pl-supervisor')
        self.instance.plctl('wait', job, code=0)
        self.assertEqual([line.split()[0] for line in self.lines()], ['start'] * 5 + ['end'])

    def test_a_plugin_that_never_returns_ends_too(self):
        """A thread inside the plugin, a cancel() that hangs, the channel thread itself."""
        jobs = []
        for name in ('plain', 'cancel', 'inline'):
            path = self.instance.dir / f'tally.{name}'
            jobs.append(self.instance.submit(name, '-p', 'bad', '--at-most-once', '-d',
                                             f'leak {path}'))
            lib.until(f'{name} hangs', lambda path=path: path.exists() and path.read_text())
        self.start_over('pl-guard', 'pl-supervisor')
        for job in jobs:
            self.instance.plctl('wait', job)
            self.assertEqual(self.instance.job(job)['reason'], 'interrupted')


class Heirs(Orphans):
    """The same with the grace that is the default."""
    config = CONFIG.replace('supervisor: {shutdown: {orphan_grace: 0s}}\n', '')

    def runs_again_alone(self, *programs):
        self.runs_through(*programs)

    test_again_and_again = None  # test_heirs.py has it

    test_a_plugin_that_never_returns_ends_too = None  # they go on: see test_a_plugin_that_never_returns_is_adopted

    def test_a_plugin_that_never_returns_is_adopted(self):
        """Wherever its threads are, the worker comes to the next guard."""
        jobs = []
        for name in ('plain', 'cancel', 'inline'):
            path = self.instance.dir / f'tally.{name}'
            jobs.append(self.instance.submit(name, '-p', 'bad', '--at-most-once', '-d',
                                             f'leak {path}'))
            lib.until(f'{name} hangs', lambda path=path: path.exists() and path.read_text())
        self.kill('pl-guard', 'pl-supervisor')
        self.instance.start()
        for job in jobs:
            self.assertEqual(self.instance.job(job)['state'], 'running')


class Memory(Orphans):
    """Nobody after the guard knows of jobs in memory: their workers end with it."""
    config = CONFIG.replace('supervisor: {shutdown: {orphan_grace: 0s}}\n', '').replace(
        '  build:\n', '  build:\n    queue: memory\n').replace('queue: lmdb', 'queue: memory')

    def runs_again_alone(self, *programs):
        programs = [name for name in programs if name != 'pl-store']
        self.instance.run_detached('sh', '-c', PROGRAM.format(dir=self.instance.dir))
        lib.until('it runs', lambda: len(self.lines()) == 1)
        self.start_over(*programs)
        self.assertEqual(self.instance.stats()['pools'][0]['queued'], 0)

    test_again_and_again = None  # a job in memory does not come back

    def test_a_plugin_that_never_returns_ends_too(self):
        path = self.instance.dir / 'tally'
        self.instance.submit('cancel', '-p', 'bad', '-d', f'leak {path}')
        lib.until('it hangs', lambda: path.exists() and path.read_text())
        self.start_over('pl-guard', 'pl-supervisor')


if __name__ == '__main__':
    lib.main()
