"""What goes wrong on the way to a remote file, in words, and whether to try again.

The file systems raise what the libraries below them raise: OSErrors, answers of web servers,
exceptions of botocore, google-auth, azure and huggingface_hub. None of these is imported here;
an HTTP status is what they have in common.
"""

import asyncio
import socket
from collections.abc import Iterator

from normcheck.errors import UnreadableError
from normcheck.sources.place import RemotePath, without_secrets

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of a server that may answer the next time."""
_REFUSED = (401, 403)
_GONE = (404, 410)
_BREAKS = frozenset(
    {
        "ClientConnectionError", "ClientPayloadError", "ServerDisconnectedError", "TransportError",
        "HTTPClientError", "IncompleteReadError", "ProtocolError", "ConnectionError",
    }
)  # fmt: skip
_DEPTH = 5
"""Exceptions behind an exception that are looked at."""
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "adl": "adlfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
}
_SIGN_IN = {
    "s3": "sign in as for aws or boto3 (AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL)",
    "gs": "sign in with gcloud auth application-default login",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and sign in with az login",
    "hf": "sign in with hf auth login, and accept the model's terms on its page",
    "http": "the address needs a user, a token or a signature that has not run out",
}
_FAMILY = {
    "s3a": "s3",
    "gcs": "gs",
    "abfs": "az",
    "abfss": "az",
    "adl": "az",
    "https": "http",
}
_NO_CREDENTIALS = ("NoCredentials", "CredentialRetrieval", "DefaultCredentials", "ClientAuth")


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an exception, where there was an answer."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        found = (
            getattr(cause, "status", None),
            getattr(cause, "status_code", None),
            getattr(response, "status_code", None),
            metadata.get("HTTPStatusCode"),
            getattr(cause, "code", None),
        )
        for status in found:
            if isinstance(status, int) and 100 <= status < 600:
                return status
    return None


def passes(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, FileNotFoundError | PermissionError | UnreadableError):
        return False
    if any(isinstance(cause, socket.gaierror) for cause in _causes(error)):
        return False  # a name that nobody knows, or no network at all
    # Before the status: an answer that breaks off carries one that no server sent.
    if _broke_off(error) or isinstance(error, TimeoutError | asyncio.TimeoutError):
        return True
    return status_of(error) in _PASSING


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those behind it."""
    for _ in range(_DEPTH):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _broke_off(error: BaseException) -> bool:
    """Whether a connection broke: of aiohttp, requests, httpx, urllib3 and botocore."""
    named = {cls.__name__ for cls in type(error).__mro__}
    return isinstance(error, ConnectionError) or bool(named & _BREAKS)


def explained(error: BaseException, place: RemotePath) -> UnreadableError:
    """What the user is told.

    Args:
        error: Of a file system, after the last attempt.
        place: What was to be read.
    """
    family = _FAMILY.get(place.scheme, place.scheme)
    status = None if _broke_off(error) else status_of(error)
    name = type(error).__name__
    sign_in = _SIGN_IN.get(family, "sign in as its own tools want it")
    if isinstance(error, FileNotFoundError) and status in _REFUSED:
        # A hub does not say which it is.
        return UnreadableError(
            f"{place}: there is no such file, or access to it is denied ({status})", sign_in
        )
    if isinstance(error, FileNotFoundError) or status in _GONE:
        return UnreadableError(
            f"{place}: there is no such file",
            "check the address; a private repository looks the same",
        )
    # adlfs has a ValueError for a missing account.
    if any(part in name for part in _NO_CREDENTIALS) or "credentials" in str(error):
        return UnreadableError(f"{place}: no credentials were found", sign_in)
    if isinstance(error, PermissionError) or status in _REFUSED:
        return UnreadableError(
            f"{place}: access is denied{f' ({status})' if status else ''}", sign_in
        )
    if status is not None:
        return UnreadableError(
            f"{place}: the server answers with {status}",
            "it is overloaded or out of order; try again later"
            if status in _PASSING
            else "check the address",
        )
    if isinstance(error, ImportError):
        return missing_package(place)
    said = without_secrets(str(error), place)
    return UnreadableError(
        f"{place}: it cannot be reached: {name}{f' ({said})' if said else ''}",
        "check the address and the network; behind a proxy set HTTPS_PROXY",
    )


def missing_package(place: RemotePath) -> UnreadableError:
    """For a scheme whose package is not installed."""
    package = _PACKAGES.get(place.scheme)
    if package is None:
        return UnreadableError(
            f"{place}: no installed package opens {place.scheme}:// addresses",
            "s3, gs, az, hf, http and https are known, and what else fsspec knows",
        )
    return UnreadableError(
        f"{place}: reading {place.scheme}:// needs the package {package}",
        f"pip install 'normcheck[remote]' {package}"
        if package != "aiohttp"
        else "pip install 'normcheck[remote]'",
    )
