#!/usr/bin/python3
"""The chaos campaign: everything that may die does, at random instants, under load.

    PLCTL=…/plctl PL_WITNESS=…/witness PL_LOOP=uring python3 tests/chaos/chaos.py \\
        [--seconds 60] [--seed N] [--clients 4] [--round 60] [--keep]

Several clients (load.py) keep durable pools and a memory pool busy, while supervisor, store and
workers, alone and together, get SIGKILL, or SIGSTOP and a while later SIGCONT or SIGKILL. Now and
then everything is killed at once, the guard too, as in a power cut, or everything but some workers,
which the next guard adopts, and started again; memory pools lose their jobs then, durable ones
nothing. After each round, all that was said is checked
(history.py), the units must be back, and after one more power cut every outcome must still be there.

The seed decides what is done, not when the machine does it: a failing seed shows where to look, it
does not replay. Exit status 0: nothing was violated. Otherwise the violations are printed; with
--keep the instance's folder stays.
"""
import argparse
import datetime
import os
import pathlib
import random
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'e2e'))

import lib  # noqa: E402
import peer  # noqa: E402
import history  # noqa: E402
import load  # noqa: E402

KILLS_PER_SECOND = 100 / 60  # supervisors that a campaign must have killed
UNREADY_MAX = 2  # the guard gives up after five supervisors in a row that never served
REMOVE_AT_ONCE = 500

CONFIG = """\
version: 1
name: chaos
pools:
  first:
    max_units: 6
    max_queue_depth: 100000
    crash_limit: 1000
    queue: lmdb
    retry: &retry {strategy: fixed, delay: 5ms, max_retries: 20, retry_on: [error]}
    workers: &workers
      - {name: echo, replicas: 1, concurrency: 4, handles: [echo], executor: {plugin: echo},
         restart: &restart {max: 1000, backoff: 1ms, max_backoff: 10ms}}
      - {name: sleep, replicas: 1, concurrency: 4, handles: [sleep], executor: {plugin: sleep},
         restart: *restart}
      - {name: run, replicas: 2, handles: [command], executor: {plugin: command},
         restart: *restart}
  second:
    max_units: 4
    max_queue_depth: 100000
    crash_limit: 1000
    queue: lmdb
    retry: *retry
    workers: *workers
  soft:
    max_units: 4
    max_queue_depth: 100000
    crash_limit: 1000
    queue: memory
    mailbox: {storage: memory}
    retry: *retry
    workers: *workers
"""
DURABLE = {'first', 'second'}
POOLS = ['first', 'first', 'second', 'soft']


def is_ours(pid, marker):
    try:
        return any(marker.encode() in pathlib.Path(f'/proc/{pid}/{name}').read_bytes()
                   for name in ('environ', 'cmdline'))
    except OSError:
        return False


