"""Keys of CURVE: their files, the settings that name them, and `runlake keys`."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
import zmq.auth

from runlake import curve
from runlake.addresses import beyond_loopback
from runlake.cli.entry import main
from runlake.cli.keyfiles import new_pair
from runlake.cli.worker_client import WorkerSilent, flush_if_there
from runlake.curve import ClientKeys, KeyPair, client_keys, is_key, public_key, read_pair, refuse_open
from runlake.errors import SettingsError
from runlake.keyfolder import KeyFolder
from runlake.settings import load
from support.keys import Keys
from support.processes import Site


class Here:
    """`runlake …` in this process, with a folder of its own and no settings but those that a test gives."""

    def __init__(self, folder: Path, environ: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.data = folder / "runlake-data"
        self._environ = environ
        environ.chdir(folder)
        for name in [name for name in os.environ if name.startswith("RUNLAKE_")]:
            environ.delenv(name)

    def given(self, **variables: str) -> None:
        for name, value in variables.items():
            self._environ.setenv(name, value)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output, errors."""
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = main(arguments)
        return status, out.getvalue(), errors.getvalue()

    def doctor(self) -> str:
        """All that it says."""
        return "".join(map(str, self("doctor")))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(tmp_path, monkeypatch)


def run(command: Here, *arguments: str) -> Any:
    """What `runlake keys …` prints where its output is no terminal."""
    status, out, errors = command("keys", *arguments)
    assert status == 0, errors
    return msgspec.json.decode(out)


def refused(command: Here, *arguments: str) -> str:
    status, _, errors = command("keys", *arguments)
    assert status != 0
    return errors


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_certificate(path: Path, pair: KeyPair) -> Path:
    path.write_text(
        f'metadata\n    name = "x"\ncurve\n    public-key = "{pair.public}"\n    secret-key = "{pair.secret}"\n'
    )
    path.chmod(0o600)
    return path


# Files


def test_certificates_of_other_tools_are_read_and_ours_by_other_tools(tmp_path: Path, command: Here) -> None:
    public_file, secret_file = zmq.auth.create_certificates(tmp_path, "other", metadata={"public-key": "none"})
    Path(secret_file).chmod(0o600)
    _, secret = zmq.auth.load_certificate(secret_file)
    assert secret is not None
    theirs = read_pair(secret_file, "x")
    assert (theirs.public, theirs.secret) == (
        Path(public_file).read_text().split('public-key = "')[1][:40],
        secret.decode(),
    )
    assert public_key(public_file, "x") == theirs.public
    ours = run(command, "create", "client", "ours")
    loaded, secret = zmq.auth.load_certificate(ours["secret_file"])
    assert loaded.decode() == ours["public_key"]
    assert secret is not None
    assert zmq.curve_public(secret) == loaded


def test_a_key_may_be_given_as_itself_or_as_a_file(tmp_path: Path) -> None:
    pair = new_pair()
    bare = tmp_path / "bare"
    bare.write_text(f"{pair.public}\n")
    assert public_key(pair.public, "x") == public_key(str(bare), "x") == pair.public
    assert public_key(str(write_certificate(tmp_path / "both", pair)), "x") == pair.public


@pytest.mark.parametrize("text", ["", "x" * 39, "x" * 41, "é" * 40, "#" * 40, "'" * 40])
def test_what_is_no_key_is_not_taken_for_one(text: str) -> None:
    assert not is_key(text)
    assert all(is_key(new_pair().public) for _ in range(10))


@pytest.mark.parametrize("rights", [0o604, 0o640 | 0o020, 0o602, 0o601, 0o666])
def test_a_secret_that_others_may_read_or_change_is_not_read(tmp_path: Path, rights: int) -> None:
    pair = new_pair()
    file = write_certificate(tmp_path / "k", pair)
    file.chmod(rights)
    with pytest.raises(SettingsError, match=f"NAME: .*mode {rights:04o}.*chmod 600") as caught:
        read_pair(file, "NAME")
    assert pair.secret not in str(caught.value)
    for kept in (0o600, 0o400, 0o440, 0o640):
        file.chmod(kept)
        assert read_pair(file, "NAME").public == pair.public


def test_files_that_cannot_be_keys_are_told_without_their_content(tmp_path: Path) -> None:
    one, other = new_pair(), new_pair()
    file = tmp_path / "k"
    cases = {
        "no certificate": "secret-key = none of your business",
        "40 characters": f'curve\n    secret-key = "{one.secret[:-1]}"\n',
        "no secret key": f'curve\n    public-key = "{one.public}"\n',
        "belong together": f'curve\n    public-key = "{other.public}"\n    secret-key = "{one.secret}"\n',
    }
    for words, content in cases.items():
        file.write_text(content)
        file.chmod(0o600)
        with pytest.raises(SettingsError, match=words) as caught:
            read_pair(file, "NAME")
        assert one.secret[:-1] not in str(caught.value)
        assert "business" not in str(caught.value)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, words in ((tmp_path / "none", "no file"), (tmp_path, "no file"), (tmp_path / "pipe", "no file")):
        with pytest.raises(SettingsError, match=words):
            read_pair(path, "NAME")


