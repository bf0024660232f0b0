#!/usr/bin/python3
"""The wall clock jumps while the instance is down: what is due later is due when it was to be, as long as the
machine has not booted anew."""
import os
import re
import unittest

import lib

SHIM = os.environ.get('PL_CLOCK_SHIM', '')
HOUR = 3600

CONFIG = """\
version: 1
name: clock
pools:
  hard:
    max_units: 10
    lanes: {one: {priority: 0, retry: {strategy: fixed, max_retries: 3, delay: 1h}}}
    default_lane: one
    workers:
      - {name: echo, replicas: 1, handles: [echo], executor: {plugin: echo}}
      - {name: sh, replicas: 1, handles: [command], executor: {plugin: command}}
"""


@unittest.skipIf(not SHIM, 'needs $PL_CLOCK_SHIM')
class Clock(lib.Test):
    config = CONFIG

    def setUp(self):
        self.instance = lib.Instance(self.config, os.environ.get('PL_LOOP'), start=False)
        self.shift = self.instance.dir / 'shift'
        self.instance.env.update(LD_PRELOAD=SHIM, PL_WALL_SHIFT=str(self.shift))
        self.addCleanup(self._clean)
        self.instance.start()

    def cold_start(self, seconds, boot=False):
        """All dies, the clock jumps. @boot: as if the machine had booted as well."""
        self.instance.power_cut()
        self.shift.write_text(str(seconds), encoding='ascii')
        if boot:
            mark = self.instance.dir / 'state' / 'boot'
            text = mark.read_text(encoding='ascii')
            changed = re.sub('^1 [0-9a-f]{32} ', f'1 {"0" * 32} ', text)
            self.assertNotEqual(text, changed)
            mark.write_text(changed, encoding='ascii')
        self.instance.start()
        self.instance.plctl('submit', '--wait', 'echo', '-d', 'x', code=0)

    def later(self):
        """Jobs that are due in an hour, and what they wait for."""
        submit = self.instance.submit
        retries = self.instance.plctl('run', '-n', '--id-only', '--', 'false', code=0).out.strip()
        self.instance.until_state(retries, 'retrying')
        return {submit('echo', '-d', 'x', '--delay', '1h'): 'delayed',
                submit('echo', '-d', 'x', '--hold', '--deadline', '+1h'): 'held',
                retries: 'retrying'}

    def states(self, jobs):
        return {job: self.instance.job(job)['state'] for job in jobs}

    def test_forward_nothing_comes_early(self):
        jobs = self.later()
        for _ in range(2):
            self.cold_start(2 * HOUR)
            self.assertEqual(self.states(jobs), jobs)

    def test_back_nothing_comes_late(self):
        jobs = [self.instance.submit('echo', '-d', 'x', '--delay', '1500ms')]
        self.cold_start(-2 * HOUR)
        for job in jobs:
            self.instance.plctl('wait', job, '--timeout', '30s', code=0)

    def test_after_a_boot_the_wall_clock_counts(self):
        jobs = self.later()
        self.cold_start(HOUR // 2, boot=True)
        self.assertEqual(self.states(jobs), jobs)
        self.cold_start(2 * HOUR)
        for job, state in jobs.items():
            if state == 'retrying':
                lib.until('it runs again', lambda j=job: self.instance.job(j)['attempt'] > 1)
            else:
                self.instance.plctl('wait', job, '--no-fail', '--timeout', '30s', code=0)


if __name__ == '__main__':
    lib.main()
