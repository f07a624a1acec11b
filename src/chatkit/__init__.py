"""chatkit: both ends of a reliable chat system. A server engine to embed, and a client SDK.

Every public name of the package is here, loaded on first use, so that a client needs none of the server's
dependencies. The way in: `ChatServer` and `asgi_app` on one side, `ChatClient` and `ChatApi` on the other. What
a program matches on (events) and catches (errors) is here too; the rest of `chatkit.errors` stays there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .assemble import open_archive as open_archive
    from .assemble import open_bus as open_bus
    from .assemble import open_push as open_push
    from .assemble import open_queue as open_queue
    from .assemble import open_store as open_store
    from .client.api import ChatApi as ChatApi
    from .client.api import MemberPage as MemberPage
    from .client.api import MessagePage as MessagePage
    from .client.api import RecentConversations as RecentConversations
    from .client.client import ChatClient as ChatClient
    from .client.config import ClientConfig as ClientConfig
    from .client.events import CaughtUp as CaughtUp
    from .client.events import Connected as Connected
    from .client.events import Connecting as Connecting
    from .client.events import ConversationChanged as ConversationChanged
    from .client.events import ConversationListChanged as ConversationListChanged
    from .client.events import Delivery as Delivery
    from .client.events import Disconnected as Disconnected
    from .client.events import EpochChanged as EpochChanged
    from .client.events import MessageEdited as MessageEdited
    from .client.events import MessageHeld as MessageHeld
    from .client.events import MessageRecalled as MessageRecalled
    from .client.events import MessageReceived as MessageReceived
    from .client.events import MessageSent as MessageSent
    from .client.events import PresenceChanged as PresenceChanged
    from .client.events import ReactionChanged as ReactionChanged
    from .client.events import ReceiptChanged as ReceiptChanged
    from .client.events import ReceiptCounts as ReceiptCounts
    from .client.events import Reconnecting as Reconnecting
    from .client.events import SendFailed as SendFailed
    from .client.events import StreamGrew as StreamGrew
    from .client.events import Taken as Taken
    from .client.events import Typing as Typing
    from .client.media import Upload as Upload
    from .client.message_stream import MessageStream as MessageStream
    from .client.outbox import PendingMessage as PendingMessage
    from .core.policy import Policy as Policy
    from .core.policy import RolePolicy as RolePolicy
    from .core.rate_limit import Rate as Rate
    from .errors import BadRequestError as BadRequestError
    from .errors import ChatkitError as ChatkitError
    from .errors import ClosedError as ClosedError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ConflictError as ConflictError
    from .errors import ContentRefusedError as ContentRefusedError
    from .errors import ForbiddenError as ForbiddenError
    from .errors import HeldError as HeldError
    from .errors import NotFoundError as NotFoundError
    from .errors import RefusedError as RefusedError
    from .errors import SendOutcomeUnknownError as SendOutcomeUnknownError
    from .errors import StreamEndedError as StreamEndedError
    from .errors import TokenExpiredError as TokenExpiredError
    from .errors import TokenRevokedError as TokenRevokedError
    from .errors import UnauthenticatedError as UnauthenticatedError
    from .errors import UnavailableError as UnavailableError
    from .gateway.memory import MemoryConnector as MemoryConnector
    from .gateway.metrics_app import metrics_app as metrics_app
    from .gateway.websocket_asgi import asgi_app as asgi_app
    from .observability.instrument import Instrument as Instrument
    from .observability.metrics import Metrics as Metrics
    from .observability.traces import Traces as Traces
    from .server.archiving.config import ArchiveConfig as ArchiveConfig
    from .server.auth import Authenticator as Authenticator
    from .server.auth import any_authenticator as any_authenticator
    from .server.auth import external_id_of as external_id_of
    from .server.auth import jwt_authenticator as jwt_authenticator
    from .server.auth import sign_token as sign_token
    from .server.auth import user_id_from as user_id_from
    from .server.blobs.config import BlobConfig as BlobConfig
    from .server.config import ServerConfig as ServerConfig
    from .server.delivery.config import DeliveryConfig as DeliveryConfig
    from .server.delivery.notices import Notice as Notice
    from .server.delivery.notices import PushText as PushText
    from .server.delivery.worker import DeliveryWorker as DeliveryWorker
    from .server.jwks import jwks_authenticator as jwks_authenticator
    from .server.limits import Limits as Limits
    from .server.login_request import LoginRequest as LoginRequest
    from .server.login_request import RequestLogin as RequestLogin
    from .server.moderation.config import ModerationConfig as ModerationConfig
    from .server.moderation.verdicts import Allow as Allow
    from .server.moderation.verdicts import Hold as Hold
    from .server.moderation.verdicts import Moderator as Moderator
    from .server.moderation.verdicts import ModeratorVerdict as ModeratorVerdict
    from .server.moderation.verdicts import Refuse as Refuse
    from .server.moderation.verdicts import Rewrite as Rewrite
    from .server.moderation.verdicts import Submission as Submission
    from .server.server import ChatServer as ChatServer
    from .types import ConversationSummary as ConversationSummary
    from .types import Edit as Edit
    from .types import Explanation as Explanation
    from .types import Fact as Fact
    from .types import HeldMessage as HeldMessage
    from .types import Identity as Identity
    from .types import Marks as Marks
    from .types import Member as Member
    from .types import Message as Message
    from .types import MessageRef as MessageRef
    from .types import Payload as Payload
    from .types import Pin as Pin
    from .types import Reaction as Reaction
    from .types import Receipt as Receipt
    from .types import Report as Report
    from .types import ReviewOutcome as ReviewOutcome
    from .types import SearchHit as SearchHit
    from .types import SearchPage as SearchPage
    from .types import Sent as Sent
    from .types import UserPresence as UserPresence
else:
    import importlib
    import importlib.util

    _HOMES = {
        name: home
        for home, names in {
            "assemble": "open_archive open_bus open_push open_queue open_store",
            "core.policy": "Policy RolePolicy",
            "core.rate_limit": "Rate",
            "client.api": "ChatApi MemberPage MessagePage RecentConversations",
            "client.client": "ChatClient",
            "client.config": "ClientConfig",
            "client.events": "CaughtUp Connected Connecting ConversationChanged ConversationListChanged Delivery"
            " Disconnected EpochChanged MessageEdited MessageHeld MessageRecalled MessageReceived MessageSent"
            " PresenceChanged ReactionChanged"
            " ReceiptChanged ReceiptCounts Reconnecting SendFailed StreamGrew Taken Typing",
            "client.media": "Upload",
            "client.message_stream": "MessageStream",
            "client.outbox": "PendingMessage",
            "errors": "BadRequestError ChatkitError ClosedError ConfigurationError ConflictError ContentRefusedError"
            " ForbiddenError HeldError NotFoundError RefusedError SendOutcomeUnknownError StreamEndedError"
            " TokenExpiredError TokenRevokedError UnauthenticatedError UnavailableError",
            "gateway.websocket_asgi": "asgi_app",
            "gateway.memory": "MemoryConnector",
            "gateway.metrics_app": "metrics_app",
            "observability.instrument": "Instrument",
            "observability.metrics": "Metrics",
            "observability.traces": "Traces",
            "server.auth": "Authenticator any_authenticator jwt_authenticator external_id_of sign_token user_id_from",
            "server.archiving.config": "ArchiveConfig",
            "server.blobs.config": "BlobConfig",
            "server.config": "ServerConfig",
            "server.delivery.config": "DeliveryConfig",
            "server.delivery.notices": "Notice PushText",
            "server.delivery.worker": "DeliveryWorker",
            "server.jwks": "jwks_authenticator",
            "server.limits": "Limits",
            "server.login_request": "LoginRequest RequestLogin",
            "server.moderation.config": "ModerationConfig",
            "server.moderation.verdicts": "Allow Hold Moderator ModeratorVerdict Refuse Rewrite Submission",
            "server.server": "ChatServer",
            "types": "ConversationSummary Edit Explanation Fact HeldMessage Identity Marks Member Message MessageRef"
            " Payload Pin Reaction Receipt Report ReviewOutcome SearchHit SearchPage Sent UserPresence",
        }.items()
        for name in names.split()
    }
    # what an extra brings, by the package that it needs: without that a name is no part of `*`, and says what it lacks
    _NEEDS = {"Metrics": "prometheus_client", "asgi_app": "starlette", "metrics_app": "starlette"}
    __all__ = sorted(
        name for name in _HOMES if name not in _NEEDS or importlib.util.find_spec(_NEEDS[name]) is not None
    )

    def __getattr__(name):
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'chatkit' has no attribute {name!r}")
        try:
            module = importlib.import_module(f".{home}", __name__)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "starlette":
                raise
            from .errors import ConfigurationError

            raise ConfigurationError(
                f"chatkit.{name} needs starlette: pip install 'chatkit-engine[server]'"
            ) from None
        return getattr(module, name)

    def __dir__():
        return __all__
