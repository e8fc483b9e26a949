"""TLS on behalf of one process: its client certificate, which touches no disk."""

from __future__ import annotations

import os
import ssl

from cernvm.core.errors import InvalidInputError


def client_context(certificate_pem: bytes) -> ssl.SSLContext:
    """The system's CAs, and this certificate and key for whoever asks. Errors: `InvalidInputError`."""
    context = ssl.create_default_context()
    # The library reads certificates from paths only: this one leads to memory that is this process's own.
    memory = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(memory, certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}", password=lambda: b"")
    except (ssl.SSLError, OSError):
        # The cause is left out: it may quote the key.
        raise InvalidInputError("the client certificate or its key cannot be read") from None
    finally:
        os.close(memory)
    return context
