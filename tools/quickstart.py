#!/usr/bin/python3
"""The demonstration of tools/quickstart, after the build: real programs on real files of this machine.

Each program writes its own start and end to a file; from these intervals alone it is computed how
many ran at once.
"""
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

JOBS = 320
UNITS = 2
LIMIT = 300  # seconds for anything

KINDS = (
    ('sha256', 'sha256sum'),
    ('gzip', 'gzip -9 -n | sha256sum'),
    ('sort', 'LC_ALL=C sort | uniq -c | sha256sum'),
    ('words', 'LC_ALL=C tr -cs A-Za-z "\\n" | wc'),
    ('awk', 'LC_ALL=C awk \'{ n += NF } END { print NR, n }\''),
    ('sed', 'LC_ALL=C sed "s/[aeiou]//g" | md5sum'),
    ('od', 'od -An -tx1 | sha256sum'),
)

# A shell has no monotonic clock in nanoseconds, and date(1) is on every machine: a wall clock that
# is set meanwhile would show as an interval that ends before it starts, which is checked. The start is
# written at once: a program that was killed has one and no end, and ran at least until the kill.
PROGRAM = r'''
stamp=$1; shift
printf 'start %s %s\n' "$$" "$(date +%s%N)" >> "$stamp"
sh -c "$1" < "$2"; status=$?
printf 'end %s %s\n' "$$" "$(date +%s%N)" >> "$stamp"
exit $status
'''


class Failure(Exception):
    pass


def check(good, text):
    if not good:
        raise Failure(text)
    print(f'      ok: {text}')


def sample_files(count):
    """Some real files of this machine, of a size that takes a moment."""
    found = []
    for top in ('/usr/include', '/usr/share', '/usr/lib/python3', '/etc'):
        for folder, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    if not os.path.islink(path) and os.path.isfile(path) and \
                            4096 <= os.path.getsize(path) <= 400_000 and os.access(path, os.R_OK):
                        found.append(path)
                except OSError:
                    continue
                if len(found) >= count:
                    return found
    if not found:
        raise Failure('no readable files of a fitting size in /usr/share and /usr/include')
    return found


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
            return file.read().rpartition(')')[2].split()[0] not in 'ZX'
    except OSError:
        return False


def ours(mark):
    """Pids with @mark in their environment or arguments, without this process and its plctl."""
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        pid = int(entry)
        if pid == os.getpid():
            continue
        for name in ('environ', 'cmdline'):
            try:
                with open(f'/proc/{entry}/{name}', 'rb') as file:
                    if mark.encode() in file.read() and alive(pid):
                        found.append(pid)
                        break
            except OSError:
                continue
    return found


def until(what, condition, limit=LIMIT):
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f'not within {limit} s: {what}')
        time.sleep(0.02)