def test_a_secret_that_is_given_in_the_place_of_its_file_is_not_repeated(command: Here) -> None:
    pair = new_pair()
    with pytest.raises(SettingsError, match="given as files") as caught:
        client_keys(pair.public, pair.secret, {})
    assert pair.secret not in str(caught.value)
    command.given(RUNLAKE_SERVER_KEY=pair.public, RUNLAKE_CLIENT_KEY=pair.secret)
    assert "given as files" in (said := command.doctor())
    assert pair.secret not in said


def test_a_secret_shows_in_no_repr() -> None:
    pair = new_pair()
    for shown in (pair, ClientKeys("server", pair), curve.ServerKeys(pair)):
        assert pair.public in repr(shown)
        assert pair.secret not in repr(shown)


# Who needs keys


def test_both_halves_are_needed_to_connect(tmp_path: Path) -> None:
    server, own = new_pair(), new_pair()
    file = write_certificate(tmp_path / "k", own)
    assert client_keys(environ={}) is None
    variables = {"RUNLAKE_SERVER_KEY": server.public, "RUNLAKE_CLIENT_KEY": str(file)}
    found = client_keys(environ=variables)
    assert found is not None
    assert (found.server, found.own.public) == (server.public, own.public)
    given = client_keys(new_pair().public, file, variables)
    assert given is not None
    assert given.server != server.public
    for missing in variables:
        with pytest.raises(SettingsError, match=missing):
            client_keys(environ={name: value for name, value in variables.items() if name != missing})


def test_beyond_loopback_nobody_connects_without_keys() -> None:
    keys = ClientKeys(new_pair().public, new_pair())
    refuse_open("tcp://127.0.0.1:1,ipc:///x, tcp://[::1]:1", None)
    refuse_open("tcp://10.0.0.1:1", keys)
    with pytest.raises(SettingsError, match=r"tcp://10\.0\.0\.1:1: .*runlake keys create client"):
        refuse_open("tcp://127.0.0.1:1,tcp://10.0.0.1:1", None)
    assert beyond_loopback("tcp://a:1, tcp://localhost:1 ,,tcp://b:1") == ["tcp://a:1", "tcp://b:1"]


def test_settings_beyond_loopback_need_keys_and_say_how_to_make_them(command: Here) -> None:
    data = {"RUNLAKE_DATA": str(command.data)}
    open_to_all = data | {"RUNLAKE_INGEST_BIND": "tcp://0.0.0.0:8766"}
    with pytest.raises(SettingsError, match=r"RUNLAKE_INGEST_BIND: .*runlake keys create server.*runlake keys allow"):
        load(environ=open_to_all)
    assert load(environ=data).server_keys is None
    assert load(environ=data).client_keys is None
    made = run(command, "create", "server")
    settings = load(environ=open_to_all)
    assert settings.server_keys is not None
    assert settings.server_keys.own.public == made["public_key"]


def test_a_folder_of_keys_that_is_named_must_have_the_workers_pair(command: Here) -> None:
    settings = load(environ={"RUNLAKE_KEYS": str(command.folder / "none")})
    with pytest.raises(SettingsError, match=r"RUNLAKE_KEYS: it is set.*runlake keys create server"):
        _ = settings.server_keys


def test_settings_of_a_client_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_certificate(tmp_path / "k", new_pair())
    environ = {"RUNLAKE_INGEST": "tcp://worker:8766", "RUNLAKE_FEED": "tcp://worker:8768"}
    with pytest.raises(SettingsError, match="RUNLAKE_CLIENT_KEY"):
        load(environ=environ)
    server = new_pair().public
    settings = load(environ=environ | {"RUNLAKE_SERVER_KEY": server, "RUNLAKE_CLIENT_KEY": str(file)})
    assert settings.client_keys is not None
    assert settings.client_keys.server == server
    assert settings.client_variables == {"RUNLAKE_SERVER_KEY": server, "RUNLAKE_CLIENT_KEY": str(file)}
    with pytest.raises(SettingsError, match="RUNLAKE_KEYS"):  # it may connect there, not listen
        _ = settings.server_keys


def test_who_may_read_the_workers_folder_has_keys(command: Here) -> None:
    made = run(command, "create", "server")
    settings = load(environ={"RUNLAKE_DATA": str(command.data)})
    keys = settings.client_keys
    assert keys is not None
    assert keys.server == made["public_key"]
    assert keys.own.public in KeyFolder(settings.keys).allowed().names
    told = client_keys(environ=settings.client_variables)
    assert told is not None
    assert (told.server, told.own.public) == (keys.server, keys.own.public)


# The command


def test_create_makes_secrets_that_their_owner_alone_reads_and_never_overwrites(command: Here) -> None:
    for arguments in (("create", "server"), ("create", "client", "agent", "--dir", str(command.folder / "there"))):
        made = run(command, *arguments)
        secret, public = Path(made["secret_file"]), Path(made["public_file"])
        assert mode(secret) == 0o600
        assert read_pair(secret, "x").public == public_key(str(public), "x") == made["public_key"]
        assert mode(secret.parent) == 0o700
        before = secret.read_bytes()
        assert "never overwritten" in refused(command, *arguments)
        assert secret.read_bytes() == before
        assert read_pair(secret, "x").secret not in msgspec.json.encode(made).decode()
    assert not list(command.folder.rglob(".*"))


