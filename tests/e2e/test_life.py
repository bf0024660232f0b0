#!/usr/bin/python3
"""start, status, stop; what is refused at start; what is said when nothing runs."""
import os
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

    def test_broken_config_starts_nothing(self):
        instance = lib.Instance('pools: {a: {max_unitz: 1}}\n', start=False)
        self.addCleanup(instance.stop)
        result = instance.plctl('start', '-d', instance.config)
        self.assertEqual(result.code, 3, result)
        self.assertIn("max_unitz", result.err)
        self.assertEqual(lib.processes_with(instance.dir.name), [])


if __name__ == '__main__':
    lib.main()
