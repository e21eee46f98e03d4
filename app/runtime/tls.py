"""TLS towards a server, and of a server: files in, a context out; an error of TLS in, the setting to look at out."""

import ssl
from pathlib import Path


def context(ca: Path | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """The context of a client, which verifies the server's certificate and name, and shows `certificate` to a server
    that asks for one. All files are PEM.

    `ca` None: the system's; `key` None: the key is in the file of the certificate. Raises ValueError that names the
    file which cannot be used, or says that the key is encrypted.
    """
    try:
        made = ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:  # ssl's errors are OSErrors
        raise ValueError(f"{ca} holds no CA certificate in PEM: {_brief(error)}") from None
    if certificate:
        _show(made, certificate, key)
    return made


def server_context(
    certificate: Path, key: Path | None = None, clients_ca: Path | None = None, *, required: bool = True
) -> ssl.SSLContext:
    """The context of a server, TLS 1.2 or later, which shows `certificate`; with `clients_ca`, the server lets
    nobody in without a certificate that this CA has signed.

    `required` False: a client that shows no certificate at all is let in, to log in otherwise. `key` None: the key
    is in the file of the certificate. All files are PEM. Raises ValueError that names the file which cannot be used,
    or says that the key is encrypted.
    """
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    _show(made, certificate, key)
    if clients_ca:
        try:
            made.load_verify_locations(cafile=str(clients_ca))
        except OSError as error:
            raise ValueError(f"{clients_ca} holds no CA certificate in PEM: {_brief(error)}") from None
        made.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        # A client that resumes a session shows no certificate again, and may have lost its rights meanwhile.
        made.options |= ssl.OP_NO_TICKET
        made.num_tickets = 0
    return made


def _show(made: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:
        pair = f"{certificate} and {key}" if key else f"{certificate}, which should hold the key as well,"
        raise ValueError(f"{pair} are no certificate and its key in PEM: {_brief(error)}") from None


def words(error: BaseException, where: str, prefix: str) -> str:
    """What `error` of a connection to `where` means; `prefix` begins the names of the settings, such as IOT_KAFKA.

    One line; the error's own words for what is no matter of TLS.
    """
    text = _brief(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return f"the certificate of {where} is for another name ({text}): use the name that it has, or renew it"
        return f"the certificate of {where} is not trusted ({text}): name its CA in {prefix}_CA_FILE"
    upper = text.upper().replace(" ", "_")
    if any(mark in upper for mark in ("CERTIFICATE_REQUIRED", "NO_CERTIFICATE")):
        return f"{where} wants a certificate of ours ({text}): name it in {prefix}_CERTIFICATE_FILE"
    if "ALERT" in upper and any(mark in upper for mark in ("CERTIFICATE", "UNKNOWN_CA")):
        return f"{where} refuses our certificate ({text}): look at {prefix}_CERTIFICATE_FILE"
    if any(mark in upper for mark in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF")):
        return f"{where} speaks no TLS ({text}): check the port, or switch TLS off"
    return text


# X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_MISMATCH, _IP_ADDRESS_MISMATCH of OpenSSL
_WRONG_NAME = (62, 63, 64)


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal, where nobody may be."""
    raise ValueError("the key must not be encrypted: protect its file instead")


def _brief(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
