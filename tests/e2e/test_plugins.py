#!/usr/bin/python3
"""Hostile plugins: whatever one does, its own job pays, and nobody else's."""
import contextlib
import os
import pathlib
import signal

import lib

PLUGINS = pathlib.Path(os.environ.get('PL_TEST_PLUGINS') or lib.ROOT / 'build/tests/e2e/plugins')
UNITS = 8


def group(name, plugin, handles, **more):
    fields = ''.join(f', {key}: {value}' for key, value in more.items())
    return (f'      - {{name: {name}, kind: cpu, handles: [{handles}], '
            f'executor: {{plugin: {plugin}}}{fields}}}\n')


def config(*groups, units=UNITS):
    return (f'version: 1\nname: plugins\npools:\n  p:\n    max_units: {units}\n'
            '    queue: memory\n    grace: 100ms\n    workers:\n'
            + group('echo', 'echo', 'echo', replicas=2) + ''.join(groups))


class PluginTest(lib.Test):
    """Each test ends with all units back, and is wrong if they were ever out of bounds."""

    def setUp(self):
        super().setUp()
        self.units = config_units(self.config)

    def check_units(self):
        pool = self.instance.stats()['pools'][0]
        units = pool['units']['units']
        self.assertEqual(units['capacity'], self.units)
        self.assertGreaterEqual(units['used'], 0, 'units came back twice')
        self.assertLess(units['used'], 1 << 40, 'units came back twice')
        self.assertLessEqual(units['used'], self.units)
        self.assertLessEqual(units['peak'], self.units)
        return pool

    def tearDown(self):
        if self._outcome.success:
            for _ in range(2):
                lib.until('all units are back, all jobs have one outcome', self.settled)
                self.others()
            lib.until('all units are back, all jobs have one outcome', self.settled)
        super().tearDown()

    def settled(self):
        pool = self.check_units()
        self.assertLessEqual(sum(pool['finished_total'].values()), pool['submitted_total'])
        return (pool['units']['units']['used'] == 0 and pool['running'] == 0 and
                sum(pool['finished_total'].values()) == pool['submitted_total'])

    def others(self, count=12):
        """Jobs of another group of the pool go on, now."""
        jobs = self.instance.submit('echo', '-d', 'others', '--count', str(count)).split()
        self.assertEqual(len(jobs), count)
        self.instance.plctl('wait', *jobs, code=0)

    def until_total(self, key, value):
        """The statistics follow the replies of the same turn at a small distance."""
        def total():
            pool = self.check_units()
            return pool['finished_total'][key] if key in pool['finished_total'] else pool[key]
        lib.until(f'{key} is {value}, not {total()}', lambda: total() == value)

    def act(self, action, *options, kind='bad'):
        return self.instance.submit(kind, '-d', action, *options)

    def ended(self, job, state):
        self.check_units()
        self.instance.plctl('wait', '--no-fail', job, code=0)
        shown = self.instance.job(job)
        self.assertEqual(shown['state'], state, shown)
        return shown

    def worker(self, name):
        for worker in self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']:
            if worker['group'] == name:
                return worker
        raise AssertionError(f'no worker of the group {name}')

    def until_worker(self, name, *states):
        return lib.until(f'{name} is {" or ".join(states)}',
                         lambda: (lambda w: w if w['state'] in states else None)(
                             self.worker(name)))

    def log_has(self, *words):
        """Whether one line of the supervisor's log has all the words."""
        return any(all(word in line for word in words)
                   for line in self.instance.log().splitlines())


def state_of(pid):
    with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
        return file.read().rpartition(')')[2].split()[0]


def config_units(text):
    for line in text.splitlines():
        if 'max_units' in line:
            return int(line.split(':')[1])
    raise AssertionError('no max_units')


