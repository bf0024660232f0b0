#!/usr/bin/python3
"""Planted bugs: does the suite notice when a protocol is broken?

    planted.py --list                        the bugs, and what each of them breaks
    planted.py --check [BUILD-DIR]           only: does every entry still fit the tree (and the names of its tests)?
    planted.py                               plants each of them in turn
    planted.py --only NAME …                 plants these
    planted.py --sample N [--seed S]         plants N of those marked `quick`, drawn by S; prints S
      --jobs N       compilers at once
      --work DIR     keep tree and build there from run to run; else a temporary directory, removed at the end

planted.toml beside this file says what is planted. Each entry replaces one text of one file, which must be there
exactly once: a list that no longer fits the code is an error, so it cannot rot. The tree is copied, built, and the
named tests must pass; then, for each entry: the text is replaced, what the tests need is built, the tests run, the
text is put back. The bug is *caught* when every named test fails. A build that breaks is a mistake in the entry and
an error, never a catch. A test beyond its time limit (many times what it took unmodified) is caught only when the
entry says `hang = true`. Where two threads must really run at once `chances = N` lets a test try so many times.

Exit: 0 all caught, 1 some missed, 2 an error in the list, the build or the unmodified tests.
"""
import argparse
import ctypes
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIST = HERE / 'planted.toml'
MARK = '.planted'  # of a working directory: it is not copied into another one
KEYS = {'name', 'part', 'file', 'old', 'new', 'promise', 'tests', 'quick', 'hang', 'chances', 'also'}
SETUP = ['-Dbenchmarks=false', '-Dman=disabled']
# What a test waits for at most. A bug often shows as something that never comes.
WAIT_LIMIT = '20'
PR_SET_CHILD_SUBREAPER = 36


class Error(Exception):
    """The list, the build or the unmodified tests are wrong: nothing is known about the bugs."""


def say(text):
    print(text, flush=True)


# ---- the list ----

class Edit:
    def __init__(self, table):
        self.file, self.old, self.new = table['file'], table['old'], table['new']

    def planted(self, text):
        """@text with the bug. The text to be replaced must be there once."""
        found = text.count(self.old)
        if found != 1:
            raise Error(f'{self.file}: the text to be replaced is there {found} times, not once:\n{self.old}')
        return text.replace(self.old, self.new)


class Bug:
    def __init__(self, table):
        unknown = set(table) - KEYS
        missing = {'name', 'part', 'file', 'old', 'new', 'promise', 'tests'} - set(table)
        if unknown or missing or not table['tests']:
            raise Error(f'{table.get("name", table)}: unknown keys {sorted(unknown)}, missing {sorted(missing)}')
        self.name, self.part, self.promise = table['name'], table['part'], table['promise']
        self.tests = table['tests']
        self.quick, self.hang = table.get('quick', False), table.get('hang', False)
        self.chances = table.get('chances', 1)
        self.edits = [Edit(table)] + [Edit({'file': table['file'], **more}) for more in table.get('also', [])]

    def texts(self, root):
        """{file: its text with the bug}."""
        done = {}
        for edit in self.edits:
            path = root / edit.file
            if not path.is_file():
                raise Error(f'{self.name}: there is no {edit.file}')
            try:
                done[path] = edit.planted(done.get(path) or path.read_text(encoding='utf-8'))
            except Error as error:
                raise Error(f'{self.name}: {error}') from None
        return done


