#!/usr/bin/python3
"""Supervisor stopped, supervisor killed, worker killed, a program's grandchild."""
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import lib

SERVED_AGAIN = 10.0  # seconds: ten times the promise


class Cutter(threading.Thread):
    """Stands between clients and the supervisor. The first answer to a request with @word is not
    handed on: on_cut() is called and both sides are cut off. Later connections pass."""

    def __init__(self, path, server, word, on_cut):
        super().__init__(daemon=True)
        self.server, self.word, self.on_cut, self.cuts = str(server), word, on_cut, 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.start()

    def run(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
                server.connect(self.server)
                self.serve(client, server)

    def serve(self, client, server):
        asked = b''
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(65536)
                if ready is client:
                    asked += data
                elif self.cuts == 0 and self.word in asked:
                    self.cuts += 1
                    self.on_cut()
                    return
                if not data:
                    return
                (server if ready is client else client).sendall(data)


class Faults(lib.Test):
    def test_stats_of_a_stopped_supervisor(self):
        self.instance.run_detached('sleep', '1000')
        pid = self.instance.supervisor_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            lib.until('it is stopped', lambda: state_of(pid) == 'T')
            stats = self.instance.plctl('stats', '--json', code=0)
            self.assertIn('stopped', stats.err)
            self.assertIn(str(pid), stats.err)
            self.assertFalse(stats.json()['supervisor']['responding'])
            self.assertEqual(len(self.instance.plctl('ps', '--json', code=0).json()), 1)
            if shutil.which('strace'):
                self.no_socket_call()
        finally:
            os.kill(pid, signal.SIGCONT)
        self.instance.plctl('status', code=0)

    def no_socket_call(self):
        for command in ('stats', 'ps'):
            trace = self.instance.dir / f'trace.{command}'
            subprocess.run(['strace', '-f', '-o', trace, '-e', 'trace=network',
                            *self.instance.command(command)], env=self.instance.env, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=lib.LIMIT)
            calls = [line for line in trace.read_text().splitlines() if '(' in line]
            self.assertEqual(calls, [])

    def test_killed_supervisor_without_jobs_comes_back(self):
        for _ in range(3):
            old = self.instance.supervisor_pid()
            os.kill(old, signal.SIGKILL)
            lib.until('a new supervisor serves', lambda: self.instance.plctl('status').code == 0,
                      SERVED_AGAIN)
            self.assertNotEqual(self.instance.supervisor_pid(), old)

    def test_killed_supervisor_comes_back_with_its_jobs(self):
        self.instance.plctl('pool', 'pause', 'quick', code=0)
        waiting = [self.instance.submit('echo', '-p', 'quick', '-d', str(n)) for n in range(3)]
        running = self.instance.run_detached('sh', '-c', 'sleep 0.2; echo done')
        self.instance.until_state(running, 'running', 'succeeded')
        old = self.instance.supervisor_pid()
        start = time.monotonic()
        os.kill(old, signal.SIGKILL)
        lib.until('a new supervisor serves', lambda: self.instance.plctl('status').code == 0,
                  SERVED_AGAIN)
        took = time.monotonic() - start
        self.assertLess(took, SERVED_AGAIN)
        print(f'served again after {took:.3f} s')
        self.assertNotEqual(self.instance.supervisor_pid(), old)
        self.instance.plctl('pool', 'resume', 'quick')
        for number, job in enumerate(waiting):
            self.instance.plctl('wait', job, code=0)
            self.assertEqual(self.instance.plctl('result', job, code=0).out, str(number))
        self.instance.plctl('wait', running, code=0)
        self.assertEqual(self.instance.plctl('result', running, code=0).out, 'done\n')

    def test_killed_worker_runs_its_job_again(self):
        tally = self.instance.dir / 'tally'
        job = self.instance.run_detached(
            'sh', '-c', f'echo run >> {tally}; test $(wc -l < {tally}) -gt 1 || sleep 1000; echo ok')
        lib.until('it runs', lambda: tally.exists() and tally.read_text())
        pid = self.instance.until_state(job, 'running')['worker_pid']
        os.kill(pid, signal.SIGKILL)
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(tally.read_text(), 'run\nrun\n')
        self.assertEqual(self.instance.job(job)['attempt'], 2)
        self.assertEqual(self.instance.plctl('result', job, code=0).out, 'ok\n')

    def test_killed_worker_leaves_no_program(self):
        mark = f'{self.instance.dir.name}-child'
        job = self.instance.run_detached(
            'sh', '-c', '(setsid sleep 1000 & sleep 1000 & wait) & sleep 1000',
            options=('--retries', '0', '--at-most-once', '-e', f'MARK={mark}'))
        lib.until('its programs run', lambda: len(lib.processes_with(mark)) >= 4)
        pid = self.instance.job(job)['worker_pid']
        os.kill(pid, signal.SIGKILL)
        self.instance.plctl('wait', job, code=10)
        self.assertEqual(lib.processes_with(mark), [])
        self.assertEqual(self.instance.job(job)['reason'], 'interrupted')

    def test_crash_limit(self):
        job = self.instance.run_detached('sh', '-c', 'kill -9 $PPID; sleep 1000')
        self.instance.plctl('wait', job, code=10)
        self.assertEqual(self.instance.job(job)['state'], 'crashed')
        other = self.instance.submit('echo', '-p', 'quick', '-d', 'fine')
        self.instance.plctl('wait', other, code=0)


    def test_a_job_that_expires_beside_another_gets_nothing_of_it(self):
        """One turn of the supervisor finds a finished job and a deadline that has passed: both end
        in one step, and each has its own outcome."""
        fifo = str(self.instance.dir / 'gate')
        os.mkfifo(fifo)
        runs = self.instance.run_detached(
            'sh', '-c', f'read line <{fifo}; echo secret; echo to everyone >&2',
            options=('-c', 'cpu=2'))
        worker = self.instance.until_state(runs, 'running')['worker_pid']
        expires = self.instance.submit('command', '-p', 'build', '-d', '{"argv": ["true"]}',
                                       '--deadline', '+1500ms')
        self.assertEqual(self.instance.job(expires)['state'], 'queued')
        deadline = time.monotonic() + 1.6
        pid = self.instance.supervisor_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            lib.until('the supervisor is stopped', lambda: state_of(pid) == 'T')
            with open(fifo, 'w', encoding='ascii') as gate:
                gate.write('go\n')
            lib.until('the program is over', lambda: not children_of(worker))
            lib.until('the worker waits for its next job', lambda: state_of(worker) == 'S')
            lib.until('the deadline has passed', lambda: time.monotonic() > deadline)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.instance.plctl('wait', runs, code=0)
        self.instance.until_state(expires, 'expired', 'ended')
        outcome = self.instance.plctl('job', 'show', expires, '--json', code=0).json()
        self.assertEqual(outcome['outcome'], 'expired')
        for field in ('worker', 'worker_pid', 'exit_code', 'result_bytes', 'started_at_ms'):
            self.assertIn(outcome.get(field), (None, 0, -1), field)


    def test_killed_before_the_answer_of_a_submit(self):
        """The client library repeats it under its number: there is exactly one job."""
        submit = ('submit', 'echo', '-p', 'quick', '--hold', '--id-only')
        for command in ((*submit, '-d', 'x'), (*submit, '-d', 'y', '--count', '2')):
            path = self.instance.dir / f'cut{len(command)}'
            cutter = Cutter(path, self.instance.dir / 'run/parking-lot/e2e/pl.sock', b'job.submit',
                            lambda: os.kill(self.instance.supervisor_pid(), signal.SIGKILL))
            self.addCleanup(cutter.listener.close)
            before = self.live()
            result = self.instance.plctl(*command, env={'PL_SOCKET': str(path)}, code=0)
            self.assertEqual(cutter.cuts, 1)
            lib.until('a new one serves', lambda: self.instance.plctl('status').code == 0)
            self.assertEqual(self.live() - before, set(result.out.split()))

    def live(self):
        return {job['id'] for job in self.instance.plctl('ps', '--json', code=0).json()}


def children_of(pid):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
        return file.read().split()


def state_of(pid):
    with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
        return file.read().rpartition(')')[2].split()[0]


if __name__ == '__main__':
    lib.main()
