#!/usr/bin/python3
"""Disks that are full, fail, or take their time: durable pools refuse or wait and lose nothing,
memory pools go on."""
import ctypes
import errno
import os
import subprocess
import time
import unittest

import lib

SHIM = os.environ.get('PL_DISK_SHIM', '')

CONFIG = """\
version: 1
name: disk
storage: {lmdb: {segment_size: 1MiB}}
pools:
  build:
    max_units: {cpu: 2}
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

# What grows: new files of the log, the tables.
GROWTH = ('log-fallocate', 'db-pwrite')


def own_mounts():
    """What this process mounts from here on nobody else sees, and it goes with us. Return: why
    not, or None."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, recursive_private = 0x00020000, 0x4000 | (1 << 18)
    if libc.unshare(new_namespace) != 0 or libc.mount(
            b'none', b'/', None, ctypes.c_ulong(recursive_private), None) != 0:
        return f'no mounts of our own: {os.strerror(ctypes.get_errno())}'
    return None


class Disk(lib.Test):
    config = CONFIG

    def setUp(self):
        self.instance = lib.Instance(CONFIG, os.environ.get('PL_LOOP'), start=False)
        self.addCleanup(self._clean)
        self.state = self.instance.dir / 'state'
        self.faults = self.instance.dir / 'faults'
        self.faults.mkdir()
        self.prepare()
        self.instance.start()

    def prepare(self):
        pass

    def power_cut(self):
        self.instance.power_cut()
        self.instance.start()

    def result(self, job):
        self.instance.plctl('wait', job, code=0)
        return self.instance.plctl('result', job, code=0).raw

    def memory_pool_works(self):
        self.assertEqual(self.instance.plctl('submit', '--wait', 'echo', '-p', 'soft', '-d', 'm',
                                             code=0).out, 'm')

    def store(self):
        return lib.until('the store runs', lambda: next(
            (pid for pid in lib.processes_with(self.instance.dir.name)
             if lib.program_of(pid) == 'pl-store'), None))

    def body(self, number):
        path = self.instance.dir / f'body{number}'
        if not path.exists():
            path.write_bytes(f'{number} '.encode() * 10000)
        return path

    def submit_until_refused(self):
        """Jobs that were accepted, and the refusal."""
        jobs = {}
        for number in range(10000):
            body = self.body(number % 100)
            done = self.instance.plctl('submit', '--id-only', 'echo', '-p', 'quick', '-d', f'@{body}')
            if done.code != 0:
                return jobs, done
            jobs[done.out.strip()] = body
        raise AssertionError('nothing was refused')

    def accepted_again(self, text='room'):
        return lib.until('there is room', lambda: (
            lambda done: done.out.strip() if done.code == 0 else None)(
                self.instance.plctl('submit', '--id-only', 'echo', '-p', 'quick', '-d', text)))

    def full_disk(self, fill, free):
        gate = self.instance.dir / 'gate'
        os.mkfifo(gate)
        before = self.instance.submit('echo', '-p', 'quick', '-d', 'before')
        self.assertEqual(self.result(before), b'before')
        runs = self.instance.run_detached('sh', '-c', f'read line <{gate}; head -c 100000 /dev/zero')
        self.instance.until_state(runs, 'running')
        fill()
        jobs, refused = self.submit_until_refused()
        self.assertEqual(refused.code, 7, refused)
        self.assertIn(str(self.state), refused.err)
        self.assertIn('full', refused.err)
        self.memory_pool_works()
        with open(gate, 'w', encoding='ascii') as file:
            file.write('go\n')
        lib.until('the program is over', lambda: not any(
            lib.program_of(pid) == 'sh' for pid in lib.processes_with(str(gate))))
        self.memory_pool_works()
        self.assertEqual(self.instance.plctl('submit', 'echo', '-p', 'quick', '-d', 'x').code, 7)
        free()
        after = self.accepted_again()
        self.assertEqual(self.result(runs), bytes(100000))
        for _ in range(2):
            self.assertEqual(self.result(before), b'before')
            for job, body in jobs.items():
                self.assertEqual(self.result(job), body.read_bytes())
            self.assertEqual(self.result(after), b'room')
            self.assertEqual(self.result(runs), bytes(100000))
            self.power_cut()
        print(f'{len(jobs)} were accepted before the disk was full')


class SmallDisk(Disk):
    def prepare(self):
        if os.geteuid() != 0:
            self.skipTest('needs root, for a mount')
        why = own_mounts()
        if why:
            self.skipTest(why)
        self.state.mkdir(mode=0o700)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=24m,mode=0700', 'tmpfs', self.state],
                       check=True)
        self.addCleanup(subprocess.run, ['umount', '-l', self.state], check=False)

    def test_a_full_disk_refuses_and_loses_nothing(self):
        filler = self.state / 'filler'
        def fill():
            with open(filler, 'wb', buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)
        self.full_disk(fill, filler.unlink)


