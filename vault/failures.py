"""Who tried wrong keys of late: an address that goes on guessing is not listened to for a while."""

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

ALLOWED = 20  # a worker with an old key tries once a second or so, and its owner may be about to change it
WINDOW_S = 60.0
ADDRESSES = 10_000  # the longest unseen are forgotten first: memory has an end, and many addresses are many anyhow


class Failures:
    """Counts wrong keys by address, an IPv6 one by its network of 64 bits, over a minute from the first one on."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._counted: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def blocked_s(self, remote: str | None, now: float) -> float:
        """Return for how many seconds this address is not listened to yet, at `now` on the monotonic clock."""
        began, count = self._counted.get(_network(remote), (now, 0))
        return max(0.0, began + WINDOW_S - now) if count >= ALLOWED else 0.0

    def count(self, remote: str | None, now: float) -> None:
        """Count one wrong key."""
        network = _network(remote)
        began, count = self._counted.pop(network, (now, 0))
        self._counted[network] = (now, 1) if now - began >= WINDOW_S else (began, count + 1)
        if len(self._counted) > ADDRESSES:
            self._counted.popitem(last=False)


def is_own(remote: str | None) -> bool:
    """Tell whether the address is this machine's: a proxy's, behind which everybody has it, the owner too."""
    address = _address(remote)
    return address is not None and address.is_loopback


def _network(remote: str | None) -> str:
    address = _address(remote)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _address(remote: str | None) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
