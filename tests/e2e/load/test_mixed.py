"""10,000 submissions of mixed cost from 8 client processes on a pool of 100 units.

bench/start_delay does it, with an instance of its own, and judges: never over capacity by the
sampled ledger, by the order of events, and by what the jobs recorded; one outcome each; started in
order; 95 % of the parked jobs within ten times the bound of 50 ms.
"""
import json
import os
import subprocess
import sys
import unittest

SEED = os.environ.get('PL_TEST_SEED', '20260714')


class Mixed(unittest.TestCase):
    def test_mixed_costs(self):
        print('seed', SEED)
        done = subprocess.run([os.environ['PL_START_DELAY'], '--check', '--json', '--runs', '1',
                               '--jobs', '10000', '--clients', '8', '--seed', SEED],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              timeout=240, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        figures = {name: figure['value']
                   for name, figure in json.loads(done.stdout)['figures'].items()}
        print(figures, file=sys.stderr)
        for name in ('sampled', 'of_ledger', 'by_events', 'by_stamps'):
            self.assertLessEqual(figures['run1_peak_' + name], 100)
        # A test that never comes near the limit would show nothing.
        self.assertGreaterEqual(figures['run1_peak_of_ledger'], 95)
        self.assertGreaterEqual(figures['run1_parked'], 5000)


if __name__ == '__main__':
    unittest.main(verbosity=2)
