"""Settings of the process, from its environment."""

from pathlib import Path

import pytest

from tocsin.config import ConfigError, Listen, process_settings
from tocsin.config.process import parse_listen


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "LISTEN",
        "STATE_DIR",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "WEB_CONFIG_FILE",
        "VANTAGE",
        "RELOAD_EVERY",
        "RUNBOOKS_DIR",
    ):
        monkeypatch.delenv(f"TOCSIN_{name}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_without_variables_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOCSIN_LOG_LEVEL", "")
    monkeypatch.setenv("TOCSIN_WIPE_DLQ_TABLE", "a contract of a profile")
    settings = process_settings()
    assert settings.listen == Listen("127.0.0.1", 9760)
    assert settings.state_dir == tmp_path / "tocsin"
    assert (settings.log_level, settings.log_format, settings.vantage) == ("info", "auto", "")
    assert (settings.web_config_file, settings.reload_every, settings.runbooks_dir) == (None, 10.0, None)


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TOCSIN_RUNBOOKS_DIR", str(tmp_path))
    monkeypatch.setenv("TOCSIN_LISTEN", "[::1]:0")
    monkeypatch.setenv("TOCSIN_STATE_DIR", "/srv/tocsin")
    monkeypatch.setenv("TOCSIN_LOG_LEVEL", "debug")
    monkeypatch.setenv("TOCSIN_LOG_FORMAT", "json")
    monkeypatch.setenv("TOCSIN_WEB_CONFIG_FILE", "/etc/web.yml")
    monkeypatch.setenv("TOCSIN_VANTAGE", "api-network")
    monkeypatch.setenv("TOCSIN_RELOAD_EVERY", "1m")
    settings = process_settings()
    assert dict(settings) == {
        "listen": Listen("::1", 0),
        "state_dir": Path("/srv/tocsin"),
        "log_level": "debug",
        "log_format": "json",
        "web_config_file": Path("/etc/web.yml"),
        "vantage": "api-network",
        "reload_every": 60.0,
        "runbooks_dir": tmp_path,
    }


def test_wrong_variables_are_told_by_name_all_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOCSIN_LISTEN", "localhost")
    monkeypatch.setenv("TOCSIN_LOG_LEVEL", "inof")
    monkeypatch.setenv("TOCSIN_RELOAD_EVERY", "10")
    monkeypatch.setenv("TOCSIN_RUNBOOKS_DIR", "/nowhere")
    with pytest.raises(ConfigError) as caught:
        process_settings()
    assert str(caught.value).splitlines() == [
        "environment: TOCSIN_LISTEN: 'localhost' is not an address; write 127.0.0.1:9760, [::1]:9760 or :9760",
        "environment: TOCSIN_LOG_LEVEL: 'inof' is not 'debug', 'info', 'warning' or 'error'; did you mean `info`?",
        "environment: TOCSIN_RUNBOOKS_DIR: '/nowhere' is not a folder; name the one that holds SYSTEM/INCIDENT.md",
        "environment: TOCSIN_RELOAD_EVERY: '10' is not a duration; "
        "write a number and a unit: 500ms, 30s, 5m, 1h30m, 7d",
    ]


@pytest.mark.parametrize("text", ["127.0.0.1:9760", "[::1]:9760", ":9760", "localhost:0"])
def test_a_listen_address_is_written_as_it_is_read(text: str):
    assert str(parse_listen(text)) == text


@pytest.mark.parametrize("text", ["", "9760", "127.0.0.1", "::1:9760", "[::1]", "host:65536", "host:", "a b:1", "x:-1"])
def test_what_is_no_listen_address_is_refused(text: str):
    with pytest.raises(ValueError, match="is not an address"):
        parse_listen(text)
