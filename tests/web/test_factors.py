"""Second factors by their pages: at the sign-in and for deeds; passkeys in software; and those who try without."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.test import Client

from fernmoor import NOW, PASSWORD, Fernmoor, web_login
from prewatt.access.models import StepUp, User
from prewatt.access.second_factor import FactorRefused
from prewatt.notify.ports import Contact, Rendered, SendOutcome, Sent, Temporary
from prewatt.sign_in import factors, notices, passkeys, sessions
from prewatt.sign_in.models import Notice, Passkey, SignIn
from prewatt.web import clock
from soft_authenticator import SoftAuthenticator
from web.test_approvals import code_of, take_up

Owner = Callable[[Fernmoor], AbstractContextManager[None]]
ADMIN = "administrator@fernmoor.example"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The instant of the next request, in a list of one: codes follow it."""
    instant = [NOW]
    monkeypatch.setattr(clock, "now", lambda: instant[0])
    return instant


def knock(email: str = ADMIN, by: Client | None = None, **more: Any) -> tuple[Client, Any]:
    """A browser in which somebody gave their password."""
    client = by or Client(headers={"host": "localhost"})
    return client, client.post("/sign-in", {"email": email, "password": PASSWORD, **more})


def ask(page: Any) -> str:
    """The question for a passkey that a page carries."""
    found = re.search(r'data-prove="([^"]+)"', page.content.decode())
    assert found, page.content.decode()[:3000]
    return found[1]


def add(
    client: Client, device: SoftAuthenticator, path: str = "/me/passkeys/new", **form: Any
) -> Any:
    """Add a device's passkey, as the script of the page does."""
    options = client.post("/sign-in/passkeys/new" if "sign-in" in path else "/passkeys/new").json()
    if options["ask"] and "by" in form:
        asked = client.post("/passkeys/ask", {"ask": options["ask"]}).json()
        form["passkey"] = form.pop("by").sign(asked)
    return client.post(path, {"name": "Blue key", "made": device.make(options["make"]), **form})


def test_who_decides_is_let_in_by_a_second_factor_only(
    fernmoor: Fernmoor, as_owner: Owner, at: list[Any]
) -> None:
    """Password, then something of one's own; until then the session is good for nothing."""
    client, answer = knock(next="/units")
    assert answer["location"] == "/sign-in/factor"
    for path in ("/", "/units", "/me", "/live", "/second-factor", "/passkeys/new"):
        assert client.get(path).status_code in (302, 405), path
        assert client.get(path)["location"].startswith("/sign-in"), path
    device = SoftAuthenticator()
    page = client.get("/sign-in/factor").content.decode()
    assert "Take up a second factor" in page and "<svg" in page
    done = add(client, device, "/sign-in/factor")
    codes = re.findall(r"<li>([a-z2-9-]{29})</li>", done.content.decode())
    assert len(set(codes)) == 10
    assert client.get("/me").status_code == 200
    with as_owner(fernmoor):
        assert Passkey.objects.get().ways == "internal"
        assert not Notice.objects.filter(code="access.new_browser").exists(), "the first is no news"

    # Another day, another browser: the passkey signs in, a code of paper does once, a stranger's never.
    other, _ = knock()
    question = ask(other.get("/sign-in/factor"))
    asked = other.post("/sign-in/passkeys/ask", {"ask": question}).json()
    assert asked["userVerification"] == "required" and asked["rpId"] == "localhost"
    thief = SoftAuthenticator(credential_id=device.credential_id)
    assert other.post("/sign-in/factor", {"passkey": thief.sign(asked)}).status_code == 422
    signed = device.sign(asked)
    before = other.session.session_key
    assert other.post("/sign-in/factor", {"passkey": signed})["location"] == "/"
    assert other.session.session_key != before, "a planted session is good for nothing"
    assert other.get("/units").status_code == 200
    third, _ = knock()
    ask(third.get("/sign-in/factor"))
    assert third.post("/sign-in/factor", {"passkey": signed}).status_code == 422, "once"
    assert third.post("/sign-in/factor", {"recovery": codes[3].upper()})["location"] == "/"
    assert third.get("/").status_code == 200
    fourth, _ = knock()
    assert fourth.post("/sign-in/factor", {"recovery": codes[3]}).status_code == 422
    with as_owner(fernmoor):
        told = list(Notice.objects.order_by("id").values_list("code", flat=True))
    assert told == [
        "access.passkey.added", "access.new_browser", "access.recovery.used", "access.new_browser",
    ]  # fmt: skip


