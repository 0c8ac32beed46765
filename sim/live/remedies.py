"""What to do about a refusal, by the protocol's code or the application's status, for the doctor and the load test."""

from __future__ import annotations

import re

from sim.target import in_names_of

PROTOCOL = {
    4000: "the broadcaster wants TLS: set the scheme to https",
    4001: "the broadcaster does not know this key: compare REVERB_APP_KEY with the broadcaster's settings",
    4003: "the app is disabled at the broadcaster",
    4004: "the app's connection limit is reached: close connections or raise max_connections",
    4005: "the broadcaster has no such path: check the path prefix (REVERB_SERVER_PATH, wsPath)",
    4007: "the broadcaster speaks another version of the protocol",
    4100: "the broadcaster is over its capacity",
    1009: "a message was too large for the connection: send ids alone, or raise max_message_size and the proxy's limit",
}
"""Code of an error or close frame -> what to do. 4009 has two meanings: see `remedy`."""

APPLICATION = {
    302: "sent to a login page: the token or session is not accepted (--accounts users.csv, or users in target.json)",
    401: "the token or session is not accepted (--accounts users.csv, or users in target.json)",
    403: "these users may not see it: their ids in target.json are not theirs, or the channel's callback refuses them",
    419: "the CSRF token is not accepted: give users a login (email, password), and SANCTUM_STATEFUL_DOMAINS the pages' host",
    429: "the application's rate limit: more users, or a longer debounce",
}
"""HTTP status of what pages ask of the application -> what to do."""

STATUS, CODE = re.compile(r"\bHTTP (\d{3})\b"), re.compile(r"^(?:error )?(\d{4})\b")


def remedy(refusal: str, family: str = "REVERB") -> str:
    """For one refusal in its own words (`4009 Origin not allowed`, `HTTP 419`), by the names of the settings in force
    (`Target.family`); empty where nothing is known."""
    return in_names_of(family, _remedy(refusal))


def _remedy(refusal: str) -> str:
    if "4009" in refusal and "origin" in refusal.lower():
        return "the broadcaster refuses the pages' Origin: add its host to allowed_origins (config/reverb.php), or set origin"
    if "4009" in refusal:
        return "the signature is not accepted: application and broadcaster must have the same REVERB_APP_SECRET"
    if "subscription_error" in refusal:
        return "the broadcaster refuses the subscription: application and broadcaster must have the same key and secret"
    if "login: " in refusal:
        if "CSRF" in refusal:
            return APPLICATION[419]
        return "these users cannot log in: look at their fields, and at login in target.json"
    if "without JSON" in refusal:
        return f"a page in place of an answer: {APPLICATION[302]}"
    status, code = STATUS.search(refusal), CODE.search(refusal)
    if status:
        number = int(status[1])
        return APPLICATION.get(302 if 300 <= number < 400 else number, "")
    return PROTOCOL.get(int(code[1]), "") if code else ""
