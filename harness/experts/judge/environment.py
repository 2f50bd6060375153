"""What environment variables say about connections: the server's key, proxies and certificates."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

PROXIES = ("http_proxy", "https_proxy", "all_proxy")  # in capitals, too
SCHEMES = ("http", "https", "socks5", "socks5h")


def is_direct(url: str) -> bool:
    """Whether no proxy stands before the address: it is on this machine, or NO_PROXY names its host."""
    address = urlsplit(url)
    host = address.hostname or ""
    # with https the variables of the environment are needed for the certificates
    return _is_loopback(host) or (address.scheme == "http" and bool(proxy_bypass(host)))


def unusable_variables() -> list[str]:
    """One line for each variable that names a proxy or certificates that cannot be used."""
    lines = []
    for name, value in sorted(os.environ.items()):
        problem = _proxy_problem(value) if name.lower() in PROXIES and value else None
        if problem:
            lines.append(f"the environment variable {name}={without_password(value)} {problem}; or unset it")
    certificates = os.environ.get("SSL_CERT_FILE")
    if certificates and not Path(certificates).is_file():
        lines.append(
            f"the environment variable SSL_CERT_FILE={certificates} names no file: give one, or unset it"
        )
    return lines


def _proxy_problem(value: str) -> str | None:
    try:
        address = urlsplit(value if "://" in value else f"http://{value}")
        usable = bool(address.hostname) and (address.port is None or address.port > 0)
    except ValueError:  # the port is no number
        usable = False
    if not usable or any(character.isspace() for character in value):
        return "is no proxy's address: give one such as http://HOST:PORT"
    if address.scheme not in SCHEMES:
        return f"names a proxy of an unknown kind: allowed are {', '.join(f'{name}://' for name in SCHEMES)}"
    if address.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        return "names a SOCKS proxy, which requires a package: pip install socksio"
    return None


def key_in(variable: str | None) -> str | None:
    """The key in the variable that `judge.serving.key_variable` names; None if it names none.

    Raises:
        ValueError: the variable holds no key.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"the environment variable {variable} (judge.serving.key_variable) is empty:"
            " put the server's key there"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            f"the environment variable {variable} (judge.serving.key_variable) holds no key: it"
            " has spaces or odd characters"
        )
    return key


def without_password(url: str) -> str:
    return url if "@" not in url else f"***@{url.rpartition('@')[2]}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
