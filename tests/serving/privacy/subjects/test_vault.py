"""A subject's values can only be decrypted with the key file, the subject's own key, and in their own row."""

from __future__ import annotations

import stat

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from serving.core.audit.authenticator import open_log_store
from serving.core.db.schema import DECISIONS, INDICATORS, SUBJECT_KEYS
from serving.privacy.subjects.errors import TamperedError, VaultKeyError
from serving.privacy.subjects.ingestion import load_contract, load_subjects
from serving.privacy.subjects.vault import Vault, load_vault, shred
from tests.serving.conftest import rows, run_inside, stored, vault_of

URL = "/v1/credit-limits"
PROFILES = ["aes", "sm"]


@pytest.fixture
def loaded(settings, tmp_path):
    file = tmp_path / "simulated.csv"
    file.write_text("household_id,declared_income,housing\nMS-ZHANG-331,96123,777003\nMS-LI-332,51234,\n")
    load_subjects(file, load_contract("county"), settings.store_location, 1.0, vault_of(settings))
    return settings


def execute(settings, statement):
    """Change the store without the service."""
    engine = open_log_store(settings, 1.0)
    with engine.begin() as connection:
        connection.execute(statement)
    engine.dispose()


async def ask(client, subject="MS-ZHANG-331"):
    """(status, body) of a decision about a stored subject."""
    answer = await client.post(URL, json={"subject_id": subject})
    return answer.status_code, answer.json()


