#!/usr/bin/python3
"""The supervisor dies; its workers go on, and the next supervisor takes them over.

    PL_TEST_SEED=N PL_TEST_KILLS=N … python3 test_adopt.py

Programs tell of each start by a line in a file of their own, and wait in a FIFO for the test to let
them go: nothing depends on how fast anything is.
"""
import os
import pathlib
import random
import signal
import struct
import subprocess
import threading
import time
import unittest

import lib
import peer

KILLS = int(os.environ.get('PL_TEST_KILLS', '50'))

CONFIG = """\
version: 1
name: adopt
pools:
  build:
    max_units: 20
    max_queue_depth: 100000
    crash_limit: 3
    grace: 300ms
    queue: memory
    workers:
      - {name: sh, replicas: 2, concurrency: 4, handles: [command], executor: {plugin: command},
         env: {MARK: old}}
      - {name: one, replicas: 1, concurrency: 1, handles: [sleep], executor: {plugin: sleep}}
      - {name: echo, replicas: 1, concurrency: 4, handles: [echo], executor: {plugin: echo}}
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


def write_current(segment, slot, job, attempt, generation):
    """The first record of a slot that never had one: docs/SHM.md, two-copy slot, generation 1."""
    base = 448 + 192 + 1600 + 2240 + slot * 192  # control words, identity, facts, last words
    payload = job + struct.pack('<IIIIqQ', attempt, generation, 3, 0, 1, 0)
    copy = struct.pack('<QQ', 1, len(payload) << 32 | crc32c(payload + struct.pack('<Q', 1)))
    segment.seek(base + 64 + 64)  # behind copy 0
    segment.write(copy + payload)
    segment.seek(base)
    segment.write(struct.pack('<Q', 1))


class Base(lib.Test):
    config = CONFIG

    def setUp(self):
        super().setUp()
        self.files = self.instance.dir / 'files'
        self.files.mkdir()

    def gated(self, name, *options, before='', after='echo done'):
        """A program that says it began, waits to be let go, and ends with output."""
        begun, gate = self.files / f'{name}.begun', self.files / f'{name}.gate'
        os.mkfifo(gate)
        job = self.instance.run_detached(
            'sh', '-c', f'echo $$ >> {begun}; {before} read x < {gate}; {after}', options=options)
        lib.until(f'{name} began', lambda: self.starts(name))
        return job

    def starts(self, name):
        path = self.files / f'{name}.begun'
        return path.read_text().split() if path.exists() else []

    def let_go(self, name):
        with open(self.files / f'{name}.gate', 'w', encoding='ascii') as gate:
            gate.write('go\n')

    def workers(self, group=None):
        found = self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
        return {w['pid']: w for w in found if group in (None, w['group'])}

    def until_serves(self, old):
        def again():
            result = self.instance.plctl('stats', '--json')
            if result.code != 0:
                return False
            pid = result.json()['supervisor']['pid']
            return pid != old and self.instance.plctl('status').code == 0
        lib.until('another supervisor serves', again)

    def kill_supervisor(self, pid=None):
        pid = pid or self.instance.supervisor_pid()
        os.kill(pid, signal.SIGKILL)
        self.until_serves(pid)

    def stop_supervisor(self):
        """It does nothing more; the next thing that happens to it is SIGKILL."""
        pid = self.instance.supervisor_pid()
        os.kill(pid, signal.SIGSTOP)
        lib.until('it is stopped', lambda: state_of(pid) == 'T')
        return pid

    def result(self, job):
        return self.instance.plctl('result', '--wait', job)

    def outcome(self, job):
        self.instance.plctl('wait', job)
        return self.instance.job(job)

    def check_units(self):
        units = self.instance.stats()['pools'][0]['units']['units']
        self.assertEqual(units['used'], 0)


class Adopt(Base):
    def test_running_jobs_go_on(self):
        jobs = {f'p{n}': self.gated(f'p{n}') for n in range(8)}
        before = self.workers()
        began = {job: self.instance.job(job)['started_at'] for job in jobs.values()}
        for _ in range(3):
            self.kill_supervisor()
            after = self.workers()
            self.assertEqual(set(after), set(before))
            for pid, worker in after.items():
                self.assertEqual(worker['started_at_ms'], before[pid]['started_at_ms'])
            for job in jobs.values():
                shown = self.instance.job(job)
                self.assertEqual((shown['state'], shown['started_at']), ('running', began[job]))
        for name in jobs:
            self.let_go(name)
        for name, job in jobs.items():
            outcome = self.outcome(job)
            self.assertEqual((outcome['state'], outcome['attempt']), ('succeeded', 1), outcome)
            self.assertEqual(len(self.starts(name)), 1)
            self.assertEqual(self.result(job).out, 'done\n')
        self.assertEqual(set(self.workers()), set(before))
        self.check_units()
        self.assertNotIn('assertion', self.instance.log())

    def test_a_job_that_ended_meanwhile(self):
        job, other = self.gated('a', after='echo whole'), self.gated('b')
        big = self.gated('c', after='head -c 300000 /dev/zero | tr "\\0" y')
        programs = [int(self.starts(name)[0]) for name in 'ac']
        pid = self.stop_supervisor()
        self.let_go('a')
        self.let_go('c')
        lib.until('the programs ended', lambda: not any(map(lib.alive, programs)))
        self.kill_supervisor(pid)
        self.assertEqual(self.outcome(job)['attempt'], 1)
        self.assertEqual(self.result(job).out, 'whole\n')
        self.assertEqual(self.result(big).out, 'y' * 300000)
        self.let_go('b')
        self.assertEqual(self.result(other).out, 'done\n')
        self.assertEqual([len(self.starts(name)) for name in 'abc'], [1, 1, 1])
        self.check_units()

    def test_a_worker_that_died_meanwhile(self):
        worker, = self.workers('one')
        job = self.instance.submit('sleep', '-p', 'build', '-d', '100000')
        self.instance.until_state(job, 'running')
        pid = self.stop_supervisor()
        os.kill(worker, signal.SIGKILL)
        lib.until('it is dead', lambda: not lib.alive(worker))
        self.kill_supervisor(pid)
        lib.until('it runs again', lambda: self.instance.job(job)['attempt'] == 2)
        self.assertNotIn(worker, self.workers())
        self.instance.plctl('cancel', '--wait', job, code=0)
        self.check_units()

    def test_at_most_once(self):
        goes_on = self.gated('on', '--at-most-once')
        self.kill_supervisor()
        self.let_go('on')
        outcome = self.outcome(goes_on)
        self.assertEqual((outcome['state'], len(self.starts('on'))), ('succeeded', 1), outcome)
        lost = self.gated('lost', '--at-most-once')
        victim = next(pid for pid, worker in self.workers('sh').items()
                      if worker['state'] == 'busy')
        pid = self.stop_supervisor()
        os.kill(victim, signal.SIGKILL)
        self.kill_supervisor(pid)
        outcome = self.outcome(lost)
        self.assertEqual(outcome['state'], 'failed')
        self.assertEqual(outcome['reason'], 'interrupted')
        self.assertEqual(len(self.starts('lost')), 1)
        self.check_units()

    def test_a_dispatch_that_was_not_taken(self):
        worker, = self.workers('one')
        os.kill(worker, signal.SIGSTOP)
        try:
            lib.until('it is stopped', lambda: state_of(worker) == 'T')
            job = self.instance.submit('sleep', '-p', 'build', '-d', '1')
            self.instance.until_state(job, 'running')  # as far as anybody but its worker knows
            self.kill_supervisor()
            self.assertEqual(self.instance.job(job)['state'], 'running')
        finally:
            os.kill(worker, signal.SIGCONT)
        outcome = self.outcome(job)
        self.assertEqual((outcome['state'], outcome['attempt']), ('succeeded', 1), outcome)
        self.assertEqual(list(self.workers('one')), [worker])

    def test_a_cancel_just_before(self):
        stubborn = self.gated('s', before='trap "" TERM INT;', after='echo never')
        polite = self.gated('p')
        before = set(self.workers())
        self.instance.plctl('cancel', stubborn, polite, code=0)
        self.kill_supervisor()
        for job in (stubborn, polite):
            outcome = self.outcome(job)
            self.assertEqual(outcome['state'], 'cancelled', outcome)
        self.assertEqual((len(self.starts('s')), len(self.starts('p'))), (1, 1))
        self.assertEqual(len(self.workers()), len(before))
        self.check_units()

    def test_a_time_out_counts_from_the_start(self):
        job = self.gated('t', '--timeout', '500ms')
        pid = self.stop_supervisor()
        born = (self.files / 't.begun').stat().st_mtime
        lib.until('its time is over', lambda: time.time() > born + 0.6)
        self.kill_supervisor(pid)
        outcome = self.outcome(job)
        self.assertEqual((outcome['state'], outcome['attempt']), ('timed_out', 1), outcome)
        self.assertEqual(len(self.starts('t')), 1)

    def test_a_stream_goes_on(self):
        job = self.gated('w', before='echo one; head -c 3000000 /dev/zero | tr "\\0" z;',
                         after='echo two')
        follow = self.instance.popen('follow', job, stderr=subprocess.DEVNULL)
        seen = self.read(follow.stdout, 3000004)  # taken from the ring, and given back
        self.kill_supervisor()
        follow.kill()
        follow.wait(lib.LIMIT)
        follow.stdout.close()
        again = self.instance.popen('follow', job, stderr=subprocess.DEVNULL)
        self.assertEqual(self.read(again.stdout, 3000004), seen)
        tail = self.instance.popen('follow', '--from', '3000000', job, stderr=subprocess.DEVNULL)
        self.assertEqual(self.read(tail.stdout, 4), b'zzzz')
        self.kill_supervisor()
        for process in (again, tail):
            process.kill()
            process.wait(lib.LIMIT)
            process.stdout.close()
        self.let_go('w')
        whole = b'one\n' + b'z' * 3000000 + b'two\n'
        self.assertEqual(self.result(job).raw, whole)
        self.assertEqual(self.instance.plctl('follow', job, code=0).raw, whole)
        self.assertEqual(len(self.starts('w')), 1)

    def test_a_stream_begun_by_an_adoption(self):
        # Its first piece lies in the ring when the supervisor dies, and the next one dies too.
        self.instance.plctl('run', '-p', 'build', '-n', '--', 'echo', 'before', code=0)
        second = self.files / 'b.second'
        os.mkfifo(second)
        job = self.gated('b', after=f'echo one; echo > {self.files}/b.said; read x < {second}; echo two')
        pid = self.stop_supervisor()
        self.let_go('b')
        lib.until('it said something', (self.files / 'b.said').exists)
        self.kill_supervisor(pid)
        follow = self.instance.popen('follow', job, stderr=subprocess.DEVNULL)
        self.assertEqual(lib.read_line(follow.stdout), b'one\n')  # taken from the ring
        follow.kill()
        follow.wait(lib.LIMIT)
        follow.stdout.close()
        self.kill_supervisor()
        second.write_text('go\n')
        self.assertEqual(self.result(job).out, 'one\ntwo\n')

    @staticmethod
    def read(stream, count):
        data = b''
        while len(data) < count:
            data += os.read(stream.fileno(), count - len(data)) or lib.read_line(stream)
        return data

    def test_queued_jobs_keep_their_place(self):
        first = self.instance.submit('sleep', '-p', 'build', '-d', '300')
        rest = [self.instance.submit('sleep', '-p', 'build', '-d', '1') for _ in range(5)]
        self.kill_supervisor()
        ends = [self.outcome(job) for job in [first] + rest]
        self.assertEqual([end['state'] for end in ends], ['succeeded'] * 6)
        self.assertEqual([end['attempt'] for end in ends], [1] * 6)
        finished = [end['finished_at'] for end in ends]
        self.assertEqual(finished, sorted(finished))


class Changed(Base):
    def rewrite(self, old, new):
        text = self.instance.config.read_text()
        self.assertIn(old, text)
        self.instance.config.write_text(text.replace(old, new))

    def test_other_settings_replace_the_workers(self):
        job = self.gated('a')
        before = set(self.workers('sh'))
        self.rewrite('MARK: old', 'MARK: new')
        self.kill_supervisor()
        self.assertEqual(self.instance.job(job)['state'], 'running')
        self.let_go('a')
        self.assertEqual(self.result(job).out, 'done\n')
        self.assertEqual(len(self.starts('a')), 1)
        # A worker that is being spawned has no pid yet: it counts once it has.
        new = lib.until('they were replaced', lambda: (
            lambda pids: pids if len(pids) == 2 and not (before | {0}) & pids else None)(
                set(self.workers('sh'))))
        for pid in new:
            environment = pathlib.Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
            self.assertIn(b'MARK=new', environment)

    def test_a_group_that_is_gone_is_drained(self):
        job = self.instance.submit('sleep', '-p', 'build', '-d', '1000')
        self.instance.until_state(job, 'running')
        worker, = self.workers('one')
        self.rewrite('      - {name: one, replicas: 1, concurrency: 1, handles: [sleep], '
                     'executor: {plugin: sleep}}\n', '')
        self.kill_supervisor()
        self.assertIn(worker, self.workers())
        outcome = self.outcome(job)
        self.assertEqual((outcome['state'], outcome['attempt']), ('succeeded', 1), outcome)
        lib.until('its worker ended', lambda: not lib.alive(worker))
        lib.until('it has no place any more', lambda: len(self.workers()) == 3)

    def test_fewer_replicas(self):
        self.assertEqual(len(self.workers('sh')), 2)
        self.rewrite('{name: sh, replicas: 2', '{name: sh, replicas: 1')
        self.kill_supervisor()
        lib.until('one of them left', lambda: len(self.workers('sh')) == 1)

    def test_a_job_that_nobody_gave(self):
        # A worker says that it runs something which the log has never heard of.
        job = self.gated('a')
        busy = next(pid for pid, worker in self.workers('sh').items() if worker['state'] == 'busy')
        pid = self.stop_supervisor()
        with open(f'/proc/{busy}/fd/4', 'r+b', buffering=0) as segment:
            write_current(segment, slot=3, job=os.urandom(16), attempt=1, generation=9)
        self.kill_supervisor(pid)
        self.assertIn('not in the log', self.instance.log())
        self.assertEqual(self.instance.job(job)['state'], 'running')
        self.let_go('a')
        self.assertEqual(self.result(job).out, 'done\n')
        self.assertEqual(len(self.starts('a')), 1)
        lib.until('it was replaced', lambda: busy not in self.workers('sh') and
                  len(self.workers('sh')) == 2)
        self.check_units()

    def test_a_damaged_channel(self):
        self.disbelieved(16, b'\xff' * 16)  # the channel's id

    def test_a_worker_that_was_never_ready(self):
        self.disbelieved(128, struct.pack('<Q', 2))  # phase: loading

    def disbelieved(self, offset, words):
        jobs = {name: self.gated(name) for name in ('a', 'b')}
        victims = {pid: worker for pid, worker in self.workers('sh').items()
                   if worker['state'] == 'busy'}
        pid = self.stop_supervisor()
        for victim in victims:
            with open(f'/proc/{victim}/fd/4', 'r+b', buffering=0) as segment:
                segment.seek(offset)
                segment.write(words)
        self.kill_supervisor(pid)
        for name, job in jobs.items():
            lib.until(f'{name} runs again', lambda n=name: len(self.starts(n)) == 2)
            self.assertEqual(self.instance.job(job)['attempt'], 2)
        self.assertFalse(set(victims) & set(self.workers()))
        for name, job in jobs.items():
            self.let_go(name)
            self.assertEqual(self.result(job).out, 'done\n')
        self.assertIn('cannot be adopted', self.instance.log())
        self.check_units()


class Earlier(Base):
    def test_a_worker_that_died_long_before(self):
        """Its place was taken by another one: the guard has let go of it by then."""
        job = self.gated('a')
        for _ in range(3):
            old, = self.workers('echo')
            os.kill(old, signal.SIGKILL)
            lib.until('another one', lambda o=old: [
                w for w in self.workers('echo').values() if w['pid'] not in (0, o) and w['state'] == 'idle'])
        workers = set(self.workers())
        self.kill_supervisor()
        self.assertEqual(set(self.workers()), workers)
        self.assertNotIn('not understood', self.instance.log())
        self.let_go('a')
        self.assertEqual(self.outcome(job)['attempt'], 1)
        self.assertEqual(len(self.starts('a')), 1)
        self.check_units()


class Durable(Base):
    """The same with a store: it is a process of the guard's, and goes on as well."""
    config = CONFIG.replace('queue: memory', 'queue: lmdb')

    def store(self):
        found = [pid for pid in lib.processes_with(self.instance.dir.name)
                 if pathlib.Path(f'/proc/{pid}/comm').read_text().strip() == 'pl-store']
        return found[0] if len(found) == 1 else None

    def test_running_jobs_and_the_store_go_on(self):
        jobs = {name: self.gated(name, '--at-most-once') for name in 'abcd'}
        before, store = set(self.workers()), lib.until('a store runs', self.store)
        for _ in range(3):
            self.kill_supervisor()
            self.assertEqual(set(self.workers()), before)
            self.assertEqual(self.store(), store)
        for name, job in jobs.items():
            self.let_go(name)
            self.assertEqual(self.result(job).out, 'done\n')
            self.assertEqual(len(self.starts(name)), 1)
            self.assertEqual(self.outcome(job)['attempt'], 1)

    def test_the_store_died_meanwhile(self):
        job, store = self.gated('a'), lib.until('a store runs', self.store)
        pid = self.stop_supervisor()
        os.kill(store, signal.SIGKILL)
        lib.until('it is dead', lambda: not lib.alive(store))
        self.let_go('a')
        self.kill_supervisor(pid)
        self.assertEqual(self.result(job).out, 'done\n')  # acknowledged by another store
        self.assertEqual(len(self.starts('a')), 1)
        self.assertNotEqual(lib.until('a store runs', self.store), store)


