"""What may stand in a base URL, and what one says of who can read what is sent."""

import pytest

from autointerp.addresses import check_base_url, host_of, is_loopback, is_plain, same_server


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "https://[::1]:8/v1",
        "https://me.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
        "https://host/v1?region=eu&timeout=5",
    ],
)
def test_usual_urls_stand(url: str) -> None:
    """Azure wants its version in the query."""
    assert check_base_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://user:CANARY@host/v1",
        "http://CANARY@host/v1",
        "http://host/v1?token=CANARY",
        "http://host/v1?api-version=1&api_key=CANARY",
        "http://host/v1?API-KEY=CANARY",
        "http://host/v1?subscription-key=CANARY",
        "http://host/v1?sig=CANARY",
        "http://host/v1?access_token=CANARY",
        "http://host/v1?code=CANARY",
        "http://host/v1?password=CANARY",
        "http://host/v1?x=sk-CANARY",
    ],
)
def test_what_must_not_be_kept_is_refused_and_not_quoted(url: str) -> None:
    """A password in the URL was written in clear into the run's configuration."""
    with pytest.raises(ValueError, match="OPENAI_API_KEY alone") as caught:
        check_base_url(url)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x/", "http://", "http://h:x/", "http://a b/", "h\ud800"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        check_base_url(url)


def test_servers_are_alike_by_scheme_host_and_port() -> None:
    """The same host without encryption is another one to send a key to."""
    assert same_server("https://Host/v1", "https://host:443/other")
    assert not same_server("https://host/v1", "http://host/v1")
    assert not same_server("https://host/v1", "https://host:8443/v1")
    assert not same_server("", "")
    assert host_of("https://me:x@host:8/v1?a=b") == "host:8"


def test_only_plain_http_to_elsewhere_can_be_read_on_the_way() -> None:
    assert is_plain("http://gpu-node:8000/v1")
    assert is_plain("HTTP://10.0.0.1/v1")
    for url in ("https://gpu-node/v1", "http://localhost:8000/v1", "http://[::1]/v1", "http://127.8.0.1/"):
        assert not is_plain(url)
    assert is_loopback("http://127.8.0.1/")
    assert not is_loopback("http://127.0.0.1.example.com/")