class Execute(PluginTest):
    config = config(group('bad', PLUGINS / 'hostile.so', 'bad'),
                    group('stuck', PLUGINS / 'hostile_cancel.so', 'stuck'))

    def fine_again(self):
        """The worker that replaced the broken one does its work."""
        self.ended(self.act('fine'), 'succeeded')

    def crashes(self, action, *words):
        job = self.act(action)
        self.others()
        shown = self.ended(job, 'crashed')
        self.assertEqual(shown['attempt'], 3)
        for word in words:
            self.assertIn(word, shown['error'])
        self.fine_again()
        self.until_total('crashed_attempts_total', 3)
        self.until_total('crashed', 1)
        return job

    def test_segfault(self):
        job = self.crashes('segv', 'signal 11', 'Segmentation fault', 'plugin hostile',
                           'crashed in job')
        self.assertIn(job, self.instance.job(job)['error'])
        waited = self.instance.plctl('wait', '--json', '--no-fail', job, code=0).json()
        self.assertEqual(waited['outcome'], 'crashed')
        self.assertIn('Segmentation fault', waited['error'])

    def test_abort(self):
        self.crashes('abort', 'signal 6', 'Aborted', 'plugin hostile')

    def test_stack_overrun(self):
        self.crashes('overrun', 'signal 11', 'plugin hostile')

    def test_exit_in_the_middle(self):
        self.crashes('exit', 'p/bad/0', 'ended with status 0')

    def test_crash_once(self):
        job = self.act('crash-once')
        self.others()
        self.assertEqual(self.ended(job, 'succeeded')['attempt'], 2)
        self.assertEqual(self.instance.plctl('result', job, code=0).out, 'done')

    def test_fatal(self):
        """The job fails as it says; the process that is no longer sane is replaced."""
        before = self.worker('bad')['pid']
        self.assertIn('fell off the bus', self.ended(self.act('fatal'), 'failed')['error'])
        lib.until('another process', lambda: self.until_worker('bad', 'idle')['pid'] != before)
        self.fine_again()

    def test_hang_ignores_stop(self):
        tally = self.instance.dir / 'tally'
        job = self.act(f'hang {tally}')
        lib.until('it hangs', tally.exists)
        self.others()
        self.instance.plctl('cancel', '--wait', job, code=0)
        self.assertEqual(self.instance.job(job)['state'], 'cancelled')
        self.fine_again()

    def test_hang_until_timeout(self):
        tally = self.instance.dir / 'tally'
        job = self.act(f'hang {tally}', '--timeout', '200ms')
        self.others()
        self.ended(job, 'timed_out')
        self.assertEqual(tally.read_text(), 'begun\n')
        self.fine_again()

    def test_cancel_never_returns(self):
        tally = self.instance.dir / 'tally'
        job = self.act(f'hang {tally}', kind='stuck')
        lib.until('it runs', tally.exists)
        self.instance.plctl('cancel', job, code=0)
        self.others()
        self.ended(job, 'cancelled')
        self.ended(self.act('fine', kind='stuck'), 'succeeded')

    def test_closes_all_descriptors_and_completes(self):
        job = self.act('close-all')
        self.others()
        self.ended(job, 'succeeded')
        self.assertEqual(self.instance.plctl('result', job, code=0).out, 'done')
        self.fine_again()

    def test_closes_all_descriptors_and_hangs(self):
        self.crashes('close-all hang', 'plugin hostile closed descriptors of its worker')

    def scribbles(self, how):
        # On and on: the supervisor sees it.
        job = self.act(f'scribble-on {how}')
        self.others()
        shown = self.ended(job, 'crashed')
        self.assertEqual(shown['attempt'], 3)
        self.assertTrue(self.log_has('damaged', 'p/bad/0'), self.instance.log())
        self.assertIn('damaged', shown['error'])
        # Once, then it says that it is done: seen in between, or written over again in time.
        job = self.act(f'scribble {how}')
        self.others()
        self.instance.plctl('wait', '--no-fail', job, code=0)
        shown = self.instance.job(job)
        if shown['state'] == 'succeeded':
            self.assertEqual(self.instance.plctl('result', job, code=0).out, 'done')
        else:
            self.assertEqual(shown['state'], 'crashed')
            self.assertIn('damaged', shown['error'])
        # What is left damaged is found when the next job is handed over, which is not blamed.
        guilty = 3 + shown['attempt'] - (shown['state'] == 'succeeded')
        self.fine_again()
        self.others()
        self.until_total('crashed_attempts_total', guilty)

    def test_writes_ones_over_its_segment(self):
        self.scribbles('ones')

    def test_writes_noise_over_its_segment(self):
        self.scribbles('random')

    def test_result_larger_than_its_room(self):
        for room in (100, 1 << 20):
            shown = self.ended(self.act(f'boast {room}'), 'crashed')
            self.assertIn('result', shown['error'])
        self.fine_again()

    def test_leaked_processes_end_with_the_worker(self):
        tally = self.instance.dir / 'tally'
        job = self.act(f'leak {tally}')
        lib.until('it has leaked', tally.exists)
        worker = self.instance.until_state(job, 'running')['worker_pid']
        family = self.family()
        self.assertGreaterEqual(len(family), 2, 'worker and grandchild')
        self.assertIn(worker, family)
        self.others()
        self.instance.plctl('cancel', '--wait', job, code=0)
        self.assertEqual([pid for pid in family if lib.alive(pid)], [])
        self.fine_again()

    def test_litter_of_ended_jobs_does_not_stop_the_worker(self):
        tally = self.instance.dir / 'tally'
        for _ in range(3):
            self.ended(self.act(f'litter {tally}'), 'succeeded')
        family = self.family()
        self.assertEqual(len(family), 4, 'worker and three grandchildren')
        self.others()
        self.instance.plctl('workers', 'restart', 'p/bad', code=0)
        lib.until('the litter is gone',
                  lambda: not any(lib.alive(pid) for pid in family))
        self.fine_again()

    def family(self):
        """Every process that is the group's worker, or a copy of it."""
        ours = lib.processes_with(self.instance.dir.name)
        return [pid for pid in lib.processes_with('PL_WORKER_NAME=p/bad/0') if pid in ours]

    def test_returns_without_completing(self):
        for action in ('nothing', 'pending'):
            shown = self.ended(self.act(action), 'failed')
            self.assertIn('returned without completing', shown['error'])
            self.assertEqual(shown['attempt'], 1)
        self.fine_again()

    def test_completes_again_and_again(self):
        before = self.until_worker('bad', 'idle')['pid']
        jobs = [self.act('twice') for _ in range(8)]
        fine = [self.act('fine') for _ in range(8)]
        for job in jobs:
            self.ended(job, 'succeeded')
            self.assertEqual(self.instance.plctl('result', job, code=0).out, 'first')
        for job in fine:
            self.ended(job, 'succeeded')
            self.assertEqual(self.instance.plctl('result', job, code=0).out, 'done')
        self.assertEqual(self.worker('bad')['pid'], before)
        self.assertEqual(self.check_units()['late_results_total'], 0)

    def test_many_log_lines(self):
        lines = 100000
        job = self.act(f'chatter {lines}')
        self.others()
        self.ended(job, 'succeeded')
        logs = self.instance.plctl('logs', job, code=0).out.splitlines()
        self.assertIn(f'line {lines} of {lines}', logs[-1])
        self.assertLess(len(logs), lines, 'the tail is bounded')

    def test_result_in_place(self):
        job = self.act('in-place')
        self.ended(job, 'succeeded')
        self.assertEqual(self.instance.plctl('result', job, code=0).out, 'written in place')

    def test_each_attempt_counts_once_among_others(self):
        """Crashing and good jobs mixed over the same workers: each gets its own outcome."""
        bad = [self.act('segv') for _ in range(3)]
        good = [self.act('fine') for _ in range(3)]
        self.others()
        for job in bad:
            self.assertEqual(self.ended(job, 'crashed')['attempt'], 3)
        for job in good:
            self.assertEqual(self.ended(job, 'succeeded')['attempt'], 1)
        self.until_total('crashed_attempts_total', 9)


