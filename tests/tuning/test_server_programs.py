"""PostgreSQL's programs, and who runs them."""

import os
import pwd
import subprocess
import types
from pathlib import Path

import pytest

from hcreg.tuning import server_programs
from hcreg.tuning.server_programs import (
    can_search,
    data_argument,
    installations,
    make_cluster,
    reachable_programs,
    run_program,
    server_user,
)

pytestmark = pytest.mark.postgres
ADA = types.SimpleNamespace(name="ada", uid=4711, gid=4711, switch=True)


def test_installations_are_named_by_the_version_they_print():
    for version, folder in installations().items():
        words = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        assert words.split()[2].split(".")[0] == str(version)


def test_an_ordinary_user_runs_the_server_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    user = server_user(tmp_path)
    assert (user.name, user.uid, user.switch) == ("nobody", pwd.getpwnam("nobody").pw_uid, False)


def test_a_user_without_a_name_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 987654)
    with pytest.raises(
        OSError, match=r"user number 987654 has no entry .*a container started with --user.*or name a Post"
    ):
        server_user(tmp_path)


def test_root_without_the_means_to_make_a_user_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(server_programs, "SERVER_USER", "hcreg-no-such-user")
    monkeypatch.setattr(os, "stat", lambda path: types.SimpleNamespace(st_uid=0))

    def run(*_, **__):
        raise FileNotFoundError("no useradd here")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(
        OSError, match=r"does not run as root, and the user 'hcreg-no-such-user' .*no useradd here.*Add that"
    ):
        server_user(tmp_path)


def test_a_folder_is_searched_by_the_bits_that_count_for_the_user(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    mine = types.SimpleNamespace(uid=os.geteuid(), gid=os.getegid())
    tmp_path.parent.chmod(0o700)
    assert can_search(folder, mine)
    assert not can_search(folder, ADA)
    # alone: whatever the parents are, one closed folder closes what is in it
    for mode, owner, others in ((0o700, True, False), (0o001, False, True), (0o755, True, True)):
        Path(folder).chmod(mode)
        bit = {True: 0o100, False: 0o001}
        assert bool(folder.stat().st_mode & bit[True]) == owner == can_search(folder, mine)
        assert bool(folder.stat().st_mode & bit[False]) == others
    assert can_search("/", ADA)


def test_roots_data_below_a_closed_folder_name_a_better_one_where_there_is_no_proc(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    assert data_argument(ADA, tmp_path / "data") == "/proc/self/cwd"
    monkeypatch.setattr(server_programs, "OWN_FOLDER", "/proc/there/is/none")
    with pytest.raises(PermissionError, match=r"'ada', who may not pass through .*Use a folder below .*/var/lib/hcreg"):
        data_argument(ADA, tmp_path / "data")
    assert data_argument(types.SimpleNamespace(switch=False), tmp_path / "data") == "."


def test_a_program_gets_no_environment_no_input_and_a_session_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PGDATA", "/elsewhere")
    monkeypatch.setenv("PGPASSWORD", "secret")
    ourselves = types.SimpleNamespace(switch=False)
    with open(tmp_path / "log", "w") as log:
        code = run_program(ourselves, ["/bin/sh", "-c", "env; pwd; cat; ps -o sid= -p $$; exit 3"], tmp_path, log)
    words = (tmp_path / "log").read_text().split()
    assert code == 3
    assert "LC_ALL=C" in words
    assert str(tmp_path) in words
    assert not [word for word in words if word.startswith("PG")]
    assert int(words[-1]) != os.getsid(0)


def test_a_cluster_that_is_not_made_leaves_nothing(tmp_path):
    ourselves = types.SimpleNamespace(switch=False)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "initdb").write_text("#!/bin/sh\ntouch half; exit 1\n")
    (binaries / "initdb").chmod(0o755)
    assert not make_cluster(binaries, ourselves, tmp_path / "data", [], subprocess.DEVNULL)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
    (binaries / "initdb").write_text("#!/bin/sh\necho 18 > PG_VERSION\n")
    assert make_cluster(binaries, ourselves, tmp_path / "data", [], subprocess.DEVNULL)
    assert (tmp_path / "data" / "PG_VERSION").read_text() == "18\n"


def test_programs_in_reach_are_not_copied(tmp_path):
    binaries = installations()[max(installations())]
    assert reachable_programs(binaries, types.SimpleNamespace(switch=False), tmp_path) == binaries
    assert not list(tmp_path.iterdir())
