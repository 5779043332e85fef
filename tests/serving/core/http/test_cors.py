"""Pages of other origins: none may call the service unless the settings name it, and then only with a token."""

from __future__ import annotations

import pytest

from serving.settings import SettingsError, load_settings
from tests.serving.conftest import Inside, settings_for

LIS = "https://lis.hospital.example"
PREFLIGHT = {
    "Origin": LIS,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,content-type,tus-resumable,upload-offset,upload-checksum",
}


@pytest.mark.parametrize(("path", "method"), [("/v1/uploads/" + "0" * 32, "PATCH"), ("/v1/slides", "POST")])
def test_by_default_no_page_of_another_origin_is_allowed(made, tmp_path, path, method):
    with Inside(settings_for(tmp_path / "bundles", made, tmp_path)) as running:

        async def story(client, gateway):
            answer = await client.options(path, headers=PREFLIGHT | {"Access-Control-Request-Method": method})
            direct = await client.get("/healthz/live", headers={"Origin": LIS})
            for response in (answer, direct):
                assert not [name for name in response.headers if name.startswith("access-control")]

        running.run(story)


def test_pages_of_a_named_origin_may_use_tus_and_read_its_headers(made, tmp_path):
    origins = f"{LIS}, http://127.0.0.1:5173"
    settings = settings_for(tmp_path / "bundles", made, tmp_path, YUHENG_ACCESS_ALLOWED_ORIGINS=origins)
    with Inside(settings) as running:

        async def story(client, gateway):
            allowed = await client.options("/v1/uploads/" + "0" * 32, headers=PREFLIGHT)
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == LIS
            assert "PATCH" in allowed.headers["access-control-allow-methods"]
            for name in PREFLIGHT["Access-Control-Request-Headers"].split(","):
                assert name in allowed.headers["access-control-allow-headers"].lower()
            assert "access-control-allow-credentials" not in allowed.headers
            created = await client.post(
                "/v1/uploads", headers={"Origin": LIS, "Tus-Resumable": "1.0.0", "Upload-Length": "5"}
            )
            assert created.status_code == 201
            assert "Location" in created.headers["access-control-expose-headers"]
            capabilities = await client.options("/v1/uploads", headers={"Origin": LIS})
            assert capabilities.headers["tus-version"] == "1.0.0"
            refused = await client.options("/v1/uploads", headers=PREFLIGHT | {"Origin": f"{LIS}.evil.example"})
            assert "access-control-allow-origin" not in refused.headers

        running.run(story)


@pytest.mark.parametrize("origin", ["*", "null", "lis.hospital.example", f"{LIS}/", f"{LIS}/path", "ftp://lis.example"])
def test_what_is_no_origin_is_refused_when_the_service_starts(origin):
    with pytest.raises(SettingsError, match="is no origin"):
        load_settings(environ={"YUHENG_ACCESS_ALLOWED_ORIGINS": origin})
