#!/usr/bin/python3
"""start, status, stop; what is refused at start; what is said when nothing runs."""
import os
import signal
import subprocess
import unittest

import lib


class Life(lib.Test):
    def test_serves_and_says_so(self):
        status = self.instance.plctl('status', '--json', code=0).json()
        self.assertEqual(status['instance'], 'e2e')
        self.assertEqual(status['state'], 'serving')
        self.assertIn(status['loop'], ('epoll', 'io_uring'))
        if os.environ.get('PL_LOOP') == 'epoll':
            self.assertEqual(status['loop'], 'epoll')
        self.assertIn('build', self.instance.plctl('pool', 'ls', code=0).out)

    def test_second_start_is_refused(self):
        again = self.instance.plctl('start', '-d', self.instance.config)
        self.assertEqual(again.code, 1)
        self.assertIn('runs already', again.err)

    def test_stop_leaves_nothing(self):
        self.instance.run_detached('sleep', '1000')
        self.instance.stop()
        self.assertEqual(lib.processes_with(self.instance.dir.name), [])

    def test_stop_drain_lets_jobs_finish(self):
        marker = self.instance.dir.parent / (self.instance.dir.name + '.done')
        self.addCleanup(lambda: marker.exists() and marker.unlink())
        self.instance.run_detached('sh', '-c', f'sleep 0.3; touch {marker}')
        self.instance.plctl('stop', '--drain', code=0)
        self.instance.started = False
        self.assertTrue(marker.exists())


class NoInstance(unittest.TestCase):
    def test_nothing_runs(self):
        instance = lib.Instance(start=False)
        self.addCleanup(instance.stop)
        for command in (['ps'], ['stats'], ['status'], ['submit', 'echo'], ['stop']):
            result = instance.plctl(*command)
            self.assertEqual(result.code, 5, f'{command}: {result}')
            self.assertEqual(result.out, '')
        self.assertIn('plctl start', instance.plctl('status').err)

    def test_a_shell_that_ignores_its_children(self):
        """An exec keeps that, and then nobody learns how a process ended."""
        instance = lib.Instance(start=False)
        self.addCleanup(instance.abandon)
        self.addCleanup(instance.stop)
        with open(instance.config, 'a', encoding='utf-8') as file:
            file.write('nonsense: 1\n')
        start = instance.command('start', '-d', instance.config, '--state-dir', instance.dir / 'state')
        ignore = {'preexec_fn': lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)}
        done = subprocess.run(start, env=instance.env, capture_output=True, timeout=lib.LIMIT,
                              check=False, **ignore)
        self.assertEqual(done.returncode, 3, done)
        instance.config.write_text(lib.CONFIG)
        subprocess.run(start, env=instance.env, timeout=lib.LIMIT, check=True, **ignore)
        instance.started = True
        pid = instance.supervisor_pid()
        os.kill(pid, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: instance.plctl('status').code == 0 and
                  instance.supervisor_pid() != pid)

    def test_in_the_foreground_where_nothing_is_yet(self):
        for queue in ('memory', 'lmdb'):
            with self.subTest(queue):
                config = lib.CONFIG.replace('queue: memory', f'queue: {queue}')
                instance = lib.Instance(config, start=False)
                self.addCleanup(instance.abandon)
                state = instance.dir / 'var' / 'lib' / 'state'
                guard = instance.popen('start', instance.config, '--state-dir', state,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                lib.until('it serves', lambda: instance.plctl('status').code == 0)
                job = instance.submit('echo', '-p', 'quick', '-d', 'x')
                instance.plctl('wait', '--timeout', '20s', job, code=0)
                self.assertEqual(instance.plctl('result', job, code=0).out, 'x')
                self.assertEqual(os.stat(state).st_mode & 0o777, 0o700)
                instance.plctl('stop', code=0)
                self.assertEqual(guard.wait(lib.LIMIT), 0)

    def test_broken_config_starts_nothing(self):
        instance = lib.Instance('pools: {a: {max_unitz: 1}}\n', start=False)
        self.addCleanup(instance.stop)
        result = instance.plctl('start', '-d', instance.config)
        self.assertEqual(result.code, 3, result)
        self.assertIn("max_unitz", result.err)
        self.assertEqual(lib.processes_with(instance.dir.name), [])


if __name__ == '__main__':
    lib.main()