class Linger(PluginTest):
    config = config(group('bad', PLUGINS / 'hostile.so', 'bad', stop_grace='200ms'))

    def test_a_worker_without_jobs_that_does_not_end_is_killed(self):
        self.ended(self.act('linger'), 'succeeded')
        before = self.worker('bad')['pid']
        self.instance.plctl('workers', 'restart', 'p/bad', code=0)
        lib.until('another process has its place', lambda: (lambda w: w['pid'] not in (0, before) and
                  w['state'] == 'idle')(self.worker('bad')))
        self.ended(self.act('fine'), 'succeeded')
        self.assertFalse(lib.alive(before))


class Open(PluginTest):
    config = config(
        group('crash', PLUGINS / 'bad_open.so, config: {how: crash}', 'crash',
              restart='{max: 2, backoff: 10ms}'),
        group('exit', PLUGINS / 'bad_open.so, config: {how: exit}', 'exit',
              restart='{max: 2, backoff: 10ms}'),
        group('fail', PLUGINS / 'bad_open.so, config: {how: fail}', 'fail',
              restart='{max: 3, backoff: 10ms}'),
        group('invalid', PLUGINS / 'bad_open.so, config: {how: invalid}', 'invalid'),
        group('hang', PLUGINS / 'bad_open.so, config: {how: hang}', 'hang'),
        group('abi', PLUGINS / 'other_abi.so', 'abi'),
        group('refuses', PLUGINS / 'refuses_host.so', 'refuses'),
        group('entry', PLUGINS / 'no_entry.so', 'entry'))

    def fails(self, name, *words):
        worker = self.until_worker(name, 'failed')
        for word in words:
            self.assertIn(word, worker['error'])
            self.assertTrue(self.log_has('left alone', f'p/{name}/0', word.split('"')[0]),
                            self.instance.log())
        return worker

    def test_every_way_not_to_open(self):
        """All in one instance: it starts, serves, says what is wrong with each, and stops."""
        self.others()
        self.fails('crash', 'signal 11', 'Segmentation fault', 'crashed outside of a job')
        self.fails('exit', 'status 3')
        self.fails('fail', 'no such model: /models/moon.gguf')
        self.fails('invalid', 'the model has 7 legs')
        self.fails('abi', 'other_abi.so', 'ABI 42.7', '1.1')
        self.fails('refuses', 'needs a host of at least')
        self.fails('entry', 'no_entry.so', 'pl_executor_entry')
        self.assertEqual(self.worker('hang')['state'], 'starting')
        self.others()
        # A job for them waits, says so, and can be taken back; no units are held.
        job = self.instance.submit('abi', '-d', 'x')
        self.assertEqual(self.instance.job(job)['state'], 'queued')
        explained = self.instance.plctl('explain', job, '--json', code=0).json()
        self.assertEqual(explained['wait'], 'WorkerDown')
        self.assertEqual(self.check_units()['units']['units']['used'], 0)
        self.instance.plctl('cancel', '--wait', job, code=0)

    def test_restart_by_hand_tries_again(self):
        self.fails('entry', 'pl_executor_entry')
        self.instance.plctl('workers', 'restart', 'p/entry', code=0)
        self.fails('entry', 'pl_executor_entry')

    def test_check_says_the_same_without_an_instance(self):
        for name, word in (('other_abi', 'ABI 42.7'), ('no_entry', 'pl_executor_entry'),
                           ('refuses_host', 'at least')):
            result = self.instance.plctl('executor', 'check', PLUGINS / f'{name}.so')
            self.assertNotEqual(result.code, 0)
            self.assertIn(word, result.err)
        self.instance.plctl('executor', 'check', PLUGINS / 'many.so', code=0)


