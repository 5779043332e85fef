"""A valid token names its principal; every forgery is refused with a message that reveals nothing of the token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from serving.core.security import keys, tokens
from serving.core.security.errors import KeyFileError, TokenError
from serving.core.security.keys import public_key_path
from serving.core.security.token_issuer import issue_token, key_id
from serving.core.security.tokens import TokenVerifier
from serving.settings import AccessSettings, SettingsError, load_settings
from tests.serving.conftest import ROOT

SETTINGS = AccessSettings(
    required=True,
    allowed_origins=(),
    audience="yuheng",
    oidc_issuer="",
    oidc_audience="",
    oidc_jwks="",
    oidc_algorithm="RS256",
)
BANK: dict[str, Any] = {"tenant": "east", "roles": ["bank"], "subject": "east/7"}
CLAIMS = {"iss": "yuheng", "aud": "yuheng", "sub": "x", "tenant": "east", "roles": ["bank"]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("keys") / "tokens.pem"


@pytest.fixture(scope="module")
def verifier(file) -> TokenVerifier:
    verifier = TokenVerifier(SETTINGS, file)
    verifier.start()
    return verifier


def verify(verifier: TokenVerifier, token: str) -> Any:
    return asyncio.run(verifier.verify_principal(token))


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a valid token with changes; None removes a claim."""
    now = int(time.time())
    values = CLAIMS | {"iat": now, "exp": now + 600} | changes
    return {name: value for name, value in values.items() if value is not None}


