"""The settings of the service: configs/serving.toml, in which an environment variable may replace each value.

YUHENG_STORE replaces `store` in [paths], YUHENG_LIMITS_MAX_BODY_BYTES `max_body_bytes` in [limits].
"""

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

from datasets.errors import did_you_mean

PRODUCTS = {  # card.product -> the module whose PRODUCT it is
    "credit_limit": "serving.decisions.products.credit_limit",
    "scitech_risk": "serving.decisions.products.scitech_risk",
}
SCOPES = {  # product -> its scope in the store, within which an idempotency key means one request
    "credit_limit": "credit-limits",
    "scitech_risk": "scitech-risks",
}
SLIDE_PRODUCT = "pathology"  # the product whose bundles read slides: serving/pathology
ROOT = Path(__file__).parents[1]
DEFAULT_FILE = ROOT / "configs" / "serving.toml"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
# A Bento ships these beside its code: they are read there where YUHENG_HOME holds none.
BUNDLED_PATHS = ("bundles", "public_key", "prices")


class SettingsError(ValueError):
    """Settings that cannot be used; the message names each value."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PathSettings(_Section):
    bundles: Path
    public_key: Path
    store: Path
    spool: Path
    slides: Path
    slide_inbox: Path
    jobs: Path
    vault_key: Path
    log_key: Path
    entry_key: Path
    checkpoints: Path
    prices: Path
    tokens: Path


class LimitSettings(_Section):
    max_body_bytes: PositiveInt  # bytes
    max_header_bytes: PositiveInt  # bytes
    header_timeout_seconds: PositiveFloat
    body_timeout_seconds: PositiveFloat
    max_upload_bytes: PositiveInt  # bytes
    upload_timeout_seconds: PositiveFloat
    upload_idle_timeout_seconds: PositiveFloat
    min_upload_bytes_per_second: PositiveFloat
    min_free_disk_bytes: int = Field(ge=0)  # bytes
    response_idle_timeout_seconds: PositiveFloat
    max_batch_rows: PositiveInt
    max_concurrent_batches: PositiveInt  # scored at the same time
    max_open_batches: PositiveInt  # from the first byte of the upload to the last one of the answer
    max_open_batches_per_tenant: PositiveInt
    max_concurrent_batch_reads: PositiveInt  # at the same time
    max_pending_commits: PositiveInt  # answers waiting for their commit
    max_text_chars: PositiveInt  # characters


class SlideSettings(_Section):
    max_upload_bytes: PositiveInt  # bytes
    max_open_uploads: PositiveInt  # of one tenant, open at the same time
    upload_expires_seconds: PositiveFloat
    upload_idle_timeout_seconds: PositiveFloat
    sweep_seconds: PositiveFloat
    series_quiet_seconds: PositiveFloat
    negative_audit_rate: float = Field(ge=0, le=1)
    max_event_streams: PositiveInt
    poll_seconds: PositiveFloat
    heartbeat_seconds: PositiveFloat
    max_findings_chars: PositiveInt  # characters


class SlideReaderSettings(_Section):
    port: int = Field(ge=0, le=65_535)
    device: Literal["auto", "cpu", "cuda", "openvino"]
    int8: bool
    threads: int = Field(ge=0)  # 0: as many as there are cores
    max_concurrent_slides: PositiveInt  # slides
    max_open_slides: PositiveInt
    poll_seconds: PositiveFloat
    retry_window_seconds: PositiveFloat
    heartbeat_interval_seconds: PositiveFloat
    heartbeat_timeout_seconds: PositiveFloat


class StoreSettings(_Section):
    url: str
    lock_timeout_seconds: PositiveFloat
    commit_batch_size: PositiveInt  # answers in one transaction


class AuditLogSettings(_Section):
    origin: str = Field(pattern=r"^[^\s+]{1,128}$")
    checkpoint_interval_seconds: PositiveFloat


class ConsentSettings(_Section):
    required: bool


class VaultSettings(_Section):
    profile: Literal["aes", "sm"]


class ConfinementSettings(_Section):
    required: bool


class BatchSettings(_Section):
    chunk_rows: PositiveInt
    chunk_subjects: PositiveInt
    max_cell_chars: PositiveInt  # characters
    max_piece_bytes: PositiveInt  # bytes
    max_reported_faults: PositiveInt


class RetentionSettings(_Section):
    answers_days: int = Field(ge=0)  # 0: until an erasure
    indicators_days: int = Field(ge=0)
    sweep_seconds: PositiveFloat


class ChampionSettings(_Section):
    approval_required: bool
    poll_seconds: PositiveFloat
    retry_seconds: PositiveFloat


class ConsoleSettings(_Section):
    mlflow: str  # address of its pages, for links to runs; empty: no links

    @field_validator("mlflow")
    @classmethod
    def _check_url(cls, value: str) -> str:
        url = urlsplit(value)
        if value and (url.scheme not in ("http", "https") or not url.hostname):
            raise ValueError("an address such as https://mlflow.bank.example is needed, or an empty text")
        return value.rstrip("/")


class AccessSettings(_Section):
    required: bool
    allowed_origins: tuple[str, ...]  # whose pages may call the service with a token; none by default
    audience: str = Field(min_length=1)
    oidc_issuer: str
    oidc_audience: str
    oidc_jwks: str  # a file, or the only address outside that the service calls
    oidc_algorithm: Literal["RS256", "PS256", "ES256", "EdDSA"]

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: Any) -> Any:
        """A variable of the environment separates them by commas."""
        return [origin.strip() for origin in value.split(",") if origin.strip()] if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            url = urlsplit(origin)
            if url.scheme not in ("http", "https") or not url.hostname or f"{url.scheme}://{url.netloc}" != origin:
                raise ValueError(f"{origin!r} is no origin; one such as https://lis.hospital.example is needed")
        return origins

    @model_validator(mode="after")
    def _check_oidc(self) -> AccessSettings:
        oidc_values = (self.oidc_issuer, self.oidc_audience, self.oidc_jwks)
        if any(oidc_values) and not all(oidc_values):
            raise ValueError("oidc_issuer, oidc_audience and oidc_jwks are needed together")
        if self.oidc_issuer == "yuheng":
            raise ValueError("oidc_issuer is yuheng, the name of our own issuer; name the provider's")
        jwks_url = urlsplit(self.oidc_jwks)
        if jwks_url.scheme == "http" and jwks_url.hostname not in LOOPBACK_HOSTS:
            raise ValueError("oidc_jwks would be fetched without TLS; an https address or a file is needed")
        return self


class TenantLimit(_Section):
    """Limits on the calls of one tenant; 0 means no limit."""

    per_second: float = Field(ge=0)  # calls
    burst: float = Field(ge=1)  # calls at once
    monthly: int = Field(ge=0)  # answers


class RateLimitSettings(TenantLimit):
    tenants: dict[str, TenantLimit] = Field(default_factory=dict)  # limits of their own

    def limit_for(self, tenant: str) -> TenantLimit:
        return self.tenants.get(tenant, self)


class TlsSettings(_Section):
    certificate: str
    key: str

    @model_validator(mode="after")
    def _check_pair(self) -> TlsSettings:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key are needed together")
        return self


class Settings(_Section):
    host: str
    port: int = Field(ge=0, le=65_535)
    default_models: dict[str, str] = Field(default_factory=dict, validate_default=True)  # product -> model
    paths: PathSettings
    limits: LimitSettings
    slides: SlideSettings
    reader: SlideReaderSettings
    store: StoreSettings
    log: AuditLogSettings
    vault: VaultSettings
    confinement: ConfinementSettings
    consent: ConsentSettings
    batch: BatchSettings
    champion: ChampionSettings
    retention: RetentionSettings
    console: ConsoleSettings
    access: AccessSettings
    rate: RateLimitSettings
    tls: TlsSettings

    @model_validator(mode="after")
    def _check_exposure(self) -> Settings:
        check_exposure(self.host, self.access)
        return self

    @property
    def store_location(self) -> Path | str:
        """URL or path of the store, as open_store takes it."""
        return self.store.url or self.paths.store

    @field_validator("default_models")
    @classmethod
    def _fill_default_models(cls, models: dict[str, str]) -> dict[str, str]:
        """Give a product that is not named a model of its own name."""
        if unknown := [
            f"{name!r} is no product{did_you_mean(name, [*PRODUCTS])}" for name in models if name not in PRODUCTS
        ]:
            raise ValueError("; ".join(unknown))
        return {name: models.get(name, name) for name in PRODUCTS}


def check_exposure(host: str, access: AccessSettings) -> None:
    """Raises ValueError where other machines could call the service without a token."""
    if not access.required and host not in LOOPBACK_HOSTS:
        raise ValueError(f"host is {host} and access.required false; without tokens only loopback is served")


def load_settings(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings and make their paths absolute. Raises SettingsError, which names every invalid value."""
    environ = os.environ if environ is None else environ
    file = Path(environ.get("YUHENG_SERVING", DEFAULT_FILE)) if file is None else file
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}. Copy configs/serving.toml anew.") from error
    for path, name in _setting_names():
        env_path = () if path == ("paths",) else path
        variable = "_".join(("YUHENG", *env_path, name)).upper()
        if variable in environ:
            _section(document, path)[name] = environ[variable]
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{file}: {_format_errors(error)}") from error
    home = Path(environ.get("YUHENG_HOME", ROOT)).resolve()
    paths = {name: home / path for name, path in settings.paths}
    for name in BUNDLED_PATHS:
        if not paths[name].exists():
            paths[name] = ROOT / getattr(settings.paths, name)
    tls = TlsSettings(**{name: str(home / path) if path else "" for name, path in settings.tls})
    jwks = settings.access.oidc_jwks
    if jwks and not urlsplit(jwks).scheme:
        jwks = str(home / jwks)
    access = settings.access.model_copy(update={"oidc_jwks": jwks})
    return settings.model_copy(update={"paths": PathSettings(**paths), "tls": tls, "access": access})


def _setting_names() -> Iterator[tuple[tuple[str, ...], str]]:
    """(path of the section, name) of each setting."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from (((name,), inner) for inner in section.model_fields)
        elif name == "default_models":
            yield from (((name,), product) for product in PRODUCTS)
        else:
            yield (), name


def _section(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        document = document.setdefault(name, {})
    return document


def _format_errors(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        location = [str(key) for key in item["loc"]]
        if item["type"] == "extra_forbidden":
            known = [name for path, name in _setting_names() if list(path) == location[:-1]]
            known += [] if location[1:] else [n for n, f in Settings.model_fields.items() if n not in known]
            lines.append(f"{'.'.join(location)} is not a setting{did_you_mean(location[-1], known)}")
        else:
            lines.append(f"{'.'.join(location)}: {item['msg']}, found {item['input']!r}")
    return "; ".join(lines)
