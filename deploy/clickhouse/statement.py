"""What a statement is, as far as whoever sends or runs it must know: does it answer with rows, in which format,
and where the data of an INSERT begin. A lexer and a walk over its tokens; the engine judges everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

# Possessive quantifiers: a megabyte of quoted text costs one pass and no backtracking.
_TOKEN = re.compile(
    rb"""
      (?P<gap> \s++ | --[^\n]*+ | \#[!\s][^\n]*+ | /\*.*?\*/ )
    | (?P<quoted> '(?:[^'\\]++|\\.|'')*+' | "(?:[^"\\]++|\\.|"")*+" | `(?:[^`\\]++|\\.|``)*+` | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<word> [A-Za-z_]\w*+ )
    | (?P<other> \d\w*+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING, _CLOSING = (b"(", b"[", b"{"), (b")", b"]", b"}")
_ANSWERING = {"SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "KILL", "("}
_QUERYING = {"SELECT", "WITH", "FROM", "("}


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        text: The statement without the data of an INSERT and without a closing semicolon.
        answers: It answers with rows, maybe none.
        queries: It is a SELECT in one of its forms.
        output_format: What its FORMAT clause names, None without one.
        input_format: Format of the data that an INSERT carries; None when it is no INSERT with data.
        data_from: Where in the bytes given the data begin; meaningful with `input_format`.
        totals: It has WITH TOTALS, or the word somewhere.
        local_file: It names a file of the machine it runs on: INTO OUTFILE, FROM INFILE.
        several: More statements follow.
    """

    text: bytes
    answers: bool = False
    queries: bool = False
    output_format: str | None = None
    input_format: str | None = None
    data_from: int = 0
    totals: bool = False
    local_file: bool = False
    several: bool = False


@dataclass(frozen=True)
class _Token:
    text: bytes
    start: int
    end: int
    word: str  # upper case; '' for what is no word
    depth: int  # brackets around it


def read_statement(source: bytes) -> Statement:
    """Reads the statement at the beginning of `source`, which for an INSERT may be followed by its data."""
    tokens: list[_Token] = []
    into_seen = target_seen = False
    for token in _tokens(source):
        tokens.append(token)
        if tokens[0].word != "INSERT" or token.depth:
            continue
        previous = tokens[-2] if len(tokens) > 1 else None
        if not into_seen:
            into_seen = token.word == "INTO"
        elif not target_seen:
            # the table's own name, or TABLE or FUNCTION before it, is no clause
            target_seen = token.word not in ("TABLE", "FUNCTION")
        elif previous is not None and previous.text == b".":
            continue
        elif previous is not None and previous.word == "FORMAT" and token.word:
            return _insert(source, previous.start, token.text.decode(), _data_start(source, token.end), tokens)
        elif token.word == "VALUES":
            return _insert(source, token.start, "Values", token.end, tokens)
        elif token.word in ("SELECT", "WITH", "WATCH"):
            break
    return _plain(source)


def _plain(source: bytes) -> Statement:
    tokens = list(_tokens(source))
    several = False
    end = len(source)
    for index, token in enumerate(tokens):
        if token.text == b";" and not token.depth:
            several = any(later.text != b";" for later in tokens[index:])
            end = token.start
            tokens = tokens[:index]
            break
    first = (tokens[0].word or tokens[0].text.decode("latin-1")) if tokens else ""
    words = {token.word for token in tokens}
    return Statement(
        text=source[:end].strip() if tokens else b"",
        answers=first in _ANSWERING and "INSERT" not in words,
        queries=first in _QUERYING and "INSERT" not in words,
        output_format=_output_format(tokens),
        totals="TOTALS" in words,
        local_file=_names_local_file(tokens),
        several=several,
    )


def _output_format(tokens: list[_Token]) -> str | None:
    """The name in the FORMAT clause. The clause ends the statement, but for SETTINGS; elsewhere the word is a name."""
    for index in range(len(tokens) - 2, -1, -1):
        if tokens[index].word == "FORMAT" and not tokens[index].depth and tokens[index + 1].word:
            rest = tokens[index + 2 :]
            return tokens[index + 1].text.decode() if not rest or rest[0].word == "SETTINGS" else None
    return None


def _insert(source: bytes, head_end: int, input_format: str, data_from: int, tokens: list[_Token]) -> Statement:
    return Statement(
        text=source[:head_end],
        input_format=input_format,
        data_from=data_from,
        local_file=_names_local_file(tokens),
    )


def _names_local_file(tokens: list[_Token]) -> bool:
    pairs = {(a.word, b.word) for a, b in pairwise(tokens)}
    return bool(pairs & {("INTO", "OUTFILE"), ("FROM", "INFILE")})


def _data_start(source: bytes, at: int) -> int:
    """Data begin after the line break behind the format's name, or after the blanks when there is none."""
    while source[at : at + 1] in (b" ", b"\t", b"\f"):
        at += 1
    if source[at : at + 1] == b";":
        at += 1
    if source[at : at + 1] == b"\r":
        at += 1
    if source[at : at + 1] == b"\n":
        at += 1
    return at


def _tokens(source: bytes) -> Iterator[_Token]:
    depth = 0
    for match in _TOKEN.finditer(source):
        if match.lastgroup == "gap":
            continue
        text = match.group()
        if text in _CLOSING:
            depth = max(0, depth - 1)
        word = text.decode().upper() if match.lastgroup == "word" else ""
        yield _Token(text, match.start(), match.end(), word, depth)
        if text in _OPENING:
            depth += 1
