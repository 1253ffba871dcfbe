"""Personal fields become null, every other byte stays."""

from __future__ import annotations

import pytest

from schemas.redaction import redact


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (b'{"a": 1}', b'{"a": 1}', []),
        (b'{"licensee": {"Name": "A, }"}, "b": 2 }', b'{"licensee": null, "b": 2 }', ["licensee"]),
        (b' {"x":[1,{"y":"}"}],"license_key" : "k" }\n', b' {"x":[1,{"y":"}"}],"license_key" : null }\n', ["license_key"]),
        (b'{"licensee":1,"licensee":[2],"license_key":"k"}', b'{"licensee":null,"licensee":null,"license_key":null}', ["license_key", "licensee"]),
        (b'{"licensee":null}', b'{"licensee":null}', []),
        (b'{"licens\\u0065e":"x"}', b'{"licens\\u0065e":null}', ["licensee"]),
        ('{"é":"ü","licensee":"ñ"}'.encode(), '{"é":"ü","licensee":null}'.encode(), ["licensee"]),
        (b'{"n":1' + b"0" * 5000 + b',"licensee":"x"}', b'{"n":1' + b"0" * 5000 + b',"licensee":null}', ["licensee"]),
        (b'{"licensee": "cut', b'{"licensee": "cut', []),
        (b'["licensee"]', b'["licensee"]', []),
        (b'{"licensee":"\xff"}', b'{"licensee":"\xff"}', []),
    ],
)  # fmt: skip
def test_redact(before: bytes, after: bytes, fields: list[str]) -> None:
    assert redact(before) == (after, fields)
