#!/usr/bin/python3
"""Guard and supervisor die together, and the workers that run jobs of a durable pool do not: the next
start adopts them."""
import os
import random
import shutil
import signal
import time
import unittest

import lib

ROUNDS = int(os.environ.get('PL_TEST_ROUNDS', '10'))

CONFIG = """\
version: 1
name: heirs
supervisor:
  shutdown: {orphan_grace: GRACE}
pools:
  build:
    max_units: {cpu: 20}
    queue: lmdb
    workers:
      - {name: sh, kind: cpu, replicas: 4, concurrency: 4, handles: [command],
         executor: {plugin: command}}
"""

# Says that it runs, and waits until it is told to go on: no time is involved. Each run is on record.
PROGRAM = '''
echo $1 $$ >> {dir}/runs
echo before $1
exec 8<{dir}/gate.$1
read line <&8
echo after $1 $line
'''

# Takes no notice of SIGTERM, and leaves a process in a session of its own.
STUBBORN = '''
trap '' TERM
(setsid sleep 1000 & echo $! >> {dir}/leaves)
''' + PROGRAM


def exe_name(pid):
    try:
        with open(f'/proc/{pid}/cmdline', 'rb') as file:
            return os.path.basename(file.read().split(b'\0')[0]).decode()
    except OSError:
        return ''


class Base(lib.Test):
    config = CONFIG.replace('GRACE', '10m')

    def all(self, *programs):
        return [pid for pid in lib.processes_with(self.instance.dir.name)
                if exe_name(pid) in programs]

    def busy(self):
        found = self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
        return {worker['pid'] for worker in found if worker['state'] == 'busy'}

    def kill(self, *programs):
        """SIGKILL to these at once."""
        self.instance.kill_at_once(*programs)

    def begin(self, count=1, options=(), program=PROGRAM):
        """Jobs that run, each at its gate."""
        jobs = []
        for number in range(count):
            os.mkfifo(self.instance.dir / f'gate.{number}')
            jobs.append(self.instance.run_detached('sh', '-c', program.format(dir=self.instance.dir),
                                                   'sh', number, options=options))
        lib.until('all run', lambda: len(self.runs()) == count)
        return jobs

    @staticmethod
    def open_of(pid):
        found = []
        for fd in os.listdir(f'/proc/{pid}/fd'):
            try:
                found.append(os.readlink(f'/proc/{pid}/fd/{fd}'))
            except OSError:
                pass
        return found

    def first_piece(self):
        """Guard and supervisor die when a job's first piece was told, its copy on the way."""
        first = self.instance.dir / 'first'
        os.mkfifo(first)
        os.mkfifo(self.instance.dir / 'gate.0')
        program = PROGRAM.replace('echo before', 'read line < {dir}/first\necho before')
        self.job = self.instance.run_detached('sh', '-c', program.format(dir=self.instance.dir),
                                              'sh', 0)
        lib.until('it runs', lambda: len(self.runs()) == 1)
        guard, = self.all('pl-guard')
        follow = self.instance.popen('follow', self.job, bufsize=0)
        os.kill(guard, signal.SIGSTOP)  # what passes through it stays there
        first.write_text('go\n')
        self.assertEqual(lib.read_line(follow.stdout), b'before 0\n')
        self.kill('pl-guard', 'pl-supervisor', 'pl-store')
        follow.communicate()

    def whole(self):
        self.instance.plctl('wait', self.job, code=0)
        self.assertEqual(self.instance.job(self.job)['attempt'], 1)
        self.assertEqual(self.instance.plctl('result', self.job, code=0).out,
                         'before 0\nafter 0 now\n')
        self.assertEqual(len(self.runs()), 1)

    def programs(self):
        leaves = self.instance.dir / 'leaves'
        left = map(int, leaves.read_text().split()) if leaves.exists() else []
        return self.all('sh') + [pid for pid in left if lib.alive(pid)]

    def runs(self):
        path = self.instance.dir / 'runs'
        return sorted(line.split()[0] for line in path.read_text().splitlines()
                      ) if path.exists() else []

    def open_gate(self, number):
        with open(self.instance.dir / f'gate.{number}', 'w') as gate:
            gate.write('now\n')

    def finish(self, jobs):
        for number in range(len(jobs)):
            self.open_gate(number)
        for number, job in enumerate(jobs):
            self.instance.plctl('wait', job, code=0)
            shown = self.instance.job(job)
            self.assertEqual((shown['state'], shown['attempt']), ('succeeded', 1), shown)
            self.assertEqual(self.instance.plctl('result', job, code=0).out,
                             f'before {number}\nafter {number} now\n')
        self.assertEqual(self.runs(), sorted(str(number) for number in range(len(jobs))))


