"""The wire by hand: just enough MessagePack for the load tests to speak, and to speak badly."""
import itertools
import os
import socket
import struct


def pack(value):
    if value is None:
        return b'\xc0'
    if isinstance(value, bool):
        return b'\xc3' if value else b'\xc2'
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes([value])
        return b'\xcf' + struct.pack('>Q', value) if value >= 0 else b'\xd3' + struct.pack('>q', value)
    if isinstance(value, str):
        data = value.encode()
        return b'\xdb' + struct.pack('>I', len(data)) + data
    if isinstance(value, bytes):
        return b'\xc6' + struct.pack('>I', len(value)) + value
    if isinstance(value, (list, tuple)):
        return b'\xdd' + struct.pack('>I', len(value)) + b''.join(map(pack, value))
    return (b'\xdf' + struct.pack('>I', len(value)) +
            b''.join(pack(k) + pack(v) for k, v in value.items()))


class Short(Exception):
    """More bytes are needed."""


def unpack(data, at=0):
    """(value, position behind it); Short when the value is not whole yet."""
    def take(count):
        nonlocal at
        if at + count > len(data):
            raise Short
        at += count
        return data[at - count:at]

    def number(form):
        return struct.unpack('>' + form, take(struct.calcsize(form)))[0]

    def several(count):
        nonlocal at
        found = []
        for _ in range(count):
            value, at = unpack(data, at)
            found.append(value)
        return found

    kind = take(1)[0]
    if kind < 0x80:
        return kind, at
    if kind >= 0xe0:
        return kind - 256, at
    if 0xa0 <= kind < 0xc0:
        return take(kind & 31).decode(), at
    if kind in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[kind], at
    if kind in (0xca, 0xcb):
        return number('f' if kind == 0xca else 'd'), at
    if 0xcc <= kind <= 0xd3:
        return number('BHIQbhiq'[kind - 0xcc]), at
    if 0xc4 <= kind <= 0xc6:
        return take(number('BHI'[kind - 0xc4])), at
    if 0xd9 <= kind <= 0xdb:
        return take(number('BHI'[kind - 0xd9])).decode(), at
    if 0x90 <= kind < 0xa0 or kind in (0xdc, 0xdd):
        return several(kind & 15 if kind < 0xa0 else number('HI'[kind - 0xdc])), at
    if 0x80 <= kind < 0x90 or kind in (0xde, 0xdf):
        flat = several(2 * (kind & 15 if kind < 0x90 else number('HI'[kind - 0xde])))
        return dict(zip(flat[::2], flat[1::2])), at
    raise ValueError(f'byte {kind:#x}')


def raw(path, limit=30.0):
    """A connected socket that has said nothing."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(limit)
    sock.connect(path)
    return sock


class Failure(Exception):
    """The server's error reply: code, message."""


class Client:
    """One connection; a call at a time, or many: send() then reply()."""

    def __init__(self, path, hello=True):
        self.sock = raw(path)
        self.ids = itertools.count(1)
        self.buffer = b''
        self.early = {}
        if hello:
            self.hello = self.call('hello', proto=1, client='load')

    def send(self, method, **params):
        number = next(self.ids)
        self.sock.sendall(pack([0, number, method, [params]]))
        return number

    def message(self):
        while True:
            try:
                value, used = unpack(self.buffer)
                self.buffer = self.buffer[used:]
                return value
            except Short:
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionError('the server closed the connection') from None
                self.buffer += data

    def reply(self, number):
        while number not in self.early:
            message = self.message()
            if message[0] == 1:
                self.early[message[1]] = message[2:]
        error, result = self.early.pop(number)
        if error is not None:
            raise Failure(error[0], error[1])
        return result

    def call(self, method, **params):
        return self.reply(self.send(method, **params))

    def run(self, payload, **more):
        """One echo job from submit to result."""
        job = self.call('job.submit', type='echo', payload=payload, **more)['id']
        return self.call('job.wait', id=job, result=True)

    def close(self):
        self.sock.close()


def socket_of(instance):
    """Path of the only instance's socket below @instance's run directory."""
    base = instance.dir / 'run' / 'parking-lot'
    found = [str(base / name / 'pl.sock') for name in os.listdir(base)
             if (base / name / 'pl.sock').exists()]
    assert len(found) == 1, found
    return found[0]