class Load(threading.Thread):
    """Programs without end, each with a file of its own; remembers what was acknowledged."""

    def __init__(self, test, path, number, seed):
        super().__init__()
        self.test, self.path, self.number = test, path, number
        self.random, self.stop, self.jobs = random.Random(seed), False, {}

    def run(self):
        client, count = None, 0
        while not self.stop:
            try:
                client = client or peer.Client(self.path)
                name = f'{self.number}.{count}'
                count += 1
                mine = self.test.files / name
                script = f'echo x >> {mine}; sleep 0.0{self.random.randrange(10)}; echo {name}'
                ticket = client.call('job.submit', pool='build', type='command', stream=True,
                                     meta={'shell': script.encode()})
                self.jobs[ticket['id']] = name
                if self.random.random() < 0.3:
                    client.call('job.wait', id=ticket['id'])
            except (OSError, EOFError):
                if client:
                    client.close()
                client = None
                threading.Event().wait(0.002)  # nobody listens for an instant
        if client:
            client.close()


@unittest.skipIf(peer.msgpack is None, 'needs python3-msgpack')
class Many(Base):
    def test_nothing_runs_twice_while_its_worker_lives(self):
        seed = int(os.environ.get('PL_TEST_SEED', str(random.randrange(1 << 32))))
        print(f'seed {seed}', flush=True)
        rng = random.Random(seed)
        path = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        workers = set(self.workers())
        loads = [Load(self, path, n, rng.random()) for n in range(3)]
        for load in loads:
            load.start()
        try:
            for kill in range(KILLS):
                old = self.instance.supervisor_pid()
                threading.Event().wait(rng.random() * 0.1)  # at any instant of its work
                os.kill(old, signal.SIGKILL)
                if kill % 2 == 0:  # the next one may die while it adopts
                    lib.until('another one', lambda o=old: self.instance.supervisor_pid() != o)
                else:  # three in a row that never served would make the guard give up on adoption
                    self.until_serves(old)
        finally:
            for load in loads:
                load.stop = True
            for load in loads:
                load.join()
        client = lib.until('it serves', lambda: peer.connect(path))
        jobs = {job: name for load in loads for job, name in load.jobs.items()}
        for job, name in jobs.items():
            outcome = client.call('job.wait', id=job, result=True, timeout_ms=60000)
            self.assertEqual((outcome['outcome'], outcome['attempt']), (1, 1), outcome)
            self.assertEqual(outcome['result'], f'{name}\n'.encode())
            self.assertEqual((self.files / name).read_text(), 'x\n')
        client.close()
        self.assertGreater(len(jobs), KILLS)
        self.assertEqual(set(self.workers()), workers)
        self.check_units()
        print(f'{len(jobs)} programs, {KILLS} kills')


class ManyDurable(Many):
    config = Durable.config


if __name__ == '__main__':
    lib.main()
