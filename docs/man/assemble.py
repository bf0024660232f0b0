#!/usr/bin/python3
"""assemble.py PLCTL TEMPLATE OUTPUT: puts the command reference that plctl prints into the page."""
import subprocess
import sys

program, template, output = sys.argv[1:]
reference = subprocess.run([program, 'manual'], check=True, capture_output=True, text=True).stdout
with open(template, encoding='utf-8') as file:
    text = file.read()
if '@REFERENCE@' not in text:
    sys.exit(f'{template}: there is no place for the reference')
with open(output, 'w', encoding='utf-8') as file:
    file.write(text.replace('@REFERENCE@', reference.strip()))
