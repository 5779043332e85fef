"""What the store holds of a subject opens with one key file, in its own place, and with its own key alone."""

from __future__ import annotations

import stat

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from serving.core.db.engine import open_store
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


def changed(settings, statement):
    engine = open_store(settings.store_location, 1.0)
    with engine.begin() as connection:
        connection.execute(statement)
    engine.dispose()


async def ask(client, subject="MS-ZHANG-331"):
    answer = await client.post(URL, json={"subject_id": subject})
    return answer.status_code, answer.json()


@given(profile=st.sampled_from(PROFILES), text=st.binary(max_size=300), who=st.text(max_size=20), at=st.integers(0))
def test_what_was_sealed_opens_as_it_was_and_never_after_a_flipped_bit(profile, text, who, at):
    vault = Vault(b"k" * 32, profile)
    key, wrapped = vault.new_key(who)
    assert vault.unwrap(wrapped, who) == key
    sealed = vault.seal(key, text, who)
    assert vault.open(key, sealed, who) == text
    at %= 8 * len(sealed)
    flipped = bytes(byte ^ (1 << at % 8 if i == at // 8 else 0) for i, byte in enumerate(sealed))
    for wrong in ((flipped, who), (sealed, who + "x")):
        with pytest.raises(TamperedError):
            vault.open(key, *wrong)


@given(st.text(), st.text(), st.text())
def test_a_pseudonym_is_one_for_each_product_and_subject_and_key(product, one, other):
    vault = Vault(b"k" * 32)
    assert vault.pseudonym("a", one) == vault.pseudonym("a", one)
    assert (vault.pseudonym("a", one) == vault.pseudonym("a", other)) == (one == other)
    assert vault.pseudonym("a", one) != vault.pseudonym("b", one)
    assert (
        Vault(b"j" * 32).pseudonym("a", one) != vault.pseudonym("a", one) != Vault(b"k" * 32, "sm").pseudonym("a", one)
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_the_store_holds_neither_an_id_nor_a_value_in_plain(settings, tmp_path, profile):
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
    held = b"".join(path.read_bytes() for path in settings.paths.store.parent.glob("store.db*"))
    assert pseudonym.encode() in held
    assert b"MS-ZHANG" not in held
    assert b"777003" not in held


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "keys" / "vault.key"
    assert load_vault(path).key_check == load_vault(path).key_check
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["vault.key"]


@pytest.mark.parametrize("text", ["", "none", "-----BEGIN YUHENG VAULT KEY-----\nAAAA\n-----END YUHENG VAULT KEY-----"])
def test_a_file_that_is_no_key_is_said_to_be_none(tmp_path, text):
    (tmp_path / "vault.key").write_text(text)
    (tmp_path / "vault.key").chmod(0o600)
    with pytest.raises(VaultKeyError, match="Put the right one back"):
        load_vault(tmp_path / "vault.key")


def test_a_key_file_that_others_may_read_opens_nothing(tmp_path):
    path = tmp_path / "vault.key"
    load_vault(path)
    path.chmod(0o640)
    with pytest.raises(VaultKeyError, match="mode 0640; 0600 is needed"):
        load_vault(path)


def test_another_key_file_is_one_clear_error_and_nothing_is_answered(loaded, tmp_path):
    loaded.paths.vault_key.unlink()
    with pytest.raises(VaultKeyError, match="Give it the key file with which it was filled"):
        load_subjects(tmp_path / "simulated.csv", load_contract("county"), loaded.store_location, 1.0, vault_of(loaded))

    async def story(client, gateway):
        status, told = await ask(client)
        assert (status, told["type"]) == (503, "/problems/store_failed")
        assert "the key file with which it was filled" in told["detail"]

    run_inside(loaded, story)


def test_a_subject_whose_key_is_shredded_is_nobody(loaded):
    vault = vault_of(loaded)
    [[pseudonym, sealed]] = rows(
        loaded,
        sa.select(INDICATORS.c.pseudonym, INDICATORS.c.sealed).where(
            INDICATORS.c.pseudonym == vault.pseudonym("credit_limit", "MS-LI-332"), INDICATORS.c.group == "tax"
        ),
    )
    changed(loaded, sa.delete(SUBJECT_KEYS).where(SUBJECT_KEYS.c.pseudonym == pseudonym))
    assert stored(loaded, "credit_limit", "MS-LI-332") is None
    assert stored(loaded, "credit_limit", "MS-ZHANG-331") is not None
    other, _ = vault.new_key(pseudonym)
    with pytest.raises(TamperedError):
        vault.open(other, sealed, pseudonym)
    engine = open_store(loaded.store_location, 1.0)
    with engine.begin() as connection:
        assert shred(connection, vault, "credit_limit", "MS-ZHANG-331")
        assert not shred(connection, vault, "credit_limit", "MS-ZHANG-331")
    engine.dispose()
    pseudonym = vault.pseudonym("credit_limit", "MS-ZHANG-331")
    assert rows(loaded, sa.select(INDICATORS).where(INDICATORS.c.pseudonym == pseudonym)) == []

    async def story(client, gateway):
        for subject in ("MS-ZHANG-331", "MS-LI-332"):
            status, told = await ask(client, subject)
            assert (status, told["type"]) == (404, "/problems/unknown_subject")

    run_inside(loaded, story)


@pytest.mark.parametrize("column", ["true_at", "source_sha256", "simulated", "sealed", "pseudonym"])
def test_a_row_that_was_changed_in_the_store_is_refused(loaded, column):
    vault = vault_of(loaded)
    told, other = (vault.pseudonym("credit_limit", one) for one in ("MS-ZHANG-331", "MS-LI-332"))
    to = {
        "true_at": "2020-01-01",
        "source_sha256": "0" * 64,
        "simulated": False,
        "sealed": b"x" * 40,
        "pseudonym": told,
    }
    whose = other if column == "pseudonym" else told  # another's row in one's place
    if column == "pseudonym":
        changed(loaded, sa.delete(INDICATORS).where(INDICATORS.c.pseudonym == told))
    changed(loaded, sa.update(INDICATORS).where(INDICATORS.c.pseudonym == whose).values({column: to[column]}))

    async def story(client, gateway):
        status, said = await ask(client)
        assert (status, said["type"]) == (500, "/problems/indicators_refused")
        assert orjson.dumps(said).count(b"96123") == 0

    run_inside(loaded, story)


def test_what_is_newest_is_read_group_by_group(settings, tmp_path):
    file, where = (
        tmp_path / "simulated.csv",
        (load_contract("county"), settings.store_location, 1.0, vault_of(settings)),
    )
    file.write_text("household_id,declared_income,housing\nA,1000,5000\n")
    load_subjects(file, *where, true_at="2026-01")
    file.write_text("household_id,declared_income\nA,2000\n")
    load_subjects(file, *where, true_at="2026-03-31")
    file.write_text("household_id,declared_income\nA,1500\n")
    load_subjects(file, *where, true_at="2026-02-28")  # late news of an earlier day
    assert stored(settings, "credit_limit", "A") == {"declared_income": 2000.0, "housing": 5000.0}
