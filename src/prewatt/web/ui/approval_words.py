"""Proposals, approvals and second factors in sentences: states, and why something was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from prewatt.access.second_factor import FactorRefused
from prewatt.approvals.operations import ProposalRefused
from prewatt.billing.proposals import VersionRefused

Text = str | Promise

PROPOSAL_STATE: Final[Mapping[str, Text]] = {
    "open": _("Waits for approval"),
    "approved": _("Approved"),
    "refused": _("Refused"),
    "withdrawn": _("Withdrawn"),
    "expired": _("Expired"),
    "void": _("Void"),
    "alone": _("Done alone"),
    "emergency": _("Done in an emergency"),
}
REVIEW: Final[Mapping[str, Text]] = {
    "": _("Not looked at yet"),
    "agreed": _("Agreed afterwards"),
    "objected": _("Objected"),
}
PROPOSAL_SHOW: Final[Mapping[str, Text]] = {
    "open": _("Waiting"),
    "ended": _("Ended"),
    "emergency": _("Emergencies"),
    "all": _("All proposals"),
}
PROPOSAL_SORT: Final[Mapping[str, Text]] = {
    "made": _("Latest first"),
    "ends": _("First to expire"),
}
#: What has changed since a proposal was made, by the code that the database keeps as its answer.
VOID: Final[Mapping[str, Text]] = {
    "draft": _("The draft was changed after it was proposed."),
    "version": _("Another version of the plan was made after it was proposed."),
    "begun": _("Its first day came before anybody had approved it."),
    "expired": _("Its last day came before anybody had agreed to it."),
    "refund": _("The refund was paid out, or is another amount."),
    "recharge": _("The recharge was taken back after it was proposed."),
    "receiver": _("The account that was to have the credit cannot have it any more."),
    "policy": _("What the property does about used credit was changed after it was proposed."),
    "used": _(
        "More of the credit was used than emergency credit covers, and the property takes back all or nothing."
    ),
    "debt": _("Something of the debt was paid after it was proposed, or it is closed."),
    "wallet": _("The account has left, or has less now than was to be taken."),
    "books": _("The books are closed for this day."),
    "maker": _("Who proposed it has no duty for that here any more."),
    "tamper_policy": _("The tamper policy was changed after it was proposed."),
    "rules": _("The supply rules were changed after it was proposed."),
    "brake": _("The brake was moved after it was proposed."),
    "protection": _("The protection was changed after it was proposed."),
    "account": _("The account has no supply any more."),
    "late": _("Its time was over before it was agreed to."),
    "plan": _("An account came to another plan after it was proposed."),
    "closed": _("An account was closed after it was proposed."),
    "terms": _("The terms of the account changed after it was proposed."),
    "readings": _("The reading, or one beside it, was changed after it was proposed."),
    "debts": _("The policy of debts was changed after it was proposed."),
    "archived": _("What was used by then can no longer be rated anew."),
    "amount": _("By now it would move so much more money that more people have to agree."),
    "person": _("They were suspended, or have gone, after it was proposed."),
    "duty": _("Their duties here were changed after it was proposed."),
    "last": _("Nobody would be left to decide here."),
    "held": _("They have a duty here already."),
    "group": _("The group, or who has a duty by it, was changed after it was proposed."),
    "elsewhere": _("It takes people who administer every property concerned."),
    "name": _("There is a group of that name."),
    "line": _("They hold a duty that nobody may hold beside this one."),
    "organisation": _("They work for another company on this installation."),
}
_REFUSED: Final[Mapping[str, Text]] = {
    "unknown": _("There is no such proposal any more."),
    "ended": _("It was ended by somebody in the meantime."),
    "expired": _("Nobody approved it within fourteen days. Propose it again."),
    "already": _("You have agreed to it already. Somebody else has to agree as well."),
    "amount": _("The amount is none."),
    "kind": _("That is no emergency: it takes the agreement of others first."),
    "own": _("Nobody approves or refuses what they proposed themselves. You can withdraw it."),
    "not_own": _("Only who proposed it can withdraw it."),
    "not_administrator": _("Only an administrator of this property can do that."),
    "reason": _("Say why; it stays in the audit."),
    "open": _(
        "A proposal about the same waits already. It is approved, refused or withdrawn first."
    ),
    "step_up": _("The proof of your second factor is used up or too old. Use a new code."),
}
#: Why a ladder cannot hold.
LADDER: Final[Mapping[str, Text]] = {
    "unknown": _("There are no limits for that."),
    "same": _("These are the limits that hold."),
    "first": _("The first limit is from nothing on: write 0."),
    "rising": _("Each limit is above the one before it and asks for more people."),
    "many": _("At most five limits, and at most five people."),
    "alone": _("Here small amounts take somebody else as well: at least 1."),
}
_VERSION: Final[Mapping[str, Text]] = {
    "unknown": _("There is no such draft any more."),
    "became": _("This draft is a version already."),
    "untried": _("Somebody pays by this plan. Try this edition of the draft on real days first."),
    "begun": _("A price begins at a midnight to come. Choose tomorrow or later."),
    "same": _("The plan says the same as its latest version. Change the draft first."),
    "far": _("Choose a day within the next 400 days."),
    "later": _("A version of this plan begins on that day or later. Choose a day after it."),
}
_FACTOR: Final[Mapping[str, Text]] = {
    "none": _("You have no second factor yet. Take one up first."),
    "code": _("That is not the code. Each code holds for half a minute and counts once."),
    "enrolled": _("You have an app for codes already."),
    "stale": _("This was shown too long ago. Begin again with a new secret."),
    "passkey": _("The passkey did not prove it. Try again, or use another one."),
    "challenge": _("This was asked too long ago. Try again."),
    "copied": _(
        "This passkey counted backwards, as a copy would. It is blocked; we have written to you."
    ),
    "step_up": _("Prove it with what you have already."),
    "last": _("A duty of yours needs a second factor: take up another one first."),
    "gone": _("That passkey is removed already."),
    "many": _("Ten passkeys are the most. Remove one first."),
    "name": _("Give it a name."),
    "known": _("This passkey is taken up already."),
    "recovery": _("That is no recovery code of yours, or it was used before."),
    "waiting": _("Another second factor is asked for already."),
    "early": _("It is not time yet."),
    "unknown": _("This sign-in is closed."),
}


def refused(refusal: ProposalRefused | VersionRefused | FactorRefused) -> str:
    """Why, and what to do now."""
    if isinstance(refusal, FactorRefused):
        if refusal.reason == "wait":
            return gettext("Too many wrong codes. Wait %(n)s seconds.") % {"n": refusal.wait_s}
        return str(_FACTOR[refusal.reason])
    if isinstance(refusal, VersionRefused):
        return str(_VERSION[refusal.reason])
    kind, _colon, what = refusal.reason.partition(":")
    return str(VOID[what] if kind == "void" else _REFUSED[refusal.reason])
