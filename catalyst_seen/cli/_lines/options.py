"""The options of the commands that read lines."""

from __future__ import annotations

import click

from .keys import part

KEY = click.option(
    "-k",
    "--key",
    "part_of",
    type=part,
    metavar="EXPR",
    help="The part of a line that identifies it: a JSON pointer, such as /id or"
    " /user/name; or a regular expression: its first group, else the match.",
)

IGNORE_CASE = click.option(
    "-i", "--ignore-case", is_flag=True, help="Upper and lower case are the same."
)

TRIM = click.option(
    "-t", "--trim", is_flag=True, help="Blanks at the ends of a key do not count."
)
