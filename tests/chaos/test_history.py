#!/usr/bin/python3
"""The checker of the campaign finds what it is there for."""
import pathlib
import tempfile
import unittest

import history
from history import DONE, LIVE, TOLD, UNKNOWN, BROKEN, Job

GOOD = (1, 1, 500, 0, b'tag')
CUT = (50, 60)


def job(kind='run', pool='durable', payload=b''):
    made = Job('tag', kind, pool, 0, payload)
    made.id, made.end = b'\1' * 16, 10
    return made


class History(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.runs = pathlib.Path(folder.name)
        self.run_lines('S 20', 'E 25')

    def run_lines(self, *lines):
        (self.runs / 'tag').write_text('\n'.join(lines) + '\n', encoding='ascii')

    def violations(self, made, *calls, final=False, cuts=()):
        for call in calls:
            made.add(*call)
        checker = history.Checker(list(cuts), {'durable'}, self.runs)
        checker.check(made, final)
        return checker.violations

    def test_good_histories(self):
        self.assertEqual(self.violations(job(), (20, 30, 'get', LIVE), (30, 40, 'wait', TOLD, GOOD),
                                         (50, 60, 'result', TOLD, GOOD), final=True), [])
        self.assertEqual(self.violations(job(), (30, 40, 'wait', TOLD, GOOD), (50, 60, 'ack', DONE),
                                         (70, 80, 'get', UNKNOWN), final=True), [])
        self.assertEqual(self.violations(job(), (30, 40, 'wait', TOLD, GOOD),
                                         (50, 60, 'ack', BROKEN), (70, 80, 'get', UNKNOWN)), [])
        self.assertEqual(self.violations(job(), (20, 70, 'ack', DONE), (30, 40, 'get', UNKNOWN)),
                         [])
        # Neither a call that was under way nor a broken one says anything about order.
        self.assertEqual(self.violations(job(), (20, 60, 'get', LIVE), (30, 40, 'wait', TOLD, GOOD)),
                         [])
        self.assertEqual(self.violations(job(), (20, 30, 'cancel', BROKEN),
                                         (50, 60, 'wait', TOLD, (5, 1, 500, -1, b''))), [])

    def test_lost(self):
        self.assertTrue(self.violations(job(), (20, 30, 'get', UNKNOWN)))
        self.assertTrue(self.violations(job(), (20, 30, 'get', LIVE), final=True))
        self.assertTrue(self.violations(job(), (20, 30, 'get', UNKNOWN), cuts=[CUT]))
        self.assertTrue(self.violations(job(pool='soft'), (20, 30, 'get', UNKNOWN)))

    def test_a_memory_pool_may_forget_over_a_power_cut(self):
        self.assertEqual(self.violations(job(pool='soft'), (70, 80, 'get', UNKNOWN), final=True,
                                         cuts=[CUT]), [])
        self.assertTrue(self.violations(job(), (70, 80, 'get', UNKNOWN), cuts=[CUT]))

    def test_two_outcomes(self):
        other = (1, 2, 700, 0, b'tag')
        self.assertTrue(self.violations(job(), (30, 40, 'wait', TOLD, GOOD),
                                        (50, 60, 'wait', TOLD, other)))
        self.assertTrue(self.violations(job(), (30, 40, 'wait', TOLD, GOOD), (50, 60, 'get', LIVE)))

    def test_wrong_results(self):
        self.assertTrue(self.violations(job(), (30, 40, 'wait', TOLD, (1, 1, 500, 0, b'gat'))))
        self.assertTrue(self.violations(job(), (30, 40, 'wait', TOLD, (3, 1, 500, -1, b''))))
        self.assertTrue(self.violations(job('doomed'), (30, 40, 'wait', TOLD, GOOD)))
        self.assertTrue(self.violations(job('late'), (30, 40, 'wait', TOLD, GOOD)))
        self.assertTrue(self.violations(job('echo', payload=b'x'), (30, 40, 'wait', TOLD, GOOD)))

    def test_the_stop_decides(self):
        self.assertTrue(self.violations(job(), (20, 30, 'cancel', DONE),
                                        (50, 60, 'wait', TOLD, GOOD)))
        self.assertTrue(self.violations(job(), (50, 60, 'wait', TOLD, (5, 1, 500, -1, b''))))

    def test_removed_stays_removed(self):
        self.assertTrue(self.violations(job(), (30, 40, 'wait', TOLD, GOOD), (50, 60, 'ack', DONE),
                                        (70, 80, 'get', TOLD, GOOD)))

    def test_runs(self):
        self.run_lines('S 20', 'E 25', 'S 45')
        self.assertTrue(self.violations(job(), (30, 40, 'wait', TOLD, GOOD)))
        self.run_lines('S 20', 'S 25', 'E 28')
        self.assertTrue(self.violations(job('once'), (30, 40, 'wait', TOLD, GOOD)))
        self.run_lines('S 20')
        self.assertTrue(self.violations(job(), (30, 40, 'wait', TOLD, GOOD)))


if __name__ == '__main__':
    unittest.main()