def test_keys_are_allowed_listed_and_revoked(command: Here) -> None:
    run(command, "create", "server")
    one, two = (run(command, "create", "client", name) for name in ("one", "two"))
    assert run(command, "allow", one["public_file"])["name"] == "one"
    assert run(command, "allow", two["public_key"], "second")["name"] == "second"
    listed = run(command)
    assert {client["name"]: client["public_key"] for client in listed["clients"]} | {"local": ""} == {
        "local": "",
        "one": one["public_key"],
        "second": two["public_key"],
    }
    assert listed == run(command, "ls")
    assert [gone["name"] for gone in run(command, "revoke", "one")] == ["one"]
    assert [gone["name"] for gone in run(command, "revoke", two["public_key"])] == ["second"]
    assert [client["name"] for client in run(command, "ls")["clients"]] == ["local"]
    assert "runlake keys ls" in refused(command, "revoke", "one")


def test_a_key_is_revoked_under_all_its_names(command: Here) -> None:
    client = run(command, "create", "client", "one")
    run(command, "allow", client["public_file"])
    folder = KeyFolder(command.data / "keys")
    copy = folder.allowed_folder / "alias.key"
    copy.write_bytes((folder.allowed_folder / "one.key").read_bytes())
    assert {gone["name"] for gone in run(command, "revoke", "one")} == {"one", "alias"}
    assert folder.allowed().names == {}


def test_allow_takes_no_secret_no_second_name_and_not_the_workers_own_key(command: Here) -> None:
    server = run(command, "create", "server")
    one, two = (run(command, "create", "client", name) for name in ("one", "two"))
    run(command, "allow", one["public_file"])
    assert run(command, "allow", one["public_file"])["name"] == "one"  # again is no mistake
    assert "already" in refused(command, "allow", one["public_key"], "uno")
    assert "another key" in refused(command, "allow", two["public_key"], "one")
    assert "two.key)" in refused(command, "allow", two["secret_file"])
    assert "own public key" in refused(command, "allow", server["public_key"])
    assert "no file" in refused(command, "allow", "nobody")
    for name in ("../x", ".x", "server", "a/b"):
        assert "cannot be a client's name" in refused(command, "allow", two["public_key"], name)
    assert set(KeyFolder(command.data / "keys").allowed().names.values()) == {"one", "local"}


def test_the_workers_pair_is_replaced_and_who_is_let_in_stays_the_same(command: Here) -> None:
    before = run(command, "create", "server")
    folder = KeyFolder(command.data / "keys")
    listed = folder.allowed()
    folder.server_secret.unlink()
    folder.server_public.unlink()
    after = run(command, "create", "server")
    assert after["public_key"] != before["public_key"]
    assert folder.allowed() == listed
    keys = folder.local_keys()
    assert keys is not None
    assert keys.server == after["public_key"]


def test_keys_can_be_made_for_settings_that_nothing_starts_with_yet(command: Here) -> None:
    command.given(RUNLAKE_INGEST_BIND="tcp://0.0.0.0:8766")
    assert "runlake keys create server" in command.doctor()
    run(command, "create", "server")
    assert "clients that it lets in: 1" in command.doctor()


def test_doctor_finds_keys_that_do_not_fit(command: Here) -> None:
    made = run(command, "create", "server")
    stranger = run(command, "create", "client", "stranger")
    folder = KeyFolder(command.data / "keys")
    (folder.allowed_folder / "broken.key").write_text("x")
    assert "broken.key" in command.doctor()
    command.given(RUNLAKE_SERVER_KEY=made["public_key"], RUNLAKE_CLIENT_KEY=stranger["secret_file"])
    assert f"runlake keys allow '{stranger['public_key']}'" in command.doctor()
    command.given(RUNLAKE_SERVER_KEY=stranger["public_key"])
    assert f"the worker's public key is {made['public_key']}" in command.doctor()
    folder.server_secret.chmod(0o644)
    assert "chmod 600" in command.doctor()


def test_doctor_says_that_a_worker_has_another_key(command: Here) -> None:
    site = Site(command.folder / "site")
    Keys(site.data, command.folder / "clients")
    run(command, "create", "server")
    command.given(RUNLAKE_INGEST=site.ingest_endpoint)
    with site.ingest():
        assert "Most likely RUNLAKE_SERVER_KEY is not its public key" in command.doctor()
        with pytest.raises(WorkerSilent, match="Most likely"):  # a command that needs its flush does not go on without
            flush_if_there(site.ingest_endpoint, load().client_keys)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_what_root_makes_in_a_folder_is_its_owners(command: Here) -> None:
    command.data.mkdir()
    os.chown(command.data, 1234, 2345)
    run(command, "create", "server")
    run(command, "allow", new_pair().public, "one")
    made = [command.data / "keys", *(command.data / "keys").rglob("*")]
    assert len(made) == 8
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(1234, 2345)}
