"""A token proves who asks, or nothing: each forgery is refused, and in words that hold nothing of it."""

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

PLAIN = AccessSettings(
    required=True, audience="yuheng", oidc_issuer="", oidc_audience="", oidc_jwks="", oidc_algorithm="RS256"
)
BANK: dict[str, Any] = {"tenant": "east", "roles": ["bank"], "who": "east/7"}
CLAIMS = {"iss": "yuheng", "aud": "yuheng", "sub": "x", "tenant": "east", "roles": ["bank"]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("keys") / "tokens.pem"


@pytest.fixture(scope="module")
def ours(file) -> TokenVerifier:
    made = TokenVerifier(PLAIN, file)
    made.start()
    return made


def who(verifier: TokenVerifier, token: str) -> Any:
    return asyncio.run(verifier.verify_principal(token))


def claims(**changed: Any) -> dict[str, Any]:
    at = int(time.time())
    told = CLAIMS | {"iat": at, "exp": at + 600} | changed
    return {name: value for name, value in told.items() if value is not None}


def signed(file, headers: dict[str, Any] | None = None, **changed: Any) -> str:
    key = keys.load_private_key(file)
    return jwt.encode(claims(**changed), key, "EdDSA", headers={"kid": key_id(key.public_key())} | (headers or {}))


def part(told: Any) -> str:
    raw = told if isinstance(told, bytes) else json.dumps(told).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_token_says_who_asks_and_for_whom(file, ours):
    found = who(ours, issue_token(file, "yuheng", **BANK))
    assert (found.tenant, found.roles, found.who, found.licence) == ("east", {"bank"}, "east/7", "")
    signer = {"tenant": "east", "roles": ["pathologist"], "who": "p", "name": "Chen Lan 陈岚", "licence": "1103-0100"}
    found = who(ours, issue_token(file, "yuheng", **signer))
    assert (found.name, found.licence) == ("Chen Lan 陈岚", "1103-0100")


def test_the_keys_are_the_owners_alone_and_the_public_one_is_enough_to_verify(file, ours, tmp_path):
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in public_key_path(file).read_bytes()
    public_key_path(tmp_path / "tokens.pem").write_bytes(public_key_path(file).read_bytes())
    elsewhere = TokenVerifier(PLAIN, tmp_path / "tokens.pem")
    elsewhere.start()
    assert who(elsewhere, issue_token(file, "yuheng", **BANK)).tenant == "east"
    assert not (tmp_path / "tokens.pem").exists()


def test_an_older_key_counts_while_its_public_half_is_kept(tmp_path):
    old, new = tmp_path / "old.pem", tmp_path / "new.pem"
    before = issue_token(old, "yuheng", **BANK)
    TokenVerifier(PLAIN, old).start()
    TokenVerifier(PLAIN, new).start()
    public_key_path(new).write_bytes(public_key_path(new).read_bytes() + public_key_path(old).read_bytes())
    both = TokenVerifier(PLAIN, new)
    both.start()
    assert who(both, before) == who(both, issue_token(new, "yuheng", **BANK))


def test_a_key_that_others_may_read_or_that_is_none_is_not_used(tmp_path):
    file = tmp_path / "tokens.pem"
    keys.load_private_key(file)
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        keys.load_private_key(file)
    file.chmod(0o600)
    file.write_text("none")
    with pytest.raises(KeyFileError, match="cannot be read"):
        keys.load_private_key(file)
    public_key_path(file).write_text("none")
    with pytest.raises(KeyFileError, match="0 Ed25519 keys"):
        TokenVerifier(PLAIN, file).start()


@pytest.mark.parametrize(
    ("changed", "needed"),
    [
        ({"tenant": "East"}, "small letters"),
        ({"tenant": "../east"}, "small letters"),
        ({"roles": []}, "at least one"),
        ({"roles": ["king"]}, "are known"),
        ({"who": "a\nb"}, "printable"),
        ({"roles": ["pathologist"]}, "needs one of"),
        ({"roles": ["pathologist"], "name": "Chen Lan", "licence": "1 2"}, "hyphens"),
        ({"hours": 0}, "above 0"),
        ({"hours": 9_000}, "at most"),
    ],
)
def test_what_cannot_be_a_token_is_not_made_one(file, changed, needed):
    with pytest.raises(ValueError, match=needed):
        issue_token(file, "yuheng", **(BANK | changed))


# --- forgeries


def none(file) -> str:
    return (
        part({"alg": "none", "typ": "JWT", "kid": key_id(keys.load_private_key(file).public_key())})
        + f".{part(claims())}."
    )


def public_key_as_secret(file) -> str:
    """HS256 with the public key, which everybody may know, as the secret."""
    public = keys.load_private_key(file).public_key()
    head = part({"alg": "HS256", "typ": "JWT", "kid": key_id(public)}) + "." + part(claims())
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return f"{head}.{part(hmac.digest(secret, head.encode(), hashlib.sha256))}"


def own_key_in_the_header(file, name: str) -> str:
    mine = Ed25519PrivateKey.generate()
    raw = mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": part(raw)}
    told = {"jwk": jwk, "jku": "https://evil.example/keys", "x5c": ["MII"], "x5u": "https://evil.example/c"}[name]
    return jwt.encode(
        claims(), mine, "EdDSA", headers={"kid": key_id(keys.load_private_key(file).public_key()), name: told}
    )


def by_another(file, kid: str | None) -> str:
    mine = Ed25519PrivateKey.generate()
    kid = key_id(keys.load_private_key(file).public_key()) if kid is None else kid
    return jwt.encode(claims(), mine, "EdDSA", headers={"kid": kid})


def rewritten(file) -> str:
    """The claims of another tenant under a signature that is ours."""
    head, _, signature = signed(file).split(".")
    return ".".join((head, part(claims(tenant="west")), signature))


def cut(file) -> str:
    return signed(file)[:-4]


FORGED = {
    "none": none,
    "None": lambda file: none(file).replace(part({"alg": "none"})[:12], part({"alg": "nOnE"})[:12]),
    "the public key as an HS256 secret": public_key_as_secret,
    "jwk": lambda file: own_key_in_the_header(file, "jwk"),
    "jku": lambda file: own_key_in_the_header(file, "jku"),
    "x5c": lambda file: own_key_in_the_header(file, "x5c"),
    "x5u": lambda file: own_key_in_the_header(file, "x5u"),
    "crit": lambda file: signed(file, {"crit": ["exp"]}),
    "b64": lambda file: signed(file, {"b64": False}),
    "another's key under our kid": lambda file: by_another(file, None),
    "a kid that is a path": lambda file: by_another(file, "../../dev/null"),
    "a kid that is SQL": lambda file: by_another(file, "' UNION SELECT 'x"),
    "no kid": lambda file: jwt.encode(claims(), keys.load_private_key(file), "EdDSA"),
    "another tenant's claims": rewritten,
    "cut": cut,
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
    "deep": lambda file: part(b"[" * 3_000) + "." + part(claims()) + ".x",
    "empty": lambda file: "",
    "dots": lambda file: "..",
    "no letters": lambda file: "\xff\x00.\xe9.x",
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_token_is_refused_at_once_and_nothing_of_it_is_told(file, ours, how):
    token = FORGED[how](file)
    began = time.thread_time()  # its own work, not what else the machine does
    with pytest.raises(TokenError) as refused:
        who(ours, token)
    assert time.thread_time() - began < 0.5
    told = refused.value.en + refused.value.zh
    assert len(told) < 200
    assert not token or token not in told
    assert who(ours, issue_token(file, "yuheng", **BANK)).tenant == "east"


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_whatever_is_no_token_is_refused_in_words(ours, text):
    with pytest.raises(TokenError):
        who(ours, text)


def test_a_token_that_was_good_ends_when_it_ends(file, ours, monkeypatch):
    token = signed(file, exp=int(time.time()) + 5)
    assert who(ours, token).tenant == "east"
    now = time.time
    monkeypatch.setattr(tokens.time, "time", lambda: now() + 60)
    with pytest.raises(TokenError, match="expired"):
        who(ours, token)


def test_no_more_tokens_are_remembered_than_there_is_room_for(file, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_CACHED_TOKENS", 5)
    few = TokenVerifier(PLAIN, file)
    few.start()
    made = [issue_token(file, "yuheng", **(BANK | {"who": str(i)})) for i in range(12)]
    assert [who(few, token).who for token in made * 2] == [str(i) for i in range(12)] * 2
    assert len(few._cache) == 5


# --- a provider's tokens


class Provider:
    """Keys at an address, as an OpenID provider gives them; `hits` counts the looks at them."""

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

    def add(self, kid: str, private: Any, **more: Any) -> None:
        algorithm = (
            jwt.algorithms.RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        )
        told = json.loads(algorithm.to_jwk(private.public_key()))
        self.keys.append({name: value for name, value in told.items() if name != "key_ops"} | {"kid": kid} | more)


@pytest.fixture
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.server.shutdown()


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


def provided(provider: Provider, file, path: str = "/keys") -> TokenVerifier:
    told = {"oidc_issuer": "https://login.example", "oidc_audience": "ours", "oidc_jwks": provider.url + path}
    made = TokenVerifier(PLAIN.model_copy(update=told), file)
    made.start()
    return made


def theirs(private: Any, kid: str = "r1", algorithm: str = "RS256", **changed: Any) -> str:
    told = claims(iss="https://login.example", aud=["ours", "others"], roles=["bank", "offline_access"]) | changed
    return jwt.encode(told, private, algorithm, headers={"kid": kid})


def test_a_providers_token_counts_with_the_roles_that_are_ours(provider, private, file):
    provider.add("r1", private, use="sig", alg="RS256")
    both = provided(provider, file)
    assert who(both, theirs(private)).roles == {"bank"}
    assert who(both, issue_token(file, "yuheng", **BANK)).tenant == "east"


def test_a_new_key_of_the_provider_is_looked_for_once_in_a_while(provider, private, file):
    later = provided(provider, file)
    with pytest.raises(TokenError, match="no key that is known"):
        who(later, theirs(private))
    provider.add("r1", private)
    with pytest.raises(TokenError):
        who(later, theirs(private))
    assert provider.hits == 1  # nobody has us ask again and again
    later._refreshed_at -= tokens.MIN_REFRESH_SECONDS
    assert who(later, theirs(private)).tenant == "east"
    assert provider.hits == 2


def test_neither_issuer_speaks_for_the_other(provider, private, file):
    provider.add("r1", private)
    own = keys.load_private_key(file)
    provider.add(key_id(own.public_key()), private)  # a key of theirs under our kid
    both = provided(provider, file)
    for forged in (
        theirs(private, iss="yuheng", aud="yuheng"),
        theirs(private, kid=key_id(own.public_key())),
        jwt.encode(claims(iss="https://login.example", aud="ours"), own, "EdDSA", headers={"kid": "r1"}),
        signed(file, iss="https://login.example", aud="ours"),
        theirs(private, algorithm="RS512"),
        theirs(private, algorithm="PS256"),
        theirs(private, aud="others"),
    ):
        with pytest.raises(TokenError):
            who(both, forged)
    assert who(both, issue_token(file, "yuheng", **BANK)).tenant == "east"


def test_only_keys_that_fit_the_one_algorithm_are_taken(provider, private, file):
    provider.add("e1", ec.generate_private_key(ec.SECP256R1()))
    provider.keys.append({"kty": "oct", "kid": "o1", "k": part(b"secret" * 8)})
    provider.add("enc", private, use="enc")
    provider.add("r5", private, alg="RS512")
    provider.add("r1", private)
    both = provided(provider, file)
    assert set(both._keys) - set(both._own_keys) == {"r1"}


def test_a_provider_that_is_away_or_sends_us_on_stops_nobody_with_a_token_of_ours(provider, private, file):
    provider.add("r1", private)
    away = provided(provider, file, "/away")
    assert set(away._keys) == set(away._own_keys)
    provider.server.shutdown()
    provider.server.server_close()
    gone = provided(provider, file)
    assert who(gone, issue_token(file, "yuheng", **BANK)).tenant == "east"


@pytest.mark.parametrize(
    ("told", "needed"),
    [
        ({"YUHENG_ACCESS_OIDC_ISSUER": "https://x"}, "together"),
        ({"YUHENG_ACCESS_OIDC_ALGORITHM": "HS256"}, "RS256"),
        ({"YUHENG_ACCESS_OIDC_ALGORITHM": "none"}, "RS256"),
        ({"YUHENG_HOST": "0.0.0.0", "YUHENG_ACCESS_REQUIRED": "false"}, "only loopback"),
        ({"YUHENG_TLS_CERTIFICATE": "a.pem"}, "together"),
    ],
)
def test_settings_that_would_let_the_wrong_ones_in_are_refused(told, needed):
    with pytest.raises(SettingsError, match=needed):
        load_settings(environ=told)


def test_keys_over_a_bare_line_are_not_fetched():
    told = {"YUHENG_ACCESS_OIDC_ISSUER": "x", "YUHENG_ACCESS_OIDC_AUDIENCE": "x"}
    with pytest.raises(SettingsError, match="TLS"):
        load_settings(environ=told | {"YUHENG_ACCESS_OIDC_JWKS": "http://login.example/keys"})


# --- the command


def test_the_command_prints_a_token_and_says_what_a_pathologist_needs(tmp_path):
    file = tmp_path / "tokens.pem"
    command = [sys.executable, "-m", "serving", "token", "--tenant", "demo", "--role"]
    environ = os.environ | {"YUHENG_TOKENS": str(file)}

    def run(*more: str) -> Any:
        return subprocess.run([*command, *more], cwd=ROOT, env=environ, capture_output=True, text=True)

    done = run("pathologist", "--role", "clinic", "--name", "Chen Lan", "--licence", "110330100001234")
    made = TokenVerifier(PLAIN, file)
    made.start()
    found = who(made, done.stdout.strip())
    assert (found.roles, found.who) == ({"pathologist", "clinic"}, "110330100001234")
    without = run("pathologist")
    assert without.returncode == 1
    assert "name" in without.stderr
    assert "licence" in without.stderr


def test_a_key_that_the_provider_withdrew_proves_nothing_before_long(provider, private, file):
    provider.add("r1", private)
    made, token = provided(provider, file), theirs(private)
    assert who(made, token).tenant == "east"
    provider.keys.clear()
    made._refreshed_at -= tokens.MAX_KEY_AGE_SECONDS

    async def asked():
        await made.verify_principal(token)  # which has the keys looked at, and waits for nothing
        await made._refresh_task
        with pytest.raises(TokenError, match="no key that is known"):
            await made.verify_principal(token)

    asyncio.run(asked())
    assert who(made, issue_token(file, "yuheng", **BANK)).tenant == "east"
