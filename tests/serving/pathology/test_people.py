"""Who may sign: a token shown once, a file that only its owner reads, and nobody else let in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from serving.pathology.people import People, PeopleUnusable, add
from tests.serving.conftest import ROOT
from tests.serving.pathology.conftest import put


def test_a_token_proves_who_signs_and_is_kept_nowhere(tmp_path):
    file = tmp_path / "people.toml"
    token = add(file, 'Chen "Lan" 陈岚', "110330100001234")
    other = add(file, "Wu Bo", "110330100005678")
    people = People(file)
    assert people.of(token).name == 'Chen "Lan" 陈岚'
    assert people.of(other).licence == "110330100005678"
    assert people.of(token[:-1]) is None
    assert people.of("") is None
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_new_token_for_a_licence_ends_the_old_one_and_is_only_given_when_asked_for(tmp_path):
    file = tmp_path / "people.toml"
    old = add(file, "Chen Lan", "1234")
    people = People(file)
    assert people.of(old)
    with pytest.raises(ValueError, match="--replace"):
        add(file, "Chen Lan", "1234")
    new = add(file, "Chen Lan", "1234", replace=True)
    assert people.of(old) is None
    assert people.of(new)


@pytest.mark.parametrize(
    ("name", "licence"), [("", "1234"), (" x", "1234"), ("a\nb", "1234"), ("a", "1"), ("a", "1 2 3")]
)
def test_a_name_or_licence_that_cannot_stand_on_a_report_is_refused(tmp_path, name, licence):
    with pytest.raises(ValueError, match="needed"):
        add(tmp_path / "people.toml", name, licence)
    assert not (tmp_path / "people.toml").exists()


def test_a_file_that_others_may_read_or_that_is_broken_is_not_used(tmp_path):
    file = tmp_path / "people.toml"
    token = add(file, "Chen Lan", "1234")
    file.chmod(0o644)
    with pytest.raises(PeopleUnusable, match="chmod 600"):
        People(file).of(token)
    file.chmod(0o600)
    file.write_text("[[pathologist]]\nname = 5\n")
    with pytest.raises(PeopleUnusable, match="cannot be read"):
        People(file).of(token)


def test_the_command_prints_the_token_once_and_names_the_file(tmp_path):
    file = tmp_path / "people.toml"
    command = [sys.executable, "-m", "serving", "add-pathologist", "Chen Lan", "--licence", "110330100001234"]
    environ = os.environ | {"YUHENG_PATHOLOGISTS": str(file)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert People(file).of(done.stdout.strip()).name == "Chen Lan"
    again = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert again.returncode == 1
    assert "is there already" in again.stderr


@pytest.mark.parametrize("act", ["review", "sign", "amend"])
def test_nobody_without_a_pathologists_token_is_let_in(clinic, bearer, act):
    async def story(client, gateway):
        slide = put(gateway, "in_review")
        place = f"/v1/slides/{slide}/{act}"
        for headers in (
            {},
            {"Authorization": "Basic abc"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer no"},
        ):
            found = await client.post(place, headers=headers, json={"findings": "x", "diagnosis": "NILM"})
            assert (found.status_code, found.json()["type"]) == (401, "/problems/not_a_pathologist")
            assert found.headers["www-authenticate"].startswith("Bearer")
        gateway.settings.paths.pathologists.chmod(0o644)
        found = await client.post(place, headers=bearer, json={"findings": "x", "diagnosis": "NILM"})
        assert (found.status_code, found.json()["type"]) == (503, "/problems/people_unusable")
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "in_review"

    clinic.run(story)
