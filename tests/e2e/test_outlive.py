#!/usr/bin/python3
"""Eight jobs of 20 s while what runs them is killed: each kill in an instance of its own, all at once."""
import os
import time
import unittest

import lib

CONFIG = """\
version: 1
name: outlive
supervisor:
  shutdown: {orphan_grace: 10m}
pools:
  build:
    max_units: {cpu: 8}
    queue: QUEUE
    workers:
      - {name: sh, kind: cpu, replicas: 8, handles: [command], executor: {plugin: command}}
"""

SECONDS = 20
JOBS = 8

# Its own record: a line for each begin and each end, with the worker that holds it.
PROGRAM = f"""
echo begin $1 $PPID $(date +%s%N) >> {{dir}}/record
sleep {SECONDS}
echo end $1 $PPID $(date +%s%N) >> {{dir}}/record
echo result of $1
"""


class Case:
    def __init__(self, queue, *programs):
        self.instance = lib.Instance(CONFIG.replace('QUEUE', queue), os.environ.get('PL_LOOP'))
        self.programs = programs
        self.jobs = []

    def record(self):
        """{(word, job): [(worker, stamp)]}"""
        path, found = self.instance.dir / 'record', {}
        for line in path.read_text().splitlines() if path.exists() else ():
            word, job, worker, stamp = line.split()
            found.setdefault((word, int(job)), []).append((int(worker), int(stamp)))
        return found

    def begin(self):
        program = PROGRAM.format(dir=self.instance.dir)
        self.jobs = [self.instance.run_detached('sh', '-c', program, 'sh', number)
                     for number in range(JOBS)]
        lib.until('all run', lambda: len(self.record()) == JOBS)

    def kill(self):
        self.instance.kill_at_once(*self.programs)
        if 'pl-guard' in self.programs:
            self.instance.start()
        lib.until('another supervisor serves', lambda: self.instance.plctl('status').code == 0)


class Outlive(unittest.TestCase):
    def setUp(self):
        self.cases = []

    def add(self, *args):
        case = Case(*args)
        self.cases.append(case)
        self.addCleanup(self.clean, case.instance)

    def clean(self, instance):
        try:
            instance.stop()
        except BaseException:
            instance.abandon()
            raise

    def test_jobs_of_twenty_seconds(self):
        self.add('memory', 'pl-supervisor')
        self.add('lmdb', 'pl-supervisor')
        self.add('lmdb', 'pl-supervisor', 'pl-store')
        self.add('lmdb', 'pl-guard', 'pl-supervisor')
        self.add('lmdb', 'pl-guard', 'pl-supervisor', 'pl-store')
        for case in self.cases:
            case.begin()
        for case in self.cases:
            with self.subTest(killed=case.programs):
                case.kill()
                self.assertFalse([key for key in case.record() if key[0] == 'end'],
                                 'the kill came too late to say anything')
        for case in self.cases:
            with self.subTest(killed=case.programs):
                self.check(case)

    def check(self, case):
        for number, job in enumerate(case.jobs):
            case.instance.plctl('wait', job, code=0)
            told = time.time_ns()
            shown = case.instance.job(job)
            self.assertEqual((shown['state'], shown['attempt']), ('succeeded', 1), shown)
            self.assertEqual(case.instance.plctl('result', job, code=0).out,
                             f'result of {number}\n')
            record = case.record()
            (worker, begun), = record['begin', number]
            (same_worker, ended), = record['end', number]
            self.assertEqual(worker, same_worker)
            self.assertTrue(lib.alive(worker))
            # Told within the time of one run: nothing waited for a second one.
            self.assertLess(told - begun, 2 * SECONDS * 10**9)
            self.assertGreaterEqual(ended - begun, SECONDS * 10**9)


if __name__ == '__main__':
    lib.main()
