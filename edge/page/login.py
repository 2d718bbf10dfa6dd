"""Why: the page lets a stranger on the hotspot ask devices, so who has not the password gets nothing, and few guesses.

The cookie is a random name signed with a key that this process made at its start: a restart ends every login. What
stands behind it (until when it counts) stays in this process. Times are seconds of any steady clock, handed in.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable

MAX_SESSIONS = 16
FREE_GUESSES = 5
FIRST_WAIT_S = 30.0
LONGEST_WAIT_S = 900.0
# Addresses are cheap on IPv6: all guessers together get no more than this.
GUESSES_A_MINUTE = 30
MAX_GUESSERS = 256
_MINUTE_S = 60.0


class Sessions:
    """Who is logged in. lifetime_s: a login ends so long after it began."""

    def __init__(self, lifetime_s: float, now_s: Callable[[], float]) -> None:
        self.lifetime_s = lifetime_s
        self._now_s = now_s
        self._key = secrets.token_bytes(32)
        self._until_s: OrderedDict[str, float] = OrderedDict()

    def begin(self) -> str:
        """A new login's cookie. The oldest login ends when there are too many."""
        self._forget()
        while len(self._until_s) >= MAX_SESSIONS:
            self._until_s.popitem(last=False)
        name = secrets.token_urlsafe(18)
        self._until_s[name] = self._now_s() + self.lifetime_s
        return f"{name}.{self._sign('session', name)}"

    def end(self, cookie: str) -> None:
        """Log out."""
        self._until_s.pop(cookie.partition(".")[0], None)

    def knows(self, cookie: str) -> bool:
        """Whether the cookie is of a login that counts."""
        name, _, signature = cookie.partition(".")
        if not _same(signature, self._sign("session", name)):
            return False
        self._forget()
        return name in self._until_s

    def form_token(self, cookie: str) -> str:
        """What every form of this login carries, and no other site can know."""
        return self._sign("form", cookie.partition(".")[0])

    def trusts(self, cookie: str, form_token: str) -> bool:
        """Whether a form came from a page of this login."""
        return _same(form_token, self.form_token(cookie))

    def _sign(self, purpose: str, name: str) -> str:
        return hmac.new(self._key, f"{purpose}:{name}".encode(), hashlib.sha256).hexdigest()

    def _forget(self) -> None:
        now_s = self._now_s()
        while self._until_s and next(iter(self._until_s.values())) <= now_s:
            self._until_s.popitem(last=False)


class Door:
    """Compares passwords in constant time, and makes who guesses wait: by address, and all together."""

    def __init__(self, password: str, now_s: Callable[[], float]) -> None:
        self._key = secrets.token_bytes(32)
        self._digest = self._digest_of(password)
        self._now_s = now_s
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._recent: deque[float] = deque(maxlen=GUESSES_A_MINUTE)

    def wait_s(self, who: str) -> float:
        """Seconds until this address may try; 0 when it may now."""
        now_s = self._now_s()
        wait_s = self._wrong.get(who, (0, 0.0))[1] - now_s
        if len(self._recent) == GUESSES_A_MINUTE:
            wait_s = max(wait_s, self._recent[0] + _MINUTE_S - now_s)
        return max(0.0, wait_s)

    def opens(self, who: str, password: str) -> bool:
        """Whether this is the password; False also while the address has to wait."""
        if self.wait_s(who):
            return False
        if hmac.compare_digest(self._digest, self._digest_of(password)):
            self._wrong.pop(who, None)
            return True
        self._refuse(who)
        return False

    def _refuse(self, who: str) -> None:
        now_s = self._now_s()
        count = self._wrong.pop(who, (0, 0.0))[0] + 1
        wait_s = 0.0
        if count >= FREE_GUESSES:
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(count - FREE_GUESSES, 10))
        self._wrong[who] = (count, now_s + wait_s)
        self._recent.append(now_s)
        while len(self._wrong) > MAX_GUESSERS:
            self._wrong.popitem(last=False)

    def _digest_of(self, password: str) -> bytes:
        # Digests are of one length, so that the comparison tells nothing of the password's.
        return hmac.digest(self._key, password.encode("utf-8", "surrogateescape"), "sha256")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8"))