class Heirs(Base):
    def outlive(self, *programs):
        jobs = self.begin(8)
        before = self.busy()
        self.kill(*programs)
        self.instance.start()
        self.assertEqual(self.busy(), before)
        self.finish(jobs)
        self.assertLessEqual(before, set(self.all('pl-worker')))

    def test_guard_and_supervisor(self):
        self.outlive('pl-guard', 'pl-supervisor')

    def test_guard_supervisor_and_store(self):
        self.outlive('pl-guard', 'pl-supervisor', 'pl-store')

    def test_the_guard_alone(self):
        self.outlive('pl-guard')

    def test_again_and_again(self):
        jobs = self.begin(4)
        before = self.busy()
        for round_ in range(4):
            self.kill('pl-guard', 'pl-supervisor', *(['pl-store'] if round_ % 2 else []))
            self.instance.start()
            self.assertEqual(self.busy(), before)
        self.finish(jobs)

    def test_those_that_wait_keep_their_turn(self):
        jobs = self.begin(2)
        late = self.instance.run_detached('sh', '-c', 'echo late', options=('--cost', 'cpu=20'))
        self.kill('pl-guard', 'pl-supervisor')
        self.instance.start()
        self.assertEqual(self.instance.job(late)['state'], 'queued')
        self.finish(jobs)
        self.instance.plctl('wait', late, code=0)

    def follow(self, job):
        follow = self.instance.popen('follow', job)
        self.addCleanup(lambda: (follow.poll() is None and follow.kill(), follow.stdout.close(),
                                 follow.stderr.close(), follow.wait()))
        return follow

    def test_what_is_followed_goes_on(self):
        """Everything from the first byte, though the supervisor that took it is dead."""
        job, = self.begin()
        follow = self.follow(job)
        self.assertEqual(lib.read_line(follow.stdout), b'before 0\n')  # taken from the ring
        follow.kill()
        self.kill('pl-guard', 'pl-supervisor', 'pl-store')
        self.instance.start()
        follow = self.follow(job)
        self.assertEqual(lib.read_line(follow.stdout), b'before 0\n')
        self.open_gate(0)
        self.assertEqual(follow.communicate(timeout=lib.LIMIT)[0], b'after 0 now\n')
        self.assertEqual(self.instance.plctl('result', job, code=0).out,
                         'before 0\nafter 0 now\n')

    def test_cancel_reaches_an_adopted_job(self):
        job, = self.begin()
        self.kill('pl-guard', 'pl-supervisor')
        self.instance.start()
        before = self.busy()
        self.instance.plctl('cancel', job, code=0)
        self.assertEqual(self.instance.until_state(job, 'cancelled')['attempt'], 1)
        lib.until('its program has ended', lambda: not self.programs())
        self.assertLessEqual(before, set(self.all('pl-worker')))

    def test_a_time_out_that_fell_due_meanwhile(self):
        """Nobody enforces it while the worker is adrift; the next supervisor does, at once."""
        began = time.monotonic()
        jobs = self.begin(2, options=('--timeout', '4s'))
        self.kill('pl-guard', 'pl-supervisor')
        lib.until('the time is over', lambda: time.monotonic() > began + 4.5)
        self.assertEqual(len(self.programs()), 2)
        self.instance.start()
        again = time.monotonic()
        for job in jobs:
            self.instance.plctl('wait', job)
            shown = self.instance.job(job)
            self.assertEqual((shown['state'], shown['attempt']), ('timed_out', 1), shown)
        self.assertLess(time.monotonic() - again, 4)  # it did not begin anew
        self.assertEqual((self.programs(), self.runs()), ([], ['0', '1']))

    def test_stop_ends_all(self):
        self.begin(3, program=STUBBORN)
        self.kill('pl-guard', 'pl-supervisor')
        self.instance.start()
        programs = self.until_programs(6)
        self.instance.stop()
        self.assertEqual([pid for pid in programs if lib.alive(pid)], [])


    def until_programs(self, count):
        return lib.until('all programs run',
                         lambda: (lambda found: len(found) >= count and found)(self.programs()))

    def test_an_adopted_worker_is_killed(self):
        """None of its programs is left when its job runs again."""
        job, = self.begin(program=STUBBORN)
        self.kill('pl-guard', 'pl-supervisor')
        self.instance.start()
        first = self.until_programs(2)
        worker, = self.busy()
        os.kill(worker, signal.SIGKILL)
        lib.until('it runs again', lambda: len(self.runs()) == 2)
        self.assertEqual([pid for pid in first if lib.alive(pid)], [])
        self.open_gate(0)
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.job(job)['attempt'], 2)

    def test_the_worker_is_killed_too(self):
        """The next guard ends what it has left; its job counts an attempt and runs again."""
        job, = self.begin(program=STUBBORN)
        first = self.until_programs(2)
        self.kill('pl-guard', 'pl-supervisor', *['pl-worker'] * 4)
        self.instance.start()
        self.assertEqual([pid for pid in first if lib.alive(pid)], [])
        lib.until('it runs again', lambda: len(self.runs()) == 2)
        self.open_gate(0)
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.job(job)['attempt'], 2)

    def test_a_worker_without_a_job_ends_with_its_guard(self):
        self.begin()
        busy, = self.busy()
        self.kill('pl-guard', 'pl-supervisor')
        lib.until('the others have ended', lambda: self.all('pl-worker') == [busy])
        self.instance.start()
        self.assertEqual(self.busy(), {busy})

    def test_what_ended_meanwhile_counts(self):
        jobs = self.begin(2)
        self.kill('pl-guard', 'pl-supervisor', 'pl-store')
        self.open_gate(0)
        self.open_gate(1)
        lib.until('the programs have ended', lambda: not self.programs())
        self.instance.start()
        for number, job in enumerate(jobs):
            self.instance.plctl('wait', job, code=0)
            self.assertEqual(self.instance.job(job)['attempt'], 1)
            self.assertEqual(self.instance.plctl('result', job, code=0).out,
                             f'before {number}\nafter {number} now\n')

    def test_the_first_piece_of_its_stream(self):
        self.first_piece()
        self.instance.start()
        self.open_gate(0)
        self.whole()

    def test_one_that_comes_late_is_sent_away(self):
        """Its jobs were given to others: it ends with its programs, and nothing that it says counts."""
        job, = self.begin(program=STUBBORN)
        first = self.until_programs(2)
        worker, = self.busy()
        os.kill(worker, signal.SIGSTOP)
        try:
            self.kill('pl-guard', 'pl-supervisor')
            # No guard forgets a worker; somebody has cleaned up.
            for roster in (self.instance.dir / 'run').glob('parking-lot/*/roster'):
                roster.unlink()
            for lock in (self.instance.dir / 'run').glob('parking-lot/*/lock'):
                lock.unlink()
            self.instance.start()
            lib.until('it runs again', lambda: len(self.runs()) == 2)
        finally:
            os.kill(worker, signal.SIGCONT)
        lib.until('the late one has ended',
                  lambda: not any(lib.alive(pid) for pid in [worker, *first]))
        self.open_gate(0)
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.job(job)['attempt'], 2)

    def test_the_run_directory_is_another_one(self):
        """Somebody has cleaned up while it was adrift: the next guard knows nothing of it, and it
        has to see that."""
        job, = self.begin(program=STUBBORN)
        first = self.until_programs(2)
        worker, = self.busy()
        self.kill('pl-guard', 'pl-supervisor', 'pl-store')
        lib.until('it waits', lambda: 'inotify' in str(self.open_of(worker)))
        shutil.rmtree(self.instance.dir / 'run' / 'parking-lot')
        self.instance.start()
        lib.until('the late one has ended',
                  lambda: not any(lib.alive(pid) for pid in [worker, *first]))
        lib.until('it runs again', lambda: len(self.runs()) == 2)
        self.open_gate(0)
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.job(job)['attempt'], 2)


