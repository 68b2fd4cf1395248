"""An authenticated stream: two who have a secret in common speak over a connection that others may write to.

Each side begins with a nonce, and proves with its next words that it knows the secret. From then on each piece bears a
message authentication code over itself and its number, with a key for each direction. So nobody else can take part,
nothing said earlier or elsewhere can be said again, and nothing of it be left out, changed, or sent back to its sender.
It is not encrypted: who listens can read it.

    nonce     32 bytes
    proof     HMAC-SHA256 with the key of its sender's direction, over both nonces
    piece     4 bytes of length, the bytes, 16 bytes of HMAC-SHA256 over number (8 bytes), length and bytes

Keys are made by HKDF as in RFC 5869, with SHA-256: extracted with both nonces as the salt, expanded for each direction.
"""

from __future__ import annotations

import enum
import hmac

NONCE = 32
PROOF = 32
MAC = 16
LONGEST = 64 * 1024 * 1024
"""Bytes of a piece."""

_PIECE = 1 << 20
"""Bytes of ours that bear one code."""


class Role(enum.Enum):
    """Who speaks."""

    LEADER = b"orch leader"
    AGENT = b"orch agent"


class BrokenSeal(Exception):
    """The other side does not know the secret, or somebody has put in words of their own."""


class Seal:
    """One side's, of one connection. No input and no output: bytes go in and come out. `nonce`: chance, never again."""

    def __init__(self, secret: bytes, role: Role, nonce: bytes) -> None:
        assert len(secret) >= 16
        assert len(nonce) == NONCE
        self._secret = secret
        self._role = role
        self._nonce = nonce
        self._salt = b""
        self._own = self._theirs = b""
        self._sent = self._heard = 0
        self._proven = False
        self._buffer = bytearray()

    @property
    def proven(self) -> bool:
        """Has the other side shown that it knows the secret?"""
        return self._proven

    def begin(self) -> bytes:
        """What is to be sent first."""
        return self._nonce

    def wrap(self, data: bytes) -> bytes:
        """What is to be sent for `data`, once both sides are proven."""
        assert self._proven
        pieces = []
        for first in range(0, len(data), _PIECE):
            part = data[first : first + _PIECE]
            head = len(part).to_bytes(4, "big")
            pieces += [head, part, self._code(self._own, self._sent, head, part)]
            self._sent += 1
        return b"".join(pieces)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take in what has come. What is to be sent in answer, and what the other side says. Raises `BrokenSeal`."""
        self._buffer += data
        answer = self._greet() if not self._own else b""
        if self._own and not self._proven:
            self._prove()
        return answer, self._pieces() if self._proven else b""

    def _greet(self) -> bytes:
        """Keys, and our proof, once their nonce is here."""
        if len(self._buffer) < NONCE:
            return b""
        nonce = bytes(self._buffer[:NONCE])
        del self._buffer[:NONCE]
        if nonce == self._nonce:
            raise BrokenSeal("our own words were sent back to us")
        leads = self._role is Role.LEADER
        salt = self._nonce + nonce if leads else nonce + self._nonce
        key = hmac.digest(salt, self._secret, "sha256")
        other = Role.AGENT if leads else Role.LEADER
        self._own, self._theirs = (hmac.digest(key, each.value + b"\x01", "sha256") for each in (self._role, other))
        self._salt = salt
        return hmac.digest(self._own, b"proof" + salt, "sha256")

    def _prove(self) -> None:
        if len(self._buffer) < PROOF:
            return
        proof = bytes(self._buffer[:PROOF])
        del self._buffer[:PROOF]
        if not hmac.compare_digest(proof, hmac.digest(self._theirs, b"proof" + self._salt, "sha256")):
            raise BrokenSeal("the other side does not know the secret")
        self._proven = True

    def _pieces(self) -> bytes:
        found = []
        at = 0
        buffer = self._buffer
        while len(buffer) - at >= 4:
            head = bytes(buffer[at : at + 4])
            length = int.from_bytes(head, "big")
            if length > LONGEST:
                raise BrokenSeal(f"a piece of {length} bytes")
            end = at + 4 + length
            if len(buffer) < end + MAC:
                break
            part = bytes(buffer[at + 4 : end])
            if not hmac.compare_digest(
                bytes(buffer[end : end + MAC]), self._code(self._theirs, self._heard, head, part)
            ):
                raise BrokenSeal("a piece that the other side has not sent, or not now")
            self._heard += 1
            found.append(part)
            at = end + MAC
        del buffer[:at]
        return b"".join(found)

    @staticmethod
    def _code(key: bytes, number: int, head: bytes, part: bytes) -> bytes:
        return hmac.digest(key, number.to_bytes(8, "big") + head + part, "sha256")[:MAC]
