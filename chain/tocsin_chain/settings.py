"""What a chain is told by configuration: the same model for the probe and for ``tocsin chain``."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tocsin.sdk import ByteCount, ProbeSettings, Seconds, Secret
from tocsin.sdk.postgres import targets_of
from tocsin.sdk.s3 import S3Settings
from tocsin_chain import forms
from tocsin_chain.reading import KeyMaterial, MacEncoding, Reading


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True)


def _words(value: object) -> object:
    """One name, or a list of them."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class FieldSettings(_Part):
    """One column of the message; a bare name is its text in UTF-8."""

    column: str
    encoding: forms.Encoding = forms.Encoding.UTF8
    precision: Annotated[int, Field(ge=0, le=9)] | Literal["trimmed"] = 6
    null: str = ""
    name: str = ""

    def field(self) -> forms.Field:
        precision = forms.TRIMMED if self.precision == "trimmed" else self.precision
        return forms.Field(self.column, self.encoding, precision, self.null, self.name)


def _column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class PayloadSettings(_Part):
    """The canonical form: ``fields`` with a framing, or ``sql``, an expression over the row of type bytea or text."""

    fields: tuple[Annotated[FieldSettings, BeforeValidator(_column)], ...] = ()
    framing: forms.Framing = forms.Framing.SEPARATED
    separator: str = "|"
    terminated: bool = False
    length_prefix: forms.LengthPrefix = forms.LengthPrefix.U32BE
    sql: str = ""
    previous: forms.PreviousPlace | Literal["auto"] = "auto"
    """Where the stored previous MAC stands. ``auto``: first, as raw bytes, unless the fields or the SQL name its
    column themselves."""

    @model_validator(mode="after")
    def _one_of_them(self) -> PayloadSettings:
        if bool(self.fields) == bool(self.sql):
            raise ValueError("give either `fields` or `sql`; `tocsin chain infer` finds out which form verifies")
        return self

    def form(self, previous_column: str) -> forms.Form:
        carried = previous_column in self.sql or any(field.column == previous_column for field in self.fields)
        place = self.previous
        if place == "auto":
            place = forms.PreviousPlace.NONE if carried else forms.PreviousPlace.FIRST_RAW
        return forms.Form(
            tuple(field.field() for field in self.fields),
            self.framing,
            self.separator.encode().decode("unicode_escape").encode("latin-1", "replace"),
            self.terminated,
            self.length_prefix,
            self.sql,
            place,
        )


class KeySettings(_Part):
    """A key of the platform. ``from`` and ``to``: rows of which times it is valid for."""

    id: str = ""
    secret: Secret
    encoding: Literal["utf8", "hex", "base64"] = "utf8"
    valid_from: datetime | None = Field(default=None, alias="from")
    valid_to: datetime | None = Field(default=None, alias="to")

    def material(self) -> KeyMaterial:
        """Raises `OSError` when a file cannot be read, `ValueError` when the secret is not of its encoding."""
        text = self.secret.reveal().strip()
        decoders = {"utf8": str.encode, "hex": bytes.fromhex, "base64": _base64}
        try:
            secret = decoders[self.encoding](text)
        except ValueError as error:
            raise ValueError(f"the key {self.id or '(without id)'} is not {self.encoding}") from error
        start = self.valid_from.timestamp() if self.valid_from else None
        end = self.valid_to.timestamp() if self.valid_to else None
        return KeyMaterial(self.id, secret, start, end)


class RetentionSettings(_Part):
    """Rows older than ``max_age`` are pruned by the platform. ``slack``: how much later than due it may happen."""

    max_age: Seconds
    slack: Seconds = 86400.0


class MarkSettings(_Part):
    """Where the high-water mark and tocsin's own key are kept; by default under the state folder."""

    file: Path | None = None
    key_file: Path | None = None


class ObjectSettings(S3Settings):
    """An object in S3."""

    bucket: str
    object_key: str = ""


class ConfigMapSettings(_Part):
    """A ConfigMap, through the API server, with the pod's own service account."""

    name: str
    namespace: str = ""
    url: str = "https://kubernetes.default.svc"
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    ca_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")


class WitnessSettings(_Part):
    """A second place for the mark, which whoever can reach the first cannot reach: exactly one of the three."""

    file: Path | None = None
    s3: ObjectSettings | None = None
    config_map: ConfigMapSettings | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> WitnessSettings:
        if sum(given is not None for given in (self.file, self.s3, self.config_map)) != 1:
            raise ValueError("give one of `file`, `s3` and `config_map`")
        return self


class FullWalkSettings(_Part):
    """The background walk from the start. ``pause_active``: it waits while more sessions than this are at work."""

    every: Seconds = 86400.0
    rows_per_second: Annotated[int, Field(gt=0)] = 100_000
    chunk: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    workers: Annotated[int, Field(ge=1, le=16)] = 1
    share: Annotated[float, Field(gt=0, le=0.9)] = 0.5
    """How much of a run's time it may take."""
    pause_active: Annotated[int, Field(ge=1)] = 32


