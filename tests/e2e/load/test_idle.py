"""300 idle connections and 8 worker processes: everything answers, everybody works."""
import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent),
                str(pathlib.Path(__file__).resolve().parent.parent)]
import lib
import wire

CONFIG = """\
version: 1
name: load
pools:
  p:
    max_units: 8
    max_queue_depth: 5000
    queue: memory
    workers:
      - {name: echo, kind: cpu, replicas: 8, handles: [echo], executor: {plugin: echo}}
"""
IDLE = 300
JOBS = 2000


class Idle(lib.Test):
    config = CONFIG

    def test_many_idle(self):
        path = wire.socket_of(self.instance)
        control = wire.Client(path)
        lib.until('8 workers are ready', lambda: sum(
            worker['state'] == 'idle'
            for worker in control.call('worker.list')['workers']) == 8)
        idle = [wire.Client(path) for _ in range(IDLE)]
        self.assertEqual(control.call('instance.status')['clients'], IDLE + 1)

        # All are queued before the first starts, so that every worker has its share.
        control.call('pool.pause', pool='p')
        jobs = []
        for start in range(0, JOBS, 50):
            numbers = [(control.send('job.submit', type='echo', payload=b'%d' % i), i)
                       for i in range(start, start + 50)]
            jobs += [(control.reply(number)['id'], i) for number, i in numbers]
        self.assertEqual(len({job for job, _ in jobs}), JOBS)
        control.call('pool.resume', pool='p')
        for start in range(0, JOBS, 50):
            numbers = [(control.send('job.wait', id=job, result=True), i)
                       for job, i in jobs[start:start + 50]]
            for number, i in numbers:
                ended = control.reply(number)
                self.assertEqual((ended['outcome'], ended['result']), (1, b'%d' % i))

        done = {w['name']: w['done_total'] for w in control.call('worker.list')['workers']}
        self.assertEqual(sum(done.values()), JOBS, done)
        self.assertEqual(len(done), 8)
        self.assertTrue(all(done.values()), done)
        for client in idle:  # each is still served
            self.assertEqual(client.run(b'late')['result'], b'late')
            client.close()
        lib.until('the idle clients are gone',
                  lambda: control.call('instance.status')['clients'] == 1)
        control.close()


if __name__ == '__main__':
    unittest.main(verbosity=2)
