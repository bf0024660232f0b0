#!/usr/bin/python3
"""Promises that only show when something is late or dies: what may be told, begin or be given back, and when.

Each test holds up one thing (the disk, a worker, the supervisor) and looks that nobody runs ahead of it. That
something did not happen is looked for after the supervisor has answered others, so by then it would have.
"""
import contextlib
import os
import select
import signal
import struct
import time

import lib
import peer

CONFIG = """\
version: 1
name: promises
pools:
  build:
    max_units: {cpu: 2}
    crash_limit: 2
    workers:
      - {name: sh, kind: cpu, replicas: 2, handles: [command], executor: {plugin: command}}
  quick:
    max_units: 10
    workers:
      - {name: echo, replicas: 2, handles: [echo], executor: {plugin: echo}}
  soft:
    max_units: 10
    queue: memory
    workers:
      - {name: echo, replicas: 1, handles: [echo], executor: {plugin: echo}}
"""


def state_of(pid):
    with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
        return file.read().rpartition(')')[2].split()[0]


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def change_identity(segment):
    """A worker's segment says that another process wrote it: docs/SHM.md, two-copy slot."""
    base, copy_bytes = 448, 64
    segment.seek(base)
    generation, = struct.unpack('<Q', segment.read(8))
    segment.seek(base + 64 + (generation & 1) * copy_bytes + 16)
    pid, = struct.unpack('<I', (payload := segment.read(40))[:4])
    payload = struct.pack('<I', pid + 1) + payload[4:]
    generation += 1
    copy = struct.pack('<QQ', generation, len(payload) << 32 | crc32c(payload + struct.pack('<Q', generation)))
    segment.seek(base + 64 + (generation & 1) * copy_bytes)
    segment.write(copy + payload)
    segment.seek(base)
    segment.write(struct.pack('<Q', generation))


class Promises(lib.Test):
    config = CONFIG

    def setUp(self):
        super().setUp()
        self.plctl = self.instance.plctl

    def pool(self, name):
        return next(pool for pool in self.instance.stats()['pools'] if pool['name'] == name)

    def path(self, name):
        return self.instance.dir / name

    def kill_supervisor(self, old=None):
        old = old or self.instance.supervisor_pid()
        os.kill(old, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: self.plctl('status').code == 0 and
                  self.instance.supervisor_pid() != old)

    def gated(self, name, *options, before=''):
        """A program that says that it began, and waits until it is let go."""
        os.mkfifo(self.path(f'{name}.gate'))
        job = self.instance.run_detached('sh', '-c', f'{before} echo run >> {self.path(name)}; '
                                         f'read x < {self.path(name)}.gate; echo done', options=options)
        return job

    def starts(self, name):
        return len(self.path(name).read_text().split()) if self.path(name).exists() else 0

    def let_go(self, name):
        self.open_gate(self.path(f'{name}.gate'))

    @staticmethod
    def open_gate(path):
        """Somebody reads there, or will."""
        def opened():
            try:
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return None
        gate = lib.until(f'somebody waits at {path.name}', opened)
        os.write(gate, b'go\n')
        os.close(gate)