class Show:
    def __init__(self, build):
        self.plctl_path = str(pathlib.Path(build).resolve() / 'tools/plctl/plctl')
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix='pl-quickstart-'))
        (self.dir / 'run').mkdir(mode=0o700)
        (self.dir / 'stamps').mkdir()
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith(('PL_INSTANCE', 'PL_SOCKET', 'NOTIFY_SOCKET'))}
        self.env.update(XDG_RUNTIME_DIR=str(self.dir / 'run'), PL_QUICKSTART=self.dir.name)
        self.running = False
        self.kills = []  # wall clock, ns
        self.broken = 0  # runs without an end of their own

    def plctl(self, *args, code=0):
        done = subprocess.run([self.plctl_path, *args], env=self.env, timeout=LIMIT, check=False,
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != code:
            raise Failure(f'plctl {" ".join(args[:6])} … ended with {done.returncode}: '
                          f'{done.stderr.decode(errors="replace").strip()}')
        return done.stdout.decode(errors='replace')

    def start(self):
        self.plctl('start', '-d', 'examples/quickstart.yaml', '--state-dir', str(self.dir / 'state'))
        self.running = True

    def run(self, *program):
        return self.plctl('run', '-p', 'cpu', '-n', '--id-only', '--', *program).strip()

    def job(self, job):
        return json.loads(self.plctl('job', 'show', job, '--json'))

    def submit_all(self, work):
        # Paused meanwhile: however slow this is, there is a backlog when the work begins.
        self.plctl('pool', 'pause', 'cpu')
        jobs = {}
        for number, (_, command, path) in enumerate(work):
            stamp = self.dir / 'stamps' / str(number)
            job = self.run('sh', '-c', PROGRAM, 'quickstart', str(stamp), command, path)
            jobs[job] = number
            if len(jobs) % 80 == 0:
                print(f'      {len(jobs)} of {len(work)} submitted to the paused pool')
        self.plctl('pool', 'resume', 'cpu')
        return jobs

    def in_program(self, number):
        """Whether the program of this job has begun and not ended."""
        stamp = self.dir / 'stamps' / str(number)
        return stamp.exists() and len(stamp.read_text().splitlines()) % 2 == 1

    def kill_a_worker(self, jobs):
        """SIGKILL while it runs a job. Return: the job."""
        def busy():
            for pool in json.loads(self.plctl('stats', 'cpu', '--json'))['pools']:
                for worker in pool['workers']:
                    if worker['pid'] and worker['job'] in jobs and self.in_program(jobs[worker['job']]):
                        return worker
            return None
        worker = until('a worker is busy', busy, 20)
        os.kill(worker['pid'], signal.SIGKILL)
        self.kills.append(time.time_ns())
        print(f'      SIGKILL to worker {worker["name"]} (pid {worker["pid"]}) while it ran '
              f'{worker["job"]}')
        return worker['job']

    def wait_all(self, jobs):
        """Until all have ended; in the middle a worker is killed. Return: the job that ran in it."""
        waiting = subprocess.Popen([self.plctl_path, 'wait', *jobs], env=self.env,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        done, hit = 0, None
        for line in waiting.stdout:
            done += 1
            if not line.rstrip().endswith(b'succeeded'):
                raise Failure(line.decode(errors='replace').strip())
            # These jobs are short: one may end between the look and the kill. Then another is killed.
            if hit is None and done >= len(jobs) // 3 and len(self.kills) < 5:
                job = self.kill_a_worker(jobs)
                self.plctl('wait', job)
                hit = job if self.job(job)['attempt'] >= 2 else None
            if done % 80 == 0:
                print(f'      {done} of {len(jobs)} done')
        check(waiting.wait() == 0 and done == len(jobs), f'all {len(jobs)} jobs succeeded')
        return hit

    def until_idle(self):
        """The pages with the numbers are written a moment after the answers."""
        until('the pool is idle', lambda: not any(
            worker['job'] for pool in json.loads(self.plctl('stats', 'cpu', '--json'))['pools']
            for worker in pool['workers']), 10)

    def compare(self, jobs, expected):
        wrong = [number for job, number in jobs.items()
                 if self.plctl('result', job) != expected[number]]
        check(not wrong, f'all {len(jobs)} results are those of the same work without parking-lot')

    def intervals(self, number):
        """Of one job: (start, end) of each run; the end of a killed run is the kill after its start."""
        runs = []
        for line in (self.dir / 'stamps' / str(number)).read_text().splitlines():
            what, pid, stamp = line.split()
            if what == 'start':
                runs.append([pid, int(stamp), None])
            else:
                runs[-1][2] = int(stamp)
                if runs[-1][0] != pid:
                    raise Failure(f'job {number} ran twice at once')
        for run in runs:
            if run[2] is None:
                run[2] = min((kill for kill in self.kills if kill >= run[1]), default=None)
                if run[2] is None:
                    raise Failure(f'job {number} has a run without an end, and no worker was killed')
                self.broken += 1
            if run[1] > run[2]:
                raise Failure('the clock of this machine was set meanwhile: try again')
        return [(start, end) for _, start, end in runs]

    def overlap(self, jobs, hit):
        """The most programs at one moment, from their own stamps."""
        points, runs = [], 0
        for number in jobs.values():
            for start, end in self.intervals(number):
                # An end at the same nanosecond as a start is before it.
                points += [(start, 1), (end, -1)]
                runs += 1
        now = most = 0
        for _, step in sorted(points):
            now += step
            most = max(most, now)
        check(most <= UNITS, f'at no instant more than {UNITS} programs ran (at most {most}; '
                             f'{runs} runs, {self.broken} broken off)')
        check(most == UNITS, f'and {UNITS} did run at once')
        check(hit is not None, 'a worker was killed while it ran a job')
        check(True, f'its job ran again and has its result (attempt {self.job(hit)["attempt"]})')

    def kill_tree(self):
        """A worker dies while its program has children of its own, one in another session."""
        mark = f'{self.dir.name}-tree'
        job = self.plctl('run', '-p', 'cpu', '-n', '--id-only', '--at-most-once', '-e', f'TREE={mark}', '--',
                         'sh', '-c', 'setsid sh -c "sleep 1000; :" & (sleep 1000; :) & sleep 1000; :').strip()
        tree = until('the programs run', lambda: (lambda p: p if len(p) >= 4 else None)(ours(mark)))
        pid = self.job(job)['worker_pid']
        os.kill(pid, signal.SIGKILL)
        self.plctl('wait', job, code=10)
        check(not ours(mark), f'SIGKILL of worker {pid} left none of its {len(tree)} programs running')

    def stop(self):
        self.plctl('stop')
        self.running = False
        until('all processes have ended', lambda: not ours(self.dir.name), 30)
        check(not ours(self.dir.name), 'stopped; no process is left')

    def clean(self):
        if self.running:
            subprocess.run([self.plctl_path, 'stop', '--now'], env=self.env, check=False, timeout=60,
                           stdin=subprocess.DEVNULL)
        for pid in ours(self.dir.name):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)


def expected_of(work):
    results = []
    for _, command, path in work:
        with open(path, 'rb') as file:
            results.append(subprocess.run(['sh', '-c', command], stdin=file, check=True,
                                          stdout=subprocess.PIPE).stdout.decode(errors='replace'))
    return results


def main():
    show = Show(sys.argv[1] if len(sys.argv) > 1 else 'build')
    try:
        files = sample_files(JOBS)
        work = [(*KINDS[n % len(KINDS)], files[n % len(files)]) for n in range(JOBS)]
        print(f'[3/4] {JOBS} jobs on {len(set(files))} files, {UNITS} cpu units, 4 workers')
        expected = expected_of(work)
        digest = hashlib.sha256(''.join(expected).encode()).hexdigest()[:16]
        print(f'      done once without parking-lot, to compare with ({digest})')
        show.start()
        print('      $ plctl start -d examples/quickstart.yaml')
        jobs = show.submit_all(work)
        hit = show.wait_all(jobs)
        show.until_idle()
        print('\n$ plctl stats')
        print(show.plctl('stats'))
        print('[4/4] what it showed')
        show.compare(jobs, expected)
        show.overlap(jobs, hit)
        show.kill_tree()
        show.stop()
    except (Failure, subprocess.TimeoutExpired) as failure:
        print(f'quickstart: FAILED: {failure}', file=sys.stderr)
        log = show.dir / 'state' / 'quickstart.log'
        if log.exists():
            print('\n'.join(log.read_text(errors='replace').splitlines()[-20:]), file=sys.stderr)
        return 1
    finally:
        show.clean()
    print('\nAll of it held. Next: README.md, "A first configuration".')
    return 0


if __name__ == '__main__':
    sys.exit(main())
