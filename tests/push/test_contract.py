"""Every provider keeps the contract against a gateway that speaks as its service does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chatkit.testing.contracts.push import PushContract

from .stages import ApnsStage, FcmStage, Stage, WebhookStage, WebPushStage


class TestApns(PushContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        async with ApnsStage() as stage:
            yield stage


class TestFcm(PushContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        async with FcmStage() as stage:
            yield stage


class TestWebPush(PushContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        async with WebPushStage() as stage:
            yield stage


class TestWebhook(PushContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        async with WebhookStage() as stage:
            yield stage
