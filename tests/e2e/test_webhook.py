#!/usr/bin/python3
"""Webhooks: every outcome that somebody asked to be told of is delivered, whatever dies."""
import base64
import contextlib
import os
import pathlib
import random
import signal
import threading
import time
import unittest
import uuid

import lib
import peer
import receiver

KEY = b'0123456789abcdef0123456789abcdef'
SECRET = 'whsec_' + base64.b64encode(KEY).decode()
AUTH = 'Bearer very-secret-token'
DIE_SHIM = os.environ.get('PL_DIE_SHIM', '')
RETRY = 'retry: {initial_delay: 50ms, max_delay: 200ms, multiplier: 2.0}'

CONFIG = """\
version: 1
name: hooks
secrets:
  key: {{file: ./key}}
  token: {{env: PL_TEST_TOKEN}}
webhooks:
  main: {{url: "{main}/main", secret: secret:key, auth_header: secret:token, allow_private: true, {retry}}}
  other: {{url: "{main}/other", allow_private: true, {retry}}}
  slow: {{url: "{main}/slow", allow_private: true, timeout: 60s, connections: 2, {retry}}}
  bad: {{url: "{main}/bad", allow_private: true, events: [job.failed, job.dead_lettered], {retry}}}
  short: {{url: "{main}/short", allow_private: true, disable_after: 300ms, {retry}}}
  fenced: {{url: "https://localhost:{port}/fenced", {retry}}}
  down: {{url: "http://127.0.0.1:{down}/down", allow_private: true, {retry}}}
pools:
  hard: &pool
    max_units: 10
    queue: lmdb
    mailbox: {{notifier: {{type: http, webhook: main}}}}
    workers:
      - {{name: echo, replicas: 2, handles: [echo], executor: {{plugin: echo}}}}
      - {{name: sh, replicas: 1, handles: [command], executor: {{plugin: command}}}}
  soft:
    <<: *pool
    queue: memory
  plain:
    <<: *pool
    mailbox: {{}}
  own:
    <<: *pool
    mailbox: {{notifier: {{type: http, webhook: other}}}}
"""


def free_port():
    one = receiver.Receiver()
    port = one.port
    one.close()
    return port


