"""Prints the events that kcat hands over, one a line (key, headers, value, between tabs), so that a person can read them."""
import json
import re
import sys
import textwrap

for line in sys.stdin:
    key, headers, value = line.rstrip("\n").split("\t", 2)
    print(f"key      {key}")
    # A header's value may hold commas, its name none.
    for header in re.split(r",(?=[\w.]+=)", headers):
        print(f"header   {header.replace('=', ' = ', 1)}")
    for name, member in json.loads(value).items():
        text = json.dumps(member, ensure_ascii=False)
        print("\n".join(textwrap.wrap(f"{name:<12} {text}", 110, initial_indent="", subsequent_indent=" " * 13)))
