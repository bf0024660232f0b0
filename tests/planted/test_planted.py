#!/usr/bin/python3
"""planted.py itself: what it calls caught, missed and broken, and that a list which does not fit is an error."""
import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import planted

ENTRY = {'name': 'a-bug', 'part': 'core', 'file': 'a.c', 'old': 'good', 'new': 'bad', 'promise': 'it is good',
         'tests': ['one']}


class FakeBench:
    """Builds when it is told to; a test ends as it is told."""

    def __init__(self, tree, ends, builds=True):
        self.tree, self.ends, self.builds, self.seen = tree, ends, builds, []

    def build(self, _):
        self.seen.append((self.tree / 'a.c').read_text())
        return '' if self.builds else 'a.c:1: error'

    def run(self, spec):
        return planted.Done(self.ends[spec], 'test_a.c:7:F:a:b:0: Assertion failed\n', 1.0)


class Planted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = pathlib.Path(folder.name)
        (self.tree / 'a.c').write_text('this is good\n')

    def verdict(self, ends, builds=True, **more):
        bench = FakeBench(self.tree, ends, builds)
        verdict = planted.plant(bench, planted.Bug({**ENTRY, 'tests': list(ends), **more}))
        self.assertEqual(bench.seen, ['this is bad\n'])
        self.assertEqual((self.tree / 'a.c').read_text(), 'this is good\n')
        return verdict.word

    def test_verdicts(self):
        self.assertEqual(self.verdict({'one': 1}), 'caught')
        self.assertEqual(self.verdict({'one': -signal.SIGABRT}), 'caught')
        self.assertEqual(self.verdict({'one': 0}), 'MISSED')
        self.assertEqual(self.verdict({'one': 1, 'two': 0}), 'MISSED')
        self.assertEqual(self.verdict({'one': 77}), 'BROKEN')
        self.assertEqual(self.verdict({'one': 1}, builds=False), 'BROKEN')

    def test_some_have_more_than_one_chance(self):
        self.assertEqual(self.verdict({'one': 0}, chances=3), 'MISSED')
        self.assertEqual(self.verdict({'one': 1}, chances=3), 'caught')

    def test_a_hang_counts_only_when_it_may(self):
        self.assertEqual(self.verdict({'one': None}), 'MISSED')
        self.assertEqual(self.verdict({'one': None}, hang=True), 'caught')

    def refused(self, entry, text):
        with self.assertRaisesRegex(planted.Error, text):
            planted.Bug(entry).texts(self.tree)

    def test_a_list_that_does_not_fit(self):
        self.refused({**ENTRY, 'old': 'gone'}, '0 times')
        (self.tree / 'a.c').write_text('good good\n')
        self.refused(ENTRY, '2 times')
        self.refused({**ENTRY, 'file': 'b.c'}, 'no b.c')
        self.refused({**ENTRY, 'quik': True}, 'quik')
        self.refused({**ENTRY, 'tests': []}, 'a-bug')

    def test_two_texts_of_one_file(self):
        (self.tree / 'a.c').write_text('good, and fine\n')
        bug = planted.Bug({**ENTRY, 'also': [{'old': 'fine', 'new': 'foul'}]})
        self.assertEqual(list(bug.texts(self.tree).values()), ['bad, and foul\n'])

    def test_a_test_leaves_nothing_behind(self):
        """Neither beyond its time nor at its end, whatever it started."""
        planted.become_reaper()
        bench = planted.Bench.__new__(planted.Bench)
        bench.build_dir = self.tree
        mark = self.tree / 'pid'
        command = ['sh', '-c', f'setsid sleep 1000 & echo $! > {mark}; exec sleep 1000']
        done = bench.run_in(command, dict(os.environ), None, 0.5, time.monotonic())
        planted.end_children()
        self.assertIsNone(done.status)
        self.assertFalse(os.path.exists(f'/proc/{int(mark.read_text())}'))

    def test_the_seed_says_which(self):
        bugs = [planted.Bug({**ENTRY, 'name': f'b{i}', 'quick': i % 2 == 0}) for i in range(20)]

        def drawn(seed):
            sys.argv = ['planted.py', '--sample', '3', '--seed', str(seed)]
            with contextlib.redirect_stdout(io.StringIO()):
                return [bug.name for bug in planted.choose(bugs, planted.arguments())]
        self.assertEqual(drawn(5), drawn(5))
        self.assertEqual(len(set(drawn(5))), 3)
        self.assertTrue(all(int(name[1:]) % 2 == 0 for seed in range(9) for name in drawn(seed)))

    def test_a_copy_follows_the_tree(self):
        to = self.tree.parent / (self.tree.name + '.copy')
        self.addCleanup(subprocess.run, ['rm', '-r', str(to)], check=True)
        (self.tree / 'build' / 'meson-private').mkdir(parents=True)
        (self.tree / 'build' / 'x').write_text('x')
        (self.tree / 'work').mkdir()
        (self.tree / 'work' / planted.MARK).touch()
        planted.copy_tree(self.tree, to)
        self.assertEqual([path.name for path in to.rglob('*')], ['a.c'])
        before = (to / 'a.c').stat().st_mtime_ns
        (self.tree / 'b.c').write_text('b')
        planted.copy_tree(self.tree, to)
        self.assertEqual((to / 'a.c').stat().st_mtime_ns, before)
        (self.tree / 'b.c').unlink()
        planted.copy_tree(self.tree, to)
        self.assertEqual([path.name for path in to.rglob('*')], ['a.c'])


if __name__ == '__main__':
    unittest.main()
