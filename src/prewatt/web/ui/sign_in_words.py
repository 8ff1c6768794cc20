"""Signing in, in sentences: what was done, what a deed on oneself means, why a password is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from prewatt.access.passwords import PasswordRefused

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Deed:
    """One deed on oneself: its heading, what comes of it, and its button."""

    heading: Text
    means: Text
    button: Text


DONE: Final[Mapping[str, Text]] = {
    "app": _("The app is taken up. Its codes prove you from now on."),
    "drop_app": _("The app is given up. Its codes prove nothing any more."),
    "passkey": _("The passkey is added. It proves you from now on."),
    "remove_passkey": _("The passkey is removed. It proves nothing any more."),
    "password": _("Your password is changed. Every other session of yours has ended."),
    "ended": _("Ended. Whoever was there has to sign in again."),
    "asked": _("Asked for. What you have stays good until then; we have written to you."),
    "kept": _("What you have stays."),
}
DEEDS: Final[Mapping[str, Deed]] = {
    "drop_app": Deed(
        _("Give up the app"),
        _(
            "Its codes prove nothing any more. To change phones, give it up with a passkey and take it up anew."
        ),
        _("Give it up"),
    ),
    "remove_passkey": Deed(
        _("Remove a passkey"),
        _(
            "It proves nothing any more. The last one stays while a duty of yours needs a second factor."
        ),
        _("Remove it"),
    ),
    "codes": Deed(
        _("New recovery codes"),
        _("Ten new ones are shown once. All older ones are void."),
        _("Make new codes"),
    ),
    "password": Deed(
        _("Change your password"),
        _("At least twelve characters, on one line. Every other session of yours ends."),
        _("Change it"),
    ),
}
SIGN_IN_BY: Final[Mapping[str, Text]] = {
    "password": _("password"),
    "company": _("company directory"),
    "code": _("password and code"),
    "passkey": _("password and passkey"),
    "recovery": _("password and recovery code"),
}
SIGN_IN_ENDED: Final[Mapping[str, Text]] = {
    "out": _("signed out"),
    "idle": _("two hours without anybody"),
    "old": _("twelve hours are over"),
    "ended": _("ended by you"),
    "password": _("new password"),
    "suspended": _("suspended"),
}
_PASSWORD: Final[Mapping[str, Text]] = {
    "short": _("A password has at least twelve characters."),
    "long": _("A password has at most 1,024 characters."),
    "signs": _("A password is one line of signs that can be typed."),
    "common": _("Many people use that password, so it is tried first. Choose another."),
    "named": _("That is little more than a name of yours or of the property. Choose another."),
}


def refused_password(refusal: PasswordRefused) -> str:
    """Why this is no password."""
    return str(_PASSWORD.get(refusal.reason, _PASSWORD["signs"]))


PERSON_DONE: Final[Mapping[str, Text]] = {
    "invited": _("Invited. The letter is on its way; a duty is proposed apart from it."),
    "suspend": _("Suspended. Every session of theirs has ended."),
    "resume": _("They can sign in again."),
    "leave": _("Their duty here has ended. What they did stays to be read."),
}
TENANT_DONE: Final[Mapping[str, Text]] = {
    "invited": _("Invited. The letter is on its way; they see their account once they sign in."),
    "linked": _("Linked. They signed in as a tenant before and see this account as well."),
    "unlinked": _("Unlinked. They see nothing of it any more."),
}
TENANT_REFUSED: Final[Mapping[str, Text]] = {
    "not_staff": _("Only an operator or administrator of this property can do that."),
    "mail": _("Write an e-mail address."),
    "name": _("Still to be filled in."),
    "customer": _("This customer has no open account here any more."),
    "away": _("Whoever signs in by this address is suspended."),
    "held": _("They are linked to this customer already."),
    "line": _(
        "Whoever signs in by this address works here or looks after it, and is no tenant as well."
    ),
    "organisation": _(
        "Whoever signs in by this address is with another company on this installation."
    ),
    "known": _("A colleague has just invited them. Look again."),
}
GROUP_REFUSED: Final[Mapping[str, Text]] = {
    "unknown": _("There is no such group any more."),
    "empty": _("Choose at least one property."),
    "elsewhere": _("It takes people who administer every property concerned."),
    "name": _("There is a group of that name."),
    "same": _("Nothing would change."),
}
PERSON_DEEDS: Final[Mapping[str, Deed]] = {
    "suspend": Deed(
        _("Suspend"),
        _(
            "They are out at once and cannot sign in. Another administrator than you can let them in again."
        ),
        _("Suspend them"),
    ),
    "resume": Deed(
        _("Let in again"),
        _("They sign in as before. Whoever suspended them cannot do this."),
        _("Let them in"),
    ),
    "leave": Deed(
        _("End the duty"),
        _(
            "Their duty at this property ends now. A new one is proposed and approved like any other."
        ),
        _("End it now"),
    ),
}
_PERSON: Final[Mapping[str, Text]] = {
    "not_administrator": _("Only an administrator of this property can do that."),
    "own": _("Not by yourself: another administrator does that."),
    "nobody": _("They have no duty here, or are not suspended here."),
    "auditor": _("No administrator keeps an auditor out. Who keeps this installation can."),
    "elsewhere": _("They have a duty where you are no administrator. End the duty here instead."),
    "wider": _("Their duty is of more than this property, and ends where it was given."),
    "others": _("A single administrator would be left. That takes another person: propose it."),
    "reason": _("Say why; it stays in the audit."),
    "step_up": _("The proof of your second factor is used up or too old. Use a new code."),
    "mail": _("Write an e-mail address."),
    "name": _("Still to be filled in."),
    "known": _("Somebody signs in by this address already."),
    "duty": _("Choose a duty."),
    "held": _("They have a duty here already."),
    "suspended": _("They are suspended. Let them in again first."),
    "group": _("Choose a group whose every property you administer."),
}


def refused_person(reason: str) -> str:
    """Why nothing was done, and what to do."""
    return str(_PERSON[reason])
