"""Tell clients that their jobs have ended: signed POST requests to hosts that the configuration allows.

The signature is that of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 of "id.timestamp.body" in the header
`webhook-signature`, so that a client can tell our requests from forged and from repeated ones.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import logging
import os
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from serving.service.errors import BadInput, Unavailable
from serving.service.state.webhooks import Delivery, Webhooks
from serving.service.views import job_view

log = logging.getLogger(__name__)

SECRET_VARIABLE = "SFUMATO_WEBHOOK_SECRET"
_EVERY_S = 2.0
_TIMEOUT_S = 10.0
_MAX_URL = 2000
_MIN_SECRET_LENGTH = 24


def check_webhook(url: str, allowed_hosts: Sequence[str]) -> str:
    """Return a client's URL if its host is allowed.

    Raises:
        BadInput: another host, or no https URL (http is allowed to loopback).
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadInput(f"webhook: {error}") from error
    if host not in allowed_hosts:
        raise BadInput("webhook: this service sends none to that host")
    if len(url) > _MAX_URL or parts.username is not None or not url.isprintable():
        raise BadInput(f"webhook: a URL of at most {_MAX_URL} characters without a user name")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise BadInput("webhook: an https URL is needed")
    return url


def read_secret(allowed_hosts: Sequence[str]) -> str:
    """Return the key of the signatures, from SFUMATO_WEBHOOK_SECRET; "" when no host is allowed.

    Raises:
        ValueError: it is needed and missing, or short.
    """
    secret = os.environ.get(SECRET_VARIABLE, "").strip()
    if allowed_hosts and len(secret) < _MIN_SECRET_LENGTH:
        raise ValueError(f"webhooks are signed: set {SECRET_VARIABLE} to at least {_MIN_SECRET_LENGTH} characters")
    return secret


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()


class WebhookSender:
    """Sends what is due, in a thread; unanswered ones again, with growing pauses."""

    def __init__(self, webhooks: Webhooks, secret: str) -> None:
        self._webhooks, self._secret = webhooks, secret
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._loop, name="webhooks", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _loop(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            try:
                self.send_due()
            except Unavailable:
                continue
            except Exception:  # tried again
                log.exception("webhooks could not be sent")

    def send_due(self) -> None:
        """Send what is due now."""
        deliveries = self._webhooks.take()
        if not deliveries:
            return
        with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False) as client:
            for delivery in deliveries:
                self._send(client, delivery)

    def _send(self, client: httpx.Client, delivery: Delivery) -> None:
        body = job_view(delivery.job).model_dump_json().encode()
        message_id, timestamp = delivery.job.id, int(time.time())
        about = {"job": message_id}
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret, message_id, timestamp, body),
        }
        try:
            reply = client.post(delivery.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            log.warning("a webhook of job %s was not delivered: %s", message_id, type(error).__name__, extra=about)
            return
        if reply.is_success:
            self._webhooks.delivered(message_id)
        else:
            log.warning("a webhook of job %s was answered with %d", message_id, reply.status_code, extra=about)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
