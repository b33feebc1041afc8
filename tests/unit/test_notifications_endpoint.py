"""Endpoints that the exchange connects to, and those that it does not."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from passerelle.notifications.endpoint import Endpoint, check_endpoint, is_public, parse_endpoint
from passerelle.notifications.model import Channel


def test_an_endpoint_is_read() -> None:
    assert parse_endpoint("https://Hooks.Example:8443/fhir/in?a=b", allow_loopback=False) == Endpoint(
        is_secure=True, host="hooks.example", port=8443, target="/fhir/in?a=b"
    )
    assert parse_endpoint("https://hooks.example", allow_loopback=False).target == "/"


UNACCEPTABLE = [
    "http://hooks.example/",
    "ftp://hooks.example/",
    "file:///etc/passwd",
    "//hooks.example/",
    "hooks.example",
    "",
    "https://",
    "https:///path",
    "https://user@hooks.example/",
    "https://user:password@hooks.example/",
    "https://@hooks.example/",
    "https://hooks.example/#fragment",
    "https://hooks.example:99999/",
    "https://hooks.example/\r\nX-Injected: 1",
    "https://hooks.example/a b",
    "https://hooks.exämple/",
    "https://hooks.example\\@other.example/",
    "https://127.0.0.1/",
    "https://127.9.9.9/",
    "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://0.0.0.0/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[64:ff9b::a00:1]/",
    "https://[2002:a00:1::]/",
    "https://[ff02::1]/",
    "https://hooks.example/" + "a" * 1024,
]


@pytest.mark.parametrize("url", UNACCEPTABLE)
def test_an_unacceptable_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_endpoint(url, allow_loopback=False)


def test_loopback_where_it_is_allowed() -> None:
    endpoint = parse_endpoint("http://127.0.0.1:9000/hook", allow_loopback=True)
    assert (endpoint.is_secure, endpoint.port) == (False, 9000)
    assert parse_endpoint("http://localhost:9000/hook", allow_loopback=True).host == "localhost"
    with pytest.raises(ValueError):
        parse_endpoint("http://10.0.0.1/", allow_loopback=True)
    with pytest.raises(ValueError):
        parse_endpoint("http://93.184.215.14/", allow_loopback=True)


@pytest.mark.parametrize("address", ["93.184.215.14", "2a00:1450:4007::1"])
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    ("channel", "endpoint"),
    [
        (Channel.REST_HOOK, "https://hooks.example/in"),
        (Channel.MESSAGE, "https://hooks.example/in"),
        (Channel.EMAIL, "mailto:first.last+fhir@practice.example"),
        (Channel.SMS, "tel:+33612345678"),
        (Channel.SMS, "tel:+33712345678"),
        (Channel.SMS, "tel:+262692123456"),
        (Channel.QUEUE, "arn:aws:sqs:eu-west-3:111122223333:partner-events.fifo"),
        (Channel.MAILBOX, "mailto:cabinet@medecin.mssante.fr"),
        (Channel.MAILBOX, "mailto:cabinet@MSSANTE.fr"),
    ],
)
def test_an_endpoint_of_the_channel(channel: Channel, endpoint: str) -> None:
    check_endpoint(channel, endpoint, allow_loopback=False)


@pytest.mark.parametrize(
    ("channel", "endpoint"),
    [
        (Channel.REST_HOOK, "mailto:a@practice.example"),
        (Channel.EMAIL, "https://hooks.example/in"),
        (Channel.EMAIL, "a@practice.example"),
        (Channel.EMAIL, "mailto:a@practice.example,b@practice.example"),
        (Channel.EMAIL, "mailto:a@practice.example?bcc=b@practice.example"),
        (Channel.EMAIL, "mailto:a@practice.example\r\nBcc: b@practice.example"),
        (Channel.EMAIL, "mailto:a%0d%0a@practice.example"),
        (Channel.EMAIL, 'mailto:"a b"@practice.example'),
        (Channel.EMAIL, "mailto:a@[10.0.0.1]"),
        (Channel.EMAIL, "mailto:a@localhost"),
        (Channel.EMAIL, "mailto:é@practice.example"),
        (Channel.SMS, "tel:0612345678"),
        (Channel.SMS, "tel:+33123456789"),
        (Channel.SMS, "tel:+33899123456"),
        (Channel.SMS, "tel:+4412345678"),
        (Channel.SMS, "tel:+3361234567\u0668"),
        (Channel.QUEUE, "https://sqs.eu-west-3.amazonaws.com/111122223333/partner-events"),
        (Channel.QUEUE, "arn:aws:sns:eu-west-3:111122223333:partner-events"),
        (Channel.MAILBOX, "mailto:a@practice.example"),
        (Channel.MAILBOX, "mailto:a@notmssante.fr"),
        (Channel.MAILBOX, "mailto:a@mssante.fr.evil.example"),
    ],
)
def test_an_endpoint_of_another_kind(channel: Channel, endpoint: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_endpoint(channel, endpoint, allow_loopback=False)
    assert endpoint not in str(refused.value)
