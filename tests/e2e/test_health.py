#!/usr/bin/python3
"""Workers that show no life: continued, ended, or left alone."""
import os
import signal

import lib
from test_plugins import PLUGINS, PluginTest, config, group

QUICK = '{interval: 1s, timeout: 1s, retries: 2, start_period: 500ms}'


def stopped(pid):
    with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
        return file.read().rpartition(')')[2].split()[0] == 'T'


class Health(PluginTest):
    config = config(group('sh', 'command', 'command', healthcheck=QUICK, stop_grace='200ms'),
                    group('bad', PLUGINS / 'hostile_inline.so', 'bad', healthcheck=QUICK,
                          stop_grace='200ms'),
                    group('core', PLUGINS / 'hostile_inline.so', 'core', healthcheck=QUICK,
                          stop_grace='1s', limits='{core: 1KiB}')
                    ).replace('    grace', '    crash_limit: 1\n    grace')

    def shell(self, text):
        return self.instance.plctl('run', '-p', 'p', '-n', '--id-only', '--', 'sh', '-c', text,
                                   code=0).out.strip()

    def test_stopped_process_is_continued(self):
        """Once, and that is all: its job never knows."""
        gate = self.instance.dir / 'gate'
        os.mkfifo(gate)
        job = self.shell(f'read line < {gate}; echo "$line"')
        pid = self.instance.until_state(job, 'running')['worker_pid']
        os.kill(pid, signal.SIGSTOP)
        lib.until('it is stopped', lambda: stopped(pid))
        lib.until('it goes on', lambda: not stopped(pid))
        self.assertTrue(self.log_has('it is continued', 'p/sh/0'))
        gate.write_text('fine\n')
        self.assertEqual(self.ended(job, 'succeeded')['attempt'], 1)
        self.assertEqual(self.worker('sh')['pid'], pid)
        self.assertFalse(self.log_has('worker hangs'))

    def test_stopped_again_and_again(self):
        """It is continued once, then ended."""
        job = self.shell('while kill -STOP $PPID; do sleep 0.05; done; sleep 1000')
        error = self.ended(job, 'crashed')['error']
        self.assertIn('no sign of life', error)
        self.assertTrue(self.log_has('it is continued', 'p/sh/0'))
        self.ended(self.shell('exit 0'), 'succeeded')

    def test_hanging_plugin(self):
        pid = self.worker('bad')['pid']
        job = self.act(f'hang {self.instance.dir}/tally')
        self.others()
        error = self.ended(job, 'crashed')['error']
        self.assertIn('p/bad/0', error)
        self.assertIn(f'pid {pid}', error)
        self.assertIn('no sign of life', error)
        self.ended(self.act('fine'), 'succeeded')
        self.assertNotEqual(self.worker('bad')['pid'], pid)

    def test_core_is_wanted(self):
        """SIGABRT before SIGKILL: the crash handler has its word."""
        job = self.act(f'hang {self.instance.dir}/tally', kind='core')
        error = self.ended(job, 'crashed')['error']
        self.assertIn('no sign of life', error)
        self.assertIn(f'plugin hostile', error)


class Revived(PluginTest):
    config = config(group('sh', 'command', 'command', healthcheck=QUICK, stop_grace='50s'))

    def test_lives_on_after_all(self):
        """It was told to end when it could not hear it: it finishes its job first."""
        gate = self.instance.dir / 'gate'
        os.mkfifo(gate)
        job = self.instance.plctl('run', '-p', 'p', '-n', '--id-only', '--', 'sh', '-c',
                                  f'read line < {gate}; echo "$line"', code=0).out.strip()
        pid = self.instance.until_state(job, 'running')['worker_pid']
        os.kill(pid, signal.SIGSTOP)
        lib.until('it is continued', lambda: self.log_has('it is continued', 'p/sh/0'))
        os.kill(pid, signal.SIGSTOP)
        self.until_worker('sh', 'stopping')
        os.kill(pid, signal.SIGCONT)
        gate.write_text('fine\n')
        self.assertEqual(self.ended(job, 'succeeded')['attempt'], 1)
        lib.until('another process', lambda: (lambda w: w['pid'] not in (0, pid) and
                                              w['state'] == 'idle')(self.worker('sh')))


class Patient(PluginTest):
    config = config(group('sh', 'command', 'command', healthcheck='{interval: 10s, retries: 3}'))

    def test_short_stop_is_nothing(self):
        pid = self.worker('sh')['pid']
        os.kill(pid, signal.SIGSTOP)
        job = self.instance.plctl('run', '-p', 'p', '-n', '--id-only', '--', 'true',
                                  code=0).out.strip()
        beat = self.instance.stats()['supervisor']
        lib.until('the supervisor has looked several times', lambda: (
            lambda now: now['uptime_ms'] - beat['uptime_ms'] > 3500)(
                self.instance.stats()['supervisor']))
        self.assertTrue(stopped(pid))
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(self.ended(job, 'succeeded')['attempt'], 1)
        self.assertEqual(self.worker('sh')['pid'], pid)
        self.assertFalse(self.log_has('it is continued'))


class Loading(PluginTest):
    config = config(group('slow', PLUGINS / 'bad_open.so', 'slow', healthcheck=QUICK,
                          restart='{max: 1}').replace('bad_open.so',
                                                      'bad_open.so, config: {how: hang}'))

    def test_loading_takes_too_long(self):
        worker = self.until_worker('slow', 'failed')
        self.assertIn('was not ready within 500 ms', worker['error'])


if __name__ == '__main__':
    lib.main()