class Disk(Promises):
    """The store is stopped: nothing becomes durable."""

    def setUp(self):
        super().setUp()
        if peer.msgpack is None:
            self.skipTest('python3-msgpack is not installed')

    def client(self):
        client = peer.Client(self.path('run/parking-lot/promises/pl.sock'))
        self.addCleanup(client.close)
        return client

    @contextlib.contextmanager
    def stopped_store(self):
        store, = [pid for pid in lib.processes_with(self.instance.dir.name)
                  if lib.program_of(pid) == 'pl-store']
        os.kill(store, signal.SIGSTOP)
        try:
            lib.until('the store is stopped', lambda: state_of(store) == 'T')
            yield
        finally:
            os.kill(store, signal.SIGCONT)

    def others_are_served(self):
        """Whatever the supervisor wanted to do at once it has done by then."""
        for word in 'ab':
            self.assertEqual(self.plctl('submit', '--wait', 'echo', '-p', 'soft', '-d', word,
                                        code=0).out, word)

    def is_not_answered(self, client):
        self.others_are_served()
        self.assertEqual(select.select([client.socket], [], [], 0)[0], [], 'it was answered')

    def test_no_outcome_before_the_disk_has_it(self):
        job = self.gated('a')
        waits, asks = self.client(), self.client()
        lib.until('it runs', lambda: self.starts('a'))
        ident = bytes.fromhex(job.replace('-', ''))
        wait = waits.send('job.wait', {'id': ident, 'result': True})
        self.others_are_served()
        with self.stopped_store():
            self.let_go('a')
            lib.until('it ended', lambda: self.pool('build')['finished_total']['succeeded'] == 1)
            self.is_not_answered(waits)
            ask = asks.send('job.result', {'id': ident})
            self.is_not_answered(asks)
        for client, number in ((waits, wait), (asks, ask)):
            answered, error, outcome = client.receive()
            self.assertEqual((answered, error, outcome['result']), (number, None, b'done\n'))

    def unanswered(self, method, params, happened):
        """The request is done, and not answered before the disk has it."""
        client = self.client()
        with self.stopped_store():
            number = client.send(method, params)
            lib.until(f'{method} is done', happened)
            self.is_not_answered(client)
        self.assertEqual(client.receive()[:2], [number, None])

    def held(self):
        return self.client().call('job.submit', pool='quick', type='echo', payload=b'x', hold=True)['id']

    def test_a_submit_waits_for_the_disk(self):
        self.unanswered('job.submit', {'pool': 'quick', 'type': 'echo', 'payload': b'x'},
                        lambda: self.pool('quick')['submitted_total'] == 1)

    def test_a_cancel_waits_for_the_disk(self):
        self.unanswered('job.cancel', {'id': self.held()},
                        lambda: self.pool('quick')['finished_total']['cancelled'] == 1)

    def test_a_cancel_of_what_runs_waits_for_the_disk(self):
        job = self.gated('c')
        lib.until('it runs', lambda: self.starts('c'))
        self.unanswered('job.cancel', {'id': bytes.fromhex(job.replace('-', ''))},
                        lambda: self.pool('build')['running'] == 0)

    def test_a_hold_waits_for_the_disk(self):
        self.plctl('pool', 'pause', 'quick', code=0)
        job = self.client().call('job.submit', pool='quick', type='echo', payload=b'x')['id']
        self.unanswered('job.hold', {'id': job}, lambda: self.pool('quick')['held'] == 1)

    def test_a_release_waits_for_the_disk(self):
        self.plctl('pool', 'pause', 'quick', code=0)
        self.unanswered('job.release', {'id': self.held()},
                        lambda: self.pool('quick')['held'] == 0)

    def test_an_acknowledgement_waits_for_the_disk(self):
        ended = self.client().call('job.run', pool='quick', type='echo', payload=b'x')
        self.unanswered('mailbox.ack', {'ids': [ended['id']]}, lambda: True)

    def test_a_second_acknowledgement_waits_as_well(self):
        """Whose first one was cut off by the supervisor's death, say: that there is nothing to do is a yes."""
        ended = self.client().call('job.run', pool='quick', type='echo', payload=b'x')
        again = self.client()
        with self.stopped_store():
            self.client().send('mailbox.ack', {'ids': [ended['id']]})
            self.others_are_served()
            number = again.send('mailbox.ack', {'ids': [ended['id']]})
            self.is_not_answered(again)
        self.assertEqual(again.receive()[:2], [number, None])

    def test_a_second_removal_of_a_dead_letter_waits_as_well(self):
        failed = self.instance.run_detached('false')
        self.plctl('wait', failed, code=10)
        ident = bytes.fromhex(failed.replace('-', ''))
        again = self.client()
        with self.stopped_store():
            self.client().send('dlq.rm', {'id': ident})
            self.others_are_served()
            number = again.send('dlq.rm', {'id': ident})
            self.is_not_answered(again)
        self.assertEqual(again.receive()[0], number)

    def test_a_repeat_of_what_was_acknowledged_waits_for_the_disk(self):
        """Nothing of the first submit is on disk yet, and nothing of it is here any more."""
        first, again = self.client(), self.client()
        for client in (first, again):
            client.call('hello', proto=1, client='python test', client_id=b'0123456789abcdef')
        submit = {'pool': 'quick', 'type': 'echo', 'payload': b'x', 'seq': 1, 'hold': True}
        with self.stopped_store():
            first.send('job.submit', submit)
            job, = lib.until('it is held', lambda: self.client().call('job.list', pool='quick')['jobs'])
            self.client().send('job.release', {'id': job['id']})
            lib.until('it ended', lambda: self.pool('quick')['finished_total']['succeeded'] == 1)
            self.client().send('mailbox.ack', {'ids': [job['id']]})
            self.others_are_served()
            number = again.send('job.submit', submit)
            self.is_not_answered(again)
        answered, error, ticket = again.receive()
        self.assertEqual((answered, error, ticket['id']), (number, None, job['id']))

    def test_the_end_of_a_drain_waits_for_the_disk(self):
        job = self.gated('d')
        lib.until('it runs', lambda: self.starts('d'))
        drains = self.client()
        number = drains.send('pool.drain', {'pool': 'build'})
        self.others_are_served()
        with self.stopped_store():
            self.let_go('d')
            lib.until('it ended', lambda: self.pool('build')['finished_total']['succeeded'] == 1)
            self.is_not_answered(drains)
        self.assertEqual(drains.receive()[:2], [number, None])
        self.plctl('wait', job, code=0)

    def test_a_wait_that_cancels_waits_for_the_disk(self):
        self.plctl('pool', 'pause', 'quick', code=0)
        job = self.client().call('job.submit', pool='quick', type='echo', payload=b'x')['id']
        waits = self.client()
        with self.stopped_store():
            number = waits.send('job.wait', {'id': job, 'timeout_ms': 1, 'on_timeout': 'cancel'})
            lib.until('it is cancelled', lambda: self.pool('quick')['finished_total']['cancelled'] == 1)
            self.is_not_answered(waits)
        answered, error, _ = waits.receive()
        self.assertEqual((answered, error[0]), (number, peer.TIMEOUT))

    def test_a_result_is_not_followed_before_the_disk_has_it(self):
        job, follows, late = self.held(), self.client(), self.client()
        follows.call('job.follow', id=job)
        with self.stopped_store():
            self.client().send('job.release', {'id': job})
            lib.until('it ended', lambda: self.pool('quick')['finished_total']['succeeded'] == 1)
            self.is_not_answered(follows)
            late.send('job.follow', {'id': job})
            self.is_not_answered(late)

    def test_what_must_not_run_twice_waits_for_its_start(self):
        self.plctl('pool', 'pause', 'build', code=0)
        once, twice = self.gated('once', '--at-most-once'), self.gated('twice')
        with self.stopped_store():
            self.plctl('pool', 'resume', 'build', code=0)
            lib.until('one that may run twice began', lambda: self.starts('twice'))
            lib.until('both have their units', lambda: self.pool('build')['running'] == 2)
            self.others_are_served()
            self.assertEqual(self.starts('once'), 0)
        for name, job in (('once', once), ('twice', twice)):
            lib.until(f'{name} began', lambda n=name: self.starts(n))
            self.let_go(name)
            self.plctl('wait', job, code=0)

    def test_an_attempt_that_was_never_sent_is_not_counted(self):
        """Its START is in the log, and the supervisor dies while that is on its way to the disk."""
        self.plctl('pool', 'pause', 'build', code=0)
        once = self.gated('once', '--at-most-once')
        with self.stopped_store():
            self.plctl('pool', 'resume', 'build', code=0)
            lib.until('it has its units', lambda: self.pool('build')['running'] == 1)
            self.others_are_served()
            self.kill_supervisor()
        self.let_go('once')
        self.plctl('wait', once, code=0)
        self.assertEqual((self.instance.job(once)['attempt'], self.starts('once')), (1, 1))

    def test_a_second_attempt_waits_for_its_start(self):
        again = self.gated('again')
        lib.until('it runs', lambda: self.starts('again'))
        worker = self.instance.job(again)['worker_pid']
        with self.stopped_store():
            os.kill(worker, signal.SIGKILL)
            lib.until('it was started again', lambda: self.pool('build')['started_total'] == 2)
            self.others_are_served()
            self.assertEqual(self.starts('again'), 1)
        lib.until('it runs again', lambda: self.starts('again') == 2)
        self.let_go('again')
        self.plctl('wait', again, code=0)


