#!/usr/bin/python3
"""test_help.py PLCTL: what comes out of the table of commands, from the real program, with no instance."""
import os
import shutil
import subprocess
import sys
import tempfile

PLCTL = sys.argv[1]
EMPTY = tempfile.mkdtemp()
ENV = {'PATH': os.environ.get('PATH', '/usr/bin:/bin'), 'XDG_RUNTIME_DIR': EMPTY}
if 'ASAN_OPTIONS' in os.environ:
    ENV['ASAN_OPTIONS'] = os.environ['ASAN_OPTIONS']


def plctl(*args, code=0):
    done = subprocess.run([PLCTL, *args], env=ENV, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == code, f'plctl {args}: {done.returncode}\n{done.stdout}{done.stderr}'
    return done.stdout, done.stderr


def commands():
    lines = plctl('help')[0].split('Commands\n')[1].split('\n\n')[0].splitlines()
    return [' '.join(word for word in line[:20].split()) for line in lines]


def main():
    names = commands()
    assert 'submit' in names and 'pool ls' in names and len(names) > 35, names
    for name in names:
        out, err = plctl(*name.split(), '--help')
        assert 'Usage' in out and '--json' in out and err == '', name
        if 'Examples' in out:
            assert out.index('Examples') < out.index('Usage'), name
        assert out == plctl('help', *name.split())[0]
    assert 'pool ls' in plctl('pool', code=2)[1]
    assert 'pool ls' in plctl('pool', '--help')[0]
    assert 'db salvage' in plctl('db', code=2)[1]
    assert "did you mean '--pool'" in plctl('submit', 'x', '--pol', 'y', code=2)[1]
    out, err = plctl('ps', code=5)
    assert out == '' and 'plctl start' in err, err
    assert 'plctl' in plctl('version', '--json')[0]
    manual = plctl('manual')[0]
    for name in names:
        assert f'## {name}' in manual.replace('\\', ''), name
    for shell in ('bash', 'zsh', 'fish'):
        text = plctl('completion', shell)[0]
        assert 'submit' in text and 'idempotency-key' in text
    plctl('completion', 'csh', code=2)
    if shutil.which('bash'):
        script = plctl('completion', 'bash')[0] + '''
COMP_WORDS=(plctl pool p); COMP_CWORD=2; _plctl; echo "${COMPREPLY[*]}"
COMP_WORDS=(plctl db s); COMP_CWORD=2; _plctl; echo "${COMPREPLY[*]}"
COMP_WORDS=(plctl sub); COMP_CWORD=1; _plctl; echo "${COMPREPLY[*]}"
COMP_WORDS=(plctl -i x run --det); COMP_CWORD=4; _plctl; echo "${COMPREPLY[*]}"
'''
        done = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ['pause', 'stat salvage', 'submit', '--detach'], done
    os.rmdir(EMPTY)
    print(f'{len(names)} commands')


main()
