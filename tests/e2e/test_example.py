#!/usr/bin/python3
"""examples/plugin, built with nothing but an installed tree, runs there."""
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

import lib

SOURCE = lib.ROOT / 'examples/plugin'


class Example(lib.unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = pathlib.Path(tempfile.mkdtemp(prefix='pl-example-'))
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        cls.root = cls.place / 'root'
        run(*shlex.split(os.environ.get('PL_MESON', 'meson')), 'install', '--no-rebuild', '--quiet',
            '-C', os.environ['PL_BUILD_DIR'], '--destdir', cls.root)
        pc, = cls.root.rglob('parkinglot-executor.pc')
        cls.env = {**os.environ, 'PKG_CONFIG_PATH': str(pc.parent),
                   'PKG_CONFIG_SYSROOT_DIR': str(cls.root)}
        for name in ('PL_LIBEXEC_DIR', 'PL_PLUGIN_PATH', 'CFLAGS', 'LDFLAGS'):
            cls.env.pop(name, None)
        plctl, = cls.root.rglob('bin/plctl')
        lib.PLCTL = str(plctl)

    def copy(self, name):
        """Away from the tree, so that nothing of it can help."""
        folder = self.place / name
        shutil.copytree(SOURCE, folder)
        return folder

    def serve(self, plugins):
        """An instance of the installed tree with the plugins in that folder."""
        text = (SOURCE / 'pools.yaml').read_text()
        for name in ('PL_LIBEXEC_DIR', 'PL_PLUGIN_PATH'):
            os.environ.pop(name, None)
        os.environ['PL_PLUGIN_PATH'] = str(plugins)
        self.addCleanup(os.environ.pop, 'PL_PLUGIN_PATH', None)
        instance = lib.Instance(text)
        self.addCleanup(instance.abandon)
        return instance

    def works(self, plugins):
        for name in ('reverse', 'countdown'):
            self.assertTrue((plugins / f'pl_exec_{name}.so').exists())
        instance = self.serve(plugins)
        for name in ('reverse', 'countdown'):
            instance.plctl('executor', 'check', plugins / f'pl_exec_{name}.so', code=0)
        job = instance.submit('reverse', '-d', 'hello')
        instance.plctl('wait', job, code=0)
        self.assertEqual(instance.plctl('result', job, code=0).out, 'olleh')
        large = 'park' * 500000
        job = instance.submit('reverse', '-d', '-', data=large)
        instance.plctl('wait', job, code=0)
        self.assertEqual(instance.plctl('result', job, code=0).out, large[::-1])

        job = instance.submit('countdown', '-d', '3')
        instance.plctl('wait', job, code=0)
        self.assertEqual(instance.plctl('result', job, code=0).out, '3\n2\n1\n')
        job = instance.submit('countdown', '-d', 'soon')
        instance.plctl('wait', '--no-fail', job, code=0)
        self.assertIn('from 1 to 1000000', instance.job(job)['error'])
        job = instance.submit('countdown', '-d', '1000000')
        follow = instance.popen('follow', job, stderr=subprocess.DEVNULL)
        self.assertEqual(lib.read_line(follow.stdout), b'1000000\n')
        instance.plctl('cancel', '--wait', job, code=0)
        self.assertEqual(instance.job(job)['state'], 'cancelled')
        follow.communicate(timeout=lib.LIMIT)
        instance.stop()

    def test_make(self):
        folder = self.copy('make')
        run('make', '-C', folder, 'all', 'CFLAGS=-O2 -Wall -Werror', env=self.env)
        target = self.place / 'installed'
        run('make', '-C', folder, 'install', f'DESTDIR={target}', 'PLUGINDIR=/plugins',
            env=self.env)
        self.works(target / 'plugins')

    def test_meson(self):
        folder = self.copy('meson')
        meson = shlex.split(os.environ.get('PL_MESON', 'meson'))
        run(*meson, 'setup', '--werror', folder / 'build', folder, env=self.env)
        run(*meson, 'compile', '-C', folder / 'build', env=self.env)
        self.works(folder / 'build')

    def test_the_header_alone_is_c_and_cpp(self):
        """No other header of ours is needed, and C++ plugins can include it."""
        include, = self.root.rglob('parkinglot/executor.h')
        text = '#include <parkinglot/executor.h>\n'
        for compiler, language in (('cc', 'c'), ('c++', 'c++')):
            if shutil.which(compiler):
                run(compiler, '-x', language, '-Wall', '-Wextra', '-Werror', '-fsyntax-only',
                    f'-I{include.parent.parent}', '-', input=text)


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, check=False, **more)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
        raise AssertionError(f'{command[0]}: exit {done.returncode}')


if __name__ == '__main__':
    lib.main()
