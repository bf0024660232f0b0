#!/usr/bin/python3
"""What cannot be accepted: the exit status, a message that names the limit, nothing left behind."""
import os

import lib


class Refusals(lib.Test):
    def refused(self, code, *args, says=(), data=b''):
        before = self.instance.stats()
        result = self.instance.plctl('submit', *args, data=data)
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.out, '')
        for word in says:
            self.assertIn(word, result.err)
        for old, new in zip(before['pools'], self.instance.stats()['pools']):
            for key in ('queued', 'running', 'submitted_total'):
                self.assertEqual(old[key], new[key], f'{key} of {new["name"]}')
        return result

    def test_cost_over_the_pool(self):
        self.refused(2, 'command', '-p', 'build', '-c', 'cpu=3', says=('cpu', '3', '2'))

    def test_unknown_pool_type_lane(self):
        self.refused(4, 'echo', '-p', 'nowhere', says=('nowhere',))
        self.refused(4, 'mystery', '-p', 'build', says=('mystery',))
        self.refused(4, 'echo', '-p', 'quick', '-l', 'fast', says=('fast',))

    def test_payload_over_the_limit(self):
        self.refused(2, 'echo', '-p', 'quick', '-d', '-', data=b'x' * 5000, says=('4',))

    def test_deadline_in_the_past(self):
        self.refused(2, 'echo', '-p', 'quick', '--deadline', '2020-01-01T00:00:00Z',
                     says=('deadline',))

    def test_full_queue(self):
        self.instance.plctl('pool', 'pause', 'quick', code=0)
        for _ in range(3):
            self.instance.submit('echo', '-p', 'quick')
        self.refused(7, 'echo', '-p', 'quick', says=('3',))
        answer = self.instance.plctl('submit', 'echo', '-p', 'quick', '--json', code=7).json()
        self.assertEqual(answer['error'], 'QUEUE_FULL')
        self.assertEqual(answer['limit_max'], 3)

    def test_full_log(self):
        other = lib.Instance(lib.CONFIG.replace('name: e2e\n', 'name: e2e\n'
                             'supervisor: {memory_log: 256KiB}\n'), os.environ.get('PL_LOOP'))
        self.addCleanup(other.stop)
        supervisor, taken = other.supervisor_pid(), []
        payload = b'x' * 100000
        while True:
            result = other.plctl('submit', '--id-only', 'command', '-p', 'build', '--hold', '-d', '-',
                                 data=payload)
            if result.code != 0:
                break
            taken.append(result.out.strip())
        self.assertEqual((result.code, len(taken)), (7, 2), result)
        self.assertIn('supervisor.memory_log', result.err)
        self.assertEqual(other.supervisor_pid(), supervisor)
        for job in taken:  # what was taken ends, and makes room
            other.plctl('cancel', job, code=0)
            other.plctl('mailbox', 'ack', job, code=0)
        other.submit('command', '-p', 'build', '--hold', '-d', '-', data=payload)

    def test_usage(self):
        for args in (['submit'], ['submit', 'echo', '--pol', 'x'], ['frobnicate'], ['pool'],
                     ['submit', 'echo', '--timeout', 'soon'], ['submit', 'echo', '-c', 'cpu=many']):
            result = self.instance.plctl(*args)
            self.assertEqual(result.code, 2, result)
            self.assertEqual(result.out, '')
        self.assertIn("--pool", self.instance.plctl('submit', 'echo', '--pol', 'x').err)
        self.assertIn("submit", self.instance.plctl('submt').err)


if __name__ == '__main__':
    lib.main()