class Victim:
    """A process of the instance, held by a pidfd: the number may be somebody else's by now."""

    def __init__(self, pid, program, marker):
        self.pid, self.program, self.fd = pid, program, -1
        try:
            self.fd = os.pidfd_open(pid)
        except OSError:
            return
        if lib.program_of(pid) != program or not is_ours(pid, marker):
            self.close()

    def signal(self, number):
        """Whether it was there."""
        if self.fd < 0:
            return False
        try:
            signal.pidfd_send_signal(self.fd, number)
            return True
        except OSError:
            return False

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Campaign:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.instance = lib.Instance(CONFIG, os.environ.get('PL_LOOP'), start=False)
        self.runs = self.instance.dir / 'runs'
        self.runs.mkdir(mode=0o700)
        self.instance.start()
        self.path = next((self.instance.dir / 'run').glob('parking-lot/*/pl.sock'))
        self.guard = self.find_guard()
        self.counts, self.cuts = {}, []
        self.unready, self.answers = 0, 0
        self.violations = []

    def did(self, what):
        """For whoever reads the log of a violation: the same clock."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='milliseconds')
        with open(self.instance.dir / 'deeds', 'a', encoding='ascii') as file:
            file.write(f'{now} {what}\n')

    def count(self, what, number=1):
        self.counts[what] = self.counts.get(what, 0) + number

    # ---- who dies ----

    def find_guard(self):
        """Between fork and exec what it starts has its name."""
        def guards():
            return [pid for pid in lib.processes_with(self.instance.dir.name)
                    if lib.program_of(pid) == 'pl-guard']
        return lib.until('one guard', lambda: (lambda pids: len(pids) == 1 and pids[0])(guards()))

    def victims(self):
        """Adopted workers are no children of the guard: all of ours are looked for."""
        marker = self.instance.dir.name
        found = [(pid, lib.program_of(pid)) for pid in lib.processes_with(marker)]
        return [Victim(pid, program, marker) for pid, program in found
                if program in ('pl-supervisor', 'pl-store', 'pl-worker') and
                not lib.is_of_a_job(pid)]

    def choose(self, victims):
        """Some of them, as one blow."""
        rng = self.random
        of = {name: [victim for victim in victims if victim.program == name]
              for name in ('pl-supervisor', 'pl-store', 'pl-worker')}
        workers = of['pl-worker']
        some = rng.sample(workers, rng.randrange(1, len(workers) + 1)) if workers else []
        one = rng.sample(workers, 1) if workers else []
        supervisor, store = of['pl-supervisor'], of['pl-store']
        blow = rng.choices([supervisor, store, one, supervisor + store, supervisor + some,
                            store + some, supervisor + store + workers],
                           weights=[40, 12, 12, 14, 8, 4, 10])[0]
        return rng.sample(blow, len(blow))  # in any order

    def blow(self, loads):
        answers = sum(one.answers for one in loads)
        if answers != self.answers:
            self.unready = 0
        self.answers = answers
        victims = self.victims()
        try:
            chosen = self.choose(victims)
            if any(victim.program == 'pl-supervisor' for victim in chosen):
                if self.unready >= UNREADY_MAX:
                    return
                self.unready += 1
            if self.random.random() < 0.25:
                self.stop_for_a_while(chosen)
            else:
                self.kill(chosen)
        finally:
            for victim in victims:
                victim.close()

    def kill(self, chosen):
        killed = {victim.program for victim in chosen if victim.signal(signal.SIGKILL)}
        self.did(f'kill {[(victim.program, victim.pid) for victim in chosen]}')
        for program in killed:
            self.count(f'killed {program}')
        if {'pl-supervisor', 'pl-store'} <= killed:
            self.count('killed both together')

    def stop_for_a_while(self, chosen):
        self.did(f'stop {[(victim.program, victim.pid) for victim in chosen]}')
        for victim in chosen:
            if victim.signal(signal.SIGSTOP):
                self.count(f'stopped {victim.program}')
        time.sleep(self.random.random() * 0.4)
        if self.random.random() < 0.3:
            self.kill(chosen)
        for victim in chosen:
            victim.signal(signal.SIGCONT)

    def power_cut(self):
        """Everything of the instance dies, in any order; then it is started again. Half of the
        times the disk has been slow before: whatever was acknowledged too early is gone."""
        begin = time.monotonic_ns()
        self.did('power cut')
        if self.random.random() < 0.5:
            victims = self.victims()
            for victim in victims:
                if victim.program == 'pl-store':
                    victim.signal(signal.SIGSTOP)
            time.sleep(self.random.random() * 0.2)
            for victim in victims:
                victim.close()
        self.instance.power_cut(self.random.shuffle)
        self.did('power is back')
        self.instance.start()
        self.guard = self.find_guard()
        self.cuts.append((begin, time.monotonic_ns()))
        self.count('power cuts')

    def behead(self):
        """Guard and supervisor die, at times the store and some workers too, in any order; the rest
        is left to those that are started then."""
        begin = time.monotonic_ns()
        victims = self.victims()
        odds = {'pl-supervisor': 1, 'pl-store': 0.5, 'pl-worker': 0.2}
        chosen = [victim for victim in victims if self.random.random() < odds[victim.program]]
        left = sum(victim.program == 'pl-worker' for victim in victims if victim not in chosen)
        chosen.append(Victim(self.guard, 'pl-guard', self.instance.dir.name))
        self.random.shuffle(chosen)
        self.did(f'behead {[(victim.program, victim.pid) for victim in chosen]}')
        for victim in chosen:
            victim.signal(signal.SIGKILL)
        for victim in victims + chosen:
            victim.close()
        lib.until('the guard is dead', lambda: not lib.alive(self.guard))
        self.instance.start()
        self.guard = self.find_guard()
        self.cuts.append((begin, time.monotonic_ns()))
        self.count('killed guard and supervisor')
        self.count('workers left to the next guard', left)

    # ---- a round ----

    def round(self, number, seconds):
        loads = [load.Load(f'r{number}c{i}', self.path, POOLS, self.options.witness, self.runs,
                           self.random.random()) for i in range(self.options.clients)]
        self.cuts = []
        for one in loads:
            one.start()
        try:
            self.rage(loads, seconds)
        finally:
            for one in loads:
                one.stop = True
            for one in loads:
                one.join()
        for one in loads:
            if one.failure:
                raise one.failure
        self.settle(loads)
        self.check(loads)
        self.power_cut()
        self.check(loads)
        self.clean(loads)

    def rage(self, loads, seconds):
        begin = time.monotonic()
        wanted = seconds * KILLS_PER_SECOND
        before = self.counts.get('killed pl-supervisor', 0)
        next_cut = begin + seconds * (0.2 + self.random.random() * 0.3)
        while True:
            now = time.monotonic()
            killed = self.counts.get('killed pl-supervisor', 0) - before
            if now > begin + seconds and killed >= wanted:
                return
            if now > begin + 3 * seconds + 30:
                raise AssertionError(f'only {killed} supervisors were killed in {now - begin:.0f} s')
            if now > next_cut:
                self.random.choice([self.power_cut, self.behead])()
                next_cut = now + 5 + self.random.random() * 20
            time.sleep(self.random.random() ** 2 * 0.6)
            self.blow(loads)

    def serve(self):
        return lib.until('it serves', lambda: peer.connect(self.path))

    def settle(self, loads):
        """Every job comes to its end, whatever the clients know of it."""
        client = self.serve()
        try:
            lib.until('everything has ended', lambda: not any(
                client.call('instance.status')[name] for name in ('queued', 'running')))
        finally:
            client.close()
        for one in loads:
            one.open.clear()

    def check(self, loads):
        """Asks for every outcome, and checks all that was said."""
        client = self.serve()
        for one in loads:
            jobs = [job for job in one.jobs if job.id]
            begin = time.monotonic_ns()
            replies = client.call_many([('job.wait', {'id': job.id, 'result': True,
                                                      'timeout_ms': 60000}) for job in jobs])
            end = time.monotonic_ns()
            for job, reply in zip(jobs, replies):
                refused = isinstance(reply, peer.Refused)
                one.note(job, 'wait', (begin, end, None if refused else reply,
                                       reply if refused else None))
            self.check_mailbox(client, one)
        client.close()
        self.check_units()
        checker = history.Checker(self.cuts, DURABLE, self.runs)
        for one in loads:
            for job in one.jobs:
                checker.check(job, final=True)
        self.report(checker.violations)
        path = self.runs / 'violations'
        if path.exists():
            self.report(path.read_text(encoding='ascii').splitlines())

    def check_mailbox(self, client, one):
        """What has ended and was not removed is in the mailbox, once."""
        there, cursor = [], ''
        while True:
            page = client.call('mailbox.fetch', user=one.name, limit=1000, no_result=True,
                               cursor=cursor)
            there += [message['id'] for message in page['messages']]
            if not page['messages']:
                break
            cursor = page['next']
        if len(there) != len(set(there)):
            self.report([f'{one.name}: a message is there twice'])
        there = set(there)
        for job in one.jobs:
            last = [call for call in job.calls if call.method == 'wait'][-1:]
            if job.id and last and last[0].answer == history.TOLD and job.id not in there:
                self.report([f'{job.tag}: has an outcome, and is not in the mailbox'])

    def check_units(self):
        def idle():
            pools = self.instance.stats()['pools']
            return not any(unit['used'] for pool in pools for unit in pool['units'].values())
        try:
            lib.until('all units are back', idle, 5)
        except AssertionError:
            self.report([f'units leaked: {self.instance.stats()["pools"]}'])

    def report(self, violations):
        for violation in violations[:20]:
            print(f'VIOLATION {violation}', flush=True)
        self.violations += violations

    def clean(self, loads):
        """Counts, and makes room for the next round."""
        client = self.serve()
        for one in loads:
            told = [job for job in one.jobs
                    if any(call.answer == history.TOLD for call in job.calls)]
            self.count('jobs submitted', len(one.jobs))
            self.count('jobs acknowledged', sum(1 for job in one.jobs if job.id))
            self.count('durable jobs acknowledged',
                       sum(1 for job in one.jobs if job.id and job.pool in DURABLE))
            self.count('outcomes', len(told))
            self.count('cancels acknowledged', sum(
                1 for job in one.jobs for call in job.calls
                if call.method == 'cancel' and call.answer == history.DONE))
            self.count('acks', sum(1 for job in one.jobs if any(
                call.method == 'ack' and call.answer == history.DONE for call in job.calls)))
            self.count('calls', sum(len(job.calls) + 1 for job in one.jobs))
            self.count('broken connections', one.breaks)
            self.count('at_most_once jobs', sum(job.kind == 'once' for job in one.jobs))
            ids = [job.id for job in one.jobs if job.id]
            for at in range(0, len(ids), REMOVE_AT_ONCE):
                client.call('mailbox.ack', ids=ids[at:at + REMOVE_AT_ONCE])
            for job in one.jobs:
                (self.runs / job.tag).unlink(missing_ok=True)
        client.close()

    def go(self):
        end, number = time.monotonic() + self.options.seconds, 0
        left = self.options.seconds
        while left > 0 and not self.violations:
            number += 1
            self.round(number, min(left, self.options.round))
            print(f'round {number}: {self.summary()}', flush=True)
            left = end - time.monotonic() if left > self.options.round else 0
            left = 0 if left < 5 else left

    def summary(self):
        return ', '.join(f'{name}: {number}' for name, number in sorted(self.counts.items()))

    def end(self, failed):
        if failed:
            print(self.instance.log()[-20000:], file=sys.stderr, flush=True)
            if self.options.keep:
                for pid in lib.processes_with(self.instance.dir.name):
                    os.kill(pid, signal.SIGKILL)
                print(f'kept: {self.instance.dir}')
            else:
                self.instance.abandon()
        else:
            self.instance.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--round', type=float, default=60)
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 32))
    parser.add_argument('--clients', type=int, default=4)
    parser.add_argument('--keep', action='store_true')
    parser.add_argument('--witness', default=os.environ.get('PL_WITNESS'))
    options = parser.parse_args()
    if peer.msgpack is None:
        print('skipped: python3-msgpack is not installed')
        return 77
    print(f'seed {options.seed}, {options.seconds:.0f} s', flush=True)
    begin = time.monotonic()
    campaign = Campaign(options)
    failed = True
    try:
        campaign.go()
        failed = bool(campaign.violations)
    finally:
        campaign.end(failed)
    print(f'refusals: {load.REFUSALS}')
    print(f'{time.monotonic() - begin:.1f} s; violations: {len(campaign.violations)}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
