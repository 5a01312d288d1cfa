"""Base URLs: what may stand in one, and what a URL says of who reads the text on its way.

Text flows in; answers, or a sentence why a URL is refused, flow out. Opens no connection.
"""

import ipaddress
import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

_SECRET = re.compile(r"key|token|secret|sig(nature)?$|pass|pwd|auth|cred|bearer|jwt|session|^code$", re.IGNORECASE)
"""Names of query fields that hold what nobody else may see."""
_PLAIN_FIELDS = ("api-version", "api_version", "version")


def check_base_url(url: str) -> str:
    """The URL as it is, where it holds nothing that must not be kept.

    Raises:
        ValueError: no http or https URL, or one with a user, a password, or a key in its query; never quotes it.
    """
    parts = _split(url)
    if parts is None:
        raise ValueError("the base URL must look like http://127.0.0.1:8000/v1")
    advice = "keys come from OPENAI_API_KEY alone, since a URL is kept with the run"
    if "@" in parts.netloc:
        raise ValueError(f"the base URL holds a user name or a password; leave it out: {advice}")
    fields = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True, separator="&")]
    fields += ["a key" for _, value in parse_qsl(parts.query) if value.startswith("sk-")]
    secret = [name for name in fields if name.lower() not in _PLAIN_FIELDS and _SECRET.search(name)]
    if secret:
        raise ValueError(f"the base URL holds {secret[0][:40]!r} in its query; leave it out: {advice}")
    return url


def host_of(url: str) -> str:
    """Host and port, as a person is told them; empty where it is no URL."""
    parts = _split(url)
    return "" if parts is None else parts.netloc.rpartition("@")[2]


def same_server(a: str, b: str) -> bool:
    """Whether two URLs name one scheme, host and port."""
    first, second = _split(a), _split(b)
    return first is not None and second is not None and _server(first) == _server(second)


def is_loopback(url: str) -> bool:
    """Whether a URL stays on this machine."""
    parts = _split(url)
    if parts is None:
        return False
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_near(url: str) -> bool:
    """Whether a URL names a server of one's own: on this machine, in a private network, or under a bare name."""
    parts = _split(url)
    host = (parts.hostname or "") if parts else ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal"))


def is_plain(url: str) -> bool:
    """Whether all on the way can read what is sent: plain http to another machine."""
    return url.lower().startswith("http:") and not is_loopback(url)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    odd = any(c.isspace() or not c.isprintable() or "\ud800" <= c <= "\udfff" for c in url)
    return None if odd or not host or parts.scheme not in ("http", "https") else parts


def _server(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