class Many(PluginTest):
    """Sixteen jobs at once in one process."""
    config = config(group('many', PLUGINS / 'many.so', 'many', concurrency=16), units=32)

    def begun(self):
        """[(pid, job, attempt)] of all attempts so far."""
        with contextlib.suppress(FileNotFoundError):
            return [tuple(line.split()) for line in
                    (self.instance.dir / 'begun').read_text().splitlines()]
        return []

    def sixteen(self, verb='gate', count=16):
        job = self.instance.submit('many', '-d', f'{verb} {self.instance.dir}', '--count', count)
        return job.split()

    def test_really_at_once(self):
        jobs = self.sixteen(count=40)
        begun = lib.until('16 run', lambda: (lambda b: b if len(b) >= 16 else None)(self.begun()))
        self.assertEqual(len(begun), 16, 'not more than its concurrency')
        self.assertEqual(len({pid for pid, _, _ in begun}), 1, 'one process')
        self.assertEqual(len({job for _, job, _ in begun}), 16)
        lib.until('16 units are in use',
                  lambda: self.check_units()['units']['units']['used'] == 16)
        self.others()
        (self.instance.dir / 'gate').touch()
        self.instance.plctl('wait', *jobs, code=0)
        results = {self.instance.plctl('result', job, code=0).out for job in jobs}
        self.assertEqual(results, {begun[0][0]})

    def test_killed_in_the_middle_blames_none(self):
        jobs = self.sixteen()
        begun = lib.until('16 run', lambda: (lambda b: b if len(b) >= 16 else None)(self.begun()))
        pid = int(begun[0][0])
        # Whatever runs again need not wait: the gate opens while the process cannot look.
        os.kill(pid, signal.SIGSTOP)
        lib.until('it is stopped', lambda: state_of(pid) == 'T')
        (self.instance.dir / 'gate').touch()
        os.kill(pid, signal.SIGKILL)
        self.others()
        self.instance.plctl('wait', *jobs, code=0)
        again = [entry for entry in self.begun() if int(entry[0]) != pid]
        self.assertEqual(sorted(job for _, job, _ in again), sorted(jobs))
        self.assertEqual({attempt for _, _, attempt in again}, {'2'})
        for job in jobs:
            shown = self.instance.job(job)
            self.assertEqual((shown['state'], shown['attempt']), ('succeeded', 2))
        self.until_total('succeeded', 16 + 12)
        self.until_total('crashed', 0)

    def test_one_bomb_among_fifteen(self):
        """The guilty one is found by running alone; the others end well."""
        good = self.sixteen(count=15)
        bomb, = self.sixteen('bomb', 1)
        lib.until('16 run', lambda: len(self.begun()) >= 16)
        (self.instance.dir / 'bomb').touch()
        lib.until('a second process', lambda: len({pid for pid, _, _ in self.begun()}) > 1)
        (self.instance.dir / 'gate').touch()
        shown = self.ended(bomb, 'crashed')
        self.assertIn('Aborted', shown['error'])
        self.instance.plctl('wait', *good, code=0)
        self.until_total('crashed', 1)

    def test_cancel_of_one_leaves_the_others(self):
        jobs = self.sixteen()
        begun = lib.until('16 run', lambda: (lambda b: b if len(b) >= 16 else None)(self.begun()))
        self.instance.plctl('cancel', '--wait', jobs[7], code=0)
        self.assertEqual(self.instance.job(jobs[7])['state'], 'cancelled')
        (self.instance.dir / 'gate').touch()
        self.instance.plctl('wait', *(jobs[:7] + jobs[8:]), code=0)
        self.assertEqual(len(self.begun()), 16)
        self.assertEqual(self.worker('many')['pid'], int(begun[0][0]))

    def test_restart_lets_them_finish(self):
        jobs = self.sixteen()
        begun = lib.until('16 run', lambda: (lambda b: b if len(b) >= 16 else None)(self.begun()))
        self.instance.plctl('workers', 'restart', 'p/many', code=0)
        self.until_worker('many', 'stopping')
        (self.instance.dir / 'gate').touch()
        self.instance.plctl('wait', *jobs, code=0)
        self.assertEqual(len(self.begun()), 16, 'none ran twice')
        lib.until('another process',
                  lambda: self.until_worker('many', 'idle')['pid'] != int(begun[0][0]))


class Command(PluginTest):
    config = config(group('sh', 'command', 'command'))

    def test_killed_worker_leaves_no_program(self):
        mark = f'{self.instance.dir.name}-program'
        job = self.instance.plctl(
            'run', '-p', 'p', '-n', '--id-only', '-e', f'MARK={mark}', '--', 'sh', '-c',
            '(setsid sh -c "trap : TERM INT HUP; sleep 1000 & wait" &) ; sleep 1000',
            code=0).out.strip()
        lib.until('its programs run', lambda: len(lib.processes_with(mark)) >= 4)
        first = set(lib.processes_with(mark))
        os.kill(self.instance.until_state(job, 'running')['worker_pid'], signal.SIGKILL)
        lib.until('it runs again', lambda: self.instance.job(job)['attempt'] == 2)
        self.instance.until_state(job, 'running')
        self.assertEqual([pid for pid in first if lib.alive(pid)], [],
                         'programs of the first attempt run beside the second')
        self.instance.plctl('cancel', '--wait', job, code=0)
        self.assertEqual(lib.processes_with(mark), [])


if __name__ == '__main__':
    lib.main()
