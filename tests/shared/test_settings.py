"""Settings: where they come from, what wins, and how a wrong one is told."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from runlake.addresses import is_loopback
from runlake.errors import SettingsError
from runlake.settings import Settings, add_flags, from_arguments, host_and_port, load, variable


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "runlake.toml") -> Path:
    path = Path(name)
    path.write_text(text, "utf-8")
    return path


def refused(*says: str, flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> None:
    with pytest.raises(SettingsError) as caught:
        load(flags, environ or {})
    for words in says:
        assert words in str(caught.value)


def test_defaults_are_complete_absolute_and_on_loopback(folder: Path) -> None:
    settings = load(environ={})
    data = folder / "runlake-data"
    assert settings.data == data
    assert settings.catalog == f"sqlite:{data}/catalog.sqlite"
    assert settings.lake.catalog_file == data / "catalog.sqlite"
    assert settings.storage == f"{data}/lake/"
    assert settings.read_model == data / "query"
    assert settings.ingest_folder == data / "ingest"
    assert settings.http == "127.0.0.1:8765"
    assert settings.metrics == "127.0.0.1:8769"
    assert settings.ingest == settings.ingest_bind == "tcp://127.0.0.1:8766"
    assert settings.push == settings.push_bind == "tcp://127.0.0.1:8767"
    assert settings.feed == settings.feed_bind == "tcp://127.0.0.1:8768"


def test_flags_win_over_the_environment_over_the_file_over_defaults() -> None:
    write("credit = 2\nflush_messages = 2\nwindow_ids = 2\n")
    environ = {"RUNLAKE_CREDIT": "3", "RUNLAKE_FLUSH_MESSAGES": "3"}
    settings = load({"credit": 4}, environ)
    assert (settings.credit, settings.flush_messages, settings.window_ids) == (4, 3, 2)
    assert settings.refresh_ms == Settings().refresh_ms


def test_a_flag_that_was_not_given_wins_over_nothing() -> None:
    assert load({"credit": None}, {"RUNLAKE_CREDIT": "3"}).credit == 3


def test_only_the_source_that_wins_must_be_right() -> None:
    assert load({"credit": "5"}, {"RUNLAKE_CREDIT": "many"}).credit == 5


def test_a_named_file_is_read_in_place_of_the_one_in_the_folder() -> None:
    write("credit = 2\n")
    assert load(environ={}, file=write("credit = 3\n", "other.toml")).credit == 3


def test_a_missing_file_is_an_error_only_when_it_was_named(folder: Path) -> None:
    load(environ={})
    with pytest.raises(SettingsError, match=r"none\.toml: there is no such settings file"):
        load(environ={}, file=folder / "none.toml")


@pytest.mark.parametrize("content", [b"credit =", b"= 3", b"\xff\xfe", b"[credit"])
def test_a_file_that_is_not_toml_is_named(content: bytes) -> None:
    Path("runlake.toml").write_bytes(content)
    refused("runlake.toml: cannot be read as TOML")


def test_a_folder_in_place_of_the_file_is_named() -> None:
    Path("runlake.toml").mkdir()
    refused("runlake.toml: cannot be read as TOML")


def test_an_unknown_key_of_the_file_is_refused_with_the_known_names() -> None:
    write("credits = 3\n")
    refused("runlake.toml", "'credits'", *Settings.__struct_fields__)


def test_other_variables_of_the_environment_are_none_of_ours() -> None:
    load(environ={"RUNLAKE_SOMETHING": "x", "PATH": "/bin"})


NUMBERS = {
    "flush_interval_ms": (10, 600_000),
    "flush_messages": (1, 10_000_000),
    "journal_max_mb": (1, 10_000_000),
    "window_ids": (1, 1_000_000_000),
    "credit": (1, 1_000),
    "refresh_ms": (10, 60_000),
    "recent_days": (1, 36_500),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_taken_from_their_least_to_their_most(name: str) -> None:
    for allowed in NUMBERS[name]:
        assert getattr(load(environ={variable(name): str(allowed)}), name) == allowed


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("wrong", ["least", "most", "many", "1.5", "-1", "1e400"])
def test_a_wrong_number_is_told_with_source_value_and_what_is_allowed(name: str, wrong: str) -> None:
    least, most = NUMBERS[name]
    value = {"least": str(least - 1), "most": str(most + 1)}.get(wrong, wrong)
    allowed = f"allowed is a whole number from {least} to {most}"
    refused(variable(name), repr(value), allowed, environ={variable(name): value})
    refused(f"--{name.replace('_', '-')}", repr(value), allowed, flags={name: value})
    write(f'{name} = "{value}"\n')
    refused(f"{name} in runlake.toml", repr(value), allowed)


ENDPOINTS = ["ingest", "push", "feed", "ingest_bind", "push_bind", "feed_bind"]
ADDRESSES = ["http", "metrics"]
TEXTS = [*ENDPOINTS, *ADDRESSES, "catalog", "storage", "log_level", "data", "read_model"]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", ["7", "true", "[1]", "1.5", "{a = 1}"])
def test_a_wrong_type_in_the_file_is_told_with_what_is_allowed(name: str, value: str) -> None:
    write(f"{name} = {value}\n")
    refused(
        f"{name} in runlake.toml",
        "cannot be used; allowed is " + ("a path" if name in ("data", "read_model") else "text"),
    )


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_an_empty_value_is_refused_since_leaving_it_out_is_the_default(name: str) -> None:
    refused(variable(name), "''", "leave it out", environ={variable(name): ""})


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize(
    "value",
    [
        "127.0.0.1",
        "127.0.0.1:",
        ":80",
        "8765",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:http",
        "127.0.0.1:80/path",
        "127.0.0.1:80?x",
        "127.0.0.1:80#x",
        "127.0.0.1:80 ",
        "127.0.0.1:80\n",
        "me@127.0.0.1:80",
        "[127.0.0.1]:80",
        "::1:80",
        "[::1:80",
        "http://127.0.0.1:80",
    ],
)
def test_a_wrong_address_is_told_with_what_is_allowed(name: str, value: str) -> None:
    refused(variable(name), repr(value), "allowed is host:port", environ={variable(name): value})


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize(
    "value",
    ["127.0.0.1:80", "tcp://127.0.0.1", "tcp://127.0.0.1:*", "tcp://", "udp://127.0.0.1:80", "ipc://", "inproc://x"],
)
def test_a_wrong_endpoint_is_told_with_what_is_allowed(name: str, value: str) -> None:
    refused(variable(name), repr(value), "allowed is tcp://host:port or ipc://path", environ={variable(name): value})


def test_port_nought_leaves_the_choice_to_the_system() -> None:
    assert host_and_port(load({"http": "127.0.0.1:0"}, {}).http) == ("127.0.0.1", 0)
    assert host_and_port(load({"http": "[::1]:8765"}, {}).http) == ("::1", 8765)


@pytest.mark.parametrize("value", ["0.0.0.0:80", "[::]:80", "192.168.1.1:80", "example.org:80", "127.0.0.1.org:80"])
@pytest.mark.parametrize(("name", "says"), [("http", "RUNLAKE_TOKEN"), ("metrics", "RUNLAKE_TOKEN")])
def test_listening_beyond_loopback_is_refused_and_says_what_to_do(name: str, says: str, value: str) -> None:
    refused(variable(name), repr(value), says, "loopback", "SSH", environ={variable(name): value})


TOKEN = "a-token-of-this-test-0123456789"


def test_with_a_token_for_reads_and_writes_the_api_may_listen_beyond_loopback(folder: Path) -> None:
    open_to_all = {"RUNLAKE_HTTP": "0.0.0.0:80"}
    assert load(environ={**open_to_all, "RUNLAKE_TOKEN": TOKEN}).token == TOKEN
    file = folder / "token"
    file.write_text(f"{TOKEN}\n")
    assert load({"token_file": str(file)}, open_to_all).token == TOKEN
    for scope in ("reads", "writes"):
        environ = {**open_to_all, "RUNLAKE_TOKEN": TOKEN, "RUNLAKE_TOKEN_SCOPE": scope}
        refused("RUNLAKE_HTTP", f"a token for {scope} only", environ=environ)


def test_sockets_stay_on_loopback_even_with_a_token() -> None:
    for name in ("ingest", "push", "feed"):
        refused(variable(name), "loopback", environ={variable(name): "tcp://0.0.0.0:80", "RUNLAKE_TOKEN": TOKEN})


def test_metrics_ask_for_a_token_beyond_loopback_alone() -> None:
    tokens = {"RUNLAKE_TOKEN": TOKEN, "RUNLAKE_READ_TOKEN": TOKEN[::-1]}
    assert load(environ=tokens).metrics_tokens == ()
    assert load(environ=tokens | {"RUNLAKE_METRICS": "0.0.0.0:80"}).metrics_tokens == (TOKEN, TOKEN[::-1])
    assert load(environ={"RUNLAKE_TOKEN": TOKEN, "RUNLAKE_METRICS": "[::]:80"}).metrics_tokens == (TOKEN,)


@pytest.mark.parametrize("wrong", ["short", "a token with spaces in it 0123", "tökentökentökentöken"])
@pytest.mark.parametrize("name", ["token", "read_token"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused_without_showing_it(name: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable(name)}: what was given cannot be used") as caught:
        load(environ={variable(name): wrong})
    assert wrong not in str(caught.value)


def test_a_token_file_that_cannot_be_used_is_named(folder: Path) -> None:
    refused("--token-file", "none", "No such file", flags={"token_file": folder / "none"})
    (folder / "token").write_text("short")
    refused("--token-file", "at least 16 characters", flags={"token_file": folder / "token"})
    environ = {"RUNLAKE_TOKEN": TOKEN}
    refused("--token-file", "RUNLAKE_TOKEN", "once", flags={"token_file": folder / "token"}, environ=environ)


def test_a_token_for_reading_needs_another_for_all() -> None:
    refused("RUNLAKE_READ_TOKEN", "RUNLAKE_TOKEN", environ={"RUNLAKE_READ_TOKEN": TOKEN})
    refused("RUNLAKE_READ_TOKEN", "another", environ={"RUNLAKE_READ_TOKEN": TOKEN, "RUNLAKE_TOKEN": TOKEN})


def test_tokens_are_no_flags_and_are_not_shown_when_settings_are_printed() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    for flag in ("--token=x", "--read-token=x"):
        with pytest.raises(SystemExit):
            parser.parse_args([flag])
    assert TOKEN not in repr(load(environ={"RUNLAKE_TOKEN": TOKEN}))


@pytest.mark.parametrize("value", ["local", "https://a.example", "http://localhost:5173, https://b.example:8443"])
def test_origins_are_local_or_a_list(value: str) -> None:
    assert load(environ={"RUNLAKE_CORS_ORIGINS": value}).cors_origins == value


@pytest.mark.parametrize("value", ["*", "localhost", "https://a.example/", "https://a.example/x", "ftp://a"])
def test_other_origins_are_refused(value: str) -> None:
    refused("RUNLAKE_CORS_ORIGINS", repr(value), "allowed is local", environ={"RUNLAKE_CORS_ORIGINS": value})


def test_a_scope_is_one_of_three() -> None:
    refused("RUNLAKE_TOKEN_SCOPE", "'all'", "reads, writes or both", environ={"RUNLAKE_TOKEN_SCOPE": "all"})


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "[::]", "10.0.0.1", "eth0", "127.0.0.1;0.0.0.0"])
@pytest.mark.parametrize("name", ["ingest", "push", "feed"])
def test_sockets_beyond_loopback_are_refused_by_the_name_that_was_set(name: str, host: str) -> None:
    value = f"tcp://{host}:80"
    refused(f"--{name}:", repr(value), "loopback", flags={name: value})
    refused(f"--{name}-bind:", repr(value), "loopback", flags={f"{name}_bind": value})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:80", True),
        ("127.8.8.8:80", True),
        ("localhost:80", True),
        ("LOCALHOST:80", True),
        ("[::1]:80", True),
        ("tcp://[::1]:80", True),
        ("ipc:///tmp/socket", True),
        ("0.0.0.0:80", False),
        ("[::]:80", False),
        ("localhost.example.org:80", False),
        ("tcp://localhost@example.org:80", False),
        ("[127.0.0.1]:80", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_what_others_can_reach(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_a_bind_address_of_its_own_is_kept() -> None:
    settings = load({"ingest": "tcp://127.0.0.1:1", "ingest_bind": "ipc:///tmp/x"}, {})
    assert (settings.ingest, settings.ingest_bind) == ("tcp://127.0.0.1:1", "ipc:///tmp/x")


def test_relative_paths_are_made_absolute(folder: Path) -> None:
    given = {"data": "d", "catalog": "sqlite:c/x.sqlite", "storage": "s", "read_model": "q"}
    settings = load(given, {})
    assert settings.data == folder / "d"
    assert settings.catalog == f"sqlite:{folder}/c/x.sqlite"
    assert settings.storage == f"{folder}/s/"
    assert settings.read_model == folder / "q"


def test_the_working_folder_itself_is_a_path(folder: Path) -> None:
    settings = load({"data": ".", "read_model": ".", "storage": "."}, {})
    assert settings.data == settings.read_model == folder
    assert settings.storage == f"{folder}/"


def test_a_path_object_is_as_good_as_its_text(folder: Path) -> None:
    assert load({"data": folder / "x"}, {}).data == folder / "x"


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    settings = load({"data": "~/d", "catalog": "sqlite:~/c", "storage": "~/s", "read_model": "~/q"}, {})
    home = folder / "home"
    assert settings.data == home / "d"
    assert settings.lake.catalog_file == home / "c"
    assert settings.storage == f"{home}/s/"
    assert settings.read_model == home / "q"


def test_a_tilde_of_nobody_is_left_as_it_stands(folder: Path) -> None:
    assert load({"data": "~nobody-of-that-name/d"}, {}).data == folder / "~nobody-of-that-name" / "d"


@pytest.mark.parametrize("value", ["postgresql://x", "sqlite:", "/a/path"])
def test_a_catalog_of_another_kind_is_refused(value: str) -> None:
    refused("RUNLAKE_CATALOG", repr(value), "allowed is sqlite:<path>", environ={"RUNLAKE_CATALOG": value})


def test_storage_elsewhere_is_refused() -> None:
    refused("RUNLAKE_STORAGE", "'s3://x'", "a folder of this machine", environ={"RUNLAKE_STORAGE": "s3://x"})


def test_a_log_level_is_one_of_four() -> None:
    for level in ("debug", "info", "warning", "error"):
        assert load({"log_level": level}, {}).log_level == level
    refused("RUNLAKE_LOG_LEVEL", "'loud'", "debug, info, warning, error", environ={"RUNLAKE_LOG_LEVEL": "loud"})


def test_a_command_gets_a_flag_for_each_setting_and_one_for_the_file() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    path = write("credit = 2\nrefresh_ms = 20\n", "other.toml")
    arguments = parser.parse_args(["--settings", str(path), "--credit", "7", "--flush-interval-ms", "30"])
    settings = from_arguments(arguments, {"RUNLAKE_RECENT_DAYS": "3"})
    assert (settings.credit, settings.refresh_ms, settings.flush_interval_ms, settings.recent_days) == (7, 20, 30, 3)


def test_a_command_may_take_some_settings_as_flags_and_the_rest_from_elsewhere() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, "data", "http")
    settings = from_arguments(parser.parse_args(["--http", "127.0.0.1:1"]), {"RUNLAKE_CREDIT": "3"})
    assert (settings.http, settings.credit) == ("127.0.0.1:1", 3)
    with pytest.raises(SystemExit):
        parser.parse_args(["--credit", "3"])


def test_settings_cannot_be_changed_after_they_are_read() -> None:
    with pytest.raises(AttributeError):
        load(environ={}).credit = 3  # type: ignore[misc]


def test_every_setting_has_a_variable() -> None:
    assert variable("flush_interval_ms") == "RUNLAKE_FLUSH_INTERVAL_MS"
    for name in ("data", "http", "ingest", "push", "feed", "metrics", "catalog", "storage", "read_model"):
        assert name in Settings.__struct_fields__
