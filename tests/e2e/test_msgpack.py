#!/usr/bin/python3
"""A client that has only a MessagePack codec and docs/PROTOCOL.md."""
import os
import signal
import socket
import sys

import lib

try:
    import msgpack
except ImportError:  # Debian: python3-msgpack
    print('skipped: python3-msgpack is not installed')
    sys.exit(77)


class Peer:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(lib.LIMIT)
        self.socket.connect(str(path))
        self.unpacker = msgpack.Unpacker(raw=False)
        self.replies = {}
        self.id = 0

    def call(self, method, **params):
        return self.reply(self.send(method, **params))

    def send(self, method, **params):
        self.id += 1
        self.socket.sendall(msgpack.packb([0, self.id, method, [params]], use_bin_type=True))
        return self.id

    def reply(self, request):
        while True:
            if request in self.replies:
                return self.replies.pop(request)
            for message in self.unpacker:
                if message[0] == 1:
                    self.replies[message[1]] = message[2], message[3]
            if request in self.replies:
                continue
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError('the supervisor hung up')
            self.unpacker.feed(data)


class Protocol(lib.Test):
    def setUp(self):
        super().setUp()
        path = self.instance.dir / 'run/parking-lot/e2e/pl.sock'
        self.peer = Peer(path)
        self.addCleanup(self.peer.socket.close)

    def test_submit_and_result(self):
        error, hello = self.peer.call('hello', proto=1, client='python test')
        self.assertIsNone(error)
        self.assertEqual(hello['proto'], 1)
        error, ticket = self.peer.call('job.submit', pool='quick', type='echo', payload=b'\x00hi')
        self.assertIsNone(error)
        self.assertEqual(len(ticket['id']), 16)
        error, outcome = self.peer.call('job.wait', id=ticket['id'], result=True)
        self.assertIsNone(error)
        self.assertEqual((outcome['outcome'], outcome['result']), (1, b'\x00hi'))

    def test_run_is_answered_by_the_outcome(self):
        self.peer.call('hello', proto=1)
        error, outcome = self.peer.call('job.run', pool='quick', type='echo', payload=b'\x00hi')
        self.assertIsNone(error)
        self.assertEqual((outcome['outcome'], outcome['result']), (1, b'\x00hi'))
        self.assertEqual(self.peer.call('job.result', id=outcome['id'])[1], outcome)

    def test_run_ends_with_its_job(self):
        self.peer.call('hello', proto=1)
        request = self.peer.send('job.run', pool='quick', type='echo', hold=True)
        held = lib.until('the job is there', lambda: self.peer.call('job.list', pool='quick')[1]['jobs'])
        self.assertEqual(len(held), 1)
        self.assertIsNone(self.peer.call('job.cancel', id=held[0]['id'])[0])
        error, outcome = self.peer.reply(request)
        self.assertIsNone(error)
        self.assertEqual((outcome['id'], outcome['outcome']), (held[0]['id'], 5))

    def test_run_that_is_refused(self):
        self.peer.call('hello', proto=1)
        error, result = self.peer.call('job.run', pool='quick', type='no such')
        self.assertIsNone(result)
        self.assertEqual(error[0], self.peer.call('job.submit', pool='quick', type='no such')[0][0])
        error, result = self.peer.call('job.run', pool='quick', type='echo', dry_run=True)
        self.assertIsNone(result)
        self.assertIn('dry_run', error[1])
        self.assertEqual(self.peer.call('job.list')[1]['jobs'], [])

    def test_one_end_answers_many_waits(self):
        self.peer.call('hello', proto=1)
        ids = [self.peer.call('job.submit', pool='quick', type='echo', hold=True)[1]['id']
               for _ in range(2)]
        waits = [self.peer.send('job.wait', id=ids[0]), self.peer.send('job.wait', ids=ids),
                 self.peer.send('job.wait', ids=[ids[0], ids[0]]), self.peer.send('job.wait', id=ids[0])]
        self.assertIsNone(self.peer.call('job.release', id=ids[0])[0])
        for wait in waits:
            error, outcome = self.peer.reply(wait)
            self.assertIsNone(error)
            self.assertEqual(outcome['id'], ids[0])
        self.assertIsNone(self.peer.call('job.cancel', id=ids[1])[0])
        self.assertEqual(self.peer.replies, {})

    def again(self):
        """A new connection of the same client."""
        self.peer.socket.close()
        def connect():
            try:
                return Peer(self.instance.dir / 'run/parking-lot/e2e/pl.sock')
            except OSError:
                return None
        self.peer = lib.until('a supervisor answers', connect)
        self.addCleanup(self.peer.socket.close)
        return self.peer.call('hello', proto=1, client_id=b'the same client.')

    def numbered(self, method='job.submit', **params):
        error, reply = self.peer.call(method, **{'pool': 'quick', 'type': 'echo', **params})
        self.assertIsNone(error)
        return reply

    def kill_supervisor(self):
        old = self.instance.supervisor_pid()
        os.kill(old, signal.SIGKILL)
        lib.until('a new one serves', lambda: self.instance.plctl('status').code == 0 and
                  self.instance.supervisor_pid() != old)

    def test_a_repeated_submit_is_the_same_job(self):
        self.again()
        first = self.numbered(seq=7, payload=b'x', hold=True)
        self.assertFalse(first.get('duplicate', False))
        self.again()
        repeat = self.numbered(seq=7, payload=b'x', hold=True)
        self.assertEqual((repeat['id'], repeat['duplicate']), (first['id'], True))
        error, _ = self.peer.call('job.submit', pool='quick', type='echo', seq=7, payload=b'y')
        self.assertEqual(error[0], -23)
        self.assertNotEqual(self.numbered(seq=8, payload=b'x', hold=True)['id'], first['id'])
        error, _ = self.peer.call('job.submit', pool='nowhere', type='echo', seq=9)
        self.assertEqual(error[0], -14)
        self.assertFalse(self.numbered(seq=9).get('duplicate', False))  # a refusal took no number

    def test_killed_between_submit_and_answer(self):
        """Whatever became of the first submit, its repeat leaves exactly one job."""
        self.again()
        self.instance.plctl('pool', 'pause', 'quick', code=0)
        self.peer.send('job.submit', pool='quick', type='echo', seq=1, payload=b'x')
        lib.until('it is queued', lambda: self.peer_jobs() == 1)
        self.kill_supervisor()  # its answer was never read
        self.again()
        repeat = self.numbered(seq=1, payload=b'x')
        self.assertTrue(repeat['duplicate'])
        jobs = self.peer.call('job.list', pool='quick')[1]['jobs']
        self.assertEqual([job['id'] for job in jobs], [repeat['id']])

    def peer_jobs(self):
        return len(self.instance.plctl('ps', '--json', code=0).json())

    def test_repeat_of_an_ended_job_after_a_kill(self):
        self.again()
        outcome = self.numbered('job.run', seq=3, payload=b'once')
        self.kill_supervisor()
        self.again()
        repeat = self.numbered(seq=3, payload=b'once')
        self.assertEqual((repeat['id'], repeat['duplicate'], repeat['state']),
                         (outcome['id'], True, 6))
        self.assertEqual(self.numbered('job.run', seq=3, payload=b'once'), outcome)

    def test_errors_have_three_parts(self):
        self.peer.call('hello', proto=1)
        error, result = self.peer.call('job.submit', pool='nowhere', type='echo')
        self.assertIsNone(result)
        self.assertEqual(error[0], -14)
        self.assertIn('nowhere', error[1])

    def test_describe(self):
        self.peer.call('hello', proto=1)
        error, api = self.peer.call('api.describe')
        self.assertIsNone(error)
        self.assertIn('job.submit', {method['name'] for method in api['methods']})


if __name__ == '__main__':
    lib.main()
