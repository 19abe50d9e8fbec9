from __future__ import annotations

import tomllib

from rtseg.app.toml_lines import find_lines

TEXT = '''# a comment
top = 1

[defaults]
words = [
  "a", # [not.a.table]
  "b",
]
text = """
[no.table]
key = 3
"""

[camera.gate]
source = "x"; roi = 1
'''.replace("; roi = 1", "")
MORE = '[camera."a b"]\npart = { inner = 1 }\n\n[[list]]\nname = 1\n'


def test_every_table_and_key_has_its_line() -> None:
    assert find_lines(TEXT + MORE) == {
        ("top",): 2,
        ("defaults",): 4,
        ("defaults", "words"): 5,
        ("defaults", "text"): 9,
        ("camera",): 14,
        ("camera", "gate"): 14,
        ("camera", "gate", "source"): 15,
        ("camera", "a b"): 16,
        ("camera", "a b", "part"): 17,
        ("camera", "a b", "part", "inner"): 17,
        ("list",): 19,
        ("list", "name"): 20,
    }


def test_a_very_long_statement_costs_little_and_what_follows_is_found() -> None:
    text = "long = [\n" + "  1,\n" * 3000 + "]\n[camera.gate]\nsource = 'x'\n"
    assert tomllib.loads(text)
    assert find_lines(text)["camera", "gate", "source"] == 3004
