"""A shop in FastAPI and SQLAlchemy that tells about an order in the transaction that stores it: both exist, or neither.

Run: `pip install '.[server,postgres]' fastapi 'sqlalchemy[asyncio]'`, set `DATABASE_URL` to `postgresql://USER@HOST/NAME`
and `CHATKIT_JWT_SECRET`, then `python examples/fastapi_sqlalchemy.py 8000`. `curl -X POST http://127.0.0.1:8000/orders/7`
takes an order; clients connect to `http://127.0.0.1:8000/chat`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from sqlalchemy import Column, Integer, MetaData, Table, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from chatkit import ChatServer, UnavailableError, asgi_app, jwt_authenticator, open_store

TRIES = 5
METADATA = MetaData()
ORDERS = Table("shop_order", METADATA, Column("number", Integer, primary_key=True, autoincrement=False))


class Shop:
    """Orders, and the conversation in which the shop tells about them.

    Args:
        address: The database of both.
        server: The chat.
    """

    def __init__(self, address: str, server: ChatServer) -> None:
        self.engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(address)
        )
        self._sessions = async_sessionmaker(self.engine)
        self._server = server

    async def take(self, number: int) -> int:
        """Store an order and tell about it; returns the number of the message.

        Raises:
            IntegrityError: It was taken already; nothing is told.
            UnavailableError: Others came first again and again, or the database failed.
        """
        for _ in range(TRIES - 1):
            try:
                return await self._take_once(number)
            except UnavailableError:  # the transaction was rolled back, and all of it may be repeated
                continue
        return await self._take_once(number)

    async def _take_once(self, number: int) -> int:
        async with self._sessions.begin() as session:
            await session.execute(insert(ORDERS).values(number=number))
            return await self._tell(number, session)

    async def _tell(self, number: int, session: AsyncSession) -> int:
        """Last of all: from here to the commit nobody else writes to the conversation."""
        key = f"order-{number}"
        sent = await self._server.send(
            "orders", "shop", f"Order {number}", client_msg_id=key, connection=session
        )
        return sent.seq


def create_app() -> FastAPI:
    """The shop with the chat in it."""
    address, secret = os.environ["DATABASE_URL"], os.environ["CHATKIT_JWT_SECRET"]
    server = ChatServer(store=open_store(address), authenticate=jwt_authenticator(secret))
    shop = Shop(address, server)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with shop.engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        async with server:
            await server.ensure_conversation("orders", "GROUP", "shop", ["lina"], title="Orders")
            yield
        await shop.engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders/{number}")
    async def take_order(number: int) -> dict[str, int]:
        try:
            return {"seq": await shop.take(number)}
        except IntegrityError:
            raise HTTPException(409, "this order was taken already") from None

    @app.exception_handler(UnavailableError)
    async def unavailable(_: object, error: UnavailableError) -> JSONResponse:
        return JSONResponse({"code": error.code}, error.status)

    app.mount("/chat", asgi_app(server))
    return app


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
