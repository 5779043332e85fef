"""The subjects that a piece of a batch names, read from the store: under live grants, many at once, each apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from datasets.schema import Table
from serving.core.db.reader import Reader
from serving.core.identifiers import now
from serving.decisions.batch.formats import SUBJECT
from serving.decisions.inputs import Stated
from serving.decisions.products.base import Held
from serving.privacy.consent.rules import KINDS_ZH, Opened, Rules, live_of, opened
from serving.privacy.subjects.indicators import groups_of, newest_of
from serving.privacy.subjects.vault import Tampered, Vault, wrapped_keys

NAMES = Table(name="the subjects", columns=(SUBJECT,))
LONGEST = 255  # characters of an id
# Of a row's answer, beside what every batch's has.
OURS = ("subject", "inputs", "indicators_from", "authorisations", "not_read")


@dataclass(frozen=True, slots=True)
class Read(Stated):
    """What of a subject a row's answer rests on. `inputs`: its imprint under the subject's own key."""

    inputs: str = ""


@dataclass(frozen=True)
class Subjects:
    """The store as a tenant may read it for one model's product."""

    reader: Reader
    vault: Vault
    rules: Rules | None  # None: no grant is asked for
    held: Held
    tenant: str

    def read(self, ids: Sequence[str]) -> dict[str, Read | Fault]:
        """By id; a fault where nothing is read, which names nobody. Raises StoreUnavailable."""
        product = self.held.card.product
        names = {self.vault.pseudonym(product, one): one for one in dict.fromkeys(ids)}
        found = self.reader.ask(lambda connection: dict(self._found(connection, [*names])))
        return {one: found[name] for name, one in names.items()}

    def _found(self, connection: sa.Connection, names: list[str]) -> Iterator[tuple[str, Read | Fault]]:
        stamp, known = now(), {column.name for column in self.held.fields}
        may = self._opened(connection, names, stamp)
        keys: dict[str, bytes] = {}
        for name, wrapped in wrapped_keys(connection, [name for name, one in may.items() if not one.lacking]):
            try:
                keys[name] = self.vault.unwrap(wrapped, name)
            except Tampered:
                yield name, TAMPERED
                may.pop(name)
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, one in may.items():
            if one.lacking:
                yield name, _not_authorised(one)
            elif name not in keys:
                yield name, UNKNOWN
            else:
                alike.setdefault(one.groups, []).append(name)
        for groups, those in alike.items():
            told = newest_of(connection, self.vault, {name: keys[name] for name in those}, groups, stamp[:10])
            for name, read in told.items():
                if isinstance(read, Tampered):
                    yield name, TAMPERED
                    continue
                values = {column: value for column, value in read.values.items() if column in known}
                imprint = self.vault.imprint(keys[name], orjson.dumps(values, option=orjson.OPT_SORT_KEYS))
                yield name, Read(values, read.simulated, name, may[name].grants, may[name].silent, imprint)

    def _opened(self, connection: sa.Connection, names: list[str], stamp: str) -> dict[str, Opened]:
        product, groups = self.held.card.product, sorted(groups_of(self.held.table))
        if self.rules is None:
            return dict.fromkeys(names, Opened(tuple(groups), (), (), {}))
        grants = live_of(connection, self.tenant, product, names, stamp)
        everybodys = grants.get(None, [])
        without = opened(self.rules, product, groups, everybodys)
        may = dict.fromkeys(names, without)
        for name, own in grants.items():
            if name is not None:
                both = sorted([*everybodys, *own], key=lambda grant: grant.id)
                may[name] = opened(self.rules, product, groups, both)
        return may


UNKNOWN = Fault(
    SUBJECT.name, "not in the store", "one that was loaded; or send its indicators", "已入库主体的编号，或直接发送指标"
)
TAMPERED = Fault(
    SUBJECT.name, "one whose values in the store were changed", "loaded again; find out who wrote to the store",
    "重新入库，并查明是谁改动了数据库",
)  # fmt: skip


def _not_authorised(may: Opened) -> Fault:
    kinds = sorted({kind for wanted in may.lacking.values() for kind in wanted})
    groups = ", ".join(may.lacking)
    found = f"without a live authorisation of {' and '.join(kinds)} kind for {groups}"
    needed_zh = f"先取得{'、'.join(KINDS_ZH[kind] for kind in kinds)}（{groups}）"
    return Fault(SUBJECT.name, found, "one for which it was granted to you; nothing was read", needed_zh)
