"""What clients asked and were told, and whether a scheduler that keeps its word could have said so.

Every call is an interval: between `begin` and `end` it took effect, or, when the connection broke,
at any time from `begin` on, or never. One call precedes another only when it had ended before the
other began. The rules, for each job:

  submit    an acknowledged job is never unknown again, until an acknowledged mailbox.ack removes it
  outcome   every reply that tells how it ended tells the same; what has ended stays ended
  cancel    an acknowledged cancel decides: the outcome is `cancelled`; and none is without a cancel
  ack       what was removed stays removed
  result    is that of the job's kind (Expected)
  runs      what the programs wrote (witness.c): no start after an outcome or a removal was told, an
            at_most_once job starts once at most, nothing runs beside itself

A memory pool promises this from one power cut to the next, a durable pool always.
"""
import collections
import pathlib

SUCCEEDED, FAILED, CRASHED, TIMED_OUT, CANCELLED = 1, 2, 3, 4, 5
ENDED = 6  # the state

# What a call was answered with, beside what it asked for.
BROKEN, UNKNOWN, OTHER = 'broken', 'unknown', 'other'
TOLD, LIVE, DONE = 'told', 'live', 'done'  # an outcome; a state that is no end; it was done

Call = collections.namedtuple('Call', 'begin end method answer outcome')
# outcome: (outcome, attempt, finished_at_ms, exit_code, result or None where none was asked for,
#           why: for people)


class Job:
    """One submit, and all that was said about it afterwards."""

    def __init__(self, tag, kind, pool, begin, payload=b'', cancellable=True):
        self.tag, self.kind, self.pool, self.begin = tag, kind, pool, begin
        self.payload, self.cancellable, self.stubborn = payload, cancellable, False
        self.id, self.end = None, None  # set by the acknowledgement
        self.calls = []

    def add(self, begin, end, method, answer, outcome=None):
        self.calls.append(Call(begin, end, method, answer, outcome))


def outcome_of(reply, with_result):
    return (reply['outcome'], reply.get('attempt', 0), reply.get('finished_at_ms', 0),
            reply.get('exit_code', -1), reply.get('result', b'') if with_result else None,
            f"signal {reply.get('signal', 0)} {reply.get('reason', '')} {reply.get('error', '')}")


def same(one, other):
    return one[:4] == other[:4] and (one[4] is None or other[4] is None or one[4] == other[4])


class Checker:
    """@cuts: [(begin, end)] of power cuts; @durable: names of durable pools; @runs: FOLDER of
    witness.c or None."""

    def __init__(self, cuts, durable, runs=None):
        self.cuts, self.durable = cuts, durable
        self.runs = pathlib.Path(runs) if runs else None
        self.violations = []

    def wrong(self, job, what):
        self.violations.append(f'{job.tag} ({job.kind}, {job.pool}, '
                               f'{job.id.hex() if job.id else "not acknowledged"}): {what}')

    def excused(self, job, begin, end):
        """Whether the job is of a pool that may have been cut off in this time."""
        return job.pool not in self.durable and any(
            cut[1] > begin and cut[0] < end for cut in self.cuts)

    def check(self, job, final=False):
        """@final: its outcome must be known, unless it was removed."""
        calls = sorted(job.calls, key=lambda call: call.begin)
        if job.id is not None:
            self.check_presence(job, calls)
            self.check_outcomes(job, calls)
            if final:
                self.check_final(job, calls)
        self.check_runs(job, calls)

    def check_presence(self, job, calls):
        acks = [call for call in calls if call.method == 'ack' and call.answer in (DONE, BROKEN)]
        removed = min((call.end for call in acks if call.answer == DONE), default=None)
        for call in calls:
            if call.answer == UNKNOWN:
                if (call.begin > job.end and not any(ack.begin < call.end for ack in acks) and
                        not self.excused(job, job.begin, call.end)):
                    self.wrong(job, f'acknowledged, then unknown to {call.method}')
            elif removed is not None and call.begin > removed and call.answer in (TOLD, LIVE):
                self.wrong(job, f'removed, then there again for {call.method}')

    def check_outcomes(self, job, calls):
        told = [call for call in calls if call.answer == TOLD]
        cancels = [call for call in calls if call.method == 'cancel']
        for call in told:
            if not same(told[0].outcome, call.outcome):
                self.wrong(job, f'two outcomes: {told[0].outcome} to {told[0].method}, '
                                f'{call.outcome} to {call.method}')
        for call in calls:
            if call.answer == LIVE and any(
                    before.end < call.begin and not self.excused(job, before.begin, call.end)
                    for before in told):
                self.wrong(job, f'it had ended, and lives for {call.method}')
        for call in told:
            self.check_expected(job, call.outcome)
            if call.outcome[0] == CANCELLED and not any(
                    cancel.begin < call.end for cancel in cancels):
                self.wrong(job, 'cancelled, and nobody had asked for it')
            for cancel in cancels:
                if (cancel.answer == DONE and call.outcome[0] != CANCELLED and
                        not self.excused(job, min(cancel.begin, call.begin),
                                         max(cancel.end, call.end))):
                    self.wrong(job, f'the cancel was acknowledged, the outcome is {call.outcome}')

    def check_expected(self, job, outcome):
        number, attempts, _, code, result = outcome[:5]
        good = {
            'echo': number == SUCCEEDED and result in (None, job.payload),
            'run': number == SUCCEEDED and code == 0 and result in (None, job.tag.encode()),
            'doomed': number == FAILED and code == 3,
            'late': number == TIMED_OUT,
            'once': ((number == SUCCEEDED and result in (None, job.tag.encode())) or
                     number == FAILED) and attempts <= 1,
        }
        if number != CANCELLED and not good[job.kind]:
            self.wrong(job, f'ended as {outcome}')

    def check_final(self, job, calls):
        if not any(call.answer == TOLD or (call.method == 'ack' and call.answer in (DONE, BROKEN))
                   for call in calls) and not self.excused(job, job.begin, float('inf')):
            self.wrong(job, 'acknowledged, and without an outcome')

    def check_runs(self, job, calls):
        if self.runs is None or job.kind not in ('run', 'doomed', 'once'):
            return
        try:
            lines = (self.runs / job.tag).read_text(encoding='ascii').splitlines()
        except FileNotFoundError:
            lines = []
        starts = [int(line.split()[1]) for line in lines if line.startswith('S ')]
        if job.kind == 'once' and len(starts) > 1:
            self.wrong(job, f'at_most_once, and started {len(starts)} times')
        over = [call.end for call in calls if call.answer == TOLD]
        over += [call.end for call in calls if call.method == 'ack' and call.answer == DONE]
        for start in starts:
            if over and start > min(over) and not self.excused(job, job.begin, float('inf')):
                self.wrong(job, 'started after its outcome was told')
        if any(call.answer == TOLD and call.outcome[0] == SUCCEEDED for call in calls) and not any(
                line.startswith('E ') for line in lines):
            self.wrong(job, 'succeeded, and no run of it came to its end')
