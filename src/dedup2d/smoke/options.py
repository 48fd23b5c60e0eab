"""What smoke tests are told of the service that they walk."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import Attribute, field, frozen

from dedup2d.callbacks.signing import CallbackSecrets
from dedup2d.errors import InvalidParameterError
from dedup2d.search_params import Between
from dedup2d.vision.http_options import SERVER_URL_RULE, is_server_url, without_secrets

__all__ = ["Listen", "SmokeOptions"]

_STEP_SECONDS = Between(1, 3600)
_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what may not stand alone


@frozen
class Listen:
    """Where a receiver of callbacks listens: an address of this machine, and a port (0: any that is free)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Listen:
        """
        Read `HOST:PORT`; an IPv6 address stands in brackets.

        Raises:
            InvalidParameterError: that is not what it is.
        """
        host, _, port = text.rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
            raise InvalidParameterError("receive", text, "HOST:PORT such as 0.0.0.0:9800, port 0 to 65535")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


def _in_order(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(urls)


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


def _urls(_: object, attribute: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    for url in value:
        if not is_server_url(url):
            raise InvalidParameterError(attribute.name, without_secrets(url), SERVER_URL_RULE)


def _key(_: object, attribute: Attribute[str | None], value: str | None) -> None:
    if value is not None and not (value and value.isascii() and value.isprintable()):
        raise InvalidParameterError(attribute.name, "***", "printable ASCII characters, or None")


@frozen(kw_only=True)
class SmokeOptions:
    """
    Args:
        url: of the service, with the path below which it is served, if there is one.
        api_key: with the scopes `search` and `index`; None for a service without keys.
        other_key: of another tenant, who must not see the jobs; None looks at no other tenant.
        metrics_urls: where services, workers and vision servers show their metrics, with the path; none
            looks beside the API, where they may be missing.
        callback_url: a receiver that callbacks may go to, or by which `receive` is reached from the service.
        receive: listen here for the callback; None leaves that to what is behind `callback_url`.
        callback_secrets: what the callback must be signed with; empty does not look at signatures.
        skip: names of steps that are not walked.
        step_seconds: how long each step may take, 1 to 3600.

    Raises:
        InvalidParameterError: a value is not allowed.
    """

    url: str = field(validator=lambda self, attribute, value: _urls(self, attribute, (value,)))
    api_key: str | None = field(default=None, repr=False, validator=_key)
    other_key: str | None = field(default=None, repr=False, validator=_key)
    metrics_urls: tuple[str, ...] = field(default=(), converter=_in_order, validator=_urls)
    callback_url: str | None = field(default=None, repr=False)
    receive: Listen | None = None
    callback_secrets: CallbackSecrets = field(factory=CallbackSecrets, repr=False)
    skip: frozenset[str] = field(default=frozenset(), converter=_names)
    step_seconds: float = field(default=60.0, validator=_STEP_SECONDS)

    def __attrs_post_init__(self) -> None:
        anywhere = self.receive is not None and self.receive.host in _ANYWHERE
        if anywhere and self.callback_url is None:
            assert self.receive is not None
            raise InvalidParameterError(
                "receive",
                f"{self.receive.host}:{self.receive.port}",
                "one address of this machine, or callback_url too, by which the service reaches it",
            )
