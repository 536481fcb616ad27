"""Whether W&B's server can be used: asked without a prompt, and with an answer within seconds."""

from __future__ import annotations

import inspect
import ssl
import threading
import urllib.error
import urllib.request

import wandb

QUIET_MODES = ("offline", "dryrun", "disabled")  # need no server
REACH_SECONDS = 3.0


def settle_mode(mode: str, settings: wandb.Settings) -> tuple[str, str]:
    """The mode to start in, and why that is not online where it should be.

    Args:
        mode: "auto" and "online" are online unless `WANDB_MODE` or W&B's own settings say otherwise; "offline".
        settings: W&B's settings, from the environment and its files.

    Returns:
        The mode and a reason, which is empty where nothing stands in the way.
    """
    wanted = mode if mode in QUIET_MODES else settings.mode
    if wanted in QUIET_MODES:
        return wanted, ""
    if not has_key():
        return "offline", f"has no API key for {settings.base_url} (wandb login stores one)"
    if not can_reach(settings.base_url):
        return "offline", f"cannot reach {settings.base_url}"
    return wanted, ""


def has_key() -> bool:
    """Whether W&B finds a key by itself, in the environment, its settings or the user's netrc; it asks nobody."""
    try:
        if "prompt" in inspect.signature(wandb.login).parameters:
            return wandb.login(prompt=False, verify=False)
        return bool(wandb.api.api_key)  # releases whose login always asks
    except wandb.Error:
        return True  # one that W&B refuses, and it will say why


def can_reach(url: str, seconds: float = REACH_SECONDS) -> bool:
    """Whether anything answers at a URL, through the proxies of the environment, be the answer an error."""
    answers: list[bool] = []
    # Looking a name up has no time limit of its own: a thread that may be left behind has.
    asking = threading.Thread(target=lambda: answers.append(_answers(url, seconds)), daemon=True)
    asking.start()
    asking.join(seconds)
    return answers == [True]


def _answers(url: str, seconds: float) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # W&B has certificates of its own
    except (OSError, ValueError):
        return False
    return True
