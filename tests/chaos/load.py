"""Clients of the campaign: each submits, waits, looks, cancels, empties its mailbox, and writes down
what it asked and what it was told (history.py)."""
import random
import threading
import time

import history
import peer

OPEN_MAX = 24  # jobs of a client that it knows no end of
KINDS = ['echo'] * 5 + ['sleep'] * 2 + ['run'] * 3 + ['flaky', 'stubborn', 'doomed', 'late', 'once',
                                                         'once']
CALLS = (['submit'] * 8 + ['submit_many', 'wait', 'wait', 'wait', 'result', 'get', 'cancel', 'mailbox',
                           'ack'])
REFUSALS = {}  # method, code → how often; for people


class Load(threading.Thread):
    def __init__(self, name, path, pools, witness, runs, seed):
        super().__init__(name=name)
        self.path, self.pools, self.witness, self.runs = path, pools, witness, runs
        self.random = random.Random(seed)
        self.stop, self.client, self.number = False, None, 0
        self.jobs, self.open, self.by_id = [], [], {}
        self.breaks = self.answers = 0
        self.failure = None

    def run(self):
        try:
            while not self.stop:
                self.step()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error  # the campaign fails with it
            raise
        finally:
            if self.client:
                self.client.close()

    def step(self):
        if self.client is None:
            self.client = peer.connect(self.path)
            if self.client is None:
                time.sleep(0.002)  # nobody listens: this has no event
                return
        if len(self.open) >= OPEN_MAX:
            self.wait(self.open[0], 60000)
        else:
            getattr(self, self.random.choice(CALLS))()

    def ask(self, method, **params):
        """(begin, end, reply or None, refusal or None); a broken call has neither."""
        begin = time.monotonic_ns()
        try:
            reply, refusal = self.client.call(method, **params), None
            self.answers += 1
        except peer.Refused as error:
            reply, refusal = None, error
            key = (method, error.code)
            REFUSALS[key] = REFUSALS.get(key, 0) + 1
            self.answers += 1
        except (OSError, EOFError):
            reply, refusal = None, None
            self.breaks += 1
            self.client.close()
            self.client = None
        return begin, time.monotonic_ns(), reply, refusal

    # ---- submits ----

    def new_job(self):
        rng = self.random
        kind, pool = rng.choice(KINDS), rng.choice(self.pools)
        self.number += 1
        tag = f'{self.name}.{self.number}'
        params = {'pool': pool, 'user': self.name, 'cost': rng.randrange(3)}
        if rng.random() < 0.1:
            params['delay_ms'] = rng.randrange(200)
        job = history.Job(tag, kind, pool, 0, cancellable=kind != 'late')
        if kind in ('echo', 'sleep', 'late'):
            job.payload = str(rng.randrange(80) if kind == 'sleep' else
                              60000 if kind == 'late' else rng.random()).encode()
            if kind == 'echo' and rng.random() < 0.03:
                job.payload = rng.randbytes(rng.randrange(1 << 18))
            job.kind = 'late' if kind == 'late' else 'echo'
            params.update(type='echo' if kind == 'echo' else 'sleep', payload=job.payload)
            if kind == 'late':
                params['timeout_ms'] = 1 + rng.randrange(60)
        else:
            job.kind = 'run' if kind in ('flaky', 'stubborn') else kind
            job.stubborn = kind == 'stubborn'
            argv = [self.witness, str(self.runs), tag, str(rng.randrange(300 if job.stubborn else 60)),
                    str(1 + rng.randrange(2)) if kind == 'flaky' else '0',
                    '3' if kind == 'doomed' else '0'] + ['stubborn'] * job.stubborn
            params.update(type='command', meta={'argv': '\0'.join(argv) + '\0'},
                          max_retries=20 if kind == 'flaky' else 0,
                          at_most_once=kind == 'once')
        self.jobs.append(job)
        return job, params

    def acknowledged(self, job, ticket, end):
        job.id, job.end = ticket['id'], end
        self.by_id[job.id] = job
        self.open.append(job)

    def submit(self):
        job, params = self.new_job()
        job.begin, end, ticket, _ = self.ask('job.submit', **params)
        if ticket:
            self.acknowledged(job, ticket, end)

    def submit_many(self):
        made = [self.new_job() for _ in range(1 + self.random.randrange(8))]
        begin, end, reply, _ = self.ask('job.submit_many', jobs=[params for _, params in made])
        for number, (job, _) in enumerate(made):
            job.begin = begin
            if reply and isinstance(reply['results'][number], dict):
                self.acknowledged(job, reply['results'][number], end)

    # ---- looks ----

    def some_job(self):
        known = self.open if self.open and self.random.random() < 0.8 else self.jobs[-200:]
        known = [job for job in known if job.id]
        return self.random.choice(known) if known else None

    def note(self, job, method, call, with_result=True):
        begin, end, reply, refusal = call
        if reply is not None and reply.get('state') == history.ENDED and 'outcome' in reply:
            job.add(begin, end, method, history.TOLD, history.outcome_of(reply, with_result))
            self.close_job(job)
        elif reply is not None or (refusal and refusal.code in (peer.TIMEOUT, peer.NOT_READY)):
            job.add(begin, end, method, history.LIVE)
        elif refusal and refusal.code == peer.NO_JOB:
            job.add(begin, end, method, history.UNKNOWN)
            self.close_job(job)
        elif refusal:
            job.add(begin, end, method, history.OTHER)
        else:
            job.add(begin, end, method, history.BROKEN)

    def close_job(self, job):
        if job in self.open:
            self.open.remove(job)

    def wait(self, job=None, timeout_ms=None):
        job = job or self.some_job()
        if job:
            timeout = self.random.randrange(50) if timeout_ms is None else timeout_ms
            self.note(job, 'wait', self.ask('job.wait', id=job.id, result=True, timeout_ms=timeout))

    def result(self):
        job = self.some_job()
        if job:
            self.note(job, 'result', self.ask('job.result', id=job.id))

    def get(self):
        job = self.some_job()
        if job:
            self.note(job, 'get', self.ask('job.get', id=job.id), with_result=False)

    def cancel(self):
        # Those that go on after it show whether it is the cancel that decides.
        stubborn = [job for job in self.open if job.stubborn]
        job = self.random.choice(stubborn) if stubborn else self.some_job()
        if not job or not job.cancellable:
            return
        begin, end, reply, refusal = self.ask('job.cancel', id=job.id,
                                              force=self.random.random() < 0.2)
        if reply is not None:
            job.add(begin, end, 'cancel', history.DONE)
        elif refusal and refusal.code == peer.NO_JOB:
            job.add(begin, end, 'cancel', history.UNKNOWN)
        else:
            job.add(begin, end, 'cancel', history.OTHER if refusal else history.BROKEN)

    # ---- mailbox ----

    def mailbox(self):
        call = self.ask('mailbox.fetch', user=self.name, limit=20,
                        no_result=self.random.random() < 0.5)
        for message in call[2]['messages'] if call[2] else []:
            job = self.by_id.get(message['id'])
            if job:
                self.note(job, 'mailbox', (call[0], call[1], message, None),
                          with_result='result' in message)
        told = [message['id'] for message in call[2]['messages']] if call[2] else []
        known = [self.by_id[id_] for id_ in told if id_ in self.by_id]
        if known and self.client and self.random.random() < 0.5:
            self.remove(known)

    def ack(self):
        job = self.some_job()
        if job and any(call.answer == history.TOLD for call in job.calls):
            self.remove([job])

    def remove(self, jobs):
        begin, end, reply, _ = self.ask('mailbox.ack', ids=[job.id for job in jobs])
        for job in jobs:
            # The reply counts: less than asked for says not which were there.
            done = reply is not None and reply.get('changed', 0) == len(jobs)
            job.add(begin, end, 'ack', history.DONE if done else
                    history.OTHER if reply is not None and not reply.get('changed', 0) else
                    history.BROKEN)