def read_list(root):
    with open(LIST, 'rb') as file:
        bugs = [Bug(table) for table in tomllib.load(file)['planted']]
    names = [bug.name for bug in bugs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise Error(f'named twice: {sorted(twice)}')
    wrong = []
    for bug in bugs:
        try:
            bug.texts(root)
        except Error as error:
            wrong.append(str(error))
    if wrong:
        raise Error('\n'.join(wrong))
    return bugs


def choose(bugs, options):
    if options.only:
        unknown = set(options.only) - {bug.name for bug in bugs}
        if unknown:
            raise Error(f'no such bug: {sorted(unknown)}')
        return [bug for bug in bugs if bug.name in options.only]
    if options.sample is None:
        return bugs
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    quick = [bug for bug in bugs if bug.quick]
    say(f'seed {seed}: {min(options.sample, len(quick))} of {len(quick)} quick ones')
    return random.Random(seed).sample(quick, min(options.sample, len(quick)))


# ---- processes ----

def become_reaper():
    """What a broken instance leaves behind becomes a child of ours, and is ended with its test."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Error('prctl: no child subreaper')


def children():
    found, own = [], os.getpid()
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            with open(f'/proc/{entry}/stat', encoding='utf-8', errors='replace') as file:
                if int(file.read().rpartition(')')[2].split()[1]) == own:
                    found.append(int(entry))
        except OSError:
            continue
    return found


def end_children():
    while left := children():
        for pid in left:
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in left:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


class Done:
    """How a test ended. status: None beyond the time limit."""

    def __init__(self, status, output, seconds):
        self.status, self.output, self.seconds = status, output, seconds

    def reason(self):
        """The line that says it best."""
        if self.status is None:
            return 'time limit'
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        for pattern in (r'\.[ch]:\d+:[FE]:', r'ThreadSanitizer: ', r'assert.*failed|failed assert', r'^AssertionError',
                        r'^\w+(\.\w+)*(Error|Expired)\b', r'^(FAIL|ERROR): '):
            hits = [line for line in lines if re.search(pattern, line)]
            if hits:
                return re.sub(r'^.*/', '', hits[0])[:110] if pattern.startswith(r'\.') else hits[0][:110]
        ended = f'signal {-self.status}' if self.status < 0 else f'exit {self.status}'
        return f'{ended}: {lines[-1][:100]}' if lines else ended


# ---- the tree ----

def copy_tree(source, to):
    """Only what changed is written, so that ninja builds only that. Build directories stay behind."""
    wanted = set()
    for folder, folders, files in os.walk(source):
        here = pathlib.Path(folder)
        folders[:] = [name for name in folders if not name.startswith('.') and name != '__pycache__' and
                      not (here / name / 'meson-private').exists() and not (here / name / MARK).exists()]
        for name in files:
            path = here / name
            if not path.is_file() or path.is_symlink():
                continue
            target = to / path.relative_to(source)
            wanted.add(target)
            if target.is_file() and target.read_bytes() == path.read_bytes():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            os.utime(target)
    for folder, _, files in os.walk(to):
        for path in (pathlib.Path(folder) / name for name in files):
            if path not in wanted:
                path.unlink()


class Bench:
    """A copy of the tree with its build directory."""

    def __init__(self, work, jobs):
        self.work, self.tree, self.build_dir = work, work / 'tree', work / 'build'
        self.jobs, self.usual = jobs, {}
        work.mkdir(parents=True, exist_ok=True)
        (work / MARK).touch()
        copy_tree(ROOT, self.tree)
        command = ['meson', 'setup', str(self.build_dir), str(self.tree), *SETUP]
        if (self.build_dir / 'build.ninja').exists():
            command = ['ninja', '-C', str(self.build_dir), 'build.ninja']
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Error(f'meson: {done.stdout[-3000:]}{done.stderr[-1000:]}')
        self.read_tests()

    def read_tests(self):
        self.tests, self.files = read_tests(self.build_dir)

    def test(self, spec):
        name, *args = spec.split()
        if name not in self.tests:
            raise Error(f'there is no test {name} in this build')
        return self.tests[name], args

    def build(self, bug_tests):
        """What the tests need. Return: what the compiler said when it failed, else ''."""
        targets = sorted({target for spec in bug_tests for target in self.targets(spec)})
        done = subprocess.run(['ninja', '-C', str(self.build_dir), '-j', str(self.jobs), *targets],
                              capture_output=True, text=True, check=False)
        return '' if done.returncode == 0 else done.stdout[-3000:] + done.stderr[-1000:]

    def targets(self, spec):
        for target in self.test(spec)[0]['depends']:
            for name in self.files.get(target, ()):
                yield os.path.relpath(name, self.build_dir)

    def run(self, spec):
        """Runs one test to its end, and ends what it leaves."""
        test, args = self.test(spec)
        limit = 60 + 8 * self.usual[spec] if spec in self.usual else max(600, test['timeout'])
        scratch = tempfile.mkdtemp(prefix='plp-')
        os.chmod(scratch, 0o755)  # some tests change to other users
        env = {**os.environ, **test['env'], 'PL_TEST_LIMIT': WAIT_LIMIT, 'TMPDIR': scratch}
        begun = time.monotonic()
        try:
            return self.run_in(test['cmd'] + args, env, test['workdir'], limit, begun)
        finally:
            end_children()
            shutil.rmtree(scratch, ignore_errors=True)

    def run_in(self, command, env, folder, limit, begun):
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, env=env, cwd=folder or self.build_dir, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)
            try:
                status = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = None
            log.seek(0)
            return Done(status, log.read().decode(errors='replace'), time.monotonic() - begun)


def read_tests(build_dir):
    """Tests by name, and the files of each target."""
    info = build_dir / 'meson-info'
    tests = json.loads((info / 'intro-tests.json').read_text(encoding='utf-8'))
    targets = json.loads((info / 'intro-targets.json').read_text(encoding='utf-8'))
    return {test['name']: test for test in tests}, {target['id']: target['filename'] for target in targets}


# ---- the campaign ----

def check_unmodified(bench, bugs):
    specs = sorted({spec for bug in bugs for spec in bug.tests})
    say(f'building the tree as it is, for {len(specs)} tests')
    said = bench.build(specs)
    if said:
        raise Error(f'the tree as it is does not build:\n{said}')
    for spec in specs:
        done = bench.run(spec)
        bench.usual[spec] = done.seconds
        say(f'  as it is: {spec}: {"passes" if done.status == 0 else "FAILS"} in {done.seconds:.1f} s')
        if done.status != 0:
            raise Error(f'{spec} does not pass (or skips) in the tree as it is: {done.status}\n{done.output[-6000:]}')


class Verdict:
    def __init__(self, bug, word, why, seconds):
        self.bug, self.word, self.why, self.seconds = bug, word, why, seconds


def judge(bench, bug):
    """Runs the bug's tests against the tree with the bug."""
    begun, why = time.monotonic(), []
    said = bench.build(bug.tests)
    if said:
        return Verdict(bug, 'BROKEN', f'it does not build:\n{said}', time.monotonic() - begun)
    word = 'caught'
    for spec in bug.tests:
        for _ in range(bug.chances):
            done = bench.run(spec)
            if done.status != 0:
                break
        if done.status == 0:
            word = 'MISSED'
            why.append(f'{spec}: passes')
        elif done.status == 77:
            return Verdict(bug, 'BROKEN', f'{spec} is skipped', time.monotonic() - begun)
        elif done.status is None and not bug.hang:
            word = 'MISSED'
            why.append(f'{spec}: beyond its time limit, which this entry does not count')
        else:
            why.append(f'{spec.split()[-1]}: {done.reason()}')
    return Verdict(bug, word, '; '.join(why), time.monotonic() - begun)


def plant(bench, bug):
    texts = bug.texts(bench.tree)
    kept = {path: path.read_text(encoding='utf-8') for path in texts}
    try:
        for path, text in texts.items():
            path.write_text(text, encoding='utf-8')
        return judge(bench, bug)
    finally:
        for path, text in kept.items():
            path.write_text(text, encoding='utf-8')


def table(verdicts):
    width = max(len(verdict.bug.name) for verdict in verdicts)
    say('')
    for part in sorted({verdict.bug.part for verdict in verdicts}):
        say(f'{part}:')
        for verdict in verdicts:
            if verdict.bug.part == part:
                say(f'  {verdict.bug.name:{width}}  {verdict.word}  {verdict.seconds:5.0f} s  '
                    f'{verdict.why.splitlines()[0]}')


def campaign(bugs, options):
    work = pathlib.Path(options.work or tempfile.mkdtemp(prefix='pl-planted-')).resolve()
    verdicts = []
    try:
        bench = Bench(work, options.jobs)
        check_unmodified(bench, bugs)
        for bug in bugs:
            verdict = plant(bench, bug)
            verdicts.append(verdict)
            say(f'{verdict.word}  {bug.name}  ({verdict.seconds:.0f} s)  {verdict.why}')
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    table(verdicts)
    counts = {word: sum(verdict.word == word for verdict in verdicts) for word in ('caught', 'MISSED', 'BROKEN')}
    say(f'{len(verdicts)} planted: {counts["caught"]} caught, {counts["MISSED"]} missed, {counts["BROKEN"]} broken')
    return 2 if counts['BROKEN'] else 1 if counts['MISSED'] else 0


def check(bugs, build_dir):
    """Without building anything."""
    if build_dir is not None:
        tests, _ = read_tests(pathlib.Path(build_dir))
        unknown = sorted({spec.split()[0] for bug in bugs for spec in bug.tests} - set(tests))
        if unknown:
            raise Error(f'no such test: {unknown}')
    say(f'{len(bugs)} planted bugs fit the tree')
    return 0


def show(bugs):
    for bug in bugs:
        say(f'{bug.name}{" (quick)" if bug.quick else ""}: {bug.promise}')
        say(f'    {bug.part}, {", ".join(sorted({edit.file for edit in bug.edits}))}: caught by {", ".join(bug.tests)}')
    say(f'{len(bugs)} planted bugs, {sum(bug.quick for bug in bugs)} of them quick')
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--check', nargs='?', const='', metavar='BUILD-DIR')
    parser.add_argument('--only', nargs='+', metavar='NAME')
    parser.add_argument('--sample', type=int, metavar='N')
    parser.add_argument('--seed', type=int, metavar='S')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), metavar='N')
    parser.add_argument('--work', metavar='DIR')
    return parser.parse_args()


def main():
    options = arguments()
    try:
        bugs = read_list(ROOT)
        if options.list:
            return show(bugs)
        if options.check is not None:
            return check(bugs, options.check or None)
        become_reaper()
        return campaign(choose(bugs, options), options)
    except Error as error:
        say(f'planted: {error}')
        return 2


if __name__ == '__main__':
    sys.exit(main())
