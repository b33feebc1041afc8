"""Ways of being told: what letters say, how many a day, and to whom each way is offered."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from passerelle.access import Caller, Scopes
from passerelle.directory.model import Role
from passerelle.errors import Unprocessable
from passerelle.notifications import letters
from passerelle.notifications.allowance import next_day
from passerelle.notifications.model import Channel, NotificationKind, UndeliveredError
from passerelle.notifications.offer import WEBHOOKS, NotOffered, Offer, OnDemand

# GSM 03.38, the default alphabet: any other character makes an SMS of 160 characters one of 70.
GSM = re.compile(r"[@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,\-./0-9:;<=>?¡A-ZÄÖÑÜ§¿a-zäöñüà]*")
URL = "https://passerelle.sante-region.example"
AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
QUEUE = "arn:aws:sqs:eu-west-3:123456789012:notes.fifo"


@pytest.mark.parametrize("letter", [letters.confirmation("01234567"), letters.news(URL)], ids=["confirmation", "news"])
def test_a_text_message_is_one_message(letter: letters.Letter) -> None:
    assert GSM.fullmatch(letter.text)
    assert len(letter.text) <= 160


def test_letters_are_in_both_languages_and_complete() -> None:
    code, news = letters.confirmation("01234567"), letters.news(URL)
    assert code.body.count("01234567") == code.text.count("01234567") == 2
    assert news.body.count(URL) == 2
    assert news.text.count(URL) == 1
    for letter in (code, news):
        assert " / " in letter.subject
        assert not re.search(r"[{}]", letter.subject + letter.body + letter.text)


@pytest.mark.parametrize(
    ("at", "over"),
    [("2026-03-01T07:59", "2026-03-01T08:00"), ("2026-03-01T08:00", "2026-03-02T08:00")],
)
def test_a_day_of_news_is_over_in_the_morning(at: str, over: str) -> None:
    ends = next_day(datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert ends == datetime.fromisoformat(over).replace(tzinfo=UTC)


def caller(role: Role, client_id: str = "hospital-a") -> Caller:
    return Caller(client_id=client_id, organisation="1", role=role, scopes=Scopes.parse(""), token_id="t")


FULL = Offer(channels=frozenset(Channel), partner_queues=frozenset({("hospital-a", QUEUE)}))


@pytest.mark.parametrize("channel", sorted(set(Channel) - WEBHOOKS))
def test_what_the_operator_did_not_set_up_is_not_offered(channel: Channel) -> None:
    with pytest.raises(Unprocessable) as refusal:
        Offer().check(caller(Role.HOSPITAL), channel, QUEUE)
    assert refusal.value.issues[0].code == "not-supported"


@pytest.mark.parametrize("channel", Channel)
def test_systems_of_care_are_offered_everything_that_is_set_up(channel: Channel) -> None:
    FULL.check(caller(Role.HOSPITAL), channel, QUEUE)


@pytest.mark.parametrize("channel", [Channel.QUEUE, Channel.MAILBOX, Channel.MESSAGE])
def test_patients_are_told_by_webhook_and_letters_only(channel: Channel) -> None:
    with pytest.raises(Unprocessable):
        FULL.check(caller(Role.PATIENT), channel, QUEUE)
    for own in (Channel.EMAIL, Channel.SMS, Channel.REST_HOOK):
        FULL.check(caller(Role.PATIENT), own, "any")


@pytest.mark.parametrize(("client_id", "arn"), [("hospital-b", QUEUE), ("hospital-a", QUEUE.replace("notes", "note"))])
def test_a_queue_is_only_offered_to_the_client_that_it_was_given_to(client_id: str, arn: str) -> None:
    with pytest.raises(Unprocessable):
        FULL.check(caller(Role.HOSPITAL, client_id), Channel.QUEUE, arn)


class Unmade:
    """A carrier whose making fails the first time."""

    def __init__(self) -> None:
        self.made = 0
        self.told = 0

    def __call__(self) -> Unmade:
        self.made += 1
        if self.made == 1:
            raise ValueError("no certificate")
        return self

    def tell(self, *_: object) -> None:
        self.told += 1


def test_a_way_is_made_when_it_is_used_and_mended_without_a_restart() -> None:
    never = Unmade()
    carrier = OnDemand(never)
    assert never.made == 0
    with pytest.raises(ValueError):
        carrier.tell(None, NotificationKind.EVENT, (), 1, AT)  # type: ignore[arg-type]
    for _ in range(2):
        carrier.tell(None, NotificationKind.EVENT, (), 1, AT)  # type: ignore[arg-type]
    assert (never.made, never.told) == (2, 2)


def test_a_way_that_is_no_longer_offered_ends_what_used_it() -> None:
    with pytest.raises(UndeliveredError) as ended:
        NotOffered().tell(None, NotificationKind.EVENT, (), 1, AT)  # type: ignore[arg-type]
    assert ended.value.is_final
