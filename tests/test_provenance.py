"""Which commit a result names."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hcreg import provenance


class TestCommit:
    """`git_commit` of a module that seems to lie in one checkout or another."""

    @pytest.fixture
    def checkout(self, tmp_path, monkeypatch):
        if shutil.which("git") is None:
            pytest.skip("git is not installed")
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            monkeypatch.delenv(name)
        package = tmp_path / "checkout" / "hcreg"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "provenance.py").write_text("")
        self.git(package.parent, "init", "--quiet")
        self.git(package.parent, "add", ".")
        self.git(package.parent, "commit", "--quiet", "-m", "first")
        monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
        return package.parent

    def git(self, folder, *arguments):
        command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    def test_is_that_of_the_checkout(self, checkout):
        assert provenance.git_commit() == self.git(checkout, "rev-parse", "HEAD")[:12]

    def test_is_not_a_tag(self, checkout):
        self.git(checkout, "tag", "-a", "v1", "-m", "v1")
        assert provenance.git_commit() == self.git(checkout, "rev-parse", "HEAD")[:12]

    def test_has_a_plus_where_files_were_changed(self, checkout):
        (checkout / "hcreg" / "provenance.py").write_text("changed = True")
        assert provenance.git_commit() == self.git(checkout, "rev-parse", "HEAD")[:12] + "+"

    def test_is_none_outside_a_checkout(self, tmp_path, monkeypatch):
        monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert provenance.git_commit() is None

    def test_is_none_where_a_checkout_merely_holds_site_packages(self, checkout, monkeypatch):
        installed = checkout / "venv" / "lib" / "site-packages" / "hcreg"
        installed.mkdir(parents=True)
        (installed / "__init__.py").write_text("")
        monkeypatch.setattr(provenance, "__file__", str(installed / "provenance.py"))
        assert provenance.git_commit() is None

    def test_is_of_this_checkout_though_a_hook_of_another_calls(self, checkout, tmp_path, monkeypatch):
        other = tmp_path / "other"
        other.mkdir()
        self.git(other, "init", "--quiet")
        monkeypatch.setenv("GIT_DIR", str(other / ".git"))
        monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
        assert provenance.git_commit() is not None

    def test_is_none_without_git(self, checkout, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert provenance.git_commit() is None


def test_this_checkout_has_a_commit():
    if not (Path(provenance.__file__).parents[1] / ".git").exists():
        pytest.skip("the tests do not run from a git checkout")
    assert provenance.provenance()["commit"] == provenance.git_commit()
    assert len(provenance.git_commit().removesuffix("+")) == 12
