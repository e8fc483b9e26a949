"""What a failure to find a path means to who asked for it: the one table from errors to HTTP."""

from __future__ import annotations

import logging
from http import HTTPStatus

from cernvm.core.errors import CvmError, FormatError, InvalidInputError, NotFoundError, TrustError
from cernvm.core.log import fields
from cernvm.fs.publish.web.found import Asked, Found, Shelves

log = logging.getLogger(__name__)


def finding(shelves: Shelves, asked: Asked) -> Found | HTTPStatus:
    """What is at a path, or the status that says why nothing is."""
    try:
        return shelves.find(asked)
    except NotFoundError:
        return HTTPStatus.NOT_FOUND
    except InvalidInputError:
        return HTTPStatus.BAD_REQUEST
    except CvmError as error:
        log.warning("serve.failed", extra=fields(path=asked.path, reason=str(error)[:300]))
        if isinstance(error, TrustError | FormatError):
            return HTTPStatus.BAD_GATEWAY
        return HTTPStatus.SERVICE_UNAVAILABLE
