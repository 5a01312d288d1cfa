"""Who is asked, with whose key: said before the first question, and decided by what the user named.

A configuration and what the user named for its run flow in; a yes or no, and sentences, flow out. Sends nothing.
"""

import os
from collections.abc import Mapping

from autointerp.addresses import host_of, is_plain, same_server
from autointerp.config import RunConfig
from autointerp.llm.openai_compat import OPENAI_URL, secret_key
from autointerp.llm.registry import name_endpoint

_ENVIRONMENT = ("OPENAI_BASE_URL", "AUTOINTERP_BASE_URL")


def may_send_key(config: RunConfig, named: Mapping[str, str]) -> bool:
    """Whether the user's key may go where a run's configuration says, of which this user named `named`."""
    url = config.base_url
    if url is None or url == named.get("base_url"):
        return True
    return any(same_server(url, known) for known in (OPENAI_URL, *(os.environ.get(n, "") for n in _ENVIRONMENT)))


def say_asked(config: RunConfig, named: Mapping[str, str]) -> list[str]:
    """Who is about to be asked, and what else the user should know of that, in sentences."""
    if config.llm is None:
        return []
    if secret_key() and not may_send_key(config, named):
        endpoint = name_endpoint(config.llm, config.base_url)
        host = host_of(endpoint.base_url)
        return [
            f"asking {endpoint.model} at {host}",
            f"OPENAI_API_KEY is not sent to {host}, which this run's folder alone names; where you trust it, name it "
            f"once with --base-url {config.base_url}",
        ]
    return say_asked_at(config.llm, config.base_url)


def say_asked_at(llm: str, base_url: str | None) -> list[str]:
    """The same of a model and a URL that the user named just now."""
    endpoint = name_endpoint(llm, base_url)
    host = host_of(endpoint.base_url)
    said = [f"asking {endpoint.model} at {host}"]
    if secret_key() and is_plain(endpoint.base_url):
        said.append(
            f"OPENAI_API_KEY goes to {host} over plain http, where everybody on the way can read it; use an https "
            f"URL, or unset the key where that server needs none"
        )
    return said
