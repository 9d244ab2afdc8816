"""Print the completion script for a shell; nothing of niudao runs when you press TAB."""

from __future__ import annotations

import argparse
import sys

from niudao.report import Report

EXAMPLES = (
    "niudao completion bash > ~/.local/share/bash-completion/completions/niudao",
    "niudao completion zsh > ~/.zfunc/_niudao",
    "niudao completion fish > ~/.config/fish/completions/niudao.fish",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"), help="the shell")


def whole_parser() -> argparse.ArgumentParser:
    """Every verb's parser under one root, as the completion needs it."""
    from importlib import import_module

    from niudao.cli import main

    root = argparse.ArgumentParser(prog="niudao")
    root.add_argument("--version", action="store_true", help="the version")
    verbs = root.add_subparsers()
    for verb, (_, _, text) in main.VERBS.items():
        module = import_module(f"niudao.cli.{verb}")
        parser = verbs.add_parser(verb, help=text)
        module.arguments(parser)
        main.add_common(parser)
    return root


def run(options: argparse.Namespace) -> Report | None:
    import shtab

    sys.stdout.write(shtab.complete(whole_parser(), shell=options.shell) + "\n")
    return None