class EvidenceSettings(_Part):
    """What is captured on a break."""

    folder: Path | None = None
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 5
    max_rows: Annotated[int, Field(ge=1)] = 10_000
    max_bytes: ByteCount = 16 << 20
    max_bundles: Annotated[int, Field(ge=1)] = 50
    """How many bundles one probe keeps; the oldest are never deleted, new ones are no longer made."""


class AnchorSettings(_Part):
    """A value of the chain that the platform anchored on an EVM chain: ``eth_call`` of ``data`` at ``to`` answers
    32-byte words, of which one is the sequence and one the MAC."""

    provider: str
    to: str
    data: str
    sequence_word: int = 0
    mac_word: int = 1
    chain: str = ""


class HashChainSettings(ProbeSettings):
    """Settings of ``hash_chain``."""

    dsn: Secret
    """A role that may read the table, and needs no more."""
    replica_dsn: Secret | None = None
    """Where full walks read, when given."""
    table: str
    order_by: Annotated[tuple[str, ...], BeforeValidator(_words)] = ("seq",)
    partition_by: str = ""
    """The column that tells chains of one table apart, such as a tenant; empty: the table is one chain."""
    mac_column: str
    previous_column: str
    genesis: str | None = None
    """The previous value of a first row, in ``mac_encoding`` (hex for raw). Unset: NULL, empty, or 32 zero bytes."""
    mode: Literal["linkage", "hmac"] = "linkage"
    payload: PayloadSettings | None = None
    mac_encoding: MacEncoding = "raw"
    """How MACs are written in the table: raw, hex or base64."""
    keys: tuple[KeySettings, ...] = ()
    key_id_column: str = ""
    time_column: str = ""
    """The row's own time; needed for retention and for keys with validity. Default: the first order column when it
    is a timestamp."""
    retention: RetentionSettings | None = None
    mark: MarkSettings = MarkSettings()
    witness: WitnessSettings | None = None
    full_walk: FullWalkSettings = FullWalkSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    anchor: AnchorSettings | None = None
    in_flight: Seconds = 300.0
    """How long rows may wait for a transaction that is still open, before a break among them counts all the same."""
    settle: Seconds = 1.0
    """A break at the newest rows counts when it is still there after this time."""
    snapshot: Seconds = 5.0
    """No snapshot is held longer, so that vacuum is not kept from its work."""

    @model_validator(mode="after")
    def _fits(self) -> HashChainSettings:
        if self.mode == "linkage" and (self.keys or self.key_id_column):
            raise ValueError("`keys` are only used in `mode: hmac`; in `mode: linkage` no MAC is recomputed")
        if self.mode == "hmac" and self.payload is None:
            raise ValueError("`mode: hmac` needs `payload`; `tocsin chain infer` finds the form that verifies")
        if self.mode == "hmac" and not self.keys:
            raise ValueError("`mode: hmac` needs at least one of `keys`")
        if self.key_id_column and any(not key.id for key in self.keys):
            raise ValueError("with `key_id_column` every key needs its `id`")
        return self

    def targets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(target for dsn in (self.dsn, self.replica_dsn) if dsn for target in targets_of(dsn)))

    def form(self) -> forms.Form | None:
        return self.payload.form(self.previous_column) if self.mode == "hmac" and self.payload else None

    def reading(self, application: str, *, replica: bool = False) -> Reading:
        """What reading takes, with all secrets read anew. Raises `OSError` and `ValueError`."""
        dsn = self.replica_dsn if replica and self.replica_dsn is not None else self.dsn
        return Reading(
            dsn=dsn.reveal(),
            application=application,
            snapshot=self.snapshot,
            mac_encoding=self.mac_encoding,
            form=self.form(),
            genesis=self.genesis_bytes(),
            keys=tuple(key.material() for key in self.keys) if self.mode == "hmac" else None,
            keys_by_id=bool(self.key_id_column),
        )

    def genesis_bytes(self) -> bytes | None:
        """The configured genesis value; None when the usual ones count."""
        return (
            None
            if self.genesis is None
            else decoded(self.genesis, "hex" if self.mac_encoding == "raw" else self.mac_encoding)
        )


def decoded(stored: object, encoding: MacEncoding) -> bytes:
    """A stored MAC as bytes. What is not of its encoding stays as it is: it is somebody's edit, or a genesis word."""
    match stored:
        case None:
            return b""
        case bytes():
            return stored
    text = str(stored)
    try:
        if encoding == "hex":
            return bytes.fromhex(text)
        return _base64(text) if encoding == "base64" else text.encode()
    except ValueError:
        return text.encode()


def _base64(text: str) -> bytes:
    padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
    try:
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
