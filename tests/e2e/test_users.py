#!/usr/bin/python3
"""Two users on one socket: what belongs to one is not seen or touched by the other."""
import os
import pwd
import shutil
import subprocess
import sys

import lib

if os.geteuid() != 0:
    print('skipped: only root can be two users')
    sys.exit(77)

CONFIG = lib.CONFIG.replace('name: e2e\n', 'name: e2e\nsupervisor: {socket_mode: "0666"}\n')

OWNER = """\
  theirs:
    max_units: {cpu: 2}
    queue: memory
    workers:
      - {name: sh, replicas: 1, handles: [command], run_as: owner, executor: {plugin: command}}
"""
CONFIG += OWNER


class Users(lib.Test):
    config = CONFIG

    def setUp(self):
        super().setUp()
        user = pwd.getpwnam('nobody')
        self.ids = dict(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        # The other one must be able to reach the socket, and nothing else.
        os.chmod(self.instance.dir, 0o711)
        for path in ('run', 'run/parking-lot', 'run/parking-lot/e2e'):
            os.chmod(self.instance.dir / path, 0o711)
        # A checkout may lie where only its owner looks.
        self.plctl = self.instance.dir / 'plctl'
        shutil.copy(lib.PLCTL, self.plctl)
        os.chmod(self.plctl, 0o755)

    def other(self, *args):
        env = {**self.instance.env,
               'PL_SOCKET': str(self.instance.dir / 'run/parking-lot/e2e/pl.sock')}
        done = subprocess.run([self.plctl, *args], env=env, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=lib.LIMIT, check=False, cwd='/',
                              **self.ids)
        return lib.Result(done.returncode, done.stdout, done.stderr)

    def test_others_jobs_are_not_there(self):
        mine = self.instance.run_detached('sleep', '1000')
        for command in (['job', 'show'], ['cancel'], ['job', 'hold'], ['result'], ['explain']):
            result = self.other(*command, mine)
            self.assertIn(result.code, (4, 6), f'{command}: {result}')
        self.assertEqual(self.instance.job(mine)['state'], 'running')
        listed = self.other('job', 'ls', '--json')
        self.assertEqual(listed.code, 0, listed)
        self.assertEqual(listed.json(), [])

    def test_dead_letters_are_their_owners(self):
        mine = self.instance.run_detached('sh', '-c', 'exit 1')
        self.instance.plctl('wait', mine, code=10)
        theirs = self.other('run', '-p', 'theirs', '-n', '--detach', '--id-only', '--', '/bin/sh',
                            '-c', 'exit 1').out.strip()
        self.instance.plctl('wait', theirs, code=10)
        for command in ('show', 'retry', 'rm'):
            self.assertEqual(self.other('dlq', command, mine).code, 4, command)
        self.assertEqual([letter['id'] for letter in self.other('dlq', 'ls', '--json').json()],
                         [theirs])
        done = self.other('--json', 'dlq', 'retry', '--all')
        self.assertEqual((done.code, done.json()['changed']), (0, 1), done)
        self.instance.plctl('wait', theirs, code=10)
        self.assertEqual(len(self.instance.plctl('dlq', 'ls', '--json', code=0).json()), 2)
        # Run again by an administrator it is still its owner's.
        self.instance.plctl('dlq', 'retry', theirs, code=0)
        self.instance.plctl('wait', theirs, code=10)
        self.assertEqual(self.other('--json', 'dlq', 'rm', '--all').json()['changed'], 1)
        self.assertEqual([letter['id'] for letter in
                          self.instance.plctl('dlq', 'ls', '--json', code=0).json()], [mine])

    def test_mail_is_its_tenants(self):
        mine = self.instance.submit('echo', '-p', 'quick', '--user', 'u')
        # The same key, named by an administrator: the tenant is theirs, the job is not.
        lent = self.instance.submit('echo', '-p', 'quick', '--tenant', 'nobody', '--user', 'u')
        theirs = self.other('submit', 'echo', '-p', 'quick', '--user', 'u', '--id-only').out.strip()
        self.instance.plctl('wait', mine, lent, theirs, code=0)
        listed = self.other('mailbox', 'ls', '--user', 'u', '--json').json()
        self.assertEqual([mail['id'] for mail in listed], [theirs])
        owner = pwd.getpwuid(os.geteuid()).pw_name
        self.assertEqual(self.other('mailbox', 'ls', '--tenant', owner, '--user', 'u').code, 6)
        for command in ('ack', 'rm'):
            self.assertEqual(self.other('mailbox', command, mine, lent).code, 4, command)
        self.assertEqual(self.other('--json', 'mailbox', 'rm', '--all', '--user', 'u').json(),
                         {'changed': 1})
        self.instance.plctl('result', mine, code=0)
        have = self.instance.plctl('mailbox', 'ls', '--tenant', 'nobody', '--user', 'u', '--json',
                                   code=0).json()
        self.assertEqual([mail['id'] for mail in have], [lent])

    def test_own_jobs_work(self):
        result = self.other('submit', 'echo', '-p', 'quick', '-d', 'x', '--wait')
        self.assertEqual((result.code, result.out), (0, 'x'), result)

    def test_no_other_tenant_and_no_control(self):
        self.assertEqual(self.other('submit', 'echo', '-p', 'quick', '--tenant', 'root').code, 6)
        for command in (['pool', 'pause', 'quick'], ['stop'], ['reload'],
                        ['lane', 'set', 'quick/bulk', '--max-concurrency', '1'],
                        ['workers', 'restart']):
            self.assertEqual(self.other(*command).code, 6, command)

    def test_programs_run_as_their_owner(self):
        user = pwd.getpwnam('nobody')
        result = self.other('run', '-p', 'theirs', '-n', '--', '/bin/sh', '-c',
                            'id -u; id -g; id -G; pwd; echo "$USER"; umask')
        self.assertEqual(result.code, 0, result)
        uid, gid, groups, place, name, mask = result.out.split('\n')[:6]
        self.assertEqual((int(uid), int(gid)), (user.pw_uid, user.pw_gid))
        self.assertNotIn('0', groups.split())
        self.assertEqual((place, name), ('/', 'nobody'))
        self.assertTrue(mask.startswith('0'))
        # What only root may read stays shut, and the instance's own pool is root's.
        self.assertNotEqual(self.other('run', '-p', 'theirs', '-n', '--', 'cat',
                                       '/etc/shadow').code, 0)

    def test_administrator_may(self):
        theirs = self.other('submit', 'echo', '-p', 'quick', '--hold', '--id-only')
        self.assertEqual(theirs.code, 0, theirs)
        self.instance.plctl('job', 'show', theirs.out.strip(), code=0)
        self.instance.plctl('cancel', theirs.out.strip(), code=0)


if __name__ == '__main__':
    lib.main()
