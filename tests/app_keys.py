"""Keys of GitHub Apps. They are made anew in each run, and open nothing."""

from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


@dataclass(frozen=True)
class KeyPair:
    """In PEM, as GitHub gives the private one away."""

    private: str
    public: str

    @classmethod
    def new(cls) -> Self:
        key = rsa.generate_private_key(65537, 2048)
        return cls(
            key.private_bytes(
                Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
            ).decode(),
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        )
