"""Common to the end-to-end tests: an instance of one's own, and plctl.

    PLCTL=…/plctl PL_LIBEXEC_DIR=… PL_PLUGIN_PATH=… PL_LOOP=epoll python3 test_x.py

Each test file is a unittest module; run it with `main()` from here. Instances live in a temporary
directory, and stop at the end of the test, however it ends. Nothing sleeps: waiting is `plctl wait`,
a pidfd, or reading until a line comes; `until()` is for what has no event, with a limit that is far
away.
"""
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

LIMIT = float(os.environ.get('PL_TEST_LIMIT', '60'))  # seconds for anything
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PLCTL = os.environ.get('PLCTL') or str(ROOT / 'build/tools/plctl/plctl')

CONFIG = """\
version: 1
name: e2e
pools:
  build:
    max_units: {cpu: 2}
    max_queue_depth: 50
    queue: memory
    workers:
      - {name: sh, kind: cpu, replicas: 3, handles: [command], executor: {plugin: command}}
  quick:
    max_units: 10
    max_queue_depth: 3
    max_payload: 4KiB
    queue: memory
    lanes: {urgent: {priority: 0}, bulk: {priority: 5}}
    default_lane: bulk
    workers:
      - {name: echo, kind: cpu, replicas: 2, handles: [echo], executor: {plugin: echo}}
"""


class Result:
    def __init__(self, code, out, err):
        self.code, self.raw, self.err = code, out, err.decode(errors='replace')
        self.out = out.decode(errors='replace')

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f'exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}'


def until(what, condition, limit=LIMIT):
    """The first true value of condition(); for states that nobody announces."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'not within {limit:.0f} s: {what}')
        time.sleep(0.01)


def alive(pid):
    """Whether @pid runs; a zombie does not."""
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
            return file.read().rpartition(')')[2].split()[0] not in ('Z', 'X')
    except OSError:
        return False


def program_of(pid):
    """Its name, as the kernel has it."""
    try:
        with open(f'/proc/{pid}/comm', encoding='utf-8', errors='replace') as file:
            return file.read().strip()
    except OSError:
        return ''


def parent_of(pid):
    """Its pid; 0 when there is none to be seen."""
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
            return int(file.read().rpartition(')')[2].split()[1])
    except OSError:
        return 0


def is_of_a_job(pid):
    """Not one of ours; between fork and exec a job's program has the name of its worker."""
    return not program_of(pid).startswith('pl-') or program_of(parent_of(pid)) == 'pl-worker'


def processes_with(marker):
    """Pids whose environment or arguments hold @marker."""
    found = []
    for entry in os.listdir('/proc'):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        for name in ('environ', 'cmdline'):
            try:
                with open(f'/proc/{entry}/{name}', 'rb') as file:
                    if marker.encode() in file.read() and alive(int(entry)):
                        found.append(int(entry))
                        break
            except OSError:
                continue
    return found