def test_a_right_password_waits_ten_minutes_and_no_longer_than_it_is_right(
    fernmoor: Fernmoor, as_owner: Owner, at: list[Any]
) -> None:
    client, _ = knock()
    at[0] += timedelta(seconds=601)
    assert client.get("/sign-in/factor")["location"] == "/sign-in?problem=late"
    client, _ = knock()
    with as_owner(fernmoor):
        user = User.objects.get(email=ADMIN)
        user.set_password("another-quiet-window")
        user.save()
    assert client.get("/sign-in/factor")["location"].startswith("/sign-in")


def test_a_passkey_proves_one_deed_once_and_a_copy_of_it_is_blocked(
    fernmoor: Fernmoor, as_owner: Owner, at: list[Any]
) -> None:
    """Challenge, person, deed, host, verification, signature and count: each is held on its own."""
    user = User.objects.get(email=ADMIN)
    other = User.objects.get(email="auditor@fernmoor.example")
    device = SoftAuthenticator()
    site, deed = "localhost", b"d" * 32

    def took(**wrong: Any) -> None:
        asked = passkeys.challenge(user=user, purpose="add")
        options = passkeys.options_to_add(user=user, site=site, asked=asked)
        broken = SoftAuthenticator(
            **{"credential_id": device.credential_id, "key": device.key, **wrong}
        )
        factors.add_passkey(
            user=user, answer=broken.make(options), name="Key", site=site, proof=factors.Proof(), now=at[0]
        )  # fmt: skip

    evil: list[dict[str, Any]] = [
        {"site": "evil.example"}, {"origin": "https://evil.example"}, {"cross_origin": True},
        {"origin": "http://localhost.evil.example"}, {"verifies": False},
    ]  # fmt: skip
    for wrong in evil:
        with pytest.raises(FactorRefused, match="passkey"):
            took(**wrong)
    took()
    with pytest.raises(FactorRefused, match="none"):
        took()

    def proved(who: User = user, about: bytes = deed, answer: str = "", **wrong: Any) -> int:
        at[0] += timedelta(hours=25)
        asked = passkeys.challenge(user=who, purpose="deed", digest=deed)
        for name, value in wrong.items():
            setattr(device, name, value)
        signed = answer or device.sign(passkeys.options_to_prove(user=user, site=site, asked=asked))
        proof = factors.Proof(passkey=signed, site=site)
        try:
            return factors.prove(user=user, proof=proof, digest=about, now=at[0])
        finally:
            last.append(signed)
            for name, value in vars(SoftAuthenticator()).items():
                if name in wrong and name != "count":
                    setattr(device, name, value)

    last: list[str] = []
    step_up_id = proved()
    with as_owner(fernmoor):
        kept = StepUp.objects.get(pk=step_up_id)
        assert bytes(kept.digest) == deed and kept.user == user
    refused: list[dict[str, Any]] = [
        {"answer": last[0]}, {"about": b"e" * 32}, {"who": other}, {"answer": "{}"}, {"answer": "["},
        {"answer": '{"rawId": 7}'}, *evil,
    ]  # fmt: skip
    for wrong in refused:
        with pytest.raises(FactorRefused, match="passkey"):
            proved(**wrong)
    # A sign-in's signature proves no deed.
    asked = passkeys.challenge(user=user, purpose="sign_in")
    signed = device.sign(passkeys.options_to_prove(user=user, site=site, asked=asked))
    with pytest.raises(FactorRefused, match="passkey"):
        proved(answer=signed)
    with pytest.raises(FactorRefused, match="copied"):
        proved(count=0)
    with pytest.raises(FactorRefused, match="passkey"):
        proved(count=99)
    with as_owner(fernmoor):
        assert Passkey.objects.get().removed_why == "copied"
        assert Notice.objects.filter(code="access.passkey.copied").count() == 1
        assert StepUp.objects.count() == 1