class Subreapers(Heirs):
    """Without cgroups."""

    def setUp(self):
        os.environ['PL_NO_CGROUP'] = '1'
        self.addCleanup(os.environ.pop, 'PL_NO_CGROUP')
        super().setUp()


class Unadopted(Base):
    """Nobody comes within the grace: the outcomes are in files."""
    config = CONFIG.replace('GRACE', '100ms')

    def files(self):
        folder = self.instance.dir / 'state' / 'orphans'
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def leave_files(self, count):
        jobs = self.begin(count)
        self.kill('pl-guard', 'pl-supervisor', 'pl-store')
        for number in range(count):
            self.open_gate(number)
        lib.until('all have ended', lambda: not self.all('pl-worker', 'sh'))
        self.assertEqual(self.files(), sorted(f'{job}.1' for job in jobs))
        return jobs

    def test_outcomes_come_from_files(self):
        jobs = self.leave_files(3)
        self.instance.start()
        for number, job in enumerate(jobs):
            shown = self.instance.job(job)
            self.assertEqual((shown['state'], shown['attempt']), ('succeeded', 1), shown)
            self.assertEqual(self.instance.plctl('result', job, code=0).out,
                             f'before {number}\nafter {number} now\n')
        lib.until('the files are gone', lambda: not self.files())
        self.assertEqual(len(self.runs()), 3)

    def test_its_first_piece(self):
        """The supervisor had taken it and died before its copy reached the worker."""
        self.first_piece()
        self.open_gate(0)
        lib.until('it has ended', lambda: not self.all('pl-worker', 'sh'))
        self.instance.start()
        self.whole()

    def test_a_damaged_file_is_put_aside(self):
        job, = self.leave_files(1)
        path = self.instance.dir / 'state' / 'orphans' / f'{job}.1'
        path.write_bytes(path.read_bytes()[:-1] + b'?')
        self.instance.start()
        lib.until('it runs again', lambda: len(self.runs()) == 2)
        self.assertEqual(self.files(), [f'{job}.1.damaged'])
        self.open_gate(0)
        self.instance.plctl('wait', job, code=0)

    def test_what_was_not_written_to_the_end_goes(self):
        """The worker was killed before the file had its name; the job runs again."""
        job, = self.begin()
        self.kill('pl-guard', 'pl-supervisor', 'pl-store', 'pl-worker')
        draft = self.instance.dir / 'state' / 'orphans' / f'.{job}.1.new'
        draft.parent.mkdir(mode=0o700)
        draft.write_bytes(b'x' * 100)
        other = draft.parent / '.notes.txt'
        other.write_text('not ours')
        self.instance.start()
        lib.until('it runs again', lambda: len(self.runs()) == 2)
        lib.until('the draft is gone', lambda: self.files() == [other.name])
        self.open_gate(0)
        self.instance.plctl('wait', job, code=0)

    def test_a_file_counts_once(self):
        job, = self.leave_files(1)
        name = self.instance.dir / 'state' / 'orphans' / f'{job}.1'
        content = name.read_bytes()
        self.instance.start()
        lib.until('the file is gone', lambda: not self.files())
        self.instance.plctl('stop', '--now', code=0)
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        name.write_bytes(content)
        self.instance.start()
        lib.until('the file is gone', lambda: not self.files())
        self.assertEqual(self.instance.job(job)['state'], 'succeeded')


