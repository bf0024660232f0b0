"""Requests packed by another codec are understood, and what we write it understands."""
import itertools
import subprocess
import sys

try:
    import msgpack
except ImportError:
    print("skipped: python3-msgpack is not installed")
    sys.exit(77)

TOOL = sys.argv[1]
ID = bytes(range(16))
REQUESTS = [
    ("hello", {"proto": 1, "client": "py", "features": ["memfd", "x"]}),
    ("job.submit", {"pool": "build", "type": "command", "payload": b"\x00\xff",
                    "cost": {"cpu": 1, "gpu_vram": {"units": 2**40, "count": 2}},
                    "meta": {"argv": b"ls\x00-l\x00", "cwd": "/tmp"}, "priority": 4,
                    "after": [ID, ID], "labels": {"a": "b"}, "hold": True, "seq": 2**63}),
    ("job.submit", {"type": "t", "cost": 3, "max_retries": 0}),
    ("job.submit_many", {"jobs": [{"type": "a"}, {"type": "b", "payload": b"x" * 300}]}),
    ("job.wait", {"id": ID, "timeout_ms": 0, "result": True}),
    ("job.cancel", {"id": ID, "reason": "\u00e4\u20ac"}),
    ("job.follow", {"id": ID, "credit": 65536}),
    ("job.list", {"pool": "p", "state": 3, "limit": 10}),
    ("mailbox.fetch", {"tenant": "t", "since_ms": 1700000000000}),
    ("dlq.ls", {"type": "t*", "limit": 3}),
    ("dlq.show", {"id": ID, "no_payload": True}),
    ("dlq.retry", {"all": True, "pool": "p", "cursor": "7 x"}),
    ("dlq.rm", {"id": ID}),
    ("pool.set", {"pool": "p", "max_units": {"cpu": 4}}),
    ("event.subscribe", {"keys": ["queue.*"], "credit": 100}),
    ("instance.stop", {"mode": "drain", "timeout_ms": 30000}),
]


def echo(data):
    return subprocess.run([TOOL], input=data, capture_output=True, check=False)


failures = 0
for number, (method, params) in enumerate(REQUESTS):
    packed = msgpack.packb([0, number, method, [params]], use_bin_type=True)
    done = echo(packed)
    if done.returncode != 0:
        print(method, "was refused:", done.stderr.decode())
        failures += 1
        continue
    back = msgpack.unpackb(done.stdout, raw=False)
    if back != [0, number, method, [params]]:
        print(method, "came back as", back)
        failures += 1
for bad in ({"type": 1}, {"pool": "p"}, {"type": "t", "cost": -1}, {"type": "t", "meta": {1: 2}}):
    packed = msgpack.packb([0, 1, "job.submit", [bad]], use_bin_type=True)
    if echo(packed).returncode != 1:
        print(bad, "was accepted")
        failures += 1
# The examples of the manual are golden bytes: each request must decode, and say what we read.
examples = 0
blocks = open(sys.argv[2], encoding="utf-8").read().split("\n\u2192 ")[1:]
for block in blocks:
    lines = block.split("\n")[1:]
    packed = bytes.fromhex("".join(itertools.takewhile(lambda x: x.startswith("   "), lines)))
    message = msgpack.unpackb(packed, raw=False)
    if message[0] != 0:
        continue
    examples += 1
    done = echo(packed)
    if done.returncode != 0 or msgpack.unpackb(done.stdout, raw=False) != message:
        print("example of", message[2], "is wrong:", done.stderr.decode())
        failures += 1
if examples < 30:
    print("only", examples, "examples in the manual")
    failures += 1
print(f"{len(REQUESTS)} requests, {examples} examples, {failures} failures")
sys.exit(1 if failures else 0)
