"""The doctor's accounts: log in where a user has a login form's fields and no token."""

from __future__ import annotations

from sim.live.client import HttpAnswer
from sim.live.doctor.answers import in_words, on_the_way
from sim.live.doctor.checks import HOW_TO_GIVE_AN_ACCOUNT, Finding, Patient
from sim.target import Account, Session
from sim.target.session import login_refusal, login_requests

FORM = "application/x-www-form-urlencoded"


async def login(patient: Patient) -> list[Finding]:
    """CSRF token and login form, as a browser does it, for owner and stranger."""
    people = [(name, user) for name, user in (("owner", patient.owner), ("stranger", patient.stranger)) if user is not None]
    if not people:
        return [Finding("account", "skipped", "no user of the application is known", HOW_TO_GIVE_AN_ACCOUNT)]
    findings = []
    for name, user in people:
        if user.login and not user.token:
            findings.append(await _log_in(patient, name, user))
        else:
            findings.append(Finding("account", "ok", f"{name}: user {user.id}, by bearer token"))
    return findings


async def _log_in(patient: Patient, name: str, user: Account) -> Finding:
    target = patient.target
    session, answer = Session(target.page_origin), HttpAnswer(0)
    patient.sessions[user.id] = session
    for method, path, body in login_requests(session, user.login, target.login.path, target.login.csrf):
        referer = dict(session.headers(target.login.path)).get("Referer", "")
        kind = {"Content_Type": FORM} if body else {"Accept": "text/html, application/json"}
        answered = await patient.ask_api(method, path, user, body, Referer=referer, **kind)
        answer = answered if method == "POST" else answer
    refusal = login_refusal(answer.status, answer.headers.get("location", ""), target.login.path)
    if not refusal:
        return Finding("account", "ok", f"{name}: user {user.id}, logged in at {target.login.path} (session cookie)")
    del patient.sessions[user.id]
    return Finding("account", "problem", f"{name}: login: {refusal} ({in_words(answer)})", _advice(patient, answer, session))


def _advice(patient: Patient, answer: HttpAnswer, session: Session) -> str:
    if answer.status == 419:
        got = "the CSRF cookie came" if "XSRF-TOKEN" in session.cookies else "no CSRF cookie came, and no token in the form"
        got = "the form's _token was sent" if session.token else got
        return f"{got}: SANCTUM_STATEFUL_DOMAINS must name {patient.target.page_origin}, and SESSION_DOMAIN its host"
    if answer.status in (404, 405):
        return 'name the login form\'s path in target.json: "login": {"path": "/login", "csrf": "/sanctum/csrf-cookie"}'
    return on_the_way(answer, "application") or "check the fields in users.csv or target.json, or give a token"
