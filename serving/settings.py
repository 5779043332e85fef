"""configs/serving.toml, each value of which the environment may replace (YUHENG_STORE, YUHENG_LIMITS_BODY, ...)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from datasets.schema import nearest
from serving.decisions.products.base import PRODUCTS

ROOT = Path(__file__).parents[1]
FILE = ROOT / "configs" / "serving.toml"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# A Bento brings them beside its code; what is written never stands there by choice.
SHIPPED = ("bundles", "public_key", "prices")


class SettingsRefused(ValueError):
    """The settings cannot be used as they stand; the message names each one."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Paths(_Part):
    bundles: Path
    public_key: Path
    store: Path
    spool: Path
    slides: Path
    slide_inbox: Path
    jobs: Path
    vault_key: Path
    log_key: Path
    checkpoints: Path
    prices: Path
    tokens: Path


class Limits(_Part):
    body: PositiveInt  # bytes
    headers: PositiveInt  # bytes
    head_seconds: PositiveFloat
    body_seconds: PositiveFloat
    upload: PositiveInt  # bytes
    upload_seconds: PositiveFloat
    upload_idle_seconds: PositiveFloat
    answer_idle_seconds: PositiveFloat
    batch_rows: PositiveInt
    batches: PositiveInt  # at the same time
    batch_reads: PositiveInt  # at the same time
    queue: PositiveInt  # answers waiting for their commit
    text: PositiveInt  # characters


class Slides(_Part):
    upload: PositiveInt  # bytes
    uploads: PositiveInt  # of one tenant, open at the same time
    upload_expires_seconds: PositiveFloat
    upload_idle_seconds: PositiveFloat
    sweep_seconds: PositiveFloat
    audit_share: float = Field(ge=0, le=1)
    listeners: PositiveInt
    poll_seconds: PositiveFloat
    heartbeat_seconds: PositiveFloat
    findings: PositiveInt  # characters


class Reader(_Part):
    port: int = Field(ge=0, le=65_535)
    device: Literal["auto", "cpu", "cuda", "openvino"]
    int8: bool
    threads: int = Field(ge=0)  # 0: as many as there are cores
    at_once: PositiveInt  # slides
    open_slides: PositiveInt
    poll_seconds: PositiveFloat
    patience_seconds: PositiveFloat
    beat_seconds: PositiveFloat
    dead_seconds: PositiveFloat


class Store(_Part):
    url: str
    patience_seconds: PositiveFloat
    group: PositiveInt  # answers in one transaction


class Log(_Part):
    origin: str = Field(pattern=r"^[^\s+]{1,128}$")
    seconds: PositiveFloat


class Consent(_Part):
    required: bool


class VaultOf(_Part):
    profile: Literal["aes", "sm"]


class Batch(_Part):
    chunk_rows: PositiveInt
    chunk_subjects: PositiveInt
    faults_kept: PositiveInt


class Champion(_Part):
    poll_seconds: PositiveFloat
    retry_seconds: PositiveFloat


class Console(_Part):
    mlflow: str  # where its pages are, for links to runs; empty: no links

    @field_validator("mlflow")
    @classmethod
    def _an_address(cls, found: str) -> str:
        place = urlsplit(found)
        if found and (place.scheme not in ("http", "https") or not place.hostname):
            raise ValueError("an address as https://mlflow.bank.example is needed, or nothing")
        return found.rstrip("/")


class Access(_Part):
    required: bool
    audience: str = Field(min_length=1)
    oidc_issuer: str
    oidc_audience: str
    oidc_jwks: str  # a file, or the one address that the service may call
    oidc_algorithm: Literal["RS256", "PS256", "ES256", "EdDSA"]

    @model_validator(mode="after")
    def _whole(self) -> Access:
        told = (self.oidc_issuer, self.oidc_audience, self.oidc_jwks)
        if any(told) and not all(told):
            raise ValueError("oidc_issuer, oidc_audience and oidc_jwks are needed together")
        if self.oidc_issuer == "yuheng":
            raise ValueError("oidc_issuer is yuheng, which is our own; that of the provider is needed")
        place = urlsplit(self.oidc_jwks)
        if place.scheme == "http" and place.hostname not in LOOPBACK:
            raise ValueError("oidc_jwks is fetched without TLS; an https address or a file is needed")
        return self


