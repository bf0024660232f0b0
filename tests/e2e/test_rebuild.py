#!/usr/bin/python3
"""A plugin is built anew and its workers are restarted under load."""
import collections
import os
import pathlib
import shutil
import tempfile
import threading

import lib
from test_plugins import PLUGINS, PluginTest, config, group

BATCH = 25
REPLICAS = 3


class Rebuilt(PluginTest):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='pl-e2e-plugin-'))
        self.addCleanup(shutil.rmtree, self.folder)
        self.install('many.so')
        self.config = config(group('many', self.folder / 'plugin.so', 'many', replicas=REPLICAS,
                                   concurrency=2))
        super().setUp()

    def install(self, name):
        """As a build does it: another file under the same name."""
        shutil.copy(PLUGINS / name, self.folder / 'new')
        os.rename(self.folder / 'new', self.folder / 'plugin.so')

    def pids(self):
        return {worker['pid'] for worker in
                self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
                if worker['group'] == 'many' and worker['state'] in ('idle', 'busy')}

    def batch(self):
        return self.instance.submit('many', '-d', f'build {self.instance.dir}', '--count',
                                    BATCH).split()

    def test_new_jobs_run_on_the_new_build(self):
        jobs, over = [], threading.Event()

        def load():
            while not over.is_set():
                jobs.extend(self.batch())

        client = threading.Thread(target=load)
        client.start()
        try:
            lib.until('jobs come', lambda: len(jobs) >= 4 * BATCH)
            old = self.pids()
            self.assertEqual(len(old), REPLICAS)
            self.install('many_next.so')
            self.instance.plctl('workers', 'restart', 'p/many', code=0)
            lib.until('all are new', lambda: len(self.pids()) == REPLICAS and
                      not self.pids() & old)
            end = len(jobs) + 4 * BATCH
            lib.until('jobs come', lambda: len(jobs) >= end)
        finally:
            over.set()
            client.join()
        last = self.batch()
        self.instance.plctl('wait', *jobs, *last, code=0)
        self.assertEqual(len(set(jobs)), len(jobs))
        build = {job: self.instance.plctl('result', job, code=0).out for job in jobs + last}
        self.assertEqual({build[job] for job in last}, {'2.0'})
        begun = collections.Counter(line.split()[1] for line in
                                    (self.instance.dir / 'begun').read_text().splitlines())
        self.assertEqual(begun, collections.Counter(jobs + last), 'each began once')
        # Both builds were at work, the old one first.
        self.assertEqual(build[jobs[0]], '1.0')
        self.assertEqual(set(build.values()), {'1.0', '2.0'})


if __name__ == '__main__':
    lib.main()
