"""Messages as mail: a subject, lines of text, and the same Message-ID at every attempt."""

from email import message_from_bytes

from tests.integration.deliveries.conftest import Post
from tests.integration.deliveries.receiver import mail_server


async def test_a_message_is_mailed_until_it_is_taken(post: Post) -> None:
    async with mail_server(refusals=2) as mail:
        post.write(
            {
                "mail_to": "owners@example.org",
                "mail_from": "Bank <bank@example.org>",
                "smtp": f"smtp://127.0.0.1:{mail.port}",
                "retry_seconds": [0.05] * 5,
            }
        )
        await post.greet(1)
        async with post.world.workflows():
            await post.until("delivered", 1)
    (message,) = await post.messages()
    (letter,) = [message_from_bytes(octets) for octets in mail.letters]
    assert (letter["To"], letter["Subject"]) == ("owners@example.org", "Welcome, polite")
    assert letter["Message-ID"] == f"<{message['id']}@example.org>"
    assert "account_id: polite-1" in str(letter.get_payload())
    assert message["attempts"] == 3


async def test_a_mail_server_that_is_away_is_tried_again(post: Post) -> None:
    async with mail_server() as mail:
        port = mail.port
    post.write(
        {
            "mail_to": "owners@example.org",
            "mail_from": "bank@example.org",
            "smtp": f"smtp://127.0.0.1:{port}",
            "retry_seconds": [0.05],
        }
    )
    await post.greet(1)
    async with post.world.workflows():
        await post.until("dead", 1)
    (message,) = await post.messages()
    assert message["last_error"].startswith("ConnectionRefusedError")
