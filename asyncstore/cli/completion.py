"""`asyncstore completion`: the script that has a shell complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .output import emit

__all__ = ["completion"]

_HOW = """\b
bash: asyncstore completion bash > ~/.asyncstore.bash; then . it in ~/.bashrc
zsh:  asyncstore completion zsh > "${fpath[1]}/_asyncstore"
fish: asyncstore completion fish > ~/.config/fish/completions/asyncstore.fish"""


@click.command(
    short_help="Print the completion script of a shell.",
    help="Print the script that has a SHELL complete commands, options, and names of assets, keys and watchers.\n\n"
    + _HOW,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has the three
    root = ctx.find_root()
    script = kind(root.command, {}, "asyncstore", "_ASYNCSTORE_COMPLETE")
    # Not `source()`, which starts a bash to look at its version.
    emit([script.source_template % script.source_vars()])
