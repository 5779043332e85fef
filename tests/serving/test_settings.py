"""The settings: errors name each value, and environment variables may replace each value."""

from __future__ import annotations

import re

import pytest

from serving.settings import DEFAULT_FILE, PRODUCTS, ROOT, SettingsError, load_settings


def test_the_settings_of_the_project_have_absolute_paths():
    settings = load_settings(environ={})
    assert settings.host == "127.0.0.1"
    assert all(path.is_absolute() for _, path in settings.paths)


def test_environment_variables_replace_values():
    settings = load_settings(
        environ={"YUHENG_STORE": "/data/s.db", "YUHENG_LIMITS_MAX_BODY_BYTES": "5", "YUHENG_PORT": "81"}
    )
    assert (str(settings.paths.store), settings.limits.max_body_bytes, settings.port) == ("/data/s.db", 5, 81)


def test_home_moves_written_paths_and_shipped_ones_only_where_they_exist(tmp_path):
    (tmp_path / "var/bundles").mkdir(parents=True)
    paths = load_settings(environ={"YUHENG_HOME": str(tmp_path)}).paths
    assert paths.store == tmp_path / "var/store.db"
    assert paths.bundles == tmp_path / "var/bundles"
    assert paths.public_key == ROOT / "var/keys/signing.pub.pem"


def test_the_default_model_of_a_product_has_its_name_unless_configured():
    assert load_settings(environ={}).default_models == {name: name for name in PRODUCTS}
    message = load_settings(environ={"YUHENG_DEFAULT_MODELS_CREDIT_LIMIT": "credit_limit_taiwan"}).default_models
    assert message == {name: name for name in PRODUCTS} | {"credit_limit": "credit_limit_taiwan"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_batch_rows", "max_batch_row", "limits.max_batch_row is not a setting; did you mean 'max_batch_rows'?"),
        ("max_body_bytes = 1_000_000", "max_body_bytes = -1", "limits.max_body_bytes"),
        ("port = 3000", 'port = "three"', "port"),
        ("host =", "hosts =", "hosts is not a setting; did you mean 'host'?"),
        ("credit_limit =", "credit_limt =", "'credit_limt' is no product; did you mean 'credit_limit'?"),
        ("[store]", "[stor]", "stor is not a setting; did you mean 'store'?"),
    ],
)
def test_an_unknown_or_invalid_setting_is_named(tmp_path, old, new, message):
    file = tmp_path / "serving.toml"
    file.write_text(DEFAULT_FILE.read_text().replace(old, new))
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_settings(file, environ={})


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "serving.toml").write_text("host: 127.0.0.1")
    with pytest.raises(SettingsError, match=r"serving\.toml"):
        load_settings(tmp_path / "serving.toml", environ={})