def signed(file, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    key = keys.load_private_key(file)
    return jwt.encode(claims(**changes), key, "EdDSA", headers={"kid": key_id(key.public_key())} | (headers or {}))


def segment(value: Any) -> str:
    """A segment of a JWT."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_token_names_its_principal(file, verifier):
    principal = verify(verifier, issue_token(file, "yuheng", **BANK))
    assert (principal.tenant, principal.roles, principal.subject, principal.licence) == ("east", {"bank"}, "east/7", "")
    signer = {
        "tenant": "east",
        "roles": ["pathologist"],
        "subject": "p",
        "name": "Chen Lan 陈岚",
        "licence": "1103-0100",
    }
    principal = verify(verifier, issue_token(file, "yuheng", **signer))
    assert (principal.name, principal.licence) == ("Chen Lan 陈岚", "1103-0100")


def test_the_private_key_is_its_owners_and_the_public_key_is_enough_to_verify(file, verifier, tmp_path):
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in public_key_path(file).read_bytes()
    public_key_path(tmp_path / "tokens.pem").write_bytes(public_key_path(file).read_bytes())
    elsewhere = TokenVerifier(SETTINGS, tmp_path / "tokens.pem")
    elsewhere.start()
    assert verify(elsewhere, issue_token(file, "yuheng", **BANK)).tenant == "east"
    assert not (tmp_path / "tokens.pem").exists()


def test_an_old_key_is_valid_while_its_public_key_is_in_the_file(tmp_path):
    old, new = tmp_path / "old.pem", tmp_path / "new.pem"
    old_token = issue_token(old, "yuheng", **BANK)
    TokenVerifier(SETTINGS, old).start()
    TokenVerifier(SETTINGS, new).start()
    public_key_path(new).write_bytes(public_key_path(new).read_bytes() + public_key_path(old).read_bytes())
    both = TokenVerifier(SETTINGS, new)
    both.start()
    assert verify(both, old_token) == verify(both, issue_token(new, "yuheng", **BANK))


def test_a_key_that_others_may_read_or_that_is_invalid_is_refused(tmp_path):
    file = tmp_path / "tokens.pem"
    keys.load_private_key(file)
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        keys.load_private_key(file)
    file.chmod(0o600)
    file.write_text("none")
    with pytest.raises(KeyFileError, match="is not a private key"):
        keys.load_private_key(file)
    public_key_path(file).write_text("none")
    with pytest.raises(KeyFileError, match="0 keys, 0 of them Ed25519"):
        TokenVerifier(SETTINGS, file).start()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tenant": "East"}, "lower-case letters"),
        ({"tenant": "../east"}, "lower-case letters"),
        ({"roles": []}, "at least one"),
        ({"roles": ["king"]}, "at least one of"),
        ({"subject": "a\nb"}, "printable"),
        ({"roles": ["pathologist"]}, "a pathologist needs"),
        ({"roles": ["pathologist"], "name": "Chen Lan", "licence": "1 2"}, "hyphens"),
        ({"hours": 0}, "more than 0"),
        ({"hours": 9_000}, "at most"),
    ],
)
def test_invalid_claims_are_not_issued(file, change, expected):
    with pytest.raises(ValueError, match=expected):
        issue_token(file, "yuheng", **(BANK | change))


# --- forgeries


def unsigned(file) -> str:
    return (
        segment({"alg": "none", "typ": "JWT", "kid": key_id(keys.load_private_key(file).public_key())})
        + f".{segment(claims())}."
    )


def public_key_as_secret(file) -> str:
    """HS256 with the public key, which is not secret, as the secret."""
    public = keys.load_private_key(file).public_key()
    head = segment({"alg": "HS256", "typ": "JWT", "kid": key_id(public)}) + "." + segment(claims())
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return f"{head}.{segment(hmac.digest(secret, head.encode(), hashlib.sha256))}"


def own_key_in_the_header(file, name: str) -> str:
    own_key = Ed25519PrivateKey.generate()
    raw = own_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": segment(raw)}
    value = {"jwk": jwk, "jku": "https://evil.example/keys", "x5c": ["MII"], "x5u": "https://evil.example/c"}[name]
    return jwt.encode(
        claims(), own_key, "EdDSA", headers={"kid": key_id(keys.load_private_key(file).public_key()), name: value}
    )


def by_another_key(file, kid: str | None) -> str:
    own_key = Ed25519PrivateKey.generate()
    kid = key_id(keys.load_private_key(file).public_key()) if kid is None else kid
    return jwt.encode(claims(), own_key, "EdDSA", headers={"kid": kid})


def rewritten(file) -> str:
    """Another tenant's claims with a valid signature of other claims."""
    head, _, signature = signed(file).split(".")
    return ".".join((head, segment(claims(tenant="west")), signature))


def truncated(file) -> str:
    return signed(file)[:-4]


FORGED = {
    "none": unsigned,
    "None": lambda file: unsigned(file).replace(segment({"alg": "none"})[:12], segment({"alg": "nOnE"})[:12]),
    "the public key as an HS256 secret": public_key_as_secret,
    "jwk": lambda file: own_key_in_the_header(file, "jwk"),
    "jku": lambda file: own_key_in_the_header(file, "jku"),
    "x5c": lambda file: own_key_in_the_header(file, "x5c"),
    "x5u": lambda file: own_key_in_the_header(file, "x5u"),
    "crit": lambda file: signed(file, {"crit": ["exp"]}),
    "b64": lambda file: signed(file, {"b64": False}),
    "another's key under our kid": lambda file: by_another_key(file, None),
    "a kid that is a path": lambda file: by_another_key(file, "../../dev/null"),
    "a kid that is SQL": lambda file: by_another_key(file, "' UNION SELECT 'x"),
    "no kid": lambda file: jwt.encode(claims(), keys.load_private_key(file), "EdDSA"),
    "another tenant's claims": rewritten,
    "truncated": truncated,
    "expired": lambda file: signed(file, exp=int(time.time()) - 60),
    "not yet made": lambda file: signed(file, iat=int(time.time()) + 3_600),
    "no end": lambda file: signed(file, exp=None),
    "no beginning": lambda file: signed(file, iat=None),
    "no audience": lambda file: signed(file, aud=None),
    "another audience": lambda file: signed(file, aud="elsewhere"),
    "another issuer": lambda file: signed(file, iss="elsewhere"),
    "no issuer": lambda file: signed(file, iss=None),
    "no tenant": lambda file: signed(file, tenant=None),
    "a tenant that is a path": lambda file: signed(file, tenant="../east"),
    "no role": lambda file: signed(file, roles=[]),
    "roles that are no list": lambda file: signed(file, roles="bank"),
    "a role that nobody has": lambda file: signed(file, roles=["root", {"bank": 1}]),
    "an end that is text": lambda file: signed(file, exp="9999999999"),
    "an end that never is": lambda file: signed(file, exp=1e400),
    "a token in a token": lambda file: signed(file, {"typ": "JWE"}),
    "1 MB": lambda file: signed(file, sub="x" * 1_000_000),
    "deep": lambda file: segment(b"[" * 3_000) + "." + segment(claims()) + ".x",
    "empty": lambda file: "",
    "dots": lambda file: "..",
    "no letters": lambda file: "\xff\x00.\xe9.x",
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_token_is_refused_quickly_and_the_error_reveals_none_of_it(file, verifier, forgery):
    token = FORGED[forgery](file)
    began = time.thread_time()  # CPU time of this thread
    with pytest.raises(TokenError) as refused:
        verify(verifier, token)
    assert time.thread_time() - began < 0.5
    message = refused.value.en + refused.value.zh
    assert len(message) < 200
    assert not token or token not in message
    assert verify(verifier, issue_token(file, "yuheng", **BANK)).tenant == "east"


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_arbitrary_text_is_refused(verifier, text):
    with pytest.raises(TokenError):
        verify(verifier, text)


def test_a_cached_token_expires(file, verifier, monkeypatch):
    token = signed(file, exp=int(time.time()) + 5)
    assert verify(verifier, token).tenant == "east"
    now = time.time
    monkeypatch.setattr(tokens.time, "time", lambda: now() + 60)
    with pytest.raises(TokenError, match="expired"):
        verify(verifier, token)


def test_the_cache_of_tokens_is_bounded(file, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_CACHED_TOKENS", 5)
    verifier = TokenVerifier(SETTINGS, file)
    verifier.start()
    issued = [issue_token(file, "yuheng", **(BANK | {"subject": str(i)})) for i in range(12)]
    assert [verify(verifier, token).subject for token in issued * 2] == [str(i) for i in range(12)] * 2
    assert len(verifier._cache) == 5


# --- a provider's tokens


class Provider:
    """The JWKS of an OpenID provider; `hits` counts the requests for it."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.hits = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.hits += 1
                body = json.dumps({"keys": provider.keys}).encode()
                self.send_response(302 if self.path == "/away" else 200)
                if self.path == "/away":
                    self.send_header("Location", "/keys")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, kid: str, private: Any, **fields: Any) -> None:
        algorithm = (
            jwt.algorithms.RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        )
        jwk = json.loads(algorithm.to_jwk(private.public_key()))
        self.keys.append({name: value for name, value in jwk.items() if name != "key_ops"} | {"kid": kid} | fields)


@pytest.fixture
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.server.shutdown()


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


def verifier_with(provider: Provider, file, path: str = "/keys") -> TokenVerifier:
    values = {"oidc_issuer": "https://login.example", "oidc_audience": "ours", "oidc_jwks": provider.url + path}
    verifier = TokenVerifier(SETTINGS.model_copy(update=values), file)
    verifier.start()
    return verifier


def provider_token(private: Any, kid: str = "r1", algorithm: str = "RS256", **changes: Any) -> str:
    values = claims(iss="https://login.example", aud=["ours", "others"], roles=["bank", "offline_access"]) | changes
    return jwt.encode(values, private, algorithm, headers={"kid": kid})


def test_a_providers_token_is_accepted_with_the_roles_that_we_know(provider, private, file):
    provider.add("r1", private, use="sig", alg="RS256")
    both = verifier_with(provider, file)
    assert verify(both, provider_token(private)).roles == {"bank"}
    assert verify(both, issue_token(file, "yuheng", **BANK)).tenant == "east"


def test_a_providers_new_key_is_fetched_but_not_too_often(provider, private, file):
    later = verifier_with(provider, file)
    with pytest.raises(TokenError, match="an unknown key"):
        verify(later, provider_token(private))
    provider.add("r1", private)
    with pytest.raises(TokenError):
        verify(later, provider_token(private))
    assert provider.hits == 1  # unknown tokens cannot make us request again and again
    later._refreshed_at -= tokens.MIN_REFRESH_SECONDS
    assert verify(later, provider_token(private)).tenant == "east"
    assert provider.hits == 2


def test_neither_issuer_can_sign_for_the_other(provider, private, file):
    provider.add("r1", private)
    own = keys.load_private_key(file)
    provider.add(key_id(own.public_key()), private)  # a key of the provider under our kid
    both = verifier_with(provider, file)
    for forged in (
        provider_token(private, iss="yuheng", aud="yuheng"),
        provider_token(private, kid=key_id(own.public_key())),
        jwt.encode(claims(iss="https://login.example", aud="ours"), own, "EdDSA", headers={"kid": "r1"}),
        signed(file, iss="https://login.example", aud="ours"),
        provider_token(private, algorithm="RS512"),
        provider_token(private, algorithm="PS256"),
        provider_token(private, aud="others"),
    ):
        with pytest.raises(TokenError):
            verify(both, forged)
    assert verify(both, issue_token(file, "yuheng", **BANK)).tenant == "east"


def test_only_keys_of_the_configured_algorithm_are_accepted(provider, private, file):
    provider.add("e1", ec.generate_private_key(ec.SECP256R1()))
    provider.keys.append({"kty": "oct", "kid": "o1", "k": segment(b"secret" * 8)})
    provider.add("enc", private, use="enc")
    provider.add("r5", private, alg="RS512")
    provider.add("r1", private)
    both = verifier_with(provider, file)
    assert set(both._keys) - set(both._own_keys) == {"r1"}


def test_an_unreachable_or_redirecting_provider_does_not_affect_our_own_tokens(provider, private, file):
    provider.add("r1", private)
    away = verifier_with(provider, file, "/away")
    assert set(away._keys) == set(away._own_keys)
    provider.server.shutdown()
    provider.server.server_close()
    gone = verifier_with(provider, file)
    assert verify(gone, issue_token(file, "yuheng", **BANK)).tenant == "east"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"YUHENG_ACCESS_OIDC_ISSUER": "https://x"}, "together"),
        ({"YUHENG_ACCESS_OIDC_ALGORITHM": "HS256"}, "RS256"),
        ({"YUHENG_ACCESS_OIDC_ALGORITHM": "none"}, "RS256"),
        ({"YUHENG_HOST": "0.0.0.0", "YUHENG_ACCESS_REQUIRED": "false"}, "only loopback"),
        ({"YUHENG_TLS_CERTIFICATE": "a.pem"}, "together"),
    ],
)
def test_unsafe_settings_are_refused(environ, expected):
    with pytest.raises(SettingsError, match=expected):
        load_settings(environ=environ)


def test_keys_are_not_fetched_without_tls():
    environ = {"YUHENG_ACCESS_OIDC_ISSUER": "x", "YUHENG_ACCESS_OIDC_AUDIENCE": "x"}
    with pytest.raises(SettingsError, match="TLS"):
        load_settings(environ=environ | {"YUHENG_ACCESS_OIDC_JWKS": "http://login.example/keys"})


# --- the command


def test_the_command_prints_a_token_and_names_what_is_missing(tmp_path):
    file = tmp_path / "tokens.pem"
    command = [sys.executable, "-m", "serving", "token", "--tenant", "demo", "--role"]
    environ = os.environ | {"YUHENG_TOKENS": str(file)}

    def run(*options: str) -> Any:
        return subprocess.run([*command, *options], cwd=ROOT, env=environ, capture_output=True, text=True)

    result = run("pathologist", "--role", "clinic", "--name", "Chen Lan", "--licence", "110330100001234")
    verifier = TokenVerifier(SETTINGS, file)
    verifier.start()
    principal = verify(verifier, result.stdout.strip())
    assert (principal.roles, principal.subject) == ({"pathologist", "clinic"}, "110330100001234")
    incomplete = run("pathologist")
    assert incomplete.returncode == 1
    assert "name" in incomplete.stderr
    assert "licence" in incomplete.stderr


def test_a_withdrawn_key_of_the_provider_stops_being_accepted(provider, private, file):
    provider.add("r1", private)
    verifier, token = verifier_with(provider, file), provider_token(private)
    assert verify(verifier, token).tenant == "east"
    provider.keys.clear()
    verifier._refreshed_at -= tokens.MAX_KEY_AGE_SECONDS

    async def verify_twice():
        await verifier.verify_principal(token)  # starts a refresh and does not wait for it
        await verifier._refresh_task
        with pytest.raises(TokenError, match="an unknown key"):
            await verifier.verify_principal(token)

    asyncio.run(verify_twice())
    assert verify(verifier, issue_token(file, "yuheng", **BANK)).tenant == "east"