class Instance:
    """One supervisor with a directory of its own."""

    def __init__(self, config=CONFIG, loop=None, start=True):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix='pl-e2e-'))
        os.chmod(self.dir, 0o700)
        (self.dir / 'run').mkdir(mode=0o700)
        self.config = self.dir / 'pools.yaml'
        self.config.write_text(config)
        self.env = {name: value for name, value in os.environ.items()
                    if name not in ('PL_INSTANCE', 'PL_SOCKET', 'NOTIFY_SOCKET')}
        self.env.update(XDG_RUNTIME_DIR=str(self.dir / 'run'), NO_COLOR='1',
                        PL_E2E_MARK=self.dir.name)
        if loop:
            self.env['PL_LOOP'] = loop
        self.started = False
        if start:
            self.start()

    def command(self, *args):
        return [PLCTL, *map(str, args)]

    def plctl(self, *args, data=b'', code=None, env=None):
        """Runs plctl to its end. @code: the exit status that it must have."""
        if isinstance(data, str):
            data = data.encode()
        done = subprocess.run(self.command(*args), input=data, capture_output=True,
                              env={**self.env, **(env or {})}, timeout=LIMIT, check=False)
        result = Result(done.returncode, done.stdout, done.stderr)
        if code is not None and result.code != code:
            raise AssertionError(f'plctl {" ".join(map(str, args))}: wanted exit {code}, got {result}')
        return result

    def popen(self, *args, **more):
        options = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        options.update(more)
        return subprocess.Popen(self.command(*args), env=self.env, **options)

    def start(self):
        result = self.plctl('start', '-d', self.config, '--state-dir', self.dir / 'state')
        if result.code != 0:
            log = self.log()
            shutil.rmtree(self.dir, ignore_errors=True)
            raise AssertionError(f'start: {result}\n--- log\n{log}')
        self.started = True

    def log(self):
        return '\n'.join(path.read_text(errors='replace')
                         for path in (self.dir / 'state').glob('*.log'))

    def stats(self):
        return self.plctl('stats', '--json', code=0).json()

    def supervisor_pid(self):
        return self.stats()['supervisor']['pid']

    def submit(self, *args, data=b''):
        return self.plctl('submit', '--id-only', *args, data=data, code=0).out.strip()

    def run_detached(self, *program, options=()):
        return self.plctl('run', '-p', 'build', '-n', '--id-only', *options, '--', *program,
                          code=0).out.strip()

    def job(self, job_id):
        return self.plctl('job', 'show', job_id, '--json', code=0).json()

    def until_state(self, job_id, *states):
        return until(f'{job_id} is {" or ".join(states)}',
                     lambda: (lambda job: job if job['state'] in states else None)(self.job(job_id)))

    def stop(self):
        """Ends it and checks that nothing is left."""
        if self.started:
            result = self.plctl('stop', '--now')
            self.started = False
            if result.code != 0:
                raise AssertionError(f'stop: {result}\n--- log\n{self.log()}')
            left = until_gone(self.dir.name)
            if left:
                raise AssertionError(f'processes are left: {left}')
        shutil.rmtree(self.dir, ignore_errors=True)

    def power_cut(self, order=lambda pids: None):
        """Everything dies, as with the machine. @order: may change the order of pids."""
        end = time.monotonic() + LIMIT
        while True:
            # Between fork and exec a process shows nothing of ours in /proc, but holds the guard's
            # lock: once that is free, a look at /proc sees all that is left.
            held = self._lock_is_held()
            pids = processes_with(self.dir.name)
            if not held and not pids:
                return
            if time.monotonic() > end:
                raise AssertionError(f'they do not die: {pids}')
            order(pids)
            # Programs last: a worker that sees one of them killed alone says so in its outcome.
            for pid in sorted(pids, key=is_of_a_job):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass

    def kill_at_once(self, *programs):
        """SIGKILL to all processes of these, as if at one instant. Return: their pids."""
        pids = [pid for pid in processes_with(self.dir.name) if program_of(pid) in programs]
        missing = set(programs) - {program_of(pid) for pid in pids}
        if missing:
            raise AssertionError(f'not running: {missing}')
        # Stopped, none sees another one die; the guard first, for it is told of stopped children.
        pids.sort(key=lambda pid: program_of(pid) != 'pl-guard')
        for signo in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, signo)
        until(f'{programs} are dead', lambda: not any(map(alive, pids)))
        return pids

    def _lock_is_held(self):
        for path in (self.dir / 'run').glob('parking-lot/*/lock'):
            with open(path, 'rb') as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    def abandon(self):
        """For a test that failed: kill what is ours, by pid."""
        for pid in processes_with(self.dir.name):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)


def until_gone(marker, limit=LIMIT):
    """What is left of the processes with @marker after they had time to end."""
    end = time.monotonic() + limit
    while True:
        left = processes_with(marker)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.01)


def read_line(stream, limit=LIMIT):
    """One line of an unbuffered pipe, as bytes; fails when it does not come."""
    line = b''
    end = time.monotonic() + limit
    while not line.endswith(b'\n'):
        ready, _, _ = select.select([stream], [], [], max(0, end - time.monotonic()))
        if not ready:
            raise AssertionError(f'no line came; so far: {line!r}')
        byte = os.read(stream.fileno(), 1)
        if not byte:
            break
        line += byte
    return line


class Test(unittest.TestCase):
    """A test with an instance; CONFIG may be replaced by a class."""
    config = CONFIG

    def setUp(self):
        self.instance = Instance(self.config, os.environ.get('PL_LOOP'))
        self.addCleanup(self._clean)

    def _clean(self):
        if self.instance.started:
            try:
                self.instance.stop()
            except BaseException:
                sys.stderr.write(self.instance.log())
                self.instance.abandon()
                raise
        else:
            shutil.rmtree(self.instance.dir, ignore_errors=True)


def main():
    unittest.main(verbosity=2)
