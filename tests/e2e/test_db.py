#!/usr/bin/python3
"""plctl db: the store of a stopped instance is looked at, copied, made small, and saved from damage."""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import unittest

import lib

CONFIG = """\
version: 1
name: db
pools:
  build:
    max_units: {cpu: 2}
    workers:
      - {name: sh, kind: cpu, replicas: 1, handles: [command], executor: {plugin: command}}
  quick:
    max_units: 10
    queue: lmdb
    max_payload: 1MiB
    workers:
      - {name: echo, replicas: 2, handles: [echo], executor: {plugin: echo}}
"""

SEED = int(os.environ.get('PL_TEST_SEED', '0')) or random.randrange(1, 1 << 32)


class Db(lib.Test):
    config = CONFIG

    def setUp(self):
        super().setUp()
        self.state = self.instance.dir / 'state'
        self.store = self.state / 'store'
        self.other = self.instance.dir / 'other'

    def stop(self):
        self.instance.plctl('stop', code=0)
        self.instance.started = False
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])

    def db(self, *args, code=0, json=False):
        state = () if '--state-dir' in args or args[0] == 'check' and len(args) > 1 \
            else ('--state-dir', self.state)
        return self.instance.plctl('db', *args, *state, *(('--json',) if json else ()), code=code)

    def start_on(self, state):
        result = self.instance.plctl('start', '-d', self.instance.config, '--state-dir', state)
        self.instance.started = result.code == 0
        return result

    def echo(self, text, *options):
        return self.instance.submit('echo', '-p', 'quick', '-d', text, *options)

    def result(self, job):
        self.instance.plctl('wait', job, code=0)
        return self.instance.plctl('result', job, code=0).out

    def fill(self, held=20, done=5):
        """Jobs that wait and outcomes; by id what each must give."""
        jobs = {self.echo(f'text of the held job {i} {"x" * 64}', '--hold'):
                f'text of the held job {i} {"x" * 64}' for i in range(held)}
        for i in range(done):
            job = self.echo(f'done {i}')
            self.assertEqual(self.result(job), f'done {i}')
            jobs[job] = f'done {i}'
        return jobs

    def require_all(self, jobs):
        for job, text in jobs.items():
            if self.instance.job(job)['state'] == 'held':
                self.instance.plctl('job', 'release', job, code=0)
            self.assertEqual(self.result(job), text)

    def tables(self):
        return self.store / 'db' / 'data.mdb'

    def spoil(self, path, needle, skip=0):
        """Flips a bit in each place where @needle stands. Return: how many."""
        data = bytearray(path.read_bytes())
        at, count = data.find(needle), 0
        while at >= 0:
            data[at + len(needle) // 2] ^= 0x10
            count += 1
            at = data.find(needle, at + 1)
        path.write_bytes(data)
        return count

    def fold_all(self):
        """What the log has goes into the tables when an instance begins from nothing."""
        self.start_on(self.state)
        self.stop()

    def test_a_whole_store_is_found_whole(self):
        self.fill()
        self.stop()
        report = self.db('check', json=True).json()
        self.assertTrue(report['ok'], report)
        self.assertEqual(report['log']['gap_count'] + report['tables']['finding_count'], 0)
        stat = self.db('stat', json=True).json()
        self.assertEqual((stat['jobs'] + stat['outcomes'] > 0, stat['in_use']), (True, False))
        self.assertIn('folder', self.db('stat').out)
        self.assertIn('ok', self.db('check').out)

    def test_an_instance_that_runs_is_told_from_outside(self):
        self.fill(held=3, done=2)
        stat = lib.until('the pages tell of all batches',
                         lambda: (lambda s: s if s['folded_lsn'] == s['durable_lsn'] > 0
                                  and s['batches'] > 0 else None)(
                                      self.instance.plctl('db', 'stat', '--json', code=0).json()))
        self.assertEqual((stat['phase'], stat['error'], stat['in_use']), ('serving', None, True))
        self.assertEqual((stat['jobs'], stat['outcomes']), (3, 2))
        self.assertGreaterEqual(stat['flush_us_max'], stat['flush_us_mean'])
        self.assertGreater(stat['flush_us_mean'], 0)
        store = self.instance.stats()['store']
        self.assertEqual((store['phase'], store['durable_lsn']), ('serving', stat['durable_lsn']))
        self.assertIn('store      serving', self.instance.plctl('status', code=0).out)
        for verb in (['check'], ['backup', self.other], ['compact'], ['salvage', self.other]):
            for where in ((), ('--state-dir', self.state), ('-c', self.instance.config,
                                                            '--state-dir', self.state)):
                result = self.instance.plctl('db', *verb, *where, code=7)
                self.assertIn('plctl stop', result.err)
        self.assertIn('in use', self.instance.plctl('db', 'check', '--json', code=7).json()['message'])
        self.assertFalse(self.other.exists())

    def test_nobody_says_where(self):
        self.stop()
        self.assertIn('--state-dir', self.instance.plctl('db', 'check', code=2).err)
        self.assertIn('no store', self.instance.plctl(
            'db', 'stat', '-c', self.instance.config, code=4).err)
        self.db('check', '--state-dir', '/nowhere', code=4)
        self.db('backup', code=2)
        self.db('frob', code=2)

    def test_a_flipped_bit_is_named_refused_and_survived(self):
        jobs = self.fill()
        self.stop()
        self.fold_all()
        needle = b'text of the held job 7 '
        self.assertGreater(self.spoil(self.tables(), needle), 0)
        report = self.db('check', code=1, json=True).json()
        self.assertFalse(report['ok'])
        rows = [f for f in report['tables']['findings'] if f['table'] == 'job' and f['key']]
        self.assertTrue(rows, report)
        self.assertIn(rows[0]['text'], self.db('check', code=1).out)
        refused = self.start_on(self.state)
        self.assertNotEqual(refused.code, 0)
        self.assertIn('plctl db check', refused.err)
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        self.assertIn('nothing was done', self.db('backup', self.other, code=1).err)
        self.assertIn('nothing was done', self.db('compact', code=1).err)
        before = {p: p.read_bytes() for p in self.store.rglob('*') if p.is_file()}
        saved = self.db('salvage', self.other, json=True).json()
        # The log still has what the tables have lost.
        self.assertEqual((saved['bad_rows'], saved['only_in_log']), (1, 1))
        self.assertEqual(before, {p: p.read_bytes() for p in self.store.rglob('*') if p.is_file()})
        self.assertTrue(self.db('check', self.other, json=True).json()['ok'])
        self.db('salvage', self.other, code=2)
        self.assertEqual(self.start_on(self.other).code, 0)
        self.require_all(jobs)
        more = self.echo('after')
        self.assertEqual(self.result(more), 'after')
        self.stop()
        self.assertEqual(self.start_on(self.other).code, 0)
        self.assertEqual(self.result(more), 'after')

    def test_what_tables_and_log_have_lost_is_lost_alone(self):
        jobs = self.fill()
        self.stop()
        self.fold_all()
        needle = b'text of the held job 7 '
        self.assertGreater(self.spoil(self.tables(), needle), 0)
        logs = sorted(self.store.glob('log-*'))
        self.assertGreater(sum(self.spoil(log, needle) for log in logs), 0)
        saved = self.db('salvage', self.other, json=True).json()
        self.assertEqual(saved['only_in_log'], 0)
        lost = next(job for job, text in jobs.items() if text.startswith(needle.decode()))
        del jobs[lost]
        self.assertEqual(self.start_on(self.other).code, 0)
        self.instance.plctl('job', 'show', lost, code=4)
        self.require_all(jobs)

    def test_tables_gone_identity_gone(self):
        jobs = self.fill()
        self.stop()
        self.tables().unlink()
        (self.store / 'STORE').write_bytes(b'?' * 52)
        report = self.db('check', code=1, json=True).json()
        self.assertIn('STORE', report['identity_error'])
        self.assertNotEqual(self.start_on(self.state).code, 0)
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        saved = self.db('salvage', self.other, json=True).json()
        self.assertEqual((saved['tables_lost'], saved['identity_from_log']), (True, True))
        self.assertEqual((saved['jobs'], saved['outcomes']), (20, 5))
        self.assertEqual(self.start_on(self.other).code, 0)
        self.require_all(jobs)

    def test_a_backup_has_all(self):
        jobs = self.fill()
        self.stop()
        self.db('backup', self.other)
        self.db('backup', self.other, code=2)
        self.assertTrue(self.db('check', self.other, json=True).json()['ok'])
        shutil.rmtree(self.state / 'store')
        moved = self.instance.dir / 'moved'
        self.other.rename(moved)
        self.assertEqual(self.start_on(moved).code, 0)
        self.require_all(jobs)

    def test_compact_shrinks_and_may_be_killed(self):
        print('PL_TEST_SEED', SEED)
        chance = random.Random(SEED)
        lines = self.instance.dir / 'lines'
        lines.write_text('\n'.join(f'{i} {"y" * 3000}' for i in range(1000)) + '\n')
        ended = self.instance.plctl('submit', '--id-only', 'echo', '-p', 'quick', '--lines', lines,
                                    code=0).out.split()
        self.instance.plctl('wait', *ended, code=0)
        jobs = self.fill(held=5, done=2)
        lib.until('all is folded', lambda: (lambda s: s['folded_lsn'] == s['durable_lsn'])(
            self.instance.plctl('db', 'stat', '--json', code=0).json()))
        self.instance.plctl('mailbox', 'ack', *ended, code=0)
        lib.until('all is forgotten', lambda: self.instance.plctl(
            'db', 'stat', '--json', code=0).json()['outcomes'] == 2)
        self.stop()
        before = self.tables().stat().st_size
        command = self.instance.command('db', 'compact', '--state-dir', self.state)
        killed = 0
        for _ in range(30):
            copy = self.instance.dir / 'copy'
            shutil.copytree(self.state, copy)
            command = self.instance.command('db', 'compact', '--state-dir', copy)
            process = subprocess.Popen(command, env=self.instance.env, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(timeout=chance.uniform(0, 0.06))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            report = self.db('check', copy, json=True).json()
            self.assertTrue(report['ok'], report)
            self.assertEqual(report['tables']['rows']['job'], 5)
            self.db('compact', '--state-dir', copy)
            self.assertFalse((copy / 'store' / 'db.new').exists())
            shutil.rmtree(copy)
        self.assertGreater(killed, 0)
        told = self.db('compact', json=True).json()
        after = self.tables().stat().st_size
        self.assertEqual((told['bytes_before'], told['bytes_after']), (before, after))
        self.assertLess(after, before // 4)
        self.assertEqual(self.start_on(self.state).code, 0)
        self.require_all(jobs)

    def test_what_a_killed_compaction_left_goes_at_the_next_start(self):
        jobs = self.fill(held=2, done=1)
        self.stop()
        left = self.store / 'db.new'
        left.mkdir()
        (left / 'data.mdb').write_bytes(b'half')
        self.assertEqual(self.start_on(self.state).code, 0)
        self.assertFalse(left.exists())
        self.require_all(jobs)

    def test_doctor_measures_the_disk(self):
        state = ('--state-dir', self.state)
        findings = {f['check']: f for f in
                    self.instance.plctl('doctor', *state, '--json').json()}
        self.assertIn('us', findings['disk flush']['detail'])
        self.assertIn('file system', findings)
        text = self.instance.plctl('doctor').out
        self.assertIn('disk flush', text)
        memory = pathlib.Path('/dev/shm')
        if memory.is_dir() and os.access(memory, os.W_OK):
            shm = self.instance.plctl('doctor', '--state-dir', memory, '--json', code=1).json()
            self.assertFalse(next(f for f in shm if f['check'] == 'file system')['ok'])


if __name__ == '__main__':
    lib.main()
