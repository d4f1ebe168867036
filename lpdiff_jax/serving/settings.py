"""What a server is told when it starts."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from lpdiff_jax.errors import UserError


@dataclass(frozen=True)
class Settings:
    """A server's limits and ways.

    Attributes:
      host: the address it is bound to; none but this machine reaches 127.0.0.1.
      port: the port.
      token: what a client must know; empty asks for nothing.
      keep: a folder that every result is kept in; None keeps nothing.
      max_upload: bytes of a request.
      max_files: files of a request.
      max_plates: plates that are restored of a request.
      queue: requests that may wait while another is worked on.
      patience: seconds that a job may take to arrive.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    keep: Path | None = None
    max_upload: int = 200_000_000
    max_files: int = 200
    max_plates: int = 50
    queue: int = 4
    patience: float = 120.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"port is {self.port}; ports go from 0 to 65535")
        for name in ("max_upload", "max_files", "max_plates"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def is_local(self) -> bool:
        """Whether this machine alone reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def knows_host(self, header: str) -> bool:
        """Whether a request's Host is one of the server's own names.

        A page of another site whose name is made to point here is thereby refused.
        """
        name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
        name = name.strip("[]").lower()
        if name in ("127.0.0.1", "localhost", "::1", self.host.lower()):
            return True
        # Bound to all addresses, the server is called by whichever the client used.
        return not self.is_local and _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
