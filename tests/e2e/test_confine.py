#!/usr/bin/python3
"""What a group's configuration makes of its processes and of the programs they start."""
import os
import resource
import unittest

import lib

LIMITS = '{open_files: 123, processes: 4567, core: 64KiB, output: 1KiB}'
SANDBOX = '{nice: 7, oom_score_adj: 321, no_new_privileges: false}'
PROGRAM = ('grep -e NoNewPrivs -e Cpus_allowed_list /proc/self/status; nice; cat /proc/self/oom_score_adj;'
           'ulimit -Hn; ulimit -Hp')


def workers(instance, group, *states):
    """Pids of the group's processes that are in one of @states."""
    return [worker['pid'] for worker in
            instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
            if worker['group'] == group and worker['state'] in states]


def first(instance, group):
    return lib.until('a worker is ready', lambda: workers(instance, group, 'idle'))[0]


def niceness(pid):
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except ProcessLookupError:
        return None


class Confined(lib.Test):
    config = lib.CONFIG.replace(
        'handles: [command]', f'cpus: "0", sandbox: {SANDBOX}, limits: {LIMITS}, handles: [command]')

    def status(self, pid, key):
        with open(f'/proc/{pid}/status', encoding='utf-8') as file:
            return next(line.split()[1] for line in file if line.startswith(key + ':'))

    def score(self, pid):
        with open(f'/proc/{pid}/oom_score_adj', encoding='utf-8') as file:
            return int(file.read())

    def test_process(self):
        pid = first(self.instance, 'sh')
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), 7)
        self.assertEqual(os.sched_getaffinity(pid), {0})
        self.assertEqual(self.score(pid), 321)
        self.assertEqual(self.status(pid, 'NoNewPrivs'), '0')
        for limit, value in ((resource.RLIMIT_NOFILE, 123), (resource.RLIMIT_NPROC, 4567),
                             (resource.RLIMIT_CORE, 65536)):
            # A sanitizer lowers the soft limit of core files by itself.
            self.assertEqual(resource.prlimit(pid, limit)[1], value)

    def test_as_by_default(self):
        pid = first(self.instance, 'echo')
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), os.getpriority(os.PRIO_PROCESS, 0))
        self.assertEqual(os.sched_getaffinity(pid), os.sched_getaffinity(0))
        self.assertEqual(self.status(pid, 'NoNewPrivs'), '1')
        self.assertEqual(self.score(pid), 500)

    def test_programs_inherit(self):
        job = self.instance.run_detached('sh', '-c', PROGRAM)
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(self.instance.plctl('result', job, code=0).out.split(),
                         ['NoNewPrivs:', '0', 'Cpus_allowed_list:', '0', '7', '321', '123', '4567'])

    def test_output_beyond_its_limit(self):
        job = self.instance.run_detached('sh', '-c', 'yes | head -c 5000')
        self.instance.plctl('wait', job, code=0)
        self.assertEqual(len(self.instance.plctl('result', job, code=0).out), 1024)

    def test_reload_replaces(self):
        """What a process was made for cannot be changed in it."""
        before = first(self.instance, 'sh')
        self.instance.config.write_text(self.config.replace('nice: 7', 'nice: 8'))
        self.instance.plctl('reload', code=0)
        lib.until('all have the new niceness', lambda: [
            niceness(pid) for pid in workers(self.instance, 'sh', 'idle')] == [8, 8, 8])
        lib.until('the old one has gone', lambda: not lib.alive(before))


@unittest.skipIf('ASAN_OPTIONS' in os.environ, 'the sanitizer needs an address space of terabytes')
class Memory(lib.Test):
    config = lib.CONFIG.replace('handles: [command]', 'limits: {memory: 1GiB}, handles: [command]')

    def test_address_space(self):
        pid = first(self.instance, 'sh')
        self.assertEqual(resource.prlimit(pid, resource.RLIMIT_AS), (1 << 30, 1 << 30))


class Impossible(lib.Test):
    config = lib.CONFIG.replace('handles: [command]', 'cpus: "0,4095-1", handles: [command]')

    def test_is_named(self):
        """The group fails for good and says why; the others serve."""
        worker = lib.until('it has failed', lambda: next(
            (worker for worker in self.instance.plctl('workers', 'ls', '--json', code=0).json()['workers']
             if worker['group'] == 'sh' and worker['state'] == 'failed'), None))
        self.assertIn('is no list of cores', worker['error'])
        other = self.instance.submit('echo', '-p', 'quick', '-d', 'fine')
        self.instance.plctl('wait', other, code=0)


if __name__ == '__main__':
    lib.main()
