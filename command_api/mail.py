"""
Sends a message as mail. Its `Message-ID` is made of the message's id and is the same at every attempt, so mail
servers and readers drop repeats by it.

The standard library's client blocks, so it runs in a thread. TLS is verified; a password is only given over it,
or to this machine.
"""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote

import orjson

from command_api.channels import SMTP_PORTS, Channel
from command_api.outgoing import Outgoing
from command_api.webhooks import NotDelivered

ALLOWED_AFTER_SECONDS = 2.0
"""How much longer than its own time-outs the thread may take before it is not waited for any more."""
SHUTTING_DOWN = 421
"""What a mail server says of itself, at whatever command."""


def letter_of(channel: Channel, message: Outgoing) -> EmailMessage:
    """Return a message as mail: its summary is the subject, its fields are lines of text."""
    document = orjson.loads(message.body)
    letter = EmailMessage()
    letter["From"] = channel.mail_from
    letter["To"] = channel.mail_to
    letter["Subject"] = " ".join(message.summary.split())
    letter["Date"] = format_datetime(message.created_at)
    letter["Message-ID"] = f"<{message.id}@{str(channel.mail_from).rpartition('@')[2].strip('> ')}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter["X-Everfold-Type"] = message.type
    lines = [message.summary, "", f"tenant: {message.tenant}"]
    lines += [f"{name}: {_text(value)}" for name, value in document["data"].items()]
    letter.set_content("\n".join(lines) + "\n")
    return letter


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


class Mail:
    """Sends messages over SMTP."""

    async def send(self, channel: Channel, message: Outgoing) -> None:
        """
        Send a message, and return once the mail server has taken it.

        Raises:
            NotDelivered: It has not, or not in time.
        """
        letter = letter_of(channel, message)
        try:
            async with asyncio.timeout(channel.timeout_seconds + ALLOWED_AFTER_SECONDS):
                await asyncio.to_thread(_post, channel, letter)
        except (smtplib.SMTPException, OSError, TimeoutError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}", is_away=not _is_refusal(error)) from error


def _is_refusal(error: Exception) -> bool:
    """Say whether the server was there and did not want this letter."""
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            return all(code != SHUTTING_DOWN for code, _ in recipients.values())
        case smtplib.SMTPDataError() | smtplib.SMTPSenderRefused():
            return error.smtp_code != SHUTTING_DOWN
        case _:
            return False


def _post(channel: Channel, letter: EmailMessage) -> None:
    server = channel.mail_server()
    host, port = str(server.hostname), server.port or SMTP_PORTS[server.scheme]
    context = ssl.create_default_context()
    seconds = channel.timeout_seconds
    client = (
        smtplib.SMTP_SSL(host, port, timeout=seconds, context=context)
        if server.scheme == "smtps"
        else smtplib.SMTP(host, port, timeout=seconds)
    )
    with client:
        if server.scheme == "smtp+starttls":
            client.starttls(context=context)
        password = channel.mail_password()
        if server.username and password is not None:
            client.login(unquote(server.username), password)
        client.send_message(letter)