class LastMoment(Base):
    """The next guard comes when the grace ends: the worker is adopted, or its outcomes are in files,
    and never both or neither."""
    config = CONFIG.replace('GRACE', '200ms')

    def test_each_outcome_counts_once(self):
        seed = int(os.environ.get('PL_TEST_SEED', str(random.randrange(1 << 32))))
        print(f'seed {seed}', flush=True)
        rng, adopted, workers = random.Random(seed), 0, 0
        for _ in range(ROUNDS):
            (self.instance.dir / 'runs').unlink(missing_ok=True)
            for gate in self.instance.dir.glob('gate.*'):
                gate.unlink()
            jobs = self.begin(3)
            before, over = self.busy(), time.monotonic() + 0.14 + rng.random() * 0.06
            self.kill('pl-guard', 'pl-supervisor', 'pl-store')
            for number in range(3):
                self.open_gate(number)
            lib.until('the grace is nearly over', lambda over=over: time.monotonic() > over)
            self.instance.start()
            adopted += sum(map(lib.alive, before))
            workers += len(before)
            for number, job in enumerate(jobs):
                self.instance.plctl('wait', job, code=0)
                self.assertEqual(self.instance.job(job)['attempt'], 1)
                self.assertEqual(self.instance.plctl('result', job, code=0).out,
                                 f'before {number}\nafter {number} now\n')
            self.assertEqual(self.runs(), ['0', '1', '2'])
        print(f'{adopted} of {workers} workers were adopted')


if __name__ == '__main__':
    lib.main()
