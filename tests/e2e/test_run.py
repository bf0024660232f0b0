#!/usr/bin/python3
"""plctl run: live output, exit status, input, directory, Ctrl-C."""
import os
import signal
import subprocess

import lib


class Run(lib.Test):
    def test_streams_live(self):
        fifo = self.instance.dir / 'go'
        os.mkfifo(fifo)
        process = self.instance.popen('run', '-p', 'build', '--', 'sh', '-c',
                                      f'echo first; read line < {fifo}; echo second')
        self.assertEqual(lib.read_line(process.stdout), b'first\n')
        self.assertIsNone(process.poll())
        fifo.write_text('go\n')
        self.assertEqual(lib.read_line(process.stdout), b'second\n')
        self.assertEqual(process.wait(lib.LIMIT), 0)
        process.communicate()

    def test_exit_status_and_signal(self):
        self.instance.plctl('run', '-p', 'build', '--', 'sh', '-c', 'exit 42', code=42)
        self.instance.plctl('run', '-p', 'build', '--', 'sh', '-c', 'kill -9 $$', code=137)
        self.instance.plctl('run', '-p', 'build', '--', 'true', code=0)

    def test_stdin_stderr_and_place(self):
        result = self.instance.plctl('run', '-p', 'build', '--', 'sh', '-c',
                                     'cat; echo noise >&2', data=b'in\x00put', code=0)
        self.assertEqual(result.raw, b'in\x00put')
        self.assertIn('noise', result.err)
        where = self.instance.plctl('run', '-p', 'build', '-C', self.instance.dir, '-e', 'WORD=yes',
                                    '--', 'sh', '-c', 'pwd; echo $WORD', code=0).out.split()
        self.assertEqual(where, [os.path.realpath(self.instance.dir), 'yes'])

    def test_shell(self):
        self.assertEqual(self.instance.plctl('run', '-p', 'build', '-n', '--shell', '--',
                                             'echo one | tr o 0', code=0).out, '0ne\n')

    def test_interrupt_detaches(self):
        process = self.instance.popen('run', '-p', 'build', '--', 'sh', '-c', 'echo up; sleep 1000',
                                      start_new_session=True)
        self.assertEqual(lib.read_line(process.stdout), b'up\n')
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=lib.LIMIT)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn(b'goes on', err)
        job = self.instance.plctl('ps', '--json', code=0).json()
        self.assertEqual([j['state'] for j in job], ['running'])
        follow = self.instance.popen('follow', job[0]['id'], stderr=subprocess.DEVNULL)
        self.assertEqual(lib.read_line(follow.stdout), b'up\n')
        self.instance.plctl('cancel', '--wait', job[0]['id'], code=0)
        self.assertEqual(follow.wait(lib.LIMIT), 11)
        follow.stdout.close()

    def test_large_output_is_whole(self):
        out = self.instance.plctl('run', '-p', 'build', '-n', '--', 'sh', '-c',
                                  'head -c 3000000 /dev/zero | tr "\\0" x', code=0).raw
        self.assertEqual(len(out), 3000000)
        self.assertEqual(set(out), {ord('x')})

    def test_pty(self):
        out = self.instance.plctl('run', '-p', 'build', '-n', '--pty', '--', 'sh', '-c',
                                  'test -t 1 && echo terminal', code=0).out
        self.assertIn('terminal', out)

    def test_a_large_environment_arrives_whole(self):
        value = 'x' * 50000
        out = self.instance.plctl('run', '-p', 'build', '-n', '--', 'sh', '-c', 'printf %s "$BIG"',
                                  env={'BIG': value}, code=0)
        self.assertEqual(out.out, value)


if __name__ == '__main__':
    lib.main()