class Restart(Promises):
    """What a supervisor knew, the next one knows."""

    def test_a_deadline_outlives_the_supervisor(self):
        running = [self.gated(name) for name in 'ab']
        lib.until('both run', lambda: self.starts('a') and self.starts('b'))
        jobs = [self.instance.submit('command', '-p', 'build', '-d', '{"argv": ["true"]}', '--deadline',
                                     '+1500ms', *more) for more in ((), ('--hold',))]
        self.kill_supervisor()
        for job in jobs:
            self.plctl('wait', job, '--no-fail', '--timeout', '15s', code=0)
            self.assertEqual(self.instance.job(job)['outcome'], 'expired')
        for name, job in zip('ab', running):
            self.let_go(name)
            self.plctl('wait', job, code=0)

    def test_crashes_are_counted_across_supervisors(self):
        for number in (1, 2, 3):
            os.mkfifo(self.path(f'c.{number}'))
        job = self.instance.run_detached('sh', '-c', f'echo run >> {self.path("c")}; '
                                         f'read x < {self.path("c")}.$(wc -l < {self.path("c")}); '
                                         'kill -9 $PPID; sleep 1000')
        lib.until('it runs', lambda: self.starts('c') == 1)
        self.open_gate(self.path('c.1'))
        lib.until('it runs again', lambda: self.starts('c') == 2)
        self.kill_supervisor()
        self.assertEqual(self.instance.job(job)['state'], 'running')
        self.open_gate(self.path('c.2'))
        lib.until('it crashed for good, or runs a third time', lambda: self.starts('c') > 2 or
                  self.pool('build')['finished_total']['crashed'] == 1)
        self.assertEqual(self.instance.job(job)['outcome'], 'crashed')
        self.assertEqual(self.starts('c'), 2)

    def test_an_acknowledged_outcome_stays_away(self):
        jobs = [self.instance.submit('echo', '-p', pool, '-d', 'x', '--session', 's')
                for pool in ('quick', 'soft') for _ in range(2)]
        for job in jobs:
            self.plctl('wait', job, code=0)
        # As a dead letter it stays in the log.
        failed = self.instance.run_detached('false', options=('--session', 's'))
        self.plctl('wait', failed, code=10)
        self.plctl('mailbox', 'ack', jobs[0], jobs[2], failed, code=0)
        for _ in range(2):
            self.kill_supervisor()
            self.assertEqual({mail['id'] for mail in self.mail()}, {jobs[1], jobs[3]})
        self.instance.power_cut()
        self.instance.start()
        self.assertEqual({mail['id'] for mail in self.mail()}, {jobs[1]})

    def test_a_cancel_outlives_all(self):
        """What was to be stopped is not run again, although it had not ended when all died."""
        job = self.gated('c', before='trap "" TERM INT;')
        lib.until('it runs', lambda: self.starts('c'))
        self.plctl('cancel', job, code=0)
        self.instance.power_cut()
        self.instance.start()
        self.plctl('wait', job, '--no-fail', code=0)
        self.assertEqual((self.instance.job(job)['outcome'], self.starts('c')), ('cancelled', 1))

    def test_a_time_out_does_not_begin_anew(self):
        """The supervisor sees nothing until it is over; then it is over at once, not after it again."""
        job = self.gated('t', '--timeout', '6s')
        lib.until('it runs', lambda: self.starts('t'))
        end = self.path('t').stat().st_mtime + 6.1
        pid = self.instance.supervisor_pid()
        os.kill(pid, signal.SIGSTOP)
        lib.until('its time is over', lambda: time.time() > end)
        self.kill_supervisor(pid)
        self.plctl('wait', job, '--no-fail', '--timeout', '4s', code=0)
        self.assertEqual(self.instance.job(job)['outcome'], 'timed_out')

    def test_a_stop_of_an_earlier_job_is_not_taken_for_the_next(self):
        """Each dispatch into a slot has a number of its own, whoever sends it: stop words name it."""
        jobs = [self.gated(name) for name in 'ab']
        lib.until('both workers have one', lambda: self.starts('a') and self.starts('b'))
        self.plctl('cancel', *jobs, code=0)
        for job in jobs:
            self.plctl('wait', job, '--no-fail', code=0)
        workers = self.workers()
        self.kill_supervisor()
        self.assertEqual(self.workers(), workers)
        for name in 'cd':
            jobs.append(self.gated(name))
        for name, job in zip('cd', jobs[2:]):
            lib.until(f'{name} runs', lambda n=name: self.starts(n))
            self.let_go(name)
            self.plctl('wait', job, code=0)

    def test_a_worker_that_is_another_process_is_not_believed(self):
        jobs = {name: self.gated(name) for name in 'ab'}
        lib.until('both workers have one', lambda: self.starts('a') and self.starts('b'))
        workers = self.workers()
        pid = self.instance.supervisor_pid()
        os.kill(pid, signal.SIGSTOP)
        for worker in workers:
            with open(f'/proc/{worker}/fd/4', 'r+b', buffering=0) as segment:
                change_identity(segment)
        self.kill_supervisor(pid)
        for name, job in jobs.items():
            lib.until(f'{name} runs again', lambda n=name: self.starts(n) == 2)
            self.let_go(name)
            self.plctl('wait', job, code=0)
        self.assertFalse(workers & self.workers())

    def workers(self):
        found = self.plctl('workers', 'ls', '--json', code=0).json()['workers']
        return {worker['pid'] for worker in found if worker['group'] == 'sh'}

    def mail(self):
        return self.plctl('mailbox', 'ls', '--session', 's', '--json', code=0).json()


class Trees(Promises):
    config = CONFIG.replace('max_units: {cpu: 2}', 'max_units: {cpu: 1}')

    def test_units_wait_for_the_whole_tree(self):
        """A program with much memory takes its time to die, after its worker."""
        mark = self.path('large')
        first = self.instance.run_detached(
            'python3', '-c', f'import os; data = b"x" * (700 << 20); os.fork() or os.setsid(); '
            f'open("{mark}", "a").write(str(os.getpid()) + "\\n"); import time; time.sleep(1000)',
            options=('--at-most-once',))
        lib.until('its processes run', lambda: mark.exists() and mark.read_text().count('\n') == 2)
        pids = mark.read_text().split()
        look = '; '.join(f'test -e /proc/{pid}/stat && ! grep -q "^State:.Z" /proc/{pid}/status && echo {pid}'
                         for pid in pids)
        second = self.instance.run_detached('sh', '-c', f'{look}; echo looked')
        os.kill(self.instance.job(first)['worker_pid'], signal.SIGKILL)
        self.plctl('wait', second, code=0)
        self.assertEqual(self.plctl('result', second, code=0).out, 'looked\n')
        self.plctl('wait', first, code=10)


if __name__ == '__main__':
    lib.main()