@given(profile=st.sampled_from(PROFILES), text=st.binary(max_size=300), name=st.text(max_size=20), bit=st.integers(0))
def test_ciphertext_decrypts_to_its_plaintext_and_never_after_a_flipped_bit(profile, text, name, bit):
    vault = Vault(b"k" * 32, profile)
    key, wrapped = vault.new_key(name)
    assert vault.unwrap(wrapped, name) == key
    sealed = vault.seal(key, text, name)
    assert vault.open(key, sealed, name) == text
    bit %= 8 * len(sealed)
    flipped = bytes(byte ^ (1 << bit % 8 if i == bit // 8 else 0) for i, byte in enumerate(sealed))
    for wrong in ((flipped, name), (sealed, name + "x")):
        with pytest.raises(TamperedError):
            vault.open(key, *wrong)


@given(st.text(), st.text())
def test_product_subject_and_key_determine_the_pseudonym(subject, other):
    vault = Vault(b"k" * 32)
    assert vault.pseudonym("a", subject) == vault.pseudonym("a", subject)
    assert (vault.pseudonym("a", subject) == vault.pseudonym("a", other)) == (subject == other)
    pseudonyms = [vault.pseudonym("a", subject), vault.pseudonym("b", subject)]
    pseudonyms += [Vault(b"j" * 32).pseudonym("a", subject), Vault(b"k" * 32, "sm").pseudonym("a", subject)]
    assert len(set(pseudonyms)) == 4


@pytest.mark.parametrize("profile", PROFILES)
def test_the_store_contains_no_id_and_no_value_in_plain_text(settings, tmp_path, profile):
    settings = settings.model_copy(update={"vault": settings.vault.model_copy(update={"profile": profile})})
    file = tmp_path / "simulated.csv"
    file.write_text("household_id,declared_income,housing\nMS-ZHANG-331,96123.5,777003\n")
    load_subjects(file, load_contract("county"), settings.store_location, 1.0, vault_of(settings))

    async def story(client, gateway):
        status, _ = await ask(client)
        assert status == 200

    run_inside(settings, story)
    assert stored(settings, "credit_limit", "MS-ZHANG-331")["declared_income"] == 96123.5
    pseudonym = vault_of(settings).pseudonym("credit_limit", "MS-ZHANG-331")
    assert rows(settings, sa.select(DECISIONS.c.subject)) == [(pseudonym,)]
    if settings.store.url:
        return
    content = b"".join(path.read_bytes() for path in settings.paths.store.parent.glob("store.db*"))
    assert pseudonym.encode() in content
    assert b"MS-ZHANG" not in content
    assert b"777003" not in content


def test_the_key_file_is_created_once_and_readable_only_by_its_owner(tmp_path):
    path = tmp_path / "keys" / "vault.key"
    assert load_vault(path).key_check == load_vault(path).key_check
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["vault.key"]


@pytest.mark.parametrize("text", ["", "none", "-----BEGIN YUHENG VAULT KEY-----\nAAAA\n-----END YUHENG VAULT KEY-----"])
def test_a_file_that_is_not_a_key_is_refused(tmp_path, text):
    (tmp_path / "vault.key").write_text(text)
    (tmp_path / "vault.key").chmod(0o600)
    with pytest.raises(VaultKeyError, match="not a vault key file|Restore"):
        load_vault(tmp_path / "vault.key")


def test_a_key_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "vault.key"
    load_vault(path)
    path.chmod(0o640)
    with pytest.raises(VaultKeyError, match="mode 0640; expected 0600"):
        load_vault(path)


def test_with_another_key_file_nothing_is_answered(loaded, tmp_path):
    loaded.paths.vault_key.unlink()
    with pytest.raises(VaultKeyError, match="Configure the key file that encrypts the store"):
        load_subjects(tmp_path / "simulated.csv", load_contract("county"), loaded.store_location, 1.0, vault_of(loaded))

    async def story(client, gateway):
        status, problem = await ask(client)
        assert (status, problem["type"]) == (503, "/problems/store_failed")
        assert "the key file that encrypts the store" in problem["detail"]

    run_inside(loaded, story)


def test_a_subject_whose_key_was_shredded_does_not_exist(loaded):
    vault = vault_of(loaded)
    [[pseudonym, sealed]] = rows(
        loaded,
        sa.select(INDICATORS.c.pseudonym, INDICATORS.c.sealed).where(
            INDICATORS.c.pseudonym == vault.pseudonym("credit_limit", "MS-LI-332"), INDICATORS.c.group == "tax"
        ),
    )
    execute(loaded, sa.delete(SUBJECT_KEYS).where(SUBJECT_KEYS.c.pseudonym == pseudonym))
    assert stored(loaded, "credit_limit", "MS-LI-332") is None
    assert stored(loaded, "credit_limit", "MS-ZHANG-331") is not None
    other, _ = vault.new_key(pseudonym)
    with pytest.raises(TamperedError):
        vault.open(other, sealed, pseudonym)

    def story_of(subject):
        async def story(client, gateway):
            status, problem = await ask(client, subject)
            assert (status, problem["type"]) == (404, "/problems/unknown_subject")

        return story

    run_inside(loaded, story_of("MS-LI-332"))
    # Rows without any key in the store would stop the start.
    execute(loaded, sa.delete(INDICATORS).where(INDICATORS.c.pseudonym == pseudonym))
    engine = open_log_store(loaded, 1.0)
    with engine.begin() as connection:
        assert shred(connection, vault, "credit_limit", "MS-ZHANG-331")
        assert not shred(connection, vault, "credit_limit", "MS-ZHANG-331")
    engine.dispose()
    pseudonym = vault.pseudonym("credit_limit", "MS-ZHANG-331")
    assert rows(loaded, sa.select(INDICATORS).where(INDICATORS.c.pseudonym == pseudonym)) == []
    run_inside(loaded, story_of("MS-ZHANG-331"))


@pytest.mark.parametrize("column", ["true_at", "source_sha256", "simulated", "sealed", "pseudonym"])
def test_a_row_changed_in_the_store_is_refused(loaded, column):
    vault = vault_of(loaded)
    own, other = (vault.pseudonym("credit_limit", subject) for subject in ("MS-ZHANG-331", "MS-LI-332"))
    changes = {
        "true_at": "2020-01-01",
        "source_sha256": "0" * 64,
        "simulated": False,
        "sealed": b"x" * 40,
        "pseudonym": own,
    }
    pseudonym = other if column == "pseudonym" else own  # or another subject's row in its place
    if column == "pseudonym":
        execute(loaded, sa.delete(INDICATORS).where(INDICATORS.c.pseudonym == own))
    execute(loaded, sa.update(INDICATORS).where(INDICATORS.c.pseudonym == pseudonym).values({column: changes[column]}))

    async def story(client, gateway):
        status, problem = await ask(client)
        assert (status, problem["type"]) == (500, "/problems/indicators_refused")
        assert orjson.dumps(problem).count(b"96123") == 0

    run_inside(loaded, story)


def test_the_newest_values_of_each_group_are_read(settings, tmp_path):
    file = tmp_path / "simulated.csv"
    options = (load_contract("county"), settings.store_location, 1.0, vault_of(settings))
    file.write_text("household_id,declared_income,housing\nA,1000,5000\n")
    load_subjects(file, *options, true_at="2026-01")
    file.write_text("household_id,declared_income\nA,2000\n")
    load_subjects(file, *options, true_at="2026-03-31")
    file.write_text("household_id,declared_income\nA,1500\n")
    load_subjects(file, *options, true_at="2026-02-28")  # a late file about an earlier day
    assert stored(settings, "credit_limit", "A") == {"declared_income": 2000.0, "housing": 5000.0}