class Webhook(unittest.TestCase):
    def setUp(self):
        self.answers = {}
        self.receiver = receiver.Receiver(self.answer)
        self.addCleanup(self.receiver.close)
        self.down = free_port()
        text = CONFIG.format(main=self.receiver.url('')[:], port=self.receiver.port, retry=RETRY,
                             down=self.down)
        self.instance = lib.Instance(text, os.environ.get('PL_LOOP'), start=False)
        self.instance.env['PL_TEST_TOKEN'] = AUTH
        (self.instance.dir / 'key').write_text(SECRET + '\n', encoding='ascii')
        self.addCleanup(self.clean)
        self.instance.start()

    def clean(self):
        self.answers.clear()
        try:
            self.instance.stop()
        except BaseException:
            print(self.instance.log())
            self.instance.abandon()
            raise

    def answer(self, delivery):
        answer = self.answers.get(delivery.path)
        return answer(delivery) if answer else (204, {})

    def plctl(self, *args, code=0, **more):
        return self.instance.plctl(*args, code=code, **more)

    def echo(self, pool, *options):
        job = self.instance.submit('echo', '-p', pool, '-d', 'x', *options)
        self.instance.plctl('wait', job, code=0)
        return job

    def gated(self, pool, *options):
        """A program that ends when the file is written that is returned with its job."""
        go = self.instance.dir / f'go{len(list(self.instance.dir.glob("go*")))}'
        os.mkfifo(go)
        return self.plctl('run', '-p', pool, '-n', '--id-only', *options, '--', 'sh', '-c',
                          f'read x < {go}').out.strip(), go

    def came(self, job, path=None, count=1):
        """The first deliveries of @job."""
        def those(got):
            found = [one for one in got if one.data.get('job_id') == job and
                     (path is None or one.path == path)]
            return found if len(found) >= count else None
        return self.receiver.until(those, lib.LIMIT)

    def all_came(self, jobs, path):
        self.receiver.until(lambda got: set(jobs) <= {one.data.get('job_id') for one in got
                                                      if one.path == path}, lib.LIMIT)

    def notifier(self):
        """Pid of the process that sends."""
        def look():
            workers = self.plctl('workers', 'ls', '-p', 'webhooks', '--json').json()['workers']
            return workers[0]['pid'] if workers and workers[0]['pid'] > 0 else None
        return lib.until('the notifier runs', look)

    def kill_supervisor(self):
        old = self.instance.supervisor_pid()
        os.kill(old, signal.SIGKILL)
        lib.until('another supervisor serves', lambda: self.instance.plctl(
            'status').code == 0 and self.instance.supervisor_pid() != old)

    def kill_notifier(self):
        os.kill(self.notifier(), signal.SIGKILL)

    def kill_store(self):
        for pid in lib.processes_with(self.instance.dir.name):
            if lib.program_of(pid) == 'pl-store':
                os.kill(pid, signal.SIGKILL)

    def power_cut(self):
        self.instance.power_cut()
        self.instance.start()

    # ---- what is sent ----

    def test_a_delivery_is_a_signed_cloud_event(self):
        job = self.instance.submit('echo', '-p', 'hard', '-d', 'x', '--user', 'eva', '--session', 's')
        one = self.came(job)[0]
        self.assertEqual(one.path, '/main')
        self.assertTrue(one.is_signed_with(KEY))
        self.assertFalse(one.is_signed_with(b'another key'))
        self.assertLess(abs(int(one.headers['webhook-timestamp']) - time.time()), 60)
        self.assertEqual(one.headers['Authorization'], AUTH)
        self.assertTrue(one.headers['Content-Type'].startswith('application/cloudevents+json'))
        event = one.event
        self.assertEqual((event['specversion'], event['type'], event['source'], event['subject']),
                         ('1.0', 'parkinglot.mailbox.delivered', '/parking-lot/hooks/hard',
                          f'job/{job}'))
        self.assertEqual(event['id'], one.id)
        data = event['data']
        self.assertEqual((data['state'], data['user_id'], data['session_id'], data['attempts'],
                          data['result_bytes']), ('succeeded', 'eva', 's', 1, 1))
        self.assertEqual(data['finished_at'], self.instance.job(job)['finished_at'])
        failed = self.plctl('run', '-p', 'soft', '--detach', '--id-only', '--', 'sh', '-c',
                            'exit 3').out.strip()
        data = self.came(failed)[0].data
        self.assertEqual((data['state'], data['exit_code']), ('failed', 3))

    def test_who_is_told(self):
        plain = self.echo('plain')
        asked = self.echo('plain', '--notify', 'other')
        both = self.echo('hard', '--notify', 'other')
        once = self.echo('own', '--notify', 'other')
        self.plctl('submit', 'echo', '-p', 'plain', '--notify', 'nobody', code=2)
        good = self.echo('plain', '--notify', 'bad')
        bad = self.plctl('run', '-p', 'plain', '--detach', '--id-only', '--notify', 'bad', '--',
                         'sh', '-c', 'exit 1').out.strip()
        self.came(bad, '/bad')
        self.came(asked, '/other')
        self.came(both, '/main')
        self.came(both, '/other')
        self.came(once, '/other')
        last = self.echo('hard')
        self.came(last)
        jobs = self.receiver.jobs()
        self.assertNotIn(plain, jobs)
        self.assertNotIn(good, jobs)
        self.assertEqual((jobs.count(asked), jobs.count(both), jobs.count(once)), (1, 2, 1))

    # ---- again ----

    def test_what_fails_is_sent_again_under_the_same_id(self):
        left = [500, 404, 302, 200]
        self.answers['/main'] = lambda delivery: (left.pop(0), {'Location': self.receiver.url('/x')})
        job = self.echo('hard')
        ids = {one.id for one in self.came(job, count=4)}
        self.assertEqual((len(ids), left), (1, []))
        self.assertEqual({one.path for one in self.receiver.got}, {'/main'})  # no redirect

    def test_retry_after_holds_the_whole_receiver(self):
        first, times = threading.Event(), []

        def answer(delivery):
            times.append((time.monotonic(), delivery.data['job_id']))
            if first.is_set():
                return (200, {})
            first.set()
            return (429, {'Retry-After': '2'})
        self.answers['/main'] = answer
        job = self.echo('hard')
        lib.until('it was understood', lambda: 'asks to be left alone for 2 s' in
                  self.instance.log())
        later = [self.echo('soft') for _ in range(3)]
        self.all_came(later, '/main')
        self.came(job, count=2)
        self.assertGreaterEqual(min(at for at, _ in times[1:]) - times[0][0], 1.9)

    def test_a_receiver_that_is_gone_is_asked_no_more(self):
        self.answers['/other'] = lambda delivery: (410, {})
        job = self.echo('own')
        self.came(job)
        lib.until('it was understood', lambda: 'answered 410 (gone)' in self.instance.log())
        second = self.echo('own')
        lib.until('both are dead letters', lambda: len(
            self.plctl('dlq', 'ls', '-p', 'webhooks', '--json').json()) == 2)
        self.assertNotIn(second, self.receiver.jobs())

    def test_given_up_and_resent(self):
        self.answers['/short'] = lambda delivery: (500, {})
        job = self.echo('plain', '--notify', 'short')
        given_up = ('webhook', 'deliveries', '--failed', '--json')
        letters = lib.until('it is given up', lambda: self.plctl(*given_up).json())
        self.assertEqual((letters[0]['webhook'], letters[0]['state']), ('short', 'failed'))
        self.assertIn('500', letters[0]['error'])
        self.assertEqual({one['name']: one['given_up'] for one in self.plctl(
            'webhook', 'ls', '--json').json()}['short'], 1)
        del self.answers['/short']
        tried = len(self.came(job))
        self.plctl('webhook', 'resend', code=2)
        self.assertEqual(self.plctl('--json', 'webhook', 'resend', '--all', 'other').json(),
                         {'changed': 0})
        self.assertEqual(self.plctl('--json', 'webhook', 'resend', '--all', 'short').json(),
                         {'changed': 1})
        self.assertEqual(len({one.id for one in self.came(job, count=tried + 1)}), 1)
        self.plctl('wait', letters[0]['id'])
        self.assertEqual(self.plctl(*given_up).json(), [])
        self.assertEqual([one['state'] for one in self.plctl(
            'webhook', 'deliveries', 'short', '--json').json()], ['succeeded'])

    def test_a_test_event(self):
        self.plctl('webhook', 'test', 'main')
        self.receiver.until(lambda got: len(got) == 1, lib.LIMIT)
        one = self.receiver.got[0]
        self.assertTrue(one.is_signed_with(KEY))
        self.assertEqual(one.event['type'], 'parkinglot.webhook.test')
        self.answers['/main'] = lambda delivery: (500, {})
        self.assertIn('500', self.plctl('webhook', 'test', 'main', code=10).err)
        self.plctl('webhook', 'test', 'nowhere', code=4)
        self.assertEqual(self.plctl('webhook', 'deliveries', '--json').json(), [])

    def test_a_slow_receiver_delays_nobody(self):
        go = threading.Event()
        self.addCleanup(go.set)
        self.answers['/slow'] = lambda delivery: (go.wait(lib.LIMIT) and 200, {})
        slow = [self.echo('plain', '--notify', 'slow') for _ in range(6)]
        self.receiver.until(lambda got: len(got) == 2, lib.LIMIT)
        fast = [self.echo('hard') for _ in range(20)]
        self.all_came(fast, '/main')
        self.assertEqual(sum(one.path == '/slow' for one in self.receiver.got), 2)
        go.set()
        self.all_came(slow, '/slow')

    # ---- the disk ----

    def store(self):
        pid, = [pid for pid in lib.processes_with(self.instance.dir.name)
                if lib.program_of(pid) == 'pl-store']
        return pid

    def test_nobody_is_told_before_the_disk_has_it(self):
        """A power cut would undo the outcome: the receiver must not know of it."""
        for death in (lambda: None, self.kill_supervisor):
            job, go = self.gated('hard')
            self.instance.until_state(job, 'running')
            store = self.store()
            os.kill(store, signal.SIGSTOP)
            try:
                go.write_text('go\n', encoding='ascii')
                ends = lambda: [one for one in self.instance.stats()['pools'] if one['name'] == 'webhooks' and
                                one['running'] + one['queued'] == 1]
                lib.until('its delivery is there', ends)
                death()
                lib.until('its delivery is there', ends)
                # A memory pool's outcome goes by the same notifier, behind it.
                self.came(self.echo('soft'))
                self.assertNotIn(job, self.receiver.jobs())
            finally:
                os.kill(store, signal.SIGCONT)
            self.came(job)

    # ---- deaths ----

    def test_every_outcome_is_delivered_whatever_dies(self):
        rng = random.Random(SEED)
        gate = threading.Semaphore(0)
        self.addCleanup(gate.release, 1000)
        self.answers['/main'] = lambda delivery: (200 if gate.acquire(timeout=5) else 503, {})
        jobs = []
        deaths = [self.kill_notifier, self.kill_supervisor, self.kill_store, self.power_cut] * 2
        rng.shuffle(deaths)
        for death in deaths:
            for _ in range(rng.randrange(1, 6)):
                jobs.append(self.echo('hard'))
                if rng.random() < 0.5:
                    gate.release()
            death()
        gate.release(1000)
        self.all_came(jobs, '/main')
        ids = {}
        for one in self.receiver.got:
            ids.setdefault(one.data['job_id'], set()).add(one.id)
        self.assertTrue(all(len(each) == 1 for each in ids.values()), ids)
        self.assertEqual(set(ids), set(jobs))

    def restart_with_deaths(self):
        """The supervisor dies in the calls that self.deaths names: between a FINISH and its delivery's SUBMIT."""
        if not DIE_SHIM:
            self.skipTest('needs $PL_DIE_SHIM')
        self.plctl('stop')
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        self.deaths = self.instance.dir / 'deaths'
        self.instance.env.update(LD_PRELOAD=DIE_SHIM, PL_DIE_AT=str(self.deaths))
        self.instance.start()

    def deaths_between(self, pool):
        self.restart_with_deaths()
        job, go = self.gated(pool)
        self.instance.until_state(job, 'running')
        self.deaths.write_text('1\n1\n1\n', encoding='ascii')
        go.write_text('go\n', encoding='ascii')
        self.came(job)
        self.assertEqual(self.deaths.read_text(encoding='ascii').strip(), '')
        self.plctl('wait', job)
        self.assertEqual(len({one.id for one in self.receiver.got}), 1)

    def test_deaths_between_an_end_and_its_delivery(self):
        self.deaths_between('hard')

    def test_a_death_while_an_earlier_one_is_made_up_for(self):
        """It comes when the next supervisor has ended another job at its start, behind the one without a delivery."""
        if peer.msgpack is None:
            self.skipTest('python3-msgpack is not installed')
        self.restart_with_deaths()
        first, go = self.gated('hard')
        self.instance.until_state(first, 'running')
        store = self.store()
        os.kill(store, signal.SIGSTOP)
        try:
            # It waits for its START on disk: its worker does not know of it when its cancel is logged.
            self.client().send('job.submit', {'pool': 'own', 'type': 'echo', 'at_most_once': True})
            second = lib.until('it has its units', lambda: [
                one for one in self.plctl('ps', '--json').json()
                if one['pool'] == 'own' and one['state'] == 'running'])[0]['id']
            supervisor = self.instance.supervisor_pid()
            worker = self.instance.job(first)['worker_pid']
            client = self.client()
            os.kill(supervisor, signal.SIGSTOP)
            self.deaths.write_text('1\n2\n', encoding='ascii')
            client.send('job.cancel', {'id': uuid.UUID(second).bytes})
            go.write_text('go\n', encoding='ascii')
            self.has_reported(worker)
            os.kill(supervisor, signal.SIGCONT)
            self.until_dead(second)
        finally:
            os.kill(store, signal.SIGCONT)
        self.came(second)
        self.came(first)

    def client(self):
        client = peer.Client(next(self.instance.dir.glob('run/parking-lot/*/pl.sock')))
        self.addCleanup(client.close)
        return client

    def until_dead(self, job):
        """All deaths have been. The cancel of @job may have come too late for the first one: then it comes again."""
        def look():
            if not self.deaths.read_text(encoding='ascii').strip():
                return True
            with contextlib.suppress(OSError, EOFError, peer.Refused):
                self.client().send('job.cancel', {'id': uuid.UUID(job).bytes})
            return False
        self.addCleanup(self.deaths.unlink)
        lib.until('all deaths have been', look)

    @staticmethod
    def has_reported(worker):
        """Its program has ended, and it sleeps again."""
        def sleeps():
            tasks = [task.read_text() for task in pathlib.Path(f'/proc/{worker}/task').glob('*/stat')]
            children = [task.read_text() for task in pathlib.Path(f'/proc/{worker}/task').glob('*/children')]
            return not any(children) and all(task.rpartition(')')[2].split()[0] == 'S' for task in tasks)
        lib.until('the worker has reported', sleeps)

    def test_deaths_between_an_end_in_memory_and_its_delivery(self):
        self.deaths_between('soft')

    def test_memory_pools_over_the_death_of_supervisor_and_notifier(self):
        go = threading.Event()
        self.addCleanup(go.set)
        self.answers['/main'] = lambda delivery: (200 if go.is_set() else 500, {})
        jobs = []
        for death in (self.kill_supervisor, self.kill_notifier, self.kill_supervisor):
            jobs += [self.echo('soft') for _ in range(5)]
            death()
        go.set()
        self.all_came(jobs, '/main')

    def test_a_receiver_that_comes_back_after_a_restart_gets_all(self):
        jobs = [self.echo('plain', '--notify', 'down') for _ in range(5)]
        self.plctl('stop')
        self.assertEqual(lib.until_gone(self.instance.dir.name), [])
        self.instance.start()
        jobs += [self.echo('plain', '--notify', 'down') for _ in range(5)]
        self.power_cut()
        late = receiver.Receiver(port=self.down)
        self.addCleanup(late.close)
        late.until(lambda got: set(jobs) == {one.data['job_id'] for one in got}, lib.LIMIT)

    # ---- what is refused ----

    def test_a_private_address_is_refused(self):
        job = self.echo('plain', '--notify', 'fenced')
        jobs = lib.until('it was tried', lambda: [
            one for one in self.plctl('job', 'ls', '-p', 'webhooks', '--json').json()
            if one['state'] == 'retrying' or one['attempt'] > 1])
        self.assertEqual(len(jobs), 1)
        self.assertEqual(self.receiver.got, [])
        self.plctl('cancel', jobs[0]['id'])
        self.assertNotIn(job, self.receiver.jobs())

    def test_secrets_stay_secret(self):
        self.answers['/main'] = lambda delivery: (500, {})
        job = self.echo('hard')
        self.came(job, count=2)
        printed = self.plctl('config', 'print', str(self.instance.config),
                             env={'PL_TEST_TOKEN': AUTH}).out
        told = [self.instance.log(), printed, self.plctl('stats', '--json').out,
                self.plctl('pool', 'show', 'webhooks', '--json').out,
                self.plctl('job', 'ls', '--json').out, self.plctl('workers', 'ls', '--json').out]
        for text in told:
            for secret in (SECRET, SECRET[6:], 'very-secret-token'):
                self.assertNotIn(secret, text)
        self.plctl('submit', 'webhook', '-p', 'webhooks', '-l', 'nowhere', code=4)


if __name__ == '__main__':
    SEED = int(os.environ.get('PL_TEST_SEED', '0')) or random.randrange(1, 1 << 32)
    print(f'PL_TEST_SEED={SEED}')
    unittest.main(verbosity=2)