class Faults(Disk):
    def prepare(self):
        if not os.path.exists(SHIM):
            self.skipTest('needs $PL_DISK_SHIM')
        self.instance.env.update(LD_PRELOAD=SHIM, PL_DISK_FAULTS=str(self.faults))

    def inject(self, call, error, times=None):
        """@times: None: until it is mended."""
        for name in [call] if times is None else [f'{call}.{i + 1}' for i in range(times)]:
            (self.faults / f'{name}.new').write_text(str(error))
            (self.faults / f'{name}.new').rename(self.faults / name)

    def mend(self):
        for path in self.faults.iterdir():
            path.unlink()

    def left(self):
        return [path.name for path in self.faults.iterdir()]

    def test_no_room_for_any_file(self):
        def fill():
            for call in GROWTH:
                self.inject(call, errno.ENOSPC)
        self.full_disk(fill, self.mend)

    def test_room_is_noticed_without_anything_to_do(self):
        """New jobs are refused; nothing else comes that would have the store look."""
        self.result(self.instance.submit('echo', '-p', 'quick', '-d', 'before'))
        for call in GROWTH:
            self.inject(call, errno.ENOSPC)
        self.submit_until_refused()
        self.instance.plctl('pool', 'pause', 'quick', code=0)
        self.mend()
        begin = time.monotonic()
        self.accepted_again()
        self.assertLess(time.monotonic() - begin, 5)

    def passing_fault(self, call, times):
        """Nothing is acknowledged before the fault is over; then everything is there."""
        jobs = [self.instance.submit('echo', '-p', 'quick', '-d', 'first')]
        self.result(jobs[0])
        self.inject(call, errno.EIO, times)
        for _ in range(3):
            # A fault that hits the making of the next segment has new jobs refused for a moment.
            jobs.append(self.accepted_again('first'))
            if call.startswith('log'):
                self.assertEqual(self.left(), [])
        for job in jobs:
            self.assertEqual(self.result(job), b'first')
        lib.until('the fault is over', lambda: not self.left())
        self.memory_pool_works()
        self.power_cut()
        for job in jobs:
            self.assertEqual(self.result(job), b'first')

    def test_one_failed_flush(self):
        store = self.store()
        self.passing_fault('log-fdatasync', 1)
        self.assertNotEqual(self.store(), store)  # by the power cut

    def test_one_failed_write(self):
        self.passing_fault('log-pwrite', 1)

    def test_failed_flushes_end_the_store(self):
        for times in (2, 3, 5):
            self.passing_fault('log-fdatasync', times)

    def test_failed_writes_end_the_store(self):
        for times in (2, 3, 5):
            self.passing_fault('log-pwrite', times)

    def test_the_tables_fail_for_a_while(self):
        for call in ('db-pwrite', 'db-fdatasync'):
            for times in (1, 3):
                self.passing_fault(call, times)

    def disk_is_gone(self, call):
        early = self.instance.submit('echo', '-p', 'quick', '-d', 'early')
        self.assertEqual(self.result(early), b'early')
        self.inject(call, errno.EIO)
        waits = self.instance.popen('submit', '--id-only', 'echo', '-p', 'quick', '-d', 'late')
        refused = lib.until('the store gives up', lambda: (
            lambda pool: self.refusal() if pool['submitted_total'] >= 2 else None)(self.pool('quick')))
        self.assertIn(os.strerror(errno.EIO), refused.err)
        self.assertIn(str(self.state), refused.err)
        self.assertEqual(refused.code, 1)
        self.memory_pool_works()
        self.assertEqual(self.result(early), b'early')
        self.assertIsNone(waits.poll(), 'it was acknowledged')
        self.mend()
        out, _ = waits.communicate(timeout=lib.LIMIT)
        self.assertEqual(waits.returncode, 0)
        late = out.decode().strip()
        self.assertEqual(self.result(late), b'late')
        after = self.accepted_again()
        self.power_cut()
        for job, text in ((early, b'early'), (late, b'late'), (after, b'room')):
            self.assertEqual(self.result(job), text)

    def pool(self, name):
        return next(pool for pool in self.instance.stats()['pools'] if pool['name'] == name)

    def refusal(self):
        """What a submit is told that does not wait; one that does is given up."""
        probe = self.instance.popen('submit', '--id-only', 'echo', '-p', 'quick', '-d', 'probe')
        try:
            out, err = probe.communicate(timeout=0.3)
        except subprocess.TimeoutExpired:
            probe.kill()
            probe.communicate()
            return None
        self.assertNotEqual(probe.returncode, 0, 'it was acknowledged')
        return lib.Result(probe.returncode, out, err)

    def test_flushes_fail_for_ever(self):
        self.disk_is_gone('log-fdatasync')

    def test_writes_fail_for_ever(self):
        self.disk_is_gone('log-pwrite')


    def test_the_tables_fail_for_ever(self):
        """The log still takes records; new ones are refused before it is full of them."""
        early = self.instance.submit('echo', '-p', 'quick', '-d', 'early')
        self.assertEqual(self.result(early), b'early')
        self.inject('db-pwrite', errno.EIO)
        jobs, refused = self.submit_until_refused()
        self.assertEqual(refused.code, 1)
        self.assertIn('fold', refused.err)
        self.assertLess(len(jobs), 50)
        self.memory_pool_works()
        self.mend()
        after = self.accepted_again()
        for _ in range(2):
            self.assertEqual(self.result(early), b'early')
            self.assertEqual(self.result(after), b'room')
            for job, body in jobs.items():
                self.assertEqual(self.result(job), body.read_bytes())
            self.power_cut()


if __name__ == '__main__':
    unittest.main(verbosity=2)
