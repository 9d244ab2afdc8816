"""Longer explanations: formats, exit-codes, json, input-card."""

from __future__ import annotations

import argparse
import sys

from niudao.report import Report

EXAMPLES = ("niudao help exit-codes", "niudao help input-card")

TOPICS = {
    "exit-codes": """Exit codes
  0    done, and what was claimed holds
  1    could not: bad input, a missing package, a full disk
  2    the command line is wrong
  3    it ran to its end and the answer is no: the networks differ, a dry run found nodes that cannot be expressed
  130  interrupted with Ctrl-C; what was written by then is named
  129, 143  ended by a hang-up or SIGTERM, the same
""",
    "json": """JSON
  With --json a verb prints exactly one document on stdout, also when it fails:
    {"schema": "niudao.convert/1", "ok": true, ...}
    {"schema": "niudao.error/1", "ok": false,
     "error": {"code", "message", "where": {"file", "line", "node", "attribute"}, "expected", "got", "next"}}
  The schemas are part of the package, in niudao/report/schemas. Numbers that JSON has no word for are the strings "nan", "inf" and "-inf".
""",
    "input-card": """The input card
  How a picture becomes an input: value = (pixel * scale - mean) / std, with pixels 0..255, channels in `order`.
    layout  NHWC or NCHW, as the source framework takes it      range   smallest and largest value of a real input
    order   RGB, BGR or GREY                                   resize  stretch, crop (shorter side, then the centre) or pad
  The card travels with the network into every format and back. `niudao card MODEL` shows it; --set changes it.
  What the file's own runtime applies (a Rescaling layer) is part of the network and not of the card.
""",
    "formats": "",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", choices=sorted(TOPICS), metavar="TOPIC", help=", ".join(sorted(TOPICS)))


def run(options: argparse.Namespace) -> Report | None:
    if options.topic == "formats":
        from niudao.formats.table import table

        return table()
    if options.topic:
        sys.stdout.write(TOPICS[options.topic])
    else:
        from niudao.cli.main import full_help

        sys.stdout.write(full_help() + "\nTopics: " + ", ".join(sorted(TOPICS)) + "\n")
    return None
