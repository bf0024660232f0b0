#!/usr/bin/python3
"""What is decided stands: a stop that was logged decides the outcome; a drain waits for all there is."""
import os
import signal

import lib
from test_plugins import PLUGINS, PluginTest, config, group, state_of


class Decided(PluginTest):
    """The job is done, but its worker tells it only when another outcome stands in the log."""
    config = config(group('many', PLUGINS / 'many.so', 'many')).replace('grace: 100ms', 'grace: 50s')

    def begin(self, *options):
        """A job that completes while its worker is stopped. Return: job, worker's pid."""
        job = self.instance.submit('many', '-d', f'deaf {self.instance.dir}', *options)
        lib.until('it runs', lambda: (self.instance.dir / 'begun').exists())
        pid = self.worker('many')['pid']
        os.kill(pid, signal.SIGSTOP)
        lib.until('it is stopped', lambda: state_of(pid) == 'T')
        (self.instance.dir / 'gate').touch()
        return job, pid

    def decided(self, job, pid, state):
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(self.ended(job, state)['attempt'], 1)
        self.until_total('late_results_total', 1)
        self.until_total('succeeded', 0)
        self.assertEqual(self.worker('many')['pid'], pid)

    def test_cancel(self):
        job, pid = self.begin()
        cancel = self.instance.popen('cancel', job)
        lib.until('the stop is decided', lambda: self.instance.job(job)['cancelling'])
        self.decided(job, pid, 'cancelled')
        cancel.communicate()

    def test_time_out(self):
        job, pid = self.begin('--timeout', '300ms')
        lib.until('the stop is decided', lambda: self.instance.job(job)['cancelling'])
        self.decided(job, pid, 'timed_out')


DRAIN = """
version: 1
name: drained
pools:
  build:
    max_units: {cpu: 1}
    queue: QUEUE
    retry: {strategy: fixed, max_retries: 3, delay: 300ms}
    workers:
      - {name: sh, kind: cpu, replicas: 1, handles: [command], executor: {plugin: command, config: {retry_exit: [75]}}}
"""


class Drain(lib.Test):
    config = DRAIN.replace('QUEUE', 'memory')

    def shell(self, text):
        return self.instance.run_detached('sh', '-c', text)

    def gate(self):
        path = self.instance.dir / 'gate'
        os.mkfifo(path)
        return path

    def test_waits_for_running_queued_and_retry_waiting(self):
        gate, failed = self.gate(), self.instance.dir / 'failed'
        again = self.shell(f'test -e {failed} || {{ touch {failed}; exit 75; }}')
        self.instance.until_state(again, 'retrying')
        running = self.shell(f'read line < {gate}')
        queued = self.shell('true')
        self.instance.until_state(running, 'running')
        self.assertEqual(self.instance.job(queued)['state'], 'queued')
        drain = self.instance.popen('drain')
        lib.until('it takes no new jobs', lambda: self.instance.plctl(
            'run', '-n', '--detach', '--', 'true').code == 7)
        self.assertIsNone(drain.poll())
        gate.write_text('go\n')
        drain.communicate()
        self.assertEqual(drain.returncode, 0)
        for job, attempt in ((again, 2), (running, 1), (queued, 1)):
            shown = self.instance.job(job)
            self.assertEqual((shown['state'], shown['attempt']), ('succeeded', attempt))

    def test_too_short(self):
        """The job does not notice."""
        gate = self.gate()
        job = self.shell(f'read line < {gate}; echo "$line"')
        self.instance.until_state(job, 'running')
        self.instance.plctl('drain', '--timeout', '50ms', code=124)
        self.assertEqual(self.instance.job(job)['state'], 'running')
        gate.write_text('unharmed\n')
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.job(job)['attempt'], 1)
        self.assertEqual(self.instance.plctl('result', job, code=0).out, 'unharmed\n')


class DurableDrain(Drain):
    config = DRAIN.replace('QUEUE', 'lmdb')


if __name__ == '__main__':
    lib.main()
