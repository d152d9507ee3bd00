"""Whether the hub is needed, and what is done where it is silent."""

import http.server
import os
import threading

import pytest

from mfrbook.command import hub


@pytest.fixture
def online(monkeypatch):
    """No switch is set; what is set in a test is undone."""
    for name in hub.SWITCHES:
        monkeypatch.setenv(name, "")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({}, False),
        ({"model": "tiny-lm"}, False),
        ({"model": "gpt2"}, True),
        ({"model": "someone/something"}, True),
        ({"text": "Skylion007/openwebtext"}, True),
        ({"text": "sample"}, False),
        ({"text": "no-such-file.txt"}, False),
        ({"model": "no/such/folder"}, False),
        ({"model": 3}, False),
        ({"model": None, "text": None, "alpha": 0.5}, False),
    ],
)
def test_only_what_is_not_here_needs_it(values, needed):
    assert hub.needs_hub(values) is needed


def test_one_that_refuses_a_page_is_there(online):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # answers 501
    threading.Thread(target=server.serve_forever, daemon=True).start()
    online.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        assert not hub.go_offline_if_silent({"model": "gpt2"})
    finally:
        server.shutdown()
        server.server_close()
    assert os.environ["HF_HUB_OFFLINE"] == ""


def test_where_it_is_silent_only_its_cache_is_used(online, capsys):
    online.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not hub.go_offline_if_silent({"model": "tiny-lm"})
    assert hub.go_offline_if_silent({"model": "gpt2"})
    assert [os.environ[name] for name in hub.SWITCHES] == ["1", "1"]
    assert "does not answer" in capsys.readouterr().err
