#!/usr/bin/python3
"""The mailbox: every outcome of a key, in order, page by page over any death, kept as long as its
pool says."""
import os
import random
import signal
import unittest

import lib

CONFIG = """\
version: 1
name: mail
pools:
  hard: &pool
    max_units: 10
    queue: lmdb
    crash_limit: 1
    workers:
      - {name: echo, replicas: 2, handles: [echo], executor: {plugin: echo}}
      - {name: sh, replicas: 2, handles: [command], executor: {plugin: command}}
  soft:
    <<: *pool
    queue: memory
  hard_few: &few
    <<: *pool
    mailbox: {storage: {type: lmdb, max_messages: 3}}
  soft_few:
    <<: *few
    queue: memory
    mailbox: {storage: {type: memory, max_messages: 3}}
  hard_brief:
    <<: *pool
    mailbox: {storage: {type: lmdb, ttl: 100ms}}
  soft_brief:
    <<: *few
    queue: memory
    mailbox: {storage: {type: memory, ttl: 100ms}}
  hard_small:
    <<: *pool
    mailbox: {storage: {type: lmdb, max_bytes: 10KiB}}
  soft_small:
    <<: *few
    queue: memory
    mailbox: {storage: {type: memory, max_bytes: 10KiB}}
"""


class Mailbox(lib.Test):
    config = CONFIG

    def plctl(self, *args, code=0, **more):
        return self.instance.plctl(*args, code=code, **more)

    def echo(self, pool, text, *options):
        """An echo that has ended."""
        job = self.instance.submit('echo', '-p', pool, '-d', text, *options)
        self.plctl('wait', job)
        return job

    def ls(self, *key):
        return self.plctl('mailbox', 'ls', '--json', *key).json()

    def ids(self, *key):
        return [mail['id'] for mail in self.ls(*key)]

    def page(self, place, *options):
        return self.plctl('mailbox', 'fetch', '--cursor', place, *options).json()

    def kill_supervisor(self):
        old = self.instance.supervisor_pid()
        os.kill(old, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: self.instance.plctl(
            'status').code == 0 and self.instance.supervisor_pid() != old)

    def power_cut(self):
        self.instance.power_cut()
        self.instance.start()

    # ---- what is in it ----

    def run_program(self, pool, *options, script='exit 0'):
        return self.plctl('run', '-p', pool, '--detach', '--id-only', '--user', 'kinds', *options,
                          '--', 'sh', '-c', script).out.strip()

    def end_in_all_ways(self, pool):
        """Return: {job: outcome}"""
        wanted = {self.run_program(pool): 'succeeded',
                  self.run_program(pool, script='exit 3'): 'failed',
                  self.run_program(pool, '--timeout', '50ms', script='sleep 600'): 'timed_out',
                  self.run_program(pool, script='kill -9 $PPID; sleep 600'): 'crashed'}
        for job in wanted:
            self.instance.plctl('wait', job)
        runs = self.run_program(pool, script='sleep 600')
        self.instance.until_state(runs, 'running')
        held = self.run_program(pool, '--hold')
        for job in (runs, held):
            self.plctl('cancel', job)
            self.instance.plctl('wait', job)
            wanted[job] = 'cancelled'
        self.plctl('pool', 'pause', pool)
        late = self.run_program(pool, '--deadline', '+50ms')
        self.plctl('wait', late, code=12)
        wanted[late] = 'expired'
        self.plctl('pool', 'resume', pool)
        return wanted

    def test_every_kind_of_outcome_is_there_until_it_is_acknowledged(self):
        hard = self.end_in_all_ways('hard')
        wanted = self.end_in_all_ways('soft') | hard
        self.kill_supervisor()
        have = {mail['id']: mail['outcome'] for mail in self.ls('--user', 'kinds')}
        self.assertEqual(have, wanted)
        acked = random.sample(sorted(wanted), 7)
        self.assertIn('7 outcomes acknowledged', self.plctl('mailbox', 'ack', *acked).err)
        self.plctl('mailbox', 'ack', *acked, code=4)
        left = set(wanted) - set(acked)
        self.assertEqual(set(self.ids('--user', 'kinds')), left)
        self.kill_supervisor()
        self.assertEqual(set(self.ids('--user', 'kinds')), left)
        self.power_cut()
        self.assertEqual({mail['id']: mail['outcome'] for mail in self.ls('--user', 'kinds')},
                         {job: hard[job] for job in left if job in hard})
        for job in acked:
            self.plctl('job', 'show', job, code=4)

    def test_the_key_is_exact_and_without_one_it_is_found_by_id(self):
        jobs = {}
        for pool in ('soft', 'hard'):
            for tenant in (None, 'one', 'two'):
                for user in (None, 'u', 'v'):
                    for session in (None, 's'):
                        key = [word for name, value in (('tenant', tenant), ('user', user),
                                                        ('session', session)) if value
                               for word in (f'--{name}', value)]
                        jobs.setdefault(tuple(key), []).append(self.echo(pool, 'x', *key))
        for key, wanted in jobs.items():
            self.assertEqual(self.ids(*key), wanted, key)
        self.assertEqual(self.ids('--tenant', 'nobody'), [])
        self.assertEqual(self.ids('--user', 'one'), [])
        plain = jobs[()][1]
        self.assertEqual(self.plctl('result', plain).out, 'x')
        self.plctl('mailbox', 'ack', plain)
        self.plctl('result', plain, code=4)
        self.power_cut()
        for key, wanted in jobs.items():
            self.assertEqual(self.ids(*key), [job for job in wanted[1:] if job != plain], key)

    def test_since_is_inclusive(self):
        jobs = [self.echo('hard', str(i)) for i in range(3)]
        middle = self.ls()[1]['finished_at']
        have = self.ids('--since', middle)
        self.assertEqual(have, jobs[3 - len(have):])
        self.assertIn(jobs[1], have)
        self.assertEqual(self.ids('--since', '+1s'), [])
        self.assertEqual(self.ids('--since', '-1h'), jobs)

    # ---- page by page ----

    def test_a_cursor_goes_on_over_any_restart(self):
        jobs = []
        for i in range(12):
            self.echo('soft', 'between')  # the numbers of the log are not those of the store
            jobs.append(self.echo('hard', f'mail {i}', '--user', 'eva'))
        seen, place = [], 'start'
        deaths = [self.kill_supervisor, self.power_cut, lambda: None, self.power_cut,
                  self.kill_supervisor, lambda: None]
        for n, death in enumerate(deaths):
            page = self.page(place, '--user', 'eva', '-n', '2')
            told = [mail['id'] for mail in page['messages']]
            self.assertEqual([mail['result'] for mail in page['messages']],
                             [f'mail {2 * n}', f'mail {2 * n + 1}'])
            self.assertEqual(page['more'], n < len(deaths) - 1)
            seen += told
            place = page['next']
            if n % 2:  # whether what was read is still there makes no difference
                self.plctl('mailbox', 'ack', *told)
            death()
        self.assertEqual(seen, jobs)
        # The place waits for what is to come.
        page = self.page(place, '--user', 'eva')
        self.assertEqual((page['messages'], page['more']), ([], False))
        self.power_cut()
        self.echo('soft', 'between')
        later = self.echo('hard', 'later', '--user', 'eva')
        page = self.page(place, '--user', 'eva')
        self.assertEqual([mail['id'] for mail in page['messages']], [later])
        self.plctl('mailbox', 'fetch', '--cursor', 'nonsense', code=2)

    def test_fetch_and_acknowledge_in_one(self):
        jobs = [self.echo('hard', str(i), '--session', 's') for i in range(5)]
        got = []
        while True:
            mail = self.plctl('mailbox', 'fetch', '--session', 's', '-n', '2', '--ack').json()
            if not mail:
                break
            got += [(one['id'], one['result']) for one in mail]
        self.assertEqual(got, [(job, str(i)) for i, job in enumerate(jobs)])
        with open('/dev/full', 'wb') as full:
            last = self.echo('hard', 'x' * 9000, '--session', 's')
            failed = self.instance.popen('mailbox', 'fetch', '--session', 's', '--ack', stdout=full)
            self.assertIn(b'nothing was acknowledged', failed.communicate()[1])
        self.assertEqual(self.ids('--session', 's'), [last])

    def test_remove(self):
        keep = self.echo('hard', 'keep')
        jobs = [self.echo(pool, 'x', '--user', 'u') for pool in ('hard', 'soft', 'hard')]
        self.plctl('mailbox', 'rm', code=2)
        self.plctl('mailbox', 'rm', '--all', jobs[0], code=2)
        rm = ('mailbox', 'rm', '--all', '--user', 'u')
        self.assertEqual(self.plctl('--json', *rm, '--dry-run').json(), {'changed': 3})
        self.assertEqual(self.ids('--user', 'u'), jobs)
        self.assertEqual(self.plctl('--json', *rm, '-n', '1').json(), {'changed': 1})
        self.assertEqual(self.ids('--user', 'u'), jobs[1:])
        self.plctl('mailbox', 'rm', jobs[1])
        self.assertEqual(self.plctl('--json', *rm).json(), {'changed': 1})
        self.assertEqual((self.ids('--user', 'u'), self.ids()), ([], [keep]))
        self.power_cut()
        self.assertEqual((self.ids('--user', 'u'), self.ids()), ([], [keep]))

    # ---- how long ----

    def test_retention_is_each_pools_own(self):
        others = [self.echo('hard', 'other'), self.echo('soft', 'other')]
        for pool in ('hard_few', 'soft_few'):
            jobs = [self.echo(pool, str(i), '--user', pool) for i in range(6)]
            lib.until('the oldest go', lambda: self.ids('--user', pool) == jobs[3:])
            self.plctl('result', jobs[2], code=4)
        for pool in ('hard_brief', 'soft_brief'):
            job = self.echo(pool, 'x')
            lib.until('it is too old', lambda: self.instance.plctl('result', job).code == 4)
        for pool in ('hard_small', 'soft_small'):
            jobs = [self.echo(pool, 'x' * 4000, '--user', pool) for i in range(4)]
            lib.until('they are too large', lambda: self.ids('--user', pool) == jobs[2:])
        self.assertEqual(self.ids(), others)
        for death in (self.kill_supervisor, self.power_cut):
            death()
            self.assertEqual(len(self.ids('--user', 'hard_few')), 3)
            self.assertEqual(len(self.ids('--user', 'hard_small')), 2)
            self.assertEqual(self.ids()[0], others[0])

    def test_a_reload_changes_it_at_once(self):
        jobs = [self.echo('hard', str(i)) for i in range(5)]
        self.instance.config.write_text(CONFIG.replace(
            '    queue: lmdb\n', '    queue: lmdb\n    mailbox: {storage: {max_messages: 2}}\n', 1))
        self.plctl('reload')
        lib.until('two are left', lambda: self.ids() == jobs[3:])
        self.power_cut()
        self.assertEqual(self.ids(), jobs[3:])


if __name__ == '__main__':
    SEED = int(os.environ.get('PL_TEST_SEED', '0')) or random.randrange(1, 1 << 32)
    print(f'PL_TEST_SEED={SEED}')
    random.seed(SEED)
    unittest.main(verbosity=2)
