#!/usr/bin/python3
"""Pools, lanes and workers while they run; events; mailbox; drain."""
import lib


class Control(lib.Test):
    def test_pause_and_resume(self):
        self.instance.plctl('pool', 'pause', 'quick', code=0)
        job = self.instance.submit('echo', '-p', 'quick')
        shown = self.instance.job(job)
        self.assertEqual((shown['state'], shown['reason']), ('queued', 'PoolPaused'))
        self.instance.plctl('pool', 'resume', 'quick', code=0)
        self.instance.plctl('wait', job, code=0)

    def test_raised_capacity_starts_the_backlog(self):
        jobs = [self.instance.run_detached('sleep', '1000') for _ in range(3)]
        self.assertEqual(self.instance.job(jobs[2])['state'], 'queued')
        self.instance.plctl('pool', 'set', 'build', '--max-units', 'cpu=3', code=0)
        self.instance.until_state(jobs[2], 'running')

    def test_drain_of_a_pool(self):
        job = self.instance.run_detached('sh', '-c', 'sleep 0.2')
        self.instance.plctl('pool', 'drain', 'build', code=0)
        self.assertEqual(self.instance.job(job)['state'], 'succeeded')
        self.instance.plctl('run', '-p', 'build', '-n', '--', 'true', code=7)

    def test_drain_times_out(self):
        self.instance.run_detached('sleep', '1000')
        self.instance.plctl('pool', 'drain', 'build', '--timeout', '50ms', code=124)

    def test_lanes(self):
        lanes = self.instance.plctl('lane', 'ls', 'quick', '--json', code=0).json()['lanes']
        self.assertEqual({lane['name'] for lane in lanes}, {'urgent', 'bulk'})
        self.instance.plctl('lane', 'pause', 'quick/bulk', code=0)
        slow = self.instance.submit('echo', '-p', 'quick')
        fast = self.instance.submit('echo', '-p', 'quick', '-l', 'urgent')
        self.instance.plctl('wait', fast, code=0)
        self.assertEqual(self.instance.job(slow)['state'], 'queued')
        self.instance.plctl('lane', 'resume', 'quick/bulk', code=0)
        self.instance.plctl('wait', slow, code=0)
        self.instance.plctl('lane', 'set', 'quick/bulk', '--max-concurrency', '1', code=0)
        self.instance.plctl('lane', 'set', 'quick/nowhere', '--max-concurrency', '1', code=4)

    def test_lane_priority(self):
        self.instance.plctl('pool', 'set', 'quick', '--max-units', '1', code=0)
        self.instance.plctl('pool', 'pause', 'quick', code=0)
        bulk = self.instance.submit('echo', '-p', 'quick')
        urgent = self.instance.submit('echo', '-p', 'quick', '-l', 'urgent')
        self.instance.plctl('pool', 'resume', 'quick', code=0)
        self.instance.plctl('wait', bulk, urgent, code=0)
        self.assertLessEqual(self.instance.job(urgent)['started_at'],
                             self.instance.job(bulk)['started_at'])

    def test_workers(self):
        workers = self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
        self.assertEqual(len(workers), 5)
        old = {worker['pid'] for worker in workers if worker['pool'] == 'quick'}
        self.instance.plctl('worker', 'restart', 'quick', code=0)
        lib.until('all are new', lambda: not old & {
            worker['pid'] for worker in
            self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']})
        self.instance.plctl('workers', 'scale', 'build/sh', '1', code=0)
        lib.until('one is left', lambda: sum(
            worker['pool'] == 'build' and worker['pid'] > 0 for worker in
            self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']) == 1)

    def test_events(self):
        follow = self.instance.popen('events', '-f', '--json', '-t', 'queue.command.*')
        # The subscription begins when the first event arrives: repeat until one does.
        job = self.instance.submit('echo', '-p', 'quick')
        self.instance.plctl('wait', job, code=0)
        seen = self.instance.plctl('events', '--json', '-t', 'queue.command.*', code=0).out
        self.assertIn(job, seen)
        for key in ('submitted', 'started', 'completed'):
            self.assertIn(f'queue.command.{key}', seen)
        follow.terminate()
        follow.communicate()

    def test_mailbox(self):
        job = self.instance.submit('echo', '-p', 'quick', '--session', 's1', '-d', 'mail')
        self.instance.plctl('wait', job, code=0)
        mail = self.instance.plctl('mailbox', 'fetch', '--session', 's1', code=0).json()
        self.assertEqual([(m['id'], m['result']) for m in mail], [(job, 'mail')])
        self.instance.plctl('mailbox', 'ack', job, code=0)
        self.assertEqual(self.instance.plctl('mailbox', 'ls', '--session', 's1', '--json',
                                             code=0).json(), [])

    def test_stats_table(self):
        self.instance.plctl('submit', 'echo', '-p', 'quick', '-w', code=0)
        text = self.instance.plctl('stats', 'quick', code=0).out
        self.assertIn('quick', text)
        self.assertNotIn('\033', text)
        self.instance.plctl('stats', 'nowhere', code=4)
        pool = [p for p in self.instance.stats()['pools'] if p['name'] == 'quick'][0]
        self.assertEqual(pool['finished_total']['succeeded'], 1)
        for key in ('p50', 'p90', 'p95', 'p99', 'max'):
            self.assertIn(key, pool['wait_us'])


if __name__ == '__main__':
    lib.main()
