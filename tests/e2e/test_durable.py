#!/usr/bin/python3
"""Durable pools: what was acknowledged is there again after anything that leaves the disk whole."""
import os
import pathlib
import shutil
import signal
import subprocess
import unittest

import lib

CONFIG = """\
version: 1
name: durable
pools:
  build:
    max_units: {cpu: 2}
    workers:
      - {name: sh, kind: cpu, replicas: 2, handles: [command], executor: {plugin: command}}
  quick:
    max_units: 10
    queue: lmdb
    max_payload: 12MiB
    workers:
      - {name: echo, replicas: 2, handles: [echo], executor: {plugin: echo}}
  soft:
    max_units: 10
    queue: memory
    workers:
      - {name: echo, replicas: 1, handles: [echo], executor: {plugin: echo}}
"""


class Durable(lib.Test):
    config = CONFIG

    def pids(self, *programs):
        """Processes of this instance, by program."""
        return [pid for pid in lib.processes_with(self.instance.dir.name)
                if lib.program_of(pid) in programs]

    def one(self, program):
        return lib.until(f'one {program} runs',
                         lambda: (lambda pids: pids[0] if len(pids) == 1 else None)(
                             self.pids(program)))

    def pool(self, name):
        return next(pool for pool in self.instance.stats()['pools'] if pool['name'] == name)

    def power_cut(self):
        """Everything dies at once, as with the machine; then it is started again."""
        self.instance.power_cut()
        self.instance.start()

    def result(self, job):
        self.instance.plctl('wait', job, code=0)
        return self.instance.plctl('result', job, code=0).out

    def test_a_pool_says_how_durable_it_is(self):
        shown = {name: self.instance.plctl('pool', 'show', name, '--json', code=0).json()['queue_type']
                 for name in ('build', 'quick', 'soft')}
        self.assertEqual(shown, {'build': 'lmdb', 'quick': 'lmdb', 'soft': 'memory'})

    def test_jobs_and_outcomes_come_back_as_they_were(self):
        plctl, submit = self.instance.plctl, self.instance.submit
        done = submit('echo', '-p', 'quick', '-d', 'early')
        self.assertEqual(self.result(done), 'early')
        gone = submit('echo', '-p', 'quick', '-d', 'acknowledged')
        plctl('wait', gone, code=0)
        plctl('pool', 'pause', 'quick', code=0)
        queued = [submit('echo', '-p', 'quick', '-d', f'queued {i}')
                  for i in range(5)]
        big = self.instance.dir / 'big'
        big.write_bytes(os.urandom(9 << 20))
        large = submit('echo', '-p', 'quick', '-d', f'@{big}')
        held = submit('echo', '-p', 'quick', '--hold', '-d', 'held')
        hold_later = submit('echo', '-p', 'quick', '-d', 'hold later')
        plctl('job', 'hold', hold_later, code=0)
        release = submit('echo', '-p', 'quick', '--hold', '-d', 'released')
        plctl('job', 'release', release, code=0)
        delayed = submit('echo', '-p', 'quick', '--delay', '1h', '-d', 'delayed')
        cancelled = submit('echo', '-p', 'quick', '-d', 'cancelled')
        plctl('cancel', cancelled, code=0)
        soft = submit('echo', '-p', 'soft', '--hold', '-d', 'soft')
        self.power_cut()
        self.assertEqual(plctl('result', done, code=0).out, 'early')
        for i, job in enumerate(queued):
            self.assertEqual(self.result(job), f'queued {i}')
        plctl('wait', large, code=0)
        self.assertEqual(plctl('result', large, code=0).raw, big.read_bytes())
        self.assertEqual(self.result(release), 'released')
        for job in (held, hold_later):
            self.assertEqual(self.instance.job(job)['state'], 'held')
        self.assertEqual(self.instance.job(delayed)['state'], 'delayed')
        self.assertEqual(self.instance.job(cancelled)['outcome'], 'cancelled')
        plctl('job', 'show', soft, code=4)
        plctl('job', 'release', held, code=0)
        self.assertEqual(self.result(held), 'held')

    def test_a_clean_stop_keeps_what_waits(self):
        plctl = self.instance.plctl
        plctl('pool', 'pause', 'quick', code=0)
        jobs = [self.instance.submit('echo', '-p', 'quick', '-d', str(i)) for i in range(20)]
        plctl('stop', '--now', code=0)
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        self.instance.start()
        for i, job in enumerate(jobs):
            self.assertEqual(self.result(job), str(i))

    def test_a_running_job_runs_again_and_at_most_once_does_not(self):
        out = self.instance.dir / 'runs'
        script = f'echo run >> {out}; read line < {self.instance.dir}/gate; echo end'
        os.mkfifo(self.instance.dir / 'gate')
        again = self.instance.run_detached('sh', '-c', script)
        once = self.instance.run_detached('sh', '-c', f'echo once >> {out}; exec sleep 600',
                                          options=['--at-most-once'])
        lib.until('both run', lambda: out.exists() and len(out.read_text().split()) == 2)
        self.power_cut()
        self.instance.plctl('wait', once)
        job = self.instance.job(once)
        self.assertEqual((job['outcome'], job['reason']), ('failed', 'interrupted'))
        with open(self.instance.dir / 'gate', 'w', encoding='utf-8') as gate:
            gate.write('go\n')
        self.assertEqual(self.result(again), 'end\n')
        self.assertEqual(self.instance.job(again)['attempt'], 2)
        self.assertEqual(sorted(out.read_text().split()), ['once', 'run', 'run'])

    def test_no_answer_before_the_disk_has_it(self):
        store = self.one('pl-store')
        os.kill(store, signal.SIGSTOP)
        waits = self.instance.popen('submit', '--id-only', 'echo', '-p', 'quick', '-d', 'x')
        try:
            # A memory pool is not held up, and by then the submit has long been seen.
            self.assertEqual(self.instance.plctl('submit', '--wait', 'echo', '-p', 'soft', '-d', 'y',
                                                 code=0).out, 'y')
            lib.until('the job was taken',
                      lambda: self.pool('quick')['submitted_total'] == 1)
            with self.assertRaises(subprocess.TimeoutExpired):
                waits.wait(timeout=0.3)
        finally:
            os.kill(store, signal.SIGCONT)
        out, _ = waits.communicate(timeout=lib.LIMIT)
        self.assertEqual(waits.returncode, 0)
        self.assertEqual(self.result(out.decode().strip()), 'x')

    def test_an_outcome_is_told_when_the_disk_has_it_whoever_has_died(self):
        """The next supervisor finds the outcome in the log; a power cut could still undo it."""
        gate = self.instance.dir / 'gate'
        os.mkfifo(gate)
        job = self.instance.run_detached('sh', '-c', f'read line < {gate}; echo "$line"')
        self.instance.until_state(job, 'running')
        store, supervisor = self.one('pl-store'), self.instance.supervisor_pid()
        os.kill(store, signal.SIGSTOP)
        gate.write_text('first\n')
        lib.until('it ended', lambda: self.pool('build')['finished_total']['succeeded'] == 1)
        os.kill(supervisor, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: self.instance.plctl('status').code == 0 and
                  self.instance.supervisor_pid() != supervisor)
        asking = [self.instance.popen(*args) for args in (
            ('wait', job), ('result', job), ('job', 'show', job), ('mailbox', 'ls'),
            ('cancel', job))]
        for process in asking:
            with self.assertRaises(subprocess.TimeoutExpired, msg=process.args):
                process.wait(timeout=0.3)
        self.power_cut()
        for process in asking:
            process.communicate()
        gate.write_text('second\n')
        self.assertEqual(self.result(job), 'second\n')
        self.assertEqual(self.instance.job(job)['attempt'], 2)

    def test_the_store_dies_and_nobody_notices(self):
        for round_ in range(5):
            os.kill(self.one('pl-store'), signal.SIGKILL)
            self.assertEqual(self.instance.plctl('submit', '--wait', 'echo', '-p', 'quick', '-d',
                                                 str(round_), code=0).out, str(round_))
        # One supervisor did it all; the next guard goes on counting.
        self.assertEqual(self.instance.stats()['supervisor']['epoch'], 1)
        self.power_cut()
        self.assertEqual(self.instance.stats()['supervisor']['epoch'], 2)

    def test_supervisor_and_store_die_together(self):
        plctl = self.instance.plctl
        plctl('pool', 'pause', 'quick', code=0)
        jobs = []
        for round_ in range(5):
            jobs += [self.instance.submit('echo', '-p', 'quick', '-d', f'{round_}.{i}')
                     for i in range(3)]
            supervisor, store = self.one('pl-supervisor'), self.one('pl-store')
            os.kill(store, signal.SIGKILL)
            os.kill(supervisor, signal.SIGKILL)
            lib.until('another supervisor serves', lambda old=supervisor: self.instance.plctl(
                'status').code == 0 and self.instance.supervisor_pid() != old)
            plctl('pool', 'pause', 'quick', code=0)
        plctl('pool', 'resume', 'quick', code=0)
        for number, job in enumerate(jobs):
            self.assertEqual(self.result(job), f'{number // 3}.{number % 3}')
        plctl('pool', 'pause', 'quick', code=0)
        last = self.instance.submit('echo', '-p', 'quick', '-d', 'last')
        self.power_cut()
        self.assertEqual(self.result(last), 'last')
        for number, job in enumerate(jobs):
            self.assertEqual(plctl('result', job, code=0).out, f'{number // 3}.{number % 3}')

    def test_a_result_larger_than_the_log_takes_is_refused(self):
        """Neither a large job nor a large result holds up those behind it."""
        text = CONFIG.replace('pools:', 'storage: {lmdb: {segment_size: 1MiB}}\npools:').replace(
            'handles: [command]', 'handles: [command], limits: {output: 64MiB}')
        self.reconfigure(text)
        plctl = self.instance.plctl
        for bytes_ in ('2M', '48M'):
            job = self.instance.run_detached('head', '-c', bytes_, '/dev/zero')
            plctl('wait', job, code=10)
            self.assertIn('durable', self.instance.job(job)['error'])
        large = self.instance.dir / 'large'
        large.write_bytes(bytes(2 << 20))
        refused = plctl('submit', 'echo', '-p', 'quick', '-d', f'@{large}', code=2)
        self.assertIn('durable', refused.err)
        large.write_bytes(os.urandom(900 << 10))
        for _ in range(5):
            job = self.instance.submit('echo', '-p', 'quick', '-d', f'@{large}')
            plctl('wait', job, code=0)
        self.power_cut()
        self.assertEqual(plctl('result', job, code=0).raw, large.read_bytes())

    def reconfigure(self, text):
        self.instance.plctl('stop', '--now', code=0)
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        self.instance.config.write_text(text)
        self.instance.start()

    def test_a_damaged_store_is_refused_and_kept(self):
        for i in range(50):
            self.instance.submit('echo', '-p', 'quick', '--hold', '-d', str(i))
        self.instance.plctl('stop', '--now', code=0)
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        self.instance.started = False
        folder = self.instance.dir / 'state' / 'store'
        shutil.copytree(folder, self.instance.dir / 'copy')
        (folder / 'db' / 'data.mdb').write_bytes(b'')
        result = self.instance.plctl('start', '-d', self.instance.config, '--state-dir',
                                     self.instance.dir / 'state')
        self.assertNotEqual(result.code, 0)
        self.assertIn('empty', self.instance.log())
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        shutil.rmtree(folder)
        shutil.move(self.instance.dir / 'copy', folder)
        self.instance.start()
        self.assertEqual(self.pool('quick')['held'], 50)

    def test_a_reload_brings_the_first_durable_pool(self):
        text = CONFIG.replace('queue: lmdb', 'queue: memory').replace(
            '    max_units: {cpu: 2}\n', '    max_units: {cpu: 2}\n    queue: memory\n')
        other = lib.Instance(text, os.environ.get('PL_LOOP'))
        self.addCleanup(other.stop)
        self.assertFalse((other.dir / 'state' / 'store').exists())
        other.config.write_text(CONFIG)
        other.plctl('reload', code=0)
        self.assertEqual(other.plctl('submit', '--wait', 'echo', '-p', 'quick', '-d', 'now',
                                     code=0).out, 'now')
        self.assertTrue((other.dir / 'state' / 'store' / 'STORE').exists())


if __name__ == '__main__':
    lib.main()
