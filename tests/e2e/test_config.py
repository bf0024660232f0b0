#!/usr/bin/python3
"""config check shows all mistakes; a broken reload changes nothing, a good one applies."""
import lib

FIVE = """\
version: 1
pools:
  build:
    max_unitz: {cpu: 2}
    queue: memorry
    default_timeout: soon
    workers:
      - {name: sh, kind: cpu, replicas: many, executor: {plugin: command}}
      - {name: sh2, kind: tpu, executor: {plugin: command}}
"""


class Config(lib.Test):
    def test_five_mistakes(self):
        path = self.instance.dir / 'five.yaml'
        path.write_text(FIVE)
        result = self.instance.plctl('config', 'check', path, code=3)
        errors = [line for line in (result.out + result.err).splitlines() if ': error: ' in line]
        lines = {int(line.split(':')[1]) for line in errors}
        self.assertLessEqual({4, 5, 6, 8, 9}, lines, result)
        text = result.out + result.err
        self.assertIn('^', text)
        self.assertIn("max_units", text)
        found = self.instance.plctl('config', 'check', path, '--json', code=3).json()
        self.assertFalse(found['ok'])
        self.assertGreaterEqual(len(found['diagnostics']), 5)

    def test_broken_reload_changes_nothing(self):
        before = self.instance.plctl('pool', 'ls', '--json', code=0).json()
        self.instance.config.write_text(FIVE)
        result = self.instance.plctl('reload')
        self.assertEqual(result.code, 3, result)
        self.assertIn('max_unitz', result.err)
        self.assertEqual(self.instance.plctl('pool', 'ls', '--json', code=0).json(), before)

    def test_good_reload(self):
        self.instance.config.write_text(lib.CONFIG.replace('cpu: 2', 'cpu: 5'))
        self.instance.plctl('reload', code=0)
        units = {pool['name']: pool['units'] for pool in self.instance.stats()['pools']}
        self.assertEqual(units['build']['cpu']['capacity'], 5)

    def test_a_reload_brings_its_secrets(self):
        """What a reload starts is started by the new file, not by the one before."""
        secret = self.instance.dir / 'fresh'
        secret.write_text('sesame\n')
        self.instance.config.write_text(
            lib.CONFIG.replace('version: 1\n', f'version: 1\nsecrets: {{fresh: {{file: {secret}}}}}\n')
            + '  fresh:\n    max_units: 1\n    queue: memory\n    workers:\n'
              '      - {name: e, executor: {plugin: echo, config: {key: "secret:fresh"}}}\n')
        self.instance.plctl('reload', code=0)
        self.assertEqual(self.instance.submit('echo', '-p', 'fresh', '-d', 'hello', '--wait'), 'hello')
        self.assertNotIn('did not start', self.instance.log())

    def channel_bytes(self):
        """What a worker of pool `quick` has mapped of its channel; None before it is there."""
        workers = self.instance.plctl('workers', 'ls', '-p', 'quick', '--json', code=0).json()['workers']
        found = set()
        for worker in workers:
            if worker['state'] != 'idle':
                return None
            with open(f'/proc/{worker["pid"]}/maps', encoding='ascii', errors='replace') as maps:
                ends = [line.split()[0].split('-') for line in maps if 'memfd:pl-s2w' in line]
            found.add(sum(int(end, 16) - int(start, 16) for start, end in ends))
        return found.pop() if len(workers) == 2 and len(found) == 1 else None

    def test_slot_payload(self):
        """A slot has the room that the file says, for workers that a reload replaces too."""
        plain = lib.CONFIG.replace('max_payload: 4KiB', 'max_payload: 4MiB')
        others = lib.until('the workers are there', self.channel_bytes) - 64 * 1024  # the default
        for room in 4096, 1 << 20:
            self.instance.config.write_text(
                plain.replace('pools:', f'supervisor: {{shm: {{slot_payload: {room}B}}}}\npools:', 1))
            self.instance.plctl('reload', code=0)
            lib.until(f'slots have {room} bytes',
                      lambda: self.channel_bytes() == others + room)
            for count in room, room + 1:
                data = bytes(range(256)) * (count // 256) + b'.' * (count % 256)
                echoed = self.instance.plctl('submit', 'echo', '-p', 'quick', '-w', '-d', '-',
                                             data=data, code=0)
                self.assertEqual(echoed.raw, data)

    def test_schema_and_print(self):
        self.assertIn('json-schema.org', self.instance.plctl('config', 'schema', code=0).json()['$schema'])
        self.assertIn('max_units', self.instance.plctl('config', 'print', self.instance.config,
                                                       code=0).out)


if __name__ == '__main__':
    lib.main()
