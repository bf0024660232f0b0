#!/usr/bin/python3
"""The include directions of docs/ARCHITECTURE.md, as a test.

Every `#include "folder/…"` and `<parkinglot/…>` in the tree is compared with one table. An arrow
that points the wrong way fails with the file, the line and what the folder may include.

    check_includes.py [ROOT]      check the tree
    check_includes.py --self      check that the checker finds a wrong arrow
"""
import pathlib
import re
import sys
import tempfile

# folder: folders it may include besides itself. A longer path wins over a shorter one.
ALLOWED = {
    'include': set(),
    'base': set(),
    'shm': {'base'},
    'core': {'base', 'shm', 'include'},
    'util': {'base'},
    'record': {'base', 'include'},
    'proto': {'base', 'include'},
    'config': {'base', 'util', 'include'},
    'client': {'base', 'proto', 'shm', 'util', 'include'},
    'supervisor': {'base', 'core', 'shm', 'proto', 'record', 'config', 'util', 'include'},
    # The guard is parent of all and has no policy: it sees nothing of jobs.
    'supervisor/guard': {'base', 'util', 'supervisor'},
    'store': {'base', 'shm', 'record', 'util'},
    'gateway': {'base', 'client', 'include'},
    'worker': {'base', 'shm', 'proto', 'util', 'include'},
    'executors': {'include'},
    'tools': {'base', 'client', 'config', 'core', 'record', 'util', 'shm', 'include'},
    'tools/db': {'base', 'record', 'store', 'util', 'tools', 'include'},
    'bindings': {'include', 'client'},
    'examples': {'include'},
}
ANYTHING = ('tests', 'bench')

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
SKIP = {'build', '.git', 'node_modules', 'subprojects'}


def folder_of(path, table):
    """The longest folder of the table that @path lies in, or None."""
    parts = path.split('/')[:-1]
    for length in range(len(parts), 0, -1):
        name = '/'.join(parts[:length])
        if name in table:
            return name
    return None


def target_of(quote, path):
    """The folder of ours that an include names; None for the system's."""
    if path.startswith('parkinglot/'):
        return 'include'
    if quote == '<':
        return None
    top = path.split('/')[0]
    return top if '/' in path else ''


def sources(root):
    for path in sorted(root.rglob('*')):
        relative = path.relative_to(root)
        if path.suffix not in ('.c', '.h') or not path.is_file():
            continue
        if any(part in SKIP or part.startswith(('build', '.')) for part in relative.parts[:-1]):
            continue
        yield path, relative.as_posix()


def check(root):
    """A list of complaints, and how many includes were looked at."""
    complaints, seen = [], 0
    for path, name in sources(root):
        if name.split('/')[0] in ANYTHING:
            continue
        text = path.read_text(errors='replace')
        home = folder_of(name, ALLOWED)
        if home is None:
            complaints.append(f'{name}:1: the folder is not in the table of tests/check_includes.py')
            continue
        for match in INCLUDE.finditer(text):
            target = target_of(match.group(1), match.group(2))
            if target is None:
                continue
            seen += 1
            line = text.count('\n', 0, match.start()) + 1
            if target == '':
                complaints.append(f'{name}:{line}: "{match.group(2)}" does not name its folder')
            elif target != home.split('/')[0] and target not in ALLOWED[home]:
                may = ', '.join(sorted(ALLOWED[home])) or 'nothing of ours'
                complaints.append(f'{name}:{line}: {home}/ may not include {match.group(2)} '
                                  f'(it may include: {may})')
            elif target in ANYTHING:
                complaints.append(f'{name}:{line}: nothing includes {target}/')
    return complaints, seen


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in {
                'base/a.h': '#include "core/core.h"\n',
                'worker/w.c': '#include <stdio.h>\n#include "shm/ring.h"\n#include "core/core.h"\n',
                'core/c.c': '#include "base/types.h"\n#include "neighbour.h"\n',
                'executors/e.c': '#include "parkinglot/executor.h"\n#include "util/error.h"\n',
                'odd/x.c': '\n',
                'tests/t.c': '#include "core/core.h"\n'}.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        complaints, _ = check(root)
        wanted = ['base/a.h:1', 'core/c.c:2', 'executors/e.c:2', 'odd/x.c:1', 'worker/w.c:3']
        found = [complaint.split(': ')[0] for complaint in complaints]
        if found != wanted:
            print(f'wanted {wanted}, found {found}', file=sys.stderr)
            return 1
    print('the checker finds wrong arrows')
    return 0


def main():
    if sys.argv[1:] == ['--self']:
        return self_test()
    here = pathlib.Path(__file__).resolve()
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent.parent
    complaints, seen = check(root.resolve())
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    print(f'{seen} includes, {len(complaints)} in a wrong direction')
    return 1 if complaints or seen == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
