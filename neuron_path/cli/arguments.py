"""Arguments of the commands that Hydra does not read: DIR… --name=VALUE."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_path.errors import NeuronPathError, nearest


def parse_arguments(
    command: str, arguments: Sequence[str], known: Sequence[str], flags: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Split arguments into positional ones and options.

    Args:
        command: the command's name, for messages.
        arguments: what follows it.
        known: the options there are, with their dashes.
        flags: those of them that take no value, and have an empty one.

    Raises:
        NeuronPathError: an unknown option, one without its value, or a flag with one.

    >>> parse_arguments("verify", ["outputs/a", "--seed=1"], ["--seed"])
    (['outputs/a'], {'--seed': '1'})
    """
    positional, options = [], {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if not argument.startswith("-"):
            positional.append(argument)
        elif name not in known:
            raise NeuronPathError(
                f"neuron-path {command} has no option '{name}'.{nearest(name, known)} Options: {', '.join(known)}."
            )
        elif (name in flags) != (not value):
            raise NeuronPathError(
                f"The option '{name}' {'takes no value' if value else f'has no value: give it as {name}=VALUE'}."
            )
        else:
            options[name] = value
    return positional, options


def whole_number(name: str, value: str) -> int:
    """An option's value as a number, 0 or more.

    Raises:
        NeuronPathError: anything else.

    >>> whole_number("--seed", "3")
    3
    """
    if not (value.isascii() and value.isdigit()):
        raise NeuronPathError(f"The option '{name}' is '{value}'; expected a whole number, 0 or more.")
    return int(value)