def test_wrong_codes_passkeys_and_papers_share_one_count(fernmoor: Fernmoor, at: list[Any]) -> None:
    user = User.objects.get(email=ADMIN)
    tries = [{"code": "1"}, {"passkey": "{}"}, {"recovery": "x"}, {"code": "2"}, {"passkey": "{}"}]
    for each in tries:
        with pytest.raises(FactorRefused):
            factors.prove_sign_in(
                user=user, proof=factors.Proof(site="localhost", **each), now=at[0]
            )
    with pytest.raises(FactorRefused, match="wait"):
        factors.prove(user=user, proof=factors.Proof(code="3"), digest=b"d" * 32, now=at[0])


def test_what_proves_one_changes_only_by_what_one_has_and_never_to_nothing(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    client = sign_in(fernmoor)
    assert "No second factor yet" in client.get("/me").content.decode()
    app = take_up(client, at)
    blue, green = SoftAuthenticator(), SoftAuthenticator()
    assert add(client, blue).status_code == 422, "without a proof"
    assert add(client, blue, code="000000").status_code == 422
    assert add(client, blue, code=code_of(app, at))["location"] == "/me?done=passkey"
    assert add(client, green, by=blue)["location"] == "/me?done=passkey"
    # The app goes, by a passkey.
    page = client.get("/second-factor")
    assert client.post("/second-factor", {"code": "000000"}).status_code == 422
    asked = client.post("/passkeys/ask", {"ask": ask(page)}).json()
    assert len(asked["allowCredentials"]) == 2
    gone = client.post("/second-factor", {"passkey": blue.sign(asked)})
    assert gone["location"] == "/me?done=drop_app"

    def remove(device: SoftAuthenticator, by: SoftAuthenticator) -> Any:
        with as_owner(fernmoor):
            key = Passkey.objects.get(credential_id=device.credential_id).pk
        path = f"/me/passkeys/{key}/remove"
        asked = client.post("/passkeys/ask", {"ask": ask(client.get(path))}).json()
        return client.post(path, {"passkey": by.sign(asked)})

    assert remove(blue, by=green)["location"] == "/me?done=remove_passkey"
    last = remove(green, by=green)
    assert last.status_code == 422 and "take up another one first" in last.content.decode()
    assert "Take up an app for codes" in client.get("/second-factor").content.decode()
    # Another's passkey is not there at all, nor is a question for it answered.
    auditor = sign_in(fernmoor, "auditor")
    with as_owner(fernmoor):
        mine = Passkey.objects.get(removed_at=None).pk
    assert auditor.get(f"/me/passkeys/{mine}/remove").status_code == 404
    question = ask(client.get(f"/me/passkeys/{mine}/remove"))
    assert auditor.post("/passkeys/ask", {"ask": question}).status_code == 403
    assert client.post("/passkeys/ask", {"ask": "forged"}).status_code == 403
    numbers = Client(headers={"host": "127.0.0.1"})
    numbers.cookies = client.cookies
    assert numbers.get("/me/passkeys/new").status_code == 404
    assert "Add a passkey" not in numbers.get("/me").content.decode()


def test_a_lost_factor_comes_back_after_a_day_and_not_against_its_owner(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    client = sign_in(fernmoor)
    app = take_up(client, at)
    shown = client.post("/me/recovery-codes", {"code": code_of(app, at)}).content.decode()
    codes = re.findall(r"<li>([a-z2-9-]{29})</li>", shown)
    user = User.objects.get(email=ADMIN)
    with pytest.raises(FactorRefused, match="code"):
        factors.prove(
            user=user, proof=factors.Proof(code=codes[9], recovery=codes[9]), digest=b"d" * 32, now=at[0]
        )  # fmt: skip
    assert client.post("/me/lost", {"do": "ask", "recovery": "x"}).status_code == 422
    assert (
        client.post("/me/lost", {"do": "ask", "recovery": codes[0]})["location"] == "/me?done=asked"
    )
    assert client.post("/me/lost", {"do": "anew"}).status_code == 422, "not yet"
    assert "can be taken up from" in client.get("/me").content.decode()
    assert client.post("/me/lost", {"do": "keep"})["location"] == "/me?done=kept"
    assert client.post("/me/lost", {"do": "anew"}).status_code == 422, "taken back"
    assert client.post("/me/lost", {"do": "ask", "recovery": codes[0]}).status_code == 422, "once"
    client.post("/me/lost", {"do": "ask", "recovery": codes[1]})
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("UPDATE new_factor SET good_from = now() - interval '1 minute'")
    assert client.post("/me/lost", {"do": "anew"})["location"] == "/second-factor"
    assert not factors.has_one(user)
    take_up(client, at)
    _, answer = knock()
    assert answer["location"] == "/sign-in/factor"
    fifth, _ = knock()
    assert fifth.post("/sign-in/factor", {"recovery": codes[5]}).status_code == 422, "void"


def test_sessions_are_listed_ended_and_end_by_themselves(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    desk = "operator@fernmoor.example"
    agent = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"
    here, _ = knock(desk)
    there, answer = knock(desk, by=Client(headers={"host": "localhost", "user-agent": agent}))
    assert answer["location"] == "/"
    page = here.get("/me").content.decode()
    assert "Chrome · Windows" in page and "this one" in page
    with as_owner(fernmoor):
        first, second = SignIn.objects.order_by("id")
        foreign = sign_in(fernmoor).session["sign_in"]
        assert first.browser != second.browser
    here.post("/me/sessions", {"session": str(foreign)})
    here.post("/me/sessions", {"session": str(second.pk)})
    assert there.get("/").status_code == 302
    with as_owner(fernmoor):
        assert SignIn.objects.get(pk=foreign).ended_at is None
        assert SignIn.objects.get(pk=second.pk).ended_why == "ended"
    # An open page asks by itself, and keeps nobody signed in.
    at[0] += sessions.IDLE - timedelta(minutes=1)
    assert here.get("/", headers={"HX-Request": "true"}).status_code == 200
    at[0] += timedelta(minutes=2)
    assert here.get("/").status_code == 302
    third, _ = knock(desk, by=here)
    for _hour in range(12):
        assert third.get("/me").status_code == 200
        at[0] += timedelta(hours=1)
    assert third.get("/me").status_code == 302
    third, _ = knock(desk, by=here)
    third.post("/sign-out")
    with as_owner(fernmoor):
        ended = [each.ended_why for each in SignIn.objects.filter(user__email=desk).order_by("id")]
        told = Notice.objects.filter(code="access.new_browser").count()
    assert ended == ["idle", "ended", "old", "out"]
    assert told == 1, "the browser of before is known"


def test_a_new_password_takes_the_old_one_and_a_factor_and_ends_other_sessions(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], at: list[Any]
) -> None:
    client, other = sign_in(fernmoor), sign_in(fernmoor)
    app = take_up(client, at)
    new = "a-much-quieter-window"
    form = {"password": PASSWORD, "new": new, "again": new}
    for wrong in ({"password": "no"}, {"new": "short", "again": "short"}, {"again": "else"},
                  {"new": PASSWORD, "again": PASSWORD}, {"code": "000000"}):  # fmt: skip
        refused = client.post("/me/password", form | {"code": code_of(app, at)} | wrong)
        assert refused.status_code == 422 and new not in refused.content.decode(), wrong
    assert client.post("/me/password", form).status_code == 422, "without a factor"
    done = client.post("/me/password", form | {"code": code_of(app, at)})
    assert done["location"] == "/me?done=password"
    assert client.get("/me").status_code == 200 and other.get("/me").status_code == 302
    assert knock()[1].status_code == 403


def test_no_login_of_the_web_gives_or_takes_a_factor_without_its_proof(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], at: list[Any]
) -> None:
    """The walls: straight at the database, with the web's own login."""
    client = sign_in(fernmoor)
    take_up(client, at)
    who = fernmoor.users["administrator"]
    denied = (
        "INSERT INTO second_factor VALUES (1, 'x', now(), 0)", "DELETE FROM second_factor",
        "UPDATE second_factor SET sealed_secret = 'x'", "DELETE FROM passkey",
        "INSERT INTO passkey (user_id) VALUES (1)",
        "UPDATE passkey SET public_key = 'x'", "SELECT digest FROM recovery_code",
        "INSERT INTO recovery_code (user_id, digest) VALUES (1, 'x')",
        "UPDATE new_factor SET good_from = now()", "UPDATE passkey_challenge SET used_at = NULL",
        "UPDATE app_user SET password = 'x'", "SELECT body FROM notice", "SELECT code FROM notice",
        "UPDATE sign_in SET user_id = 1", "DELETE FROM sign_in", "SET ROLE sign_in_pen",
        f"SELECT own_deed(1, {who}, 'app.drop', '')", f"SELECT take_challenge('x', {who}, 'add', '')",
        f"SELECT keep_first_codes({who}, '{{}}')",
    )  # fmt: skip
    refused = {
        f"SELECT take_up_app({who}, 'x', now(), 0, '{{}}', NULL)": "enrolled",
        f"SELECT drop_app({who}, NULL)": "last",
        f"SELECT add_passkey({who}, 'x', 'h', 'x', 'x', 0, false, '', ask_passkey({who}, 'add', ''), '{{}}',"
        " NULL)": "step_up",
        f"SELECT make_recovery_codes({who}, '{{}}', NULL)": "step_up",
        f"SELECT change_password({who}, 'argon2$argon2id$x', NULL)": "step_up",
        f"SELECT change_password({who}, 'plain', NULL)": "digest",
        f"SELECT begin_anew({who})": "none",
        f"SELECT refusal FROM ask_new_factor({who}, '{{}}')": "code",
    }
    with psycopg.connect(web_login(fernmoor.dsn), autocommit=True) as web:
        for statement in denied:
            with pytest.raises(psycopg.errors.Error, match=r"permission denied|does not exist"):
                web.execute(statement)
        for statement, word in refused.items():
            assert web.execute(statement).fetchone() == (word,), statement


class Mail:
    """A channel that keeps what it is given, and fails as often as it is told to."""

    name, wakes = "email", False

    def __init__(self, fails: int = 0) -> None:
        self.fails, self.sent = fails, list[Rendered]()

    def address_of(self, contact: Contact) -> str:
        return contact.email

    def send(self, rendered: Rendered) -> SendOutcome:
        if self.fails:
            self.fails -= 1
            return Temporary("busy")
        self.sent.append(rendered)
        return Sent()


def test_a_letter_about_a_new_browser_comes_once_in_its_reader_s_language_and_time(
    fernmoor: Fernmoor, as_owner: Owner, at: list[Any]
) -> None:
    desk = "operator@fernmoor.example"
    knock(desk)
    with as_owner(fernmoor):
        User.objects.filter(email=desk).update(language="zh-hans")
    knock(desk, by=Client(headers={"host": "localhost", "user-agent": "Firefox/140.0 (Linux)"}))
    mail = Mail(fails=1)
    with as_owner(fernmoor):
        assert notices.deliver_due(channels=[mail], now=NOW) == 1
        assert notices.deliver_due(channels=[mail], now=NOW + timedelta(seconds=59)) == 0
        assert notices.deliver_due(channels=[mail], now=NOW + timedelta(minutes=1)) == 1
        assert notices.deliver_due(channels=[mail], now=NOW + timedelta(days=1)) == 0
    (letter,) = mail.sent
    assert letter.address == desk and letter.subject == "有新的浏览器登录"
    for said in ("2026-11-17 14:30 (Europe/Berlin)", "127.0.0.1", "Firefox · Linux", "更换密码"):
        assert said in letter.body
    for code, tongues in notices.TEXTS.items():
        for tongue in tongues:
            subject, body = notices.said(code=code, detail={}, language=tongue, zone="UTC", at=NOW)
            assert subject and "{" not in body and "None" not in body, code
