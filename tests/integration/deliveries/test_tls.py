"""Webhooks over TLS: the certificate must be the name's, though the connection is to an address. # S34"""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.integration.deliveries.conftest import Post
from tests.integration.deliveries.receiver import SECRET, receiving


def certificate(folder: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate for a name; return its file, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return file, context


@pytest.mark.parametrize(
    ("host", "is_known", "state"),
    [("localhost", True, "delivered"), ("other.example", True, "dead"), ("localhost", False, "dead")],
    ids=["its own", "another's", "nobody known signed it"],
)
async def test_a_receiver_must_show_that_it_is_who_was_named(
    post: Post, tmp_path: Path, host: str, is_known: bool, state: str
) -> None:
    file, context = certificate(tmp_path, host)
    async with receiving(tls=context) as receiver:
        channel = {
            "webhook": f"https://localhost:{receiver.port}/hooks",
            "secrets": [SECRET],
            "private": True,
            "retry_seconds": [0.05],
        }
        post.write(channel | ({"ca_file": str(file)} if is_known else {}))
        await post.greet(1)
        async with post.world.workflows():
            await post.until(state, 1)
        assert len(receiver.taken) == (state == "delivered")