class Most(_Part):
    """What one tenant may ask; 0: as much as they like."""

    per_second: float = Field(ge=0)  # calls
    burst: float = Field(ge=1)  # calls at once
    monthly: int = Field(ge=0)  # answers


class Rate(Most):
    tenants: dict[str, Most] = Field(default_factory=dict)  # who may ask more, or less

    def of(self, tenant: str) -> Most:
        return self.tenants.get(tenant, self)


class Tls(_Part):
    certificate: str
    key: str

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key are needed together")
        return self


class Settings(_Part):
    host: str
    port: int = Field(ge=0, le=65_535)
    default_models: dict[str, str] = Field(default_factory=dict, validate_default=True)  # product -> model
    paths: Paths
    limits: Limits
    slides: Slides
    reader: Reader
    store: Store
    log: Log
    vault: VaultOf
    consent: Consent
    batch: Batch
    champion: Champion
    console: Console
    access: Access
    rate: Rate
    tls: Tls

    @model_validator(mode="after")
    def _open_on_loopback_alone(self) -> Settings:
        open_to(self.host, self.access)
        return self

    @property
    def store_place(self) -> Path | str:
        """What open_store takes."""
        return self.store.url or self.paths.store

    @field_validator("default_models")
    @classmethod
    def _of_every_product(cls, found: dict[str, str]) -> dict[str, str]:
        """A product that is not named has a model of its own name."""
        if unknown := [f"{name!r} is no product{nearest(name, [*PRODUCTS])}" for name in found if name not in PRODUCTS]:
            raise ValueError("; ".join(unknown))
        return {name: found.get(name, name) for name in PRODUCTS}


def open_to(host: str, access: Access) -> None:
    """Raises ValueError where whoever reaches the address would be let in."""
    if not access.required and host not in LOOPBACK:
        raise ValueError(f"host is {host} and access.required false; without tokens only loopback is served")


def read(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings with absolute paths. Raises SettingsRefused, with all that is wrong."""
    environ = os.environ if environ is None else environ
    file = Path(environ.get("YUHENG_SERVING", FILE)) if file is None else file
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsRefused(f"{file}: {error}. Copy configs/serving.toml anew.") from error
    for path, name in _names():
        part = () if path == ("paths",) else path
        variable = "_".join(("YUHENG", *part, name)).upper()
        if variable in environ:
            _part(found, path)[name] = environ[variable]
    try:
        settings = Settings.model_validate(found)
    except ValidationError as error:
        raise SettingsRefused(f"{file}: {_told(error)}") from error
    home = Path(environ.get("YUHENG_HOME", ROOT)).resolve()
    paths = {name: home / path for name, path in settings.paths}
    for name in SHIPPED:
        if not paths[name].exists():
            paths[name] = ROOT / getattr(settings.paths, name)
    tls = Tls(**{name: str(home / path) if path else "" for name, path in settings.tls})
    jwks = settings.access.oidc_jwks
    if jwks and not urlsplit(jwks).scheme:
        jwks = str(home / jwks)
    access = settings.access.model_copy(update={"oidc_jwks": jwks})
    return settings.model_copy(update={"paths": Paths(**paths), "tls": tls, "access": access})


def _names() -> Iterator[tuple[tuple[str, ...], str]]:
    """(path of the part, name) of each setting."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (((name,), inner) for inner in kind.model_fields)
        elif name == "default_models":
            yield from (((name,), product) for product in PRODUCTS)
        else:
            yield (), name


def _part(found: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        found = found.setdefault(name, {})
    return found


def _told(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        place = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            known = [name for path, name in _names() if list(path) == place[:-1]]
            known += [] if place[1:] else [n for n, f in Settings.model_fields.items() if n not in known]
            lines.append(f"{'.'.join(place)} is not a setting{nearest(place[-1], known)}")
        else:
            lines.append(f"{'.'.join(place)}: {item['msg']}, found {item['input']!r}")
    return "; ".join(lines)
