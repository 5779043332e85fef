"""The settings file: what is wrong with it is told, and the environment may replace each value."""

from __future__ import annotations

import re

import pytest

from serving.settings import DEFAULT_FILE, PRODUCTS, ROOT, SettingsError, load_settings


def test_the_file_of_the_project_is_read_with_absolute_paths():
    settings = load_settings(environ={})
    assert settings.host == "127.0.0.1"
    assert all(path.is_absolute() for _, path in settings.paths)


def test_the_environment_replaces_a_value():
    settings = load_settings(
        environ={"YUHENG_STORE": "/data/s.db", "YUHENG_LIMITS_MAX_BODY_BYTES": "5", "YUHENG_PORT": "81"}
    )
    assert (str(settings.paths.store), settings.limits.max_body_bytes, settings.port) == ("/data/s.db", 5, 81)


def test_home_moves_what_is_written_and_what_is_shipped_only_where_it_is_there(tmp_path):
    (tmp_path / "var/bundles").mkdir(parents=True)
    paths = load_settings(environ={"YUHENG_HOME": str(tmp_path)}).paths
    assert paths.store == tmp_path / "var/store.db"
    assert paths.bundles == tmp_path / "var/bundles"
    assert paths.public_key == ROOT / "var/keys/signing.pub.pem"


def test_each_product_has_a_default_model_which_is_its_own_name_unless_told():
    assert load_settings(environ={}).default_models == {name: name for name in PRODUCTS}
    told = load_settings(environ={"YUHENG_DEFAULT_MODELS_CREDIT_LIMIT": "credit_limit_taiwan"}).default_models
    assert told == {name: name for name in PRODUCTS} | {"credit_limit": "credit_limit_taiwan"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("batch_rows", "batch_row", "limits.batch_row is not a setting; did you mean 'batch_rows'?"),
        ("body = 1_000_000", "body = -1", "limits.body"),
        ("port = 3000", 'port = "three"', "port"),
        ("host =", "hosts =", "hosts is not a setting; did you mean 'host'?"),
        ("credit_limit =", "credit_limt =", "'credit_limt' is no product; did you mean 'credit_limit'?"),
        ("[store]", "[stor]", "stor is not a setting; did you mean 'store'?"),
    ],
)
def test_a_setting_that_is_not_known_or_does_not_fit_is_named(tmp_path, old, new, told):
    file = tmp_path / "serving.toml"
    file.write_text(DEFAULT_FILE.read_text().replace(old, new))
    with pytest.raises(SettingsError, match=re.escape(told)):
        load_settings(file, environ={})


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    (tmp_path / "serving.toml").write_text("host: 127.0.0.1")
    with pytest.raises(SettingsError, match=r"serving\.toml"):
        load_settings(tmp_path / "serving.toml", environ={})
