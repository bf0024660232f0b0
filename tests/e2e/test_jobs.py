#!/usr/bin/python3
"""submit, wait, result, job show, ps, cancel, hold and release, explain."""
import lib


class Jobs(lib.Test):
    def test_result_comes_back(self):
        job = self.instance.submit('echo', '-p', 'quick', '-d', 'hello')
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.plctl('result', job, code=0).raw, b'hello')
        shown = self.instance.job(job)
        self.assertEqual(shown['state'], 'succeeded')
        self.assertEqual((shown['id'], shown['type'], shown['pool'], shown['lane']),
                         (job, 'echo', 'quick', 'bulk'))
        self.assertEqual(shown['attempt'], 1)
        for key in ('worker_pid', 'submitted_at', 'started_at', 'finished_at', 'error', 'reason'):
            self.assertIn(key, shown)

    def test_bytes_are_untouched(self):
        data = bytes(range(256)) * 8
        job = self.instance.submit('echo', '-p', 'quick', '-d', '-', data=data)
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.plctl('result', job, code=0).raw, data)

    def test_submit_and_wait_in_one(self):
        self.assertEqual(self.instance.plctl('submit', 'echo', '-p', 'quick', '-d', 'x', '-w',
                                             code=0).out, 'x')

    def test_many_at_once(self):
        out = self.instance.plctl('submit', 'echo', '-p', 'quick', '--lines', '-', '-l', 'bulk',
                                  data='a\nb\nc', code=0).out.split()
        self.assertEqual(len(set(out)), 3)
        self.instance.plctl('wait', *out, code=0)
        self.assertEqual([self.instance.plctl('result', job).out for job in out], ['a', 'b', 'c'])

    def test_wait_any_and_timeout(self):
        slow = self.instance.run_detached('sleep', '1000')
        quick = self.instance.submit('echo', '-p', 'quick')
        first = self.instance.plctl('wait', '--any', '--json', slow, quick, code=0).json()
        self.assertEqual(first['id'], quick)
        self.instance.plctl('wait', slow, '--timeout', '50ms', code=124)
        self.assertEqual(self.instance.job(slow)['state'], 'running')

    def test_outcome_is_the_exit_status(self):
        job = self.instance.run_detached('sh', '-c', 'exit 9')
        self.instance.plctl('wait', job, code=10)
        self.instance.plctl('wait', job, '--no-fail', code=0)
        late = self.instance.run_detached('sleep', '1000', options=('--timeout', '50ms'))
        self.instance.plctl('wait', late, code=12)

    def test_id_prefix(self):
        job = self.instance.submit('echo', '-p', 'quick', '-d', 'p')
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.plctl('result', job[:30], code=0).out, 'p')
        self.instance.plctl('result', 'ffffffff', code=4)
        self.instance.plctl('result', 'nonsense', code=2)

    def test_cancel_running_and_queued(self):
        running = [self.instance.run_detached('sleep', '1000') for _ in range(2)]
        queued = self.instance.run_detached('sleep', '1000')
        for job in running:
            self.instance.until_state(job, 'running')
        self.assertEqual(self.instance.job(queued)['state'], 'queued')
        self.assertEqual(self.instance.job(queued)['reason'], 'Resources')
        explained = self.instance.plctl('explain', queued, code=0).out
        self.assertIn('cpu', explained)
        self.instance.plctl('cancel', queued, '--reason', 'not needed', code=0)
        self.instance.plctl('wait', queued, code=11)
        pid = self.instance.job(running[0])['worker_pid']
        self.instance.plctl('cancel', '--wait', *running, code=0)
        for job in running:
            self.instance.plctl('wait', job, code=11)
        self.assertTrue(pid)
        self.assertEqual(self.instance.stats()['pools'][0]['units']['cpu']['used'], 0)

    def test_hold_and_release(self):
        job = self.instance.submit('echo', '-p', 'quick', '--hold', '-d', 'h')
        self.assertEqual(self.instance.job(job)['state'], 'held')
        self.instance.plctl('job', 'release', job, code=0)
        self.instance.plctl('wait', job, code=0)

    def test_ps_agrees_with_the_socket(self):
        jobs = {self.instance.run_detached('sleep', '1000') for _ in range(4)}
        listed = self.instance.plctl('ps', '--json', code=0).json()
        self.assertEqual({job['id'] for job in listed}, jobs)
        asked = self.instance.plctl('job', 'ls', '--json', code=0).json()
        self.assertEqual({job['id'] for job in asked}, jobs)
        self.assertEqual(sum(job['state'] == 'running' for job in listed), 2)
        table = self.instance.plctl('ps', code=0).out.splitlines()
        self.assertEqual(len(table), 5)
        self.assertTrue(table[0].startswith('ID '))

    def test_what_is_not_built_is_refused_by_name(self):
        result = self.instance.plctl('submit', 'echo', '-p', 'quick', '--concurrency-key', 'k',
                                     code=2)
        self.assertIn('concurrency_key', result.err)
        result = self.instance.plctl('submit', 'echo', '-p', 'quick', '--after',
                                     self.instance.submit('echo', '-p', 'quick'), code=2)
        self.assertIn('after', result.err)


if __name__ == '__main__':
    lib.main()
