#!/usr/bin/python3
"""No option is a silent no-op: what the table fills in is read by somebody, or its row says LATER.

A row that is neither is accepted, checked, printed and forgotten: the worst thing to do to a wish.
Readers are found by the name of the field, so one that goes by the same name hides a missing one;
what is found is always there.

    check_options.py ROOT           check the tree
    check_options.py ROOT --self    check that the checker finds a row that nobody reads
"""
import pathlib
import re
import sys

ROW = re.compile(r'\bR\((?:p )?"([^"]+)", (\w+), (?:ROOT|POOL|LANE|GROUP|DEVICE|TENANT|HOOK|SECRET|base)'
                 r'\(([^)]*)\),((?:"(?:[^"\\]|\\.)*"|[^"()]|\([^()]*\))*)\)')
WORDS = re.compile(r'const struct pl_word (pl_words_\w+)\[\] = \{(.*?)\n\};', re.DOTALL)
WORD = re.compile(r'\{"[^"]+", [^,]+, ([^}]+)\}')

# Where a value may be used: below these folders, and by what config/ itself turns into something else.
READERS = ('supervisor/', 'tools/', 'config/webhooks.c', 'config/secrets.c')

# option: why nobody has to read it
FINE = {
    'pools.*.description': 'for people',
    'pools.*.mailbox.storage.type': 'as the queue: what asks for more is refused in features.c',
    'pools.*.admission.backfill': 'nothing is passed over, which every word that is built allows',
    '.strategy': 'read of a policy that was handed on (fill_retry() in configure.c)',
    'pools.*.workers[].min': 'so many are started: it becomes replicas (finish.c)',
}


def choices(words):
    """{name of a list of words: how many of them are built}"""
    return {name: sum(flags.strip() == '0' for flags in WORD.findall(body))
            for name, body in WORDS.findall(words)}


def check(table, words, sources):
    """(paths of rows that nobody reads, how many rows were looked at)"""
    built = choices(words)
    lost, seen = [], 0
    for path, _, field, rest in ROW.findall(table.replace('\\\n', '')):
        seen += 1
        of = re.search(r'\.words = (\w+)', rest)
        if re.search(r'LATER|TUNING|IGNORED', rest) or path in FINE or of and built[of.group(1)] == 1:
            continue
        read = re.compile((r'\b' if '.' in field else r'(->|\.)') + field.replace('.', r'(->|\.)') + r'\b')
        if not any(read.search(text) or f'"{path}"' in text for text in sources):
            lost.append(path)
    return lost, seen


def main():
    root = pathlib.Path(sys.argv[1])
    table = (root / 'config/table.c').read_text()
    words = (root / 'config/words.c').read_text()
    sources = [path.read_text() for path in sorted(root.rglob('*.c'))
               if path.relative_to(root).as_posix().startswith(READERS)]
    if sys.argv[2:] == ['--self']:
        start = table.index('"supervisor.event_buffer"')
        flag = table.index('.flags = TUNING, ', start)
        table = table[:flag] + table[flag + len('.flags = TUNING, '):]
        lost, _ = check(table, words, sources)
        print(f'without its flag: {lost}')
        return 0 if lost == ['supervisor.event_buffer'] else 1
    lost, seen = check(table, words, sources)
    for path in lost:
        print(f'config/table.c: nobody reads {path}: use it, or flag its row LATER or TUNING', file=sys.stderr)
    print(f'{seen} options, {len(lost)} without effect that do not say so')
    return 1 if lost or seen < 150 else 0


if __name__ == '__main__':
    sys.exit(main())
