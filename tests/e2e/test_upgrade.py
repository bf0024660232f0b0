#!/usr/bin/python3
"""New programs take the place of old ones while jobs run: plctl upgrade.

    PL_TEST_FAKE_PROGRAM=…/fake_program PL_TEST_OTHER_GUARD=…/other_guard \\
    PL_TEST_SEED=N PL_TEST_UPGRADES=N … python3 test_upgrade.py

A "new version" is a copy of the programs with other bytes for the version's text.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest

import lib
import peer
import test_adopt

UPGRADES = int(os.environ.get('PL_TEST_UPGRADES', '8'))
FAKE = os.environ.get('PL_TEST_FAKE_PROGRAM')
OTHER_GUARD = os.environ.get('PL_TEST_OTHER_GUARD')
PARTS = ('supervisor', 'store', 'guard', 'worker')


class Base(test_adopt.Base):
    def setUp(self):
        # Folders of new programs have no executors beside them. The instance has this in its
        # environment, plctl has not: what is asked is what would be run.
        plugins = pathlib.Path(lib.PLCTL).resolve().parent.parent.parent / 'executors'
        before = os.environ.get('PL_PLUGIN_PATH')
        os.environ['PL_PLUGIN_PATH'] = before or str(plugins)
        try:
            super().setUp()
        finally:
            if before is None:
                del os.environ['PL_PLUGIN_PATH']
        self.instance.env.pop('PL_PLUGIN_PATH')
        self.checked = self.upgrade('--check', code=0)
        self.programs = {part['part']: part['program'] for part in self.checked['parts']}
        self.version = self.checked['parts'][0]['to']

    def upgrade(self, *options, code=None):
        return self.instance.plctl('upgrade', '--json', *options, code=code).json()

    def pids(self, name):
        return sorted(pid for pid in lib.processes_with(self.instance.dir.name)
                      if lib.program_of(pid) == name)

    def everybody(self):
        return {name: self.pids(name) for name in ('pl-guard', 'pl-supervisor', 'pl-worker')}

    def new_version(self, last='9', parts=PARTS):
        """A folder with programs that differ in the version that they tell."""
        folder = pathlib.Path(self.instance.dir / f'new-{last}')
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask
        version = self.version[:-1] + last
        for part in parts:
            if part not in self.programs:
                continue
            data = pathlib.Path(self.programs[part]).read_bytes()
            self.assertIn(self.version.encode(), data)
            target = folder / f'pl-{part}'
            target.write_bytes(data.replace(self.version.encode(), version.encode()))
            target.chmod(0o755)
        return folder, version

    def fake(self, part, mode, version=True):
        """A folder of a new version in which one program is not healthy."""
        if version:
            folder, _ = self.new_version()
        else:
            folder = pathlib.Path(self.instance.dir / 'new-fake')
            folder.mkdir()
            folder.chmod(0o755)
        target = folder / f'pl-{part}'
        target.unlink(missing_ok=True)
        shutil.copy(FAKE, target)
        (folder / f'pl-{part}.mode').write_text(mode)
        return folder

    @staticmethod
    def parent(pid):
        try:
            with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
                return int(file.read().rpartition(')')[2].split()[1])
        except OSError:
            return 0

    def part(self, told, name):
        return next(part for part in told['parts'] if part['part'] == name)

    def check_jobs(self, jobs):
        for name, job in jobs.items():
            self.let_go(name)
            self.assertEqual(self.result(job).out, 'done\n')
            self.assertEqual(len(self.starts(name)), 1)
            self.assertEqual(self.outcome(job)['attempt'], 1)


class Upgrade(Base):
    def test_check_changes_nothing(self):
        before = self.everybody()
        self.assertTrue(self.checked['ok'])
        self.assertFalse(self.checked['changed'])
        self.assertEqual({part['outcome'] for part in self.checked['parts']}, {'compatible'})
        self.assertEqual(self.everybody(), before)
        text = self.instance.plctl('upgrade', '--check', code=0).out
        self.assertIn('compatible', text)

    @unittest.skipIf(os.geteuid() != 0, 'needs root')
    def test_another_users_programs_are_not_run(self):
        """What plctl asks is told by the instance, and run as who asks."""
        folder = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock')).parent
        for options in (('--check',), ()):
            os.chown(folder, 65534, -1)
            try:
                refused = self.instance.plctl('upgrade', *options)
            finally:
                os.chown(folder, 0, -1)
            self.assertNotEqual(refused.code, 0)
            self.assertIn('another user', refused.err)

    def test_everything_is_new_and_jobs_run_on(self):
        jobs = {name: self.gated(name) for name in 'abcd'}
        before, workers = self.everybody(), set(self.workers())
        folder, version = self.new_version()
        told = self.upgrade('--from', folder, '--workers', 'keep', code=0)
        for name in ('supervisor', 'guard'):
            part = self.part(told, name)
            self.assertEqual((part['from'], part['to'], part['outcome']),
                             (self.version, version, 'done'))
        self.assertEqual(told['epoch_after'], told['epoch_before'] + 1)
        after = self.everybody()
        self.assertEqual(after['pl-guard'], before['pl-guard'])
        self.assertEqual(set(self.workers()), workers)
        self.assertNotEqual(after['pl-supervisor'], before['pl-supervisor'])
        for name in ('supervisor', 'guard'):
            self.assertEqual(os.readlink(f'/proc/{after["pl-" + name][0]}/exe'),
                             str(folder / f'pl-{name}'))
        status = self.instance.plctl('status', '--json', code=0).json()
        self.assertEqual(status['version'], version)
        self.check_jobs(jobs)
        self.assertEqual(self.result(self.instance.submit('echo', '-p', 'build', '-d', 'x')).out, 'x')

    def test_workers_are_replaced_when_idle(self):
        job, workers = self.gated('a'), set(self.workers())
        folder, _ = self.new_version()
        told = self.upgrade('--from', folder, code=0)
        self.assertEqual(told['workers_of_another_program'], len(workers))
        busy = self.instance.job(job)
        lib.until('those without a job are other processes',
                  lambda: len(set(self.workers()) & workers) == 1 and
                  len(self.workers()) >= len(workers))
        self.assertEqual(self.instance.job(job)['worker'], busy['worker'])
        self.check_jobs({'a': job})
        lib.until('all are other processes', lambda: not set(self.workers()) & workers and
                  len(self.workers()) == len(workers))
        for pid in self.workers():
            self.assertEqual(os.readlink(f'/proc/{pid}/exe'), str(folder / 'pl-worker'))

    def test_twice_and_what_follows_a_death(self):
        """The guard starts again what it runs, whatever lies in its place by then."""
        jobs = {name: self.gated(name) for name in 'ab'}
        folder, version = self.new_version()
        self.upgrade('--from', folder, code=0)
        self.upgrade(code=0)
        (folder / 'pl-supervisor').unlink()
        self.kill_supervisor()
        self.assertEqual(self.instance.plctl('status', '--json', code=0).json()['version'], version)
        self.check_jobs(jobs)

    def test_a_follower_sees_all_of_it(self):
        job = self.gated('a', before='echo first;', after='echo last')
        follower = self.instance.popen('follow', job)
        self.addCleanup(follower.stdout.close)
        self.addCleanup(follower.stderr.close)
        self.assertEqual(lib.read_line(follower.stdout), b'first\n')
        self.upgrade(code=0)
        self.let_go('a')
        self.instance.plctl('wait', job, code=0)
        again = self.instance.plctl('follow', job, code=0)
        self.assertEqual(again.out, 'first\nlast\n')
        follower.kill()
        follower.wait()

    def test_a_job_whose_client_is_bound_to_it_goes_on(self):
        """cancel_on_disconnect: the client does not go, it is sent away."""
        path = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        mark, gate = self.files / 'o.begun', self.files / 'o.gate'
        os.mkfifo(gate)
        client = peer.Client(path)
        script = f'echo $$ >> {mark}; read x < {gate}; echo done'
        job = client.call('job.submit', pool='build', type='command', cancel_on_disconnect=True,
                          meta={'shell': script.encode()})['id']
        lib.until('it runs', lambda: self.starts('o'))
        self.upgrade(code=0)
        client.close()
        client = peer.Client(path)
        self.let_go('o')
        self.assertEqual(client.call('job.wait', id=job)['outcome'], 1)
        client.close()


@unittest.skipIf(peer.msgpack is None, 'needs python3-msgpack')
class AskedAtOnce(Base):
    def halt(self, pid):
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(lambda: lib.alive(pid) and os.kill(pid, signal.SIGCONT))
        lib.until('it is stopped', lambda: test_adopt.state_of(pid) == 'T')

    def catch(self, path, guard):
        """Return: a client of a new supervisor whose READY the guard has not read; None: it has."""
        served = self.instance.log().count('the new supervisor serves')
        before, client = self.pids('pl-supervisor'), peer.Client(path)
        client.call('instance.upgrade', part='supervisor')
        client.close()
        while True:
            found = self.pids('pl-supervisor')
            if found and found != before:
                break
        self.halt(guard)
        try:
            return peer.Client(path, timeout=2)
        except OSError:
            return None  # it has not even got its welcome
        finally:
            if self.instance.log().count('the new supervisor serves') != served:
                os.kill(guard, signal.SIGCONT)

    def test_the_answer_is_not_that_of_the_one_before(self):
        """The guard tells that an upgrade is done when another one has been asked for already."""
        path = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        guard, = self.pids('pl-guard')
        for attempt in range(50):
            client = self.catch(path, guard)
            if client is not None and test_adopt.state_of(guard) == 'T':
                break
            os.kill(guard, signal.SIGCONT)
            if client is not None:
                client.close()
            lib.until('it is done', lambda: self.instance.plctl('status').code == 0)
        else:
            self.skipTest('the guard was never stopped in time')
        supervisor, = self.pids('pl-supervisor')
        self.halt(supervisor)
        asked = client.send('instance.upgrade', {'part': 'supervisor'})
        served = self.instance.log().count('the new supervisor serves')
        os.kill(guard, signal.SIGCONT)
        lib.until('the guard has read', lambda: self.instance.log().count(
            'the new supervisor serves') == served + 1 and test_adopt.state_of(guard) == 'S')
        os.kill(supervisor, signal.SIGCONT)
        number, error, _ = client.receive()
        self.assertEqual((number, error), (asked, None))
        client.close()
        lib.until('another one serves', lambda: self.pids('pl-supervisor') not in ([], [supervisor])
                  and self.instance.plctl('status').code == 0)


@unittest.skipIf(FAKE is None, 'needs PL_TEST_FAKE_PROGRAM')
class Unhealthy(Base):
    def setUp(self):
        super().setUp()
        self.jobs = {name: self.gated(name) for name in 'ab'}
        self.before = self.everybody()

    def check_unharmed(self, same_supervisor=False):
        after = self.everybody()
        for name in ('pl-guard', 'pl-worker'):
            self.assertEqual(after[name], self.before[name])
        if same_supervisor:
            self.assertEqual(after['pl-supervisor'], self.before['pl-supervisor'])
        status = self.instance.plctl('status', '--json', code=0).json()
        self.assertEqual((status['version'], status['state']), (self.version, 'serving'))
        self.check_jobs(self.jobs)
        self.check_units()

    def refused(self, folder, part, words):
        before = self.instance.plctl('status', '--json', code=0).json()['epoch']
        for options in (('--check',), ()):
            told = self.upgrade('--from', folder, '--timeout', '1s', *options, code=1)
            self.assertFalse(told['ok'] or told['changed'])
            self.assertEqual(self.part(told, part)['outcome'], 'refused')
            self.assertIn(words, self.part(told, part)['why'])
        self.assertEqual(self.instance.plctl('status', '--json', code=0).json()['epoch'], before)
        self.check_unharmed(same_supervisor=True)

    def rolled_back(self, folder, words, *options):
        told = self.upgrade('--from', folder, *options, code=1)
        part = self.part(told, 'supervisor')
        self.assertEqual((told['ok'], told['changed'], part['outcome']), (False, True, 'rolled_back'))
        self.assertIn(words, part['why'])
        self.assertIn('the old one is started again', self.instance.log())
        self.check_unharmed()

    def test_another_layout(self):
        self.refused(self.fake('supervisor', 'refuse'), 'supervisor', "layout 'memlog'")

    def test_its_check_dies(self):
        self.refused(self.fake('supervisor', 'check-dies'), 'supervisor', 'signal 9')

    def test_its_check_hangs(self):
        self.refused(self.fake('supervisor', 'check-hangs'), 'supervisor', 'does not answer')

    def test_it_is_missing(self):
        folder, _ = self.new_version(parts=('guard',))
        self.refused(folder, 'supervisor', 'No such file')

    def test_it_cannot_be_executed(self):
        folder, _ = self.new_version()
        (folder / 'pl-guard').chmod(0o644)
        self.refused(folder, 'guard', 'Permission denied')

    def test_it_is_no_program(self):
        folder, _ = self.new_version()
        (folder / 'pl-supervisor').write_text('nothing')
        self.refused(folder, 'supervisor', 'cannot be run')

    def test_others_can_change_it(self):
        folder, _ = self.new_version()
        (folder / 'pl-supervisor').chmod(0o757)
        told = self.upgrade('--from', folder, code=1)
        self.assertEqual(self.part(told, 'supervisor')['outcome'], 'refused')
        self.assertIn('changed by others', self.part(told, 'supervisor')['why'])
        self.check_unharmed(same_supervisor=True)

    def test_others_can_put_something_beside_it(self):
        """The folder is where workers and stores are taken from, from then on."""
        folder, _ = self.new_version()
        folder.chmod(0o777)
        told = self.upgrade('--from', folder, code=1)
        self.assertEqual(self.part(told, 'supervisor')['outcome'], 'refused')
        self.assertIn('changed by others', self.part(told, 'supervisor')['why'])
        self.check_unharmed(same_supervisor=True)

    def test_the_configuration_is_wrong(self):
        text = self.instance.config.read_text()
        self.instance.config.write_text(text.replace('max_units', 'max_unitz'))
        told = self.upgrade(code=1)
        self.assertEqual(self.part(told, 'supervisor')['outcome'], 'refused')
        self.assertIn('configuration', self.part(told, 'supervisor')['why'])
        self.instance.config.write_text(text)
        self.check_unharmed(same_supervisor=True)

    def test_it_dies_at_once(self):
        self.rolled_back(self.fake('supervisor', 'dies'), 'status 3')

    def test_it_crashes(self):
        self.rolled_back(self.fake('supervisor', 'crashes'), 'signal 6')

    def test_it_hangs(self):
        self.rolled_back(self.fake('supervisor', 'hangs'), 'within 500 ms', '--timeout', '500ms')

    def test_it_hangs_and_the_instance_is_told_to_stop(self):
        """The old one comes back in time all the same, and stops the instance as it would."""
        guard, = self.pids('pl-guard')
        upgrade = self.instance.popen('upgrade', '--from', self.fake('supervisor', 'hangs'),
                                      '--timeout', '1s')
        self.addCleanup(lambda: (upgrade.kill(), upgrade.communicate()))
        # Not beside the old one, as when its version is asked for.
        lib.until('the new one is run', lambda: (lambda now: now and not set(now) & set(
            self.before['pl-supervisor']))(self.pids('pl-supervisor')))
        os.kill(guard, signal.SIGTERM)
        lib.until('it stops', lambda: '"how":"after running jobs"' in self.instance.log())
        self.assertIn('the old one is started again', self.instance.log())
        for name in self.jobs:
            self.let_go(name)
        lib.until('all have ended', lambda: not self.everybody()['pl-guard'])
        self.instance.started = False
        self.assertEqual(lib.until_gone(str(self.instance.dir.name) + '/run'), [])
        self.assertNotIn('killed', self.instance.log())

    def test_it_is_killed(self):
        """The new one gets SIGKILL before it serves; and a second upgrade meanwhile is refused."""
        folder = self.fake('supervisor', 'hangs')
        process = self.instance.popen('upgrade', '--json', '--from', folder)
        new = lib.until('the new one was started', lambda: next(
            (pid for pid in self.pids_of(folder / 'pl-supervisor')), None))
        second = self.instance.plctl('upgrade', code=7)
        self.assertIn('under way', second.err)
        os.kill(new, signal.SIGKILL)
        out, _ = process.communicate(timeout=lib.LIMIT)
        self.assertEqual(process.returncode, 1)
        self.assertIn('signal 9', json.loads(out)['parts'][0]['why'])
        self.check_unharmed()

    def pids_of(self, program):
        found = []
        for pid in lib.processes_with(self.instance.dir.name):
            try:
                if os.readlink(f'/proc/{pid}/exe') == str(program):
                    found.append(pid)
            except OSError:
                pass
        # plctl's own question to it is over when one stays whose parent is the guard
        return [pid for pid in found if self.parent(pid) == self.before['pl-guard'][0]]

    def guard_refused(self, folder, outcome, words):
        told = self.upgrade('--from', folder, '--workers', 'keep', code=1)
        self.assertEqual(self.part(told, 'supervisor')['outcome'], 'done')
        self.assertEqual(self.part(told, 'guard')['outcome'], outcome)
        self.assertIn(words, self.part(told, 'guard')['why'])
        after = self.everybody()
        for name in ('pl-guard', 'pl-worker'):
            self.assertEqual(after[name], self.before[name])
        self.assertEqual(os.readlink(f'/proc/{after["pl-guard"][0]}/exe'), self.guard_exe)
        self.check_jobs(self.jobs)
        # it still does its work
        worker = next(iter(self.workers()))
        os.kill(worker, signal.SIGKILL)
        lib.until('another worker', lambda: worker not in self.workers() and
                  len(self.workers()) == len(after['pl-worker']))

    def test_guards_that_do_not_go_on(self):
        self.guard_exe = os.readlink(f'/proc/{self.before["pl-guard"][0]}/exe')
        folder = self.fake('guard', 'dies')
        self.guard_refused(folder, 'refused', 'exit status 3')

    def test_a_guard_of_another_layout(self):
        self.guard_exe = os.readlink(f'/proc/{self.before["pl-guard"][0]}/exe')
        folder, _ = self.new_version()
        shutil.copy(OTHER_GUARD, folder / 'pl-guard')
        self.guard_refused(folder, 'refused', 'does not understand')

    def test_a_guard_that_hangs(self):
        self.guard_exe = os.readlink(f'/proc/{self.before["pl-guard"][0]}/exe')
        self.guard_refused(self.fake('guard', 'state-hangs'), 'refused', 'did not answer')

    def test_a_guard_that_finds_out_late(self):
        """It said that it understands, is run, and does not: the old one is run again."""
        self.guard_exe = os.readlink(f'/proc/{self.before["pl-guard"][0]}/exe')
        folder = self.fake('guard', 'state-lies')
        shutil.copy(OTHER_GUARD, folder / 'pl-guard.real')
        self.guard_refused(folder, 'rolled_back', 'could not go on')

    @unittest.skipIf(peer.msgpack is None, 'needs python3-msgpack')
    def test_a_guard_that_finds_out_late_leaves_no_folder_behind(self):
        """Asked for alone: programs are looked for where they were before."""
        folder = self.fake('guard', 'state-lies')
        shutil.copy(OTHER_GUARD, folder / 'pl-guard.real')
        path = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        client = peer.Client(path)
        with self.assertRaises(peer.Refused) as refused:
            client.call('instance.upgrade', part='guard', program=str(folder / 'pl-guard'),
                        libexec=str(folder))
        self.assertIn('could not go on', str(refused.exception))
        client.close()
        self.kill_supervisor()
        client = peer.Client(path)
        self.assertEqual(client.call('instance.versions')['worker_program'], self.programs['worker'])
        client.close()
        self.check_jobs(self.jobs)


class Sidecar(lib.Test):
    def test_it_outlives_guards(self):
        """A child that there was before the guard is not taken for what a worker left."""
        instance = lib.Instance(start=False)
        self.addCleanup(instance.abandon)
        start = instance.command('start', instance.config, '--state-dir', instance.dir / 'state')
        guard = subprocess.Popen(['sh', '-c', 'sleep 1000 & echo $!; exec "$@"', 'sh', *start],
                                 env=instance.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(guard.stdout.close)
        sidecar = int(lib.read_line(guard.stdout))
        lib.until('it serves', lambda: instance.plctl('status').code == 0)
        self.assertEqual(int(pathlib.Path(f'/proc/{sidecar}/stat').read_text().split()[3]), guard.pid)
        instance.plctl('upgrade', code=0)

        def pids():
            found = instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
            return {worker['pid'] for worker in found if worker['state'] == 'idle'}
        lib.until('all workers are new', lambda: len(pids()) == 5)
        for worker in pids():
            os.kill(worker, signal.SIGKILL)
            lib.until('another worker', lambda: worker not in pids() and len(pids()) == 5)
        instance.plctl('stop', '--now', code=0)
        self.assertEqual((guard.wait(lib.LIMIT), lib.alive(sidecar)), (0, True))
        os.kill(sidecar, signal.SIGKILL)
        self.assertEqual(lib.until_gone(instance.dir.name), [])


class State(unittest.TestCase):
    """What a guard is handed that takes over is input."""

    def test_nonsense_is_refused(self):
        guard = os.environ.get('PL_TEST_GUARD') or str(
            pathlib.Path(lib.PLCTL).resolve().parent.parent.parent / 'supervisor/guard/pl-guard')
        head = (0x6574617473647267).to_bytes(8, 'little') + (2).to_bytes(4, 'little')
        for data in (b'', b'x' * 32, bytes(1 << 19), head, head + bytes(1 << 19)):
            with tempfile.TemporaryFile() as file:
                file.write(data)
                file.flush()
                done = subprocess.run(['/bin/sh', '-c', f'exec {guard} --check-state 3<&{file.fileno()}'],
                                      pass_fds=[file.fileno()], timeout=lib.LIMIT, check=False)
            self.assertEqual(done.returncode, 65, data[:16])


class Durable(Base):
    config = test_adopt.Durable.config

    def test_store_too(self):
        jobs = {name: self.gated(name, '--at-most-once') for name in 'abcd'}
        before, workers, store = self.everybody(), set(self.workers()), self.pids('pl-store')
        folder, version = self.new_version()
        told = self.upgrade('--from', folder, '--workers', 'keep', code=0)
        part = self.part(told, 'store')
        self.assertEqual((part['from'], part['to'], part['outcome']), (self.version, version, 'done'))
        after = self.pids('pl-store')
        self.assertNotEqual(after, store)
        self.assertEqual(os.readlink(f'/proc/{after[0]}/exe'), str(folder / 'pl-store'))
        self.assertEqual(self.everybody()['pl-guard'], before['pl-guard'])
        self.assertEqual(set(self.workers()), workers)
        self.check_jobs(jobs)

    def test_workers_of_an_earlier_guard(self):
        """They are no children of the guard: it has to know so after it has replaced itself."""
        job = self.gated('a')
        guard, = self.pids('pl-guard')
        worker = self.parent(int(self.starts('a')[0]))
        self.assertIn(worker, self.workers('sh'))
        os.kill(guard, signal.SIGKILL)
        lib.until('supervisor and store have ended', lambda: not lib.alive(guard) and
                  not self.pids('pl-supervisor') + self.pids('pl-store'))
        self.instance.start()
        for _ in range(2):
            self.upgrade(code=0)
        self.assertIn(worker, self.workers('sh'))
        self.check_jobs({'a': job})
        os.kill(worker, signal.SIGKILL)
        lib.until('another worker', lambda: worker not in self.workers('sh') and
                  len(self.workers('sh')) == 2)
        self.assertEqual(self.result(self.instance.submit('echo', '-p', 'build', '-d', 'x')).out, 'x')

    def test_others_can_change_the_store(self):
        store = self.pids('pl-store')
        folder, _ = self.new_version()
        (folder / 'pl-store').chmod(0o757)
        told = self.upgrade('--from', folder, '--workers', 'keep', code=1)
        self.assertEqual(self.part(told, 'supervisor')['outcome'], 'done')
        self.assertEqual(self.part(told, 'store')['outcome'], 'refused')
        self.assertIn('changed by others', self.part(told, 'store')['why'])
        self.assertEqual(self.pids('pl-store'), store)

    @unittest.skipIf(FAKE is None, 'needs PL_TEST_FAKE_PROGRAM')
    def test_a_store_that_is_not_healthy(self):
        for mode in ('dies', 'crashes', 'hangs'):
            with self.subTest(mode):
                folder = self.fake('store', mode, version=False)
                shutil.copy(self.programs['supervisor'], folder / 'pl-supervisor')
                exe = os.readlink(f'/proc/{self.pids("pl-store")[0]}/exe')
                told = self.upgrade('--from', folder, '--timeout', '1s', code=1)
                self.assertEqual(self.part(told, 'supervisor')['outcome'], 'done')
                self.assertEqual(self.part(told, 'store')['outcome'], 'rolled_back')
                self.assertIsNone(self.part(told, 'guard')['outcome']
                                  if len(told['parts']) > 3 else None)
                self.assertEqual(os.readlink(f'/proc/{self.pids("pl-store")[0]}/exe'), exe)
                job = self.instance.submit('echo', '-p', 'build', '-d', mode)
                self.assertEqual(self.result(job).out, mode)
                shutil.rmtree(folder)


@unittest.skipIf(peer.msgpack is None or shutil.which('strace') is None,
                 'needs python3-msgpack and strace')
class KilledAnywhere(Base):
    """SIGKILL to the guard at one system call after the other of its own replacement: the next guard
    adopts the workers, whatever had become of this one."""
    config = Durable.config

    def trace(self, *options):
        guard, = self.pids('pl-guard')
        tracer = subprocess.Popen(['strace', '-q', '-p', str(guard), *options],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        status = pathlib.Path(f'/proc/{guard}/status')
        lib.until('it is traced', lambda: tracer.poll() is not None or
                  'TracerPid:\t0' not in status.read_text())
        self.addCleanup(lambda: (tracer.terminate(), tracer.wait()))
        if tracer.poll() is not None:
            self.skipTest('strace may not attach')
        return guard, tracer

    def replace_guard(self):
        client = peer.Client(self.path)
        try:
            client.call('instance.upgrade', part='guard')
        except (OSError, EOFError):
            pass  # it was killed
        client.close()

    def count(self):
        """Return: how many calls there are, and which is the exec."""
        log = self.instance.dir / 'strace'
        _, tracer = self.trace('-o', log)
        self.replace_guard()
        tracer.terminate()
        tracer.wait()
        calls = [line for line in log.read_text().splitlines() if '(' in line]
        execs = [n for n, line in enumerate(calls) if line.startswith('execveat(')]
        return len(calls), execs[-1]

    def test_each_instant_leaves_workers_that_are_adopted(self):
        seed = int(os.environ.get('PL_TEST_SEED', str(random.randrange(1 << 32))))
        print(f'seed {seed}', flush=True)
        self.path = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        count, at = self.count()
        rounds = min(UPGRADES, count - 1)
        points = {*random.Random(seed).sample(range(1, count), rounds), *range(at, at + 5)}
        for point in sorted(points):
            name = f'point{point}'
            job = self.gated(name)
            guard, tracer = self.trace('-o', '/dev/null', f'--inject=all:signal=SIGKILL:when={point}')
            self.replace_guard()
            tracer.terminate()
            tracer.wait()
            if not lib.alive(guard):
                lib.until('supervisor and store have ended', lambda:
                          not self.pids('pl-supervisor') + self.pids('pl-store'))
                self.instance.start()
            self.check_jobs({name: job})


@unittest.skipIf(peer.msgpack is None, 'needs python3-msgpack')
class Many(Base):
    def test_nothing_is_lost_and_nothing_runs_twice(self):
        seed = int(os.environ.get('PL_TEST_SEED', str(random.randrange(1 << 32))))
        print(f'seed {seed}', flush=True)
        rng = random.Random(seed)
        path = next(pathlib.Path(self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        before, workers = self.everybody(), set(self.workers())
        folders = [self.new_version(last)[0] for last in '89']
        loads = [test_adopt.Load(self, path, n, rng.random()) for n in range(3)]
        for load in loads:
            load.start()
        gaps = []
        try:
            for n in range(UPGRADES):
                threading.Event().wait(rng.random() * 0.1)  # at any instant of its work
                told = self.upgrade('--from', folders[n % 2], '--workers', 'keep', code=0)
                gaps.append(self.part(told, 'supervisor')['gap_us'])
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
        # What was taken was answered too: a hand-over does not cut replies off.
        self.assertEqual(set(os.listdir(self.files)), set(jobs.values()))
        self.assertEqual(set(self.workers()), workers)
        self.assertEqual(self.everybody()['pl-guard'], before['pl-guard'])
        self.check_units()
        print(f'{len(jobs)} programs, {UPGRADES} upgrades, longest gap {max(gaps) / 1000:.1f} ms')


class ManyDurable(Many):
    config = Durable.config


if __name__ == '__main__':
    lib.main()
