#!/usr/bin/python3
"""The published schema is a valid one, accepts every example and refuses what it must."""
import glob, json, subprocess, sys

try:
    import jsonschema
    import yaml
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)

program, examples = sys.argv[1:3]
schema = json.loads(subprocess.run([program, "schema"], check=True, capture_output=True).stdout)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
files = sorted(glob.glob(examples + "/*.yaml") + glob.glob(examples + "/*.json"))
assert len(files) >= 4, files
for name in files:
    with open(name, encoding="utf-8") as stream:
        validator.validate(yaml.safe_load(stream))
for bad in ({}, {"pools": {"p": {}}}, {"pools": {"p": {"max_units": 1, "quue": "memory"}}},
            {"pools": {"p": {"max_units": 1, "on_full": "explode"}}}):
    assert not validator.is_valid(bad), bad
print(len(files), "examples are valid")
