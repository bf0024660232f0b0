#!/usr/bin/env python3
"""Fails when a WebAssembly module imports anything, or lacks one of the named exports."""
import sys


def leb(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def main(path, wanted):
    data = open(path, "rb").read()
    if data[:8] != b"\0asm\1\0\0\0":
        return "not a WebAssembly module"
    at, exports = 8, set()
    while at < len(data):
        kind = data[at]
        size, start = leb(data, at + 1)
        at = start + size
        if kind == 2:
            count, _ = leb(data, start)
            if count:
                return f"{count} imports"
        if kind == 7:
            count, pos = leb(data, start)
            for _ in range(count):
                length, pos = leb(data, pos)
                exports.add(data[pos:pos + length].decode())
                _, pos = leb(data, pos + length + 1)
    missing = [name for name in wanted if name not in exports]
    return f"missing exports: {' '.join(missing)}" if missing else None


if __name__ == "__main__":
    problem = main(sys.argv[1], sys.argv[2:])
    if problem:
        sys.exit(f"{sys.argv[1]}: {problem}")
    print(f"{sys.argv[1]}: no imports")
