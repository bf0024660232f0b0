#!/usr/bin/python3
"""Dead letters: kept whole, run again where they came from, over deaths and power cuts."""
import json
import os
import pathlib
import random
import signal
import subprocess
import threading

import lib

CONFIG = """\
version: 1
name: dead
pools:
  soft: &pool
    max_units: 4
    queue: memory
    crash_limit: 3
    lanes: {one: {priority: 0}, two: {priority: 1}}
    default_lane: one
    workers:
      - {name: sh, replicas: 2, handles: [command, other], executor: {plugin: command}}
  hard:
    <<: *pool
    queue: lmdb
  few:
    max_units: 1
    queue: memory
    dead_letter: {max: 3}
    workers:
      - {name: sh, replicas: 1, handles: [command], executor: {plugin: command}}
  brief:
    max_units: 1
    queue: lmdb
    dead_letter: {ttl: 100ms}
    workers:
      - {name: sh, replicas: 1, handles: [command], executor: {plugin: command}}
  none:
    max_units: 1
    queue: memory
    dead_letter: {enabled: false}
    workers:
      - {name: sh, replicas: 1, handles: [command], executor: {plugin: command}}
"""


class Dlq(lib.Test):
    config = CONFIG

    def plctl(self, *args, code=0, **more):
        return self.instance.plctl(*args, code=code, **more)

    def letters(self, *filters):
        return self.plctl('dlq', 'ls', '--json', *filters).json()

    def ids(self, *filters):
        return [letter['id'] for letter in self.letters(*filters)]

    def show(self, job):
        return self.plctl('dlq', 'show', job, '--json').json()

    def pool(self, name):
        return next(pool for pool in self.instance.stats()['pools'] if pool['name'] == name)

    def submit(self, pool, script, *options):
        return self.plctl('run', '-p', pool, '--id-only', *options, '--', 'sh', '-c', script,
                          data='the payload').out.strip()

    def fails(self, pool, *options, script='echo oh no >&2; exit 3'):
        """A job that fails until `cured` is there."""
        job = self.submit(pool, f'test -e {self.blocked} && read go < {self.gate};'
                          f' test -e {self.cured} && echo cured && exit 0; {script}', *options)
        self.instance.plctl('wait', job, code=10)
        return job

    @property
    def cured(self):
        return self.instance.dir / 'cured'

    @property
    def blocked(self):
        """While this is there, such jobs wait at the gate."""
        return self.instance.dir / 'blocked'

    @property
    def gate(self):
        if not (self.instance.dir / 'gate').exists():
            os.mkfifo(self.instance.dir / 'gate')
        return self.instance.dir / 'gate'

    def let_one_go(self):
        self.gate.write_text('go\n', encoding='ascii')
        self.blocked.unlink()

    def succeeds(self, job):
        self.plctl('wait', job)
        self.assertEqual(self.plctl('result', job).out, 'cured\n')

    def kill_supervisor(self):
        old = self.instance.supervisor_pid()
        os.kill(old, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: self.instance.plctl(
            'status').code == 0 and self.instance.supervisor_pid() != old)

    def power_cut(self):
        """Everything dies at once, as with the machine; then it is started again."""
        mark = self.instance.dir.name
        for pid in lib.processes_with(mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.assertEqual(lib.until_gone(mark), [])
        self.instance.start()

    # ---- the crash limit ----

    def killer(self, pool):
        """A job that kills its worker each time, until it is cured. Before the third time it waits
        until somebody has seen its last line."""
        gate, tally = self.instance.dir / f'gate.{pool}', self.instance.dir / f'tally.{pool}'
        os.mkfifo(gate)
        job = self.submit(pool, f'test -e {self.cured} && echo cured && exit 0; echo run >> {tally};'
                          f' echo "last words $(wc -l < {tally})" >&2;'
                          f' test $(wc -l < {tally}) -lt 3 || read go < {gate};'
                          f' kill -9 $PPID; sleep 1000')
        lib.until('the third attempt runs',
                  lambda: tally.exists() and tally.read_text().count('run') == 3)
        logs = self.instance.popen('logs', '--follow', job)
        line = b''
        while b'last words 3' not in line:
            line = lib.read_line(logs.stdout)
            self.assertTrue(line, 'the log ended')
        gate.write_text('go\n', encoding='ascii')
        logs.communicate(timeout=lib.LIMIT)
        self.plctl('wait', job, code=10)
        self.assertEqual(tally.read_text(), 'run\n' * 3)
        return job

    def crashed_letter(self, job):
        letter = self.show(job)
        self.assertEqual((letter['outcome'], letter['signal'], letter['attempt']),
                         ('crashed', 9, 3))
        self.assertIn('last words 3', letter['log_tail'])
        self.assertIn('signal 9', letter['error'])
        self.assertEqual(letter['payload'], 'the payload')

    def test_a_job_that_kills_its_worker_ends_as_a_dead_letter(self):
        jobs = [self.killer(pool) for pool in ('soft', 'hard')]
        for job in jobs:
            self.crashed_letter(job)
        self.assertIn('SIGKILL', self.plctl('dlq', 'show', jobs[0]).out)
        self.assertEqual(self.pool('soft')['dead_lettered_total'], 1)
        self.kill_supervisor()
        for job in jobs:
            self.crashed_letter(job)
        self.assertEqual(self.ids(), jobs)
        self.power_cut()
        self.assertEqual(self.ids(), jobs[1:])
        self.crashed_letter(jobs[1])
        self.cured.touch()
        self.plctl('dlq', 'retry', jobs[1])
        self.succeeds(jobs[1])
        self.assertEqual(self.ids(), [])

    def test_stops_for_a_known_reason_do_not_count(self):
        tally = self.instance.dir / 'tally'
        job = self.submit('soft', f'echo run >> {tally}; test -e {self.cured} && echo cured && exit 0;'
                          ' exec sleep 1000')
        for attempt in range(1, 5):
            lib.until('it runs', lambda n=attempt: tally.exists() and
                      tally.read_text().count('run') == n)
            if attempt == 4:
                break
            if attempt == 3:
                self.cured.touch()
            self.plctl('workers', 'restart', 'soft', '--force')
            if attempt == 3:
                break
        self.succeeds(job)
        self.assertEqual(self.ids(), [])

    # ---- life of a letter ----

    def test_a_letter_runs_again_where_it_came_from(self):
        for pool in ('soft', 'hard'):
            job = self.fails(pool, '--lane', 'two', '--user', 'eva')
            letter = self.show(job)
            self.assertEqual((letter['pool'], letter['lane'], letter['type'], letter['user']),
                             (pool, 'two', 'command', 'eva'))
            self.assertEqual((letter['outcome'], letter['exit_code'], letter['attempt']),
                             ('failed', 3, 1))
            self.assertIn('oh no', letter['log_tail'])
            self.assertEqual(self.plctl('dlq', 'show', job[:30], '--payload').out, 'the payload')
            # Still sick: it is a dead letter again, once.
            self.plctl('dlq', 'retry', job)
            self.plctl('wait', job, code=10)
            self.assertEqual(self.ids('-p', pool), [job])
            self.blocked.touch()
            self.plctl('dlq', 'retry', job)
            self.assertEqual(self.ids('-p', pool), [])
            self.plctl('dlq', 'retry', job, code=4)
            self.kill_supervisor()
            self.assertEqual(self.instance.job(job)['lane'], 'two')
            self.assertIn(self.instance.job(job)['state'], ('queued', 'running'))
            self.assertEqual(self.ids('-p', pool), [])
            self.cured.touch()
            self.let_one_go()
            self.succeeds(job)
            self.assertEqual(self.ids('-p', pool), [])
            self.cured.unlink()

    def test_a_retry_survives_a_power_cut(self):
        job, other, gone = (self.fails('hard') for _ in range(3))
        acked = self.fails('hard')
        self.plctl('mailbox', 'ack', acked)
        self.blocked.touch()
        self.plctl('dlq', 'retry', job)
        self.plctl('dlq', 'rm', gone)
        for _ in range(2):
            self.power_cut()
            self.assertEqual(self.ids(), [other, acked])
            self.assertEqual(self.instance.job(gone)['outcome'], 'failed')
            self.plctl('job', 'show', acked, code=4)
        self.let_one_go()
        self.plctl('wait', job, code=10)
        self.assertEqual(self.ids(), [other, acked, job])
        self.kill_supervisor()
        self.assertEqual(self.ids(), [other, acked, job])
        self.plctl('job', 'show', acked, code=4)
        self.cured.touch()
        self.plctl('dlq', 'retry', '--all')
        for each in (other, acked, job):
            self.succeeds(each)
        self.power_cut()
        self.assertEqual(self.ids(), [])
        for each in (other, acked, job):
            self.succeeds(each)

    def test_retries_under_fire_are_not_lost_and_not_doubled(self):
        seed = int(os.environ.get('PL_TEST_SEED', str(random.randrange(1 << 32))))
        print(f'seed {seed}', flush=True)
        rng = random.Random(seed)
        jobs = []
        for number in range(16):
            mine = self.instance.dir / f'runs.{number}'
            jobs.append(self.submit(('soft', 'hard')[number % 2],
                                    f'test -e {self.cured} && echo well >> {mine} && echo cured'
                                    f' && exit 0; echo ill >> {mine}; exit 1'))
        for job in jobs:
            self.plctl('wait', job, code=10)
        self.assertEqual(sorted(self.ids()), sorted(jobs))
        self.cured.touch()
        for job in jobs[:8]:
            retry = self.instance.popen('dlq', 'retry', job)
            threading.Event().wait(rng.random() * 0.02)  # at any instant of it
            self.kill_supervisor()
            retry.communicate(timeout=lib.LIMIT)
        retry = self.instance.popen('dlq', 'retry', '--all')
        threading.Event().wait(rng.random() * 0.02)
        self.kill_supervisor()
        retry.communicate(timeout=lib.LIMIT)
        self.plctl('dlq', 'retry', '--all')
        for number, job in enumerate(jobs):
            self.succeeds(job)
            self.assertEqual((self.instance.dir / f'runs.{number}').read_text(), 'ill\nwell\n')
        self.assertEqual(self.ids(), [])

    def test_an_interrupted_job_may_run_again(self):
        started = self.instance.dir / 'started'
        job = self.submit('hard', f'test -e {self.cured} && echo cured && exit 0; touch {started};'
                          ' exec sleep 1000', '--at-most-once')
        lib.until('it runs', started.exists)
        self.power_cut()
        self.plctl('wait', job, code=10)
        self.assertEqual(self.show(job)['reason'], 'interrupted')
        self.cured.touch()
        self.plctl('dlq', 'retry', job)
        self.succeeds(job)

    def test_a_retried_job_is_adopted_while_it_runs(self):
        """Its attempt has the number that its worker's slot had before."""
        gate = self.gate
        tally = self.instance.dir / 'tally'
        job = self.submit('soft', f'echo run >> {tally}; test $(wc -l < {tally}) -gt 1 || exit 1;'
                          f' read go < {gate}; echo end')
        self.plctl('wait', job, code=10)
        self.plctl('dlq', 'retry', job)
        lib.until('it runs again', lambda: tally.read_text() == 'run\nrun\n')
        self.kill_supervisor()
        gate.write_text('go\n', encoding='ascii')
        self.plctl('wait', job)
        self.assertEqual(self.plctl('result', job).out, 'end\n')
        self.assertEqual(tally.read_text(), 'run\nrun\n')

    def test_events_and_outcomes(self):
        events = self.instance.popen('events', '-f', '--json', '-t', 'queue.command.*')
        lib.until('somebody listens', lambda: self.plctl('status', '--json').json()['clients'] >= 2)
        self.submit('soft', 'exit 1')
        keys = []
        while 'queue.command.dead_lettered' not in keys:
            keys.append(json.loads(lib.read_line(events.stdout))['key'])
        events.terminate()
        events.communicate(timeout=lib.LIMIT)
        self.assertEqual(keys[-2:], ['queue.command.failed', 'queue.command.dead_lettered'])
        late = self.submit('soft', 'exec sleep 1000', '--timeout', '50ms')
        self.plctl('wait', late, code=12)
        cancelled = self.submit('soft', 'exec sleep 1000')
        self.plctl('cancel', '--wait', cancelled)
        expired = self.submit('soft', 'true', '--hold', '--deadline', '+50ms')
        self.plctl('wait', expired, code=12)
        self.assertEqual([letter['outcome'] for letter in self.letters()], ['failed', 'timed_out'])
        totals = self.pool('soft')
        self.assertEqual(totals['dead_lettered_total'], 2)
        self.assertEqual(sum(lane['dead_lettered_total'] for lane in totals['lanes']), 2)

    # ---- many ----

    def test_limits(self):
        few = [self.fails('few') for _ in range(5)]
        lib.until('the oldest have gone', lambda: self.ids('-p', 'few') == few[2:])
        self.fails('none')
        self.assertEqual(self.ids('-p', 'none'), [])
        brief = self.fails('brief')
        lib.until('it is too old', lambda: self.ids('-p', 'brief') == [])
        self.plctl('dlq', 'show', brief, code=4)
        self.assertEqual(self.instance.job(brief)['outcome'], 'failed')
        self.power_cut()
        self.assertEqual(self.ids(), [])

    def test_all_that_match(self):
        two = [self.fails('soft', '--lane', 'two') for _ in range(2)]
        one = [self.fails('soft', '--lane', 'one') for _ in range(3)]
        hard = [self.fails('hard') for _ in range(2)]
        self.plctl('dlq', 'retry', code=2)
        self.plctl('dlq', 'rm', '--all', one[0], code=2)
        self.assertEqual(self.ids('-p', 'soft', '-l', 'one', '-t', 'com*'), one)
        self.assertEqual(self.ids('-t', 'x*'), [])
        self.assertEqual(self.ids('-n', '4'), two + one[:2])
        def total(*args):
            return self.plctl('--json', 'dlq', *args).json()['changed']
        self.assertEqual(total('retry', '--all', '-p', 'soft', '--dry-run'), 5)
        self.assertEqual(total('rm', '--all', '-l', 'one', '-p', 'soft', '-n', '1'), 1)
        self.assertEqual(self.ids(), two + one[1:] + hard)
        self.cured.touch()
        self.assertEqual(total('retry', '--all', '-p', 'soft'), 4)
        for job in two + one[1:]:
            self.succeeds(job)
        self.assertEqual(self.ids(), hard)
        self.assertEqual(total('rm', '--all'), 2)
        self.assertEqual(self.ids(), [])

    def test_a_refused_retry_changes_nothing(self):
        job = self.fails('hard')
        text = self.instance.config.read_text(encoding='utf-8')
        self.instance.config.write_text(
            text.replace('queue: lmdb\n  few', 'queue: lmdb\n    max_queue_depth: 1\n  few'),
            encoding='utf-8')
        self.plctl('reload')
        self.plctl('pool', 'pause', 'hard')
        self.submit('hard', 'true')
        refused = self.plctl('dlq', 'retry', job, code=7)
        self.assertIn('queue of pool hard is full', refused.err)
        refused = self.plctl('dlq', 'retry', '--all', code=7)
        self.assertIn('1 refused', refused.err)
        self.assertEqual(self.ids(), [job])
        self.plctl('pool', 'resume', 'hard')
        self.cured.touch()
        lib.until('there is room', lambda: self.instance.plctl('dlq', 'retry', job).code == 0)
        self.succeeds(job)

    # ---- the disk ----

    def test_no_answer_before_the_disk_has_it(self):
        job, other = self.fails('hard'), self.fails('hard')
        store = next(pid for pid in lib.processes_with(self.instance.dir.name)
                     if b'pl-store' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes())
        self.cured.touch()
        os.kill(store, signal.SIGSTOP)
        waits = [self.instance.popen('dlq', 'retry', job), self.instance.popen('dlq', 'rm', other)]
        try:
            lib.until('both were taken', lambda: self.pool('hard')['submitted_total'] == 3)
            for each in waits:
                with self.assertRaises(subprocess.TimeoutExpired):
                    each.wait(timeout=0.3)
        finally:
            os.kill(store, signal.SIGCONT)
        for each in waits:
            _, err = each.communicate(timeout=lib.LIMIT)
            self.assertEqual(each.returncode, 0, err)
        self.succeeds(job)
        self.power_cut()
        self.assertEqual(self.ids(), [])


if __name__ == '__main__':
    lib.main()
