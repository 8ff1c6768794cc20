"""Price rules of a property: which pack holds there, and what it compares with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.billing.models import ResaleTerms
from prewatt.core.price_rules import RulePack, parse_pack
from prewatt.core.tariff import MAX_PRICE_NANO, Tariff, parse_tariff, to_document
from prewatt.ledger.idempotency import store_answer, stored_answer


class ResaleRefused(ValueError):
    """Resale terms cannot hold; ``reason`` is ``rules`` or ``price``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Resale:
    """What holds at an instant; ``purchase_nano_per_kwh`` and ``direct`` are None when unknown."""

    pack: RulePack
    purchase_nano_per_kwh: int | None
    direct: Tariff | None


@lru_cache(maxsize=1)
def packs() -> dict[str, RulePack]:
    """The shipped packs by jurisdiction."""
    folder = files("prewatt").joinpath("data/price_rules")
    found = (
        parse_pack(json.loads(each.read_text(encoding="utf-8")))
        for each in folder.iterdir()
        if each.name.endswith(".json")
    )
    return {pack.jurisdiction: pack for pack in sorted(found, key=lambda pack: pack.jurisdiction)}


def set_resale_terms(
    *,
    actor: Actor,
    property_id: int,
    rules: str,
    valid_from: datetime,
    now: datetime,
    purchase_nano_per_kwh: int | None = None,
    direct: Mapping[str, object] | None = None,
    key: str | None = None,
) -> int:
    """Say which pack holds from an instant on, and what it compares with; returns the row's id.

    ``direct`` is a tariff document. The ``key`` of a form makes two presses one deed. Raises
    ResaleRefused, ``core.tariff.TariffRefused``, PermissionRefused, KeyReused.
    """
    require(actor, "billing.resale", property_id=property_id)
    if rules not in packs():
        raise ResaleRefused(
            "rules", f"there is no rule pack {rules!r}; choose of {', '.join(packs())}"
        )
    if purchase_nano_per_kwh is not None and not 0 <= purchase_nano_per_kwh <= MAX_PRICE_NANO:
        raise ResaleRefused("price", "the purchase price is not a price")
    plan = None if direct is None else to_document(parse_tariff(direct))
    body = {
        "op": "billing.resale", "property": property_id, "rules": rules, "from": valid_from,
        "purchase": purchase_nano_per_kwh, "direct": plan,
    }  # fmt: skip
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return int(str(before["id"]))
        former = _row_at(property_id, valid_from)
        terms = ResaleTerms.objects.create(
            property_id=property_id,
            valid_from=valid_from,
            rules=rules,
            purchase_nano_per_kwh=purchase_nano_per_kwh,
            direct=plan,
            made_by=actor.code,
            made_at=now,
        )
        record(
            actor=actor.code,
            code="billing.resale.set",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            valid_from=valid_from,
            before=former and _content(former),
            after=_content(terms),
        )
        store_answer(
            actor=actor, key=key, body=body, account_id=0, property_id=property_id,
            answer={"id": terms.pk}, now=now,
        )  # fmt: skip
    return int(terms.pk)


def resale_at(*, property_id: int, at: datetime) -> Resale | None:
    """The property's terms in force, inside the caller's scope; None where nobody set any."""
    terms = _row_at(property_id, at)
    if terms is None:
        return None
    return Resale(
        packs()[terms.rules],
        terms.purchase_nano_per_kwh,
        None if terms.direct is None else parse_tariff(terms.direct),
    )


def _row_at(property_id: int, at: datetime) -> ResaleTerms | None:
    return (
        ResaleTerms.objects.filter(property_id=property_id, valid_from__lte=at)
        .order_by("-valid_from", "-pk")
        .first()
    )


def _content(terms: ResaleTerms) -> dict[str, object]:
    """Terms as the audit shows them."""
    return {
        "rules": terms.rules,
        "purchase_nano_per_kwh": terms.purchase_nano_per_kwh,
        "direct": terms.direct,
    }
