#!/usr/bin/python3
"""Payloads of durable jobs that lie in the store alone: they come when they are wanted, whoever dies
meanwhile, and one that cannot come ends its own job and nothing else."""
import os
import pathlib
import signal
import unittest
import uuid

import lib
import peer

CONFIG = """\
version: 1
name: bodies
pools:
  hard:
    max_units: 4
    max_payload: 4MiB
    workers:
      - {name: echo, replicas: 2, handles: [echo], executor: {plugin: echo}}
      - {name: sh, replicas: 2, handles: [command], executor: {plugin: command}}
    queue: lmdb
  soft:
    max_units: 1
    queue: memory
    workers:
      - {name: echo, replicas: 1, handles: [echo], executor: {plugin: echo}}
"""


def text_of(number, bytes_=300):
    """Long enough to leave memory."""
    return (f'payload {number} ' * (bytes_ // 8))[:bytes_]


@unittest.skipIf(peer.msgpack is None, 'needs python3-msgpack')
class Bodies(lib.Test):
    config = CONFIG

    def plctl(self, *args, code=0, **more):
        return self.instance.plctl(*args, code=code, **more)

    def kill(self, program, signo=signal.SIGKILL):
        for pid in lib.processes_with(self.instance.dir.name):
            if lib.program_of(pid) == program:
                os.kill(pid, signo)

    def connect(self):
        client = peer.Client(next(pathlib.Path(self.instance.dir / 'run').glob(
            'parking-lot/*/pl.sock')))
        self.addCleanup(client.close)
        return client

    def queue(self, payloads, **more):
        """Jobs behind a pause. Return: their ids."""
        self.plctl('pool', 'pause', 'hard')
        client = self.connect()
        replies = client.call_many([('job.submit', {'pool': 'hard', 'type': 'echo', **more,
                                                    'payload': text}) for text in payloads])
        client.close()
        for reply in replies:
            self.assertNotIsInstance(reply, peer.Refused, reply)
        return [str(uuid.UUID(bytes=reply['id'])) for reply in replies]

    def cut(self):
        """After a start from the store, payloads are only there; jobs that are not held may run."""
        self.instance.power_cut()
        self.instance.start()
        self.plctl('pool', 'pause', 'hard')

    def release(self, jobs):
        client = self.connect()
        for reply in client.call_many([('job.release', {'id': uuid.UUID(job).bytes})
                                       for job in jobs]):
            self.assertNotIsInstance(reply, peer.Refused, reply)
        client.close()

    def wait_all(self, jobs):
        client = self.connect()
        return [client.call('job.wait', id=uuid.UUID(job).bytes, timeout_ms=60000) for job in jobs]

    def test_what_comes_back_from_the_store_runs_with_its_payload(self):
        payloads = [text_of(i, 50 + i) for i in range(300)]
        jobs = self.queue(payloads, hold=True)
        self.cut()
        shown = self.instance.job(jobs[250])
        self.assertEqual(shown['payload_bytes'], 300)
        self.plctl('cancel', jobs[250])
        self.assertEqual(self.instance.job(jobs[250])['outcome'], 'cancelled')
        self.plctl('pool', 'resume', 'hard')
        self.release(jobs[:250] + jobs[251:])
        del jobs[250], payloads[250]
        for job, payload in zip(jobs, payloads):
            self.plctl('wait', job)
            self.assertEqual(self.plctl('result', job).out, payload)

    def test_deaths_while_payloads_are_fetched(self):
        payloads = [text_of(i, 40000) for i in range(600)]
        jobs = self.queue(payloads, hold=True)
        self.cut()
        self.release(jobs)
        self.plctl('pool', 'resume', 'hard')
        for _ in range(3):
            for programs in (('pl-store',), ('pl-supervisor',), ('pl-store', 'pl-supervisor')):
                for program in programs:
                    self.kill(program)
                lib.until('it serves again', lambda: self.instance.plctl('status').code == 0)
        for job, payload in zip(jobs, payloads):
            self.plctl('wait', job)
            self.assertEqual(self.plctl('result', job).out, payload)

    def test_a_store_that_does_not_answer_is_waited_for_and_told(self):
        payloads = [text_of(i) for i in range(5)]
        jobs = self.queue(payloads, hold=True)
        self.cut()
        self.plctl('pool', 'resume', 'hard')
        store = next(pid for pid in lib.processes_with(self.instance.dir.name)
                     if lib.program_of(pid) == 'pl-store')
        os.kill(store, signal.SIGSTOP)
        try:
            # The answer to a release waits for the disk, what it starts does not.
            client = self.connect()
            for job in jobs:
                client.send('job.release', {'id': uuid.UUID(job).bytes})
            told = lib.until('a job waits for its payload', lambda: (
                lambda text: text if 'payload' in text else None)(
                    self.plctl('explain', jobs[0]).out))
            self.assertIn('from the store', told)
            self.assertEqual(self.plctl('submit', '--wait', 'echo', '-p', 'soft', '-d', 'y').out, 'y')
        finally:
            os.kill(store, signal.SIGCONT)
        for i, job in enumerate(jobs):
            self.plctl('wait', job)
            self.assertEqual(self.plctl('result', job).out, payloads[i])

    def workers(self):
        found = self.plctl('workers', 'ls', '-p', 'hard', '--json').json()['workers']
        return {worker['pid'] for worker in found}

    def test_a_job_that_waits_for_its_payload_can_be_stopped(self):
        """Its worker has never heard of it: nobody is asked, nobody is killed, no grace runs."""
        jobs = self.queue([text_of(i) for i in range(2)], hold=True)
        jobs += self.queue([text_of(2)], hold=True, timeout_ms=300)
        self.cut()
        self.plctl('pool', 'resume', 'hard')
        lib.until('the workers are up', lambda: len(self.workers()) == 4 and 0 not in self.workers())
        workers = self.workers()
        store = next(pid for pid in lib.processes_with(self.instance.dir.name)
                     if lib.program_of(pid) == 'pl-store')
        os.kill(store, signal.SIGSTOP)
        try:
            client = self.connect()
            for job in jobs:
                client.send('job.release', {'id': uuid.UUID(job).bytes})
            lib.until('they have their units', lambda: self.pool('hard')['running'] == 2)
            client.send('job.cancel', {'id': uuid.UUID(jobs[0]).bytes})
            lib.until('two have ended', lambda: (lambda ended: ended['cancelled'] and ended['timed_out'])(
                self.pool('hard')['finished_total']))
            lib.until('the third waits', lambda: self.pool('hard')['running'] == 1)
            self.assertEqual(self.workers(), workers)
        finally:
            os.kill(store, signal.SIGCONT)
        self.plctl('wait', jobs[1])
        self.assertEqual([self.instance.job(job)['outcome'] for job in jobs],
                         ['cancelled', 'succeeded', 'timed_out'])
        self.assertEqual(self.workers(), workers)

    def test_a_repeat_of_what_is_on_disk_alone_is_compared(self):
        """By type and length of the payload; of a job that has ended by the type."""
        def submit(**more):
            client = self.connect()
            client.call('hello', proto=1, client='python test', client_id=b'0123456789abcdef')
            return client.call('job.submit', **{'pool': 'hard', 'type': 'echo', 'payload': text_of(1),
                                                'hold': True, **more})
        waits = submit(seq=1)['id']
        ended = submit(seq=2, hold=False)['id']
        self.plctl('wait', str(uuid.UUID(bytes=ended)))
        self.cut()
        self.assertEqual([submit(seq=seq)['id'] for seq in (1, 2)], [waits, ended])
        for other in ({'seq': 1, 'payload': text_of(1) + '!'}, {'seq': 1, 'type': 'command'},
                      {'seq': 2, 'type': 'command'}):
            with self.assertRaises(peer.Refused) as refusal:
                submit(**other)
            self.assertEqual(refusal.exception.code, peer.CONFLICT)

    def pool(self, name):
        return next(pool for pool in self.instance.stats()['pools'] if pool['name'] == name)

    def damage(self, needle):
        path = self.instance.dir / 'state' / 'store' / 'db' / 'data.mdb'
        data = pathlib.Path(path).read_bytes()
        at, count = data.find(needle), 0
        with open(path, 'r+b') as file:
            while at >= 0:
                file.seek(at)
                file.write(bytes([data[at] ^ 1]))
                at, count = data.find(needle, at + 1), count + 1
        self.assertGreater(count, 0)

    def test_a_damaged_payload_ends_its_job_alone(self):
        payloads = [text_of(i) for i in range(20)]
        payloads[7] = 'this one will be damaged ' * 20
        jobs = self.queue(payloads, hold=True)
        self.cut()
        self.plctl('pool', 'resume', 'hard')
        supervisor = self.instance.supervisor_pid()
        self.damage(payloads[7].encode())
        self.release(jobs)
        for i, job in enumerate(jobs):
            self.instance.plctl('wait', job)
            if i == 7:
                ended = self.instance.job(job)
                self.assertEqual(ended['outcome'], 'failed')
                self.assertIn('payload is damaged', ended['error'])
            else:
                self.assertEqual(self.plctl('result', job).out, payloads[i])
        self.assertEqual(self.instance.supervisor_pid(), supervisor)
        letters = self.plctl('dlq', 'ls', '--json').json()
        self.assertEqual([letter['id'] for letter in letters], [jobs[7]])
        refused = self.instance.plctl('dlq', 'retry', jobs[7])
        self.assertNotEqual(refused.code, 0)

    def test_dead_letters_are_shown_and_run_again(self):
        texts = [text_of(i) for i in range(100)]
        jobs = self.queue(texts, type='command', meta={'argv': 'sh\0-c\0exit 3\0'})
        self.plctl('pool', 'resume', 'hard')
        self.wait_all(jobs)
        self.instance.power_cut()
        self.instance.start()
        self.assertEqual(self.plctl('dlq', 'show', jobs[5], '--payload').out, texts[5])
        self.plctl('dlq', 'retry', jobs[5])
        self.instance.plctl('wait', jobs[5])
        self.assertEqual(self.instance.job(jobs[5])['exit_code'], 3)
        self.plctl('dlq', 'retry', '--all')
        for job in jobs:
            self.instance.plctl('wait', job)
            self.assertEqual(self.instance.job(job)['exit_code'], 3)
        self.assertEqual(len(self.plctl('dlq', 'ls', '--json').json()), 100)
        self.assertEqual(self.plctl('dlq', 'show', jobs[99], '--payload').out, texts[99])

    def log_bytes(self):
        """Of the log's chunks that its supervisor holds; one may go at any time."""
        folder, total = f'/proc/{self.instance.supervisor_pid()}/fd', 0
        for fd in os.listdir(folder):
            try:
                if 'pl-log' in os.readlink(f'{folder}/{fd}'):
                    total += os.stat(f'{folder}/{fd}').st_blocks * 512
            except FileNotFoundError:
                pass
        return total

    def test_a_backlog_leaves_memory_and_is_worked_off(self):
        payloads = [text_of(i, 120000) for i in range(1300)]  # more than two chunks of the log
        jobs = self.queue(payloads)
        lib.until('payloads have left memory', lambda: self.log_bytes() < 100 << 20)
        self.assertEqual(self.instance.job(jobs[0])['payload_bytes'], 120000)
        # The next supervisor finds them gone, and those that are left.
        self.kill('pl-supervisor')
        lib.until('it serves again', lambda: self.instance.plctl('status').code == 0)
        lib.until('they stay away, or leave again', lambda: self.log_bytes() < 100 << 20)
        self.plctl('pool', 'resume', 'hard')
        self.assertEqual({ended['outcome'] for ended in self.wait_all(jobs)}, {1})  # succeeded
        for i in (0, 1, 400, 1299):
            self.assertEqual(self.plctl('result', jobs[i]).out, payloads[i])


if __name__ == '__main__':
    lib.main()
