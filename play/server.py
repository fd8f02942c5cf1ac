"""The server: the page, a WebSocket for each session, and the recordings.

Nothing here computes: sessions do, in threads of their own. Who sends what is no message is told so once and closed
if it goes on; nobody else notices.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from experiment.problem import Problem
from play.messages import FORGIVEN, LONGEST, TEMPERATURES, Meter, Refused, axes_of, parse
from play.models import Models
from play.recorder import Recordings
from play.session import Session

STATIC = Path(__file__).parent / "static"
SESSIONS = 4
IN_FLIGHT = 12
"""Frames that may be under way: a page that is behind by more gets none until it says what it has seen."""
LARGEST = 64 * 1024
"""Bytes of a message beyond which it is not even read."""
POLICY, TOO_BIG, BUSY = 1008, 1009, 1013
"""Codes with which a WebSocket is closed."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Player:
    """The application, `app`, for the models of a run. sessions: how many there may be at once."""

    def __init__(self, models: Models, title: str, sessions: int = SESSIONS, hosts: list[str] | None = None):
        self.models, self.title, self.most = models, title, sessions
        self.sessions: set[Session] = set()
        self.recordings = Recordings()
        self.app = Starlette(
            routes=[
                WebSocketRoute("/socket", self.socket),
                Route("/recordings/{name}", self.recording),
                Mount("/", StaticFiles(directory=STATIC, html=True)),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts or ["*"]), Middleware(Headers)],
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Until the server ends; then every world is freed."""
        with self.recordings:
            yield
            await asyncio.gather(*(self.end(session) for session in list(self.sessions)))

    async def end(self, session: Session) -> None:
        """Stop a session and wait until its world is freed; only then may another take its place."""
        session.stop()
        await asyncio.to_thread(session.join)
        self.sessions.discard(session)

    async def recording(self, request: Request) -> Response:
        """A finished recording."""
        path = self.recordings.find(request.path_params["name"])
        if path is None:
            return PlainTextResponse("there is no such recording any more", 404)
        return FileResponse(path, media_type="video/mp4", filename=f"{self.title}.mp4")

    async def socket(self, page: WebSocket) -> None:
        """One page."""
        if not same_origin(page):  # another web site, in the user's browser, has no business here
            await page.close(POLICY)
            return
        await page.accept()
        if len(self.sessions) >= self.most:
            await refuse(
                page, f"all {self.most} sessions are in use: close another tab, and load this page again", BUSY
            )
            return
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(ready.set)

        session = Session(self.models, self.recordings, wake)
        self.sessions.add(session)
        flow = Flow(session, ready)
        try:
            await page.send_json(self.hello())
            session.start()
            show = asyncio.create_task(flow.show(page))
            try:
                await self.listen(page, session, flow)
            finally:
                show.cancel()
                with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                    await show
        except WebSocketDisconnect:
            pass
        finally:
            if session.ident is None:
                self.sessions.discard(session)
            else:
                await asyncio.shield(self.end(session))

    def hello(self) -> dict[str, Any]:
        """What the page needs to know at first."""
        world, settings = self.models.world, self.models.settings
        return {
            "type": "hello",
            "title": self.title,
            "kind": self.models.kind,
            "world": settings.env.name,
            "fps": world.fps,
            "step": world.step,
            "score": world.score,
            "axes": [axis._asdict() for axis in axes_of(world)],
            "choices": [name.split() for name in world.action_names] if world.choices else None,
            "rest": world.rest,
            "missing": self.models.missing,
            "temperatures": TEMPERATURES,
        }

    async def listen(self, page: WebSocket, session: Session, flow: "Flow") -> None:
        """Take the page's messages until it goes, or must."""
        meter, axes, mistakes = Meter(), axes_of(self.models.world), 0
        while True:
            message = await page.receive()
            if message["type"] == "websocket.disconnect":
                return
            if not meter.allows():
                await refuse(page, "too many messages: this session is closed", POLICY)
                return
            text = message.get("text")
            if len(text.encode() if text is not None else message.get("bytes") or b"") > LONGEST:
                await refuse(page, f"a message has at most {LONGEST} bytes: this session is closed", TOO_BIG)
                return
            try:
                if text is None:
                    raise Refused("messages are text")
                heard = parse(text, axes)
            except Refused as refused:
                mistakes += 1
                if mistakes > FORGIVEN:
                    await refuse(page, f"{refused}: this session is closed", POLICY)
                    return
                await page.send_json({"type": "error", "message": str(refused), "closed": False})
                continue
            if heard["type"] == "input":
                flow.saw(heard["seen"])
            session.hear(heard)


class Flow:
    """Sends a session's frames and news to its page, no faster than it takes them."""

    def __init__(self, session: Session, ready: asyncio.Event):
        self.session, self.ready = session, ready
        self.sent = self.seen = 0

    def saw(self, number: int) -> None:
        """The page has had so many frames."""
        self.seen = min(max(self.seen, number), self.sent)
        self.ready.set()

    async def show(self, page: WebSocket) -> None:
        """Until cancelled, or the session has come to an end by itself."""
        session = self.session
        while True:
            await self.ready.wait()
            self.ready.clear()
            while session.news:
                await page.send_json(session.news.popleft())
            if self.sent - self.seen < IN_FLIGHT and (frame := session.take()) is not None:
                self.sent += 1
                await page.send_bytes(self.sent.to_bytes(4, "big") + frame)


async def refuse(page: WebSocket, reason: str, code: int) -> None:
    """Say why, and close."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await page.send_json({"type": "error", "message": reason, "closed": True})
        await page.close(code, reason)


def same_origin(page: WebSocket) -> bool:
    """Whether a browser asks for a page of this very server; what is no browser sends no origin."""
    origin = page.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == page.headers.get("host")


class Headers:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises Problem if it cannot."""
    if not 0 <= port < 2**16:
        raise Problem(f"--port {port}: expected a number from 0 to {2**16 - 1}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        raise Problem(
            f"cannot listen on {host}, port {port} ({error}): choose another with --host or --port"
        ) from error
    return listening


def is_local(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def reachable_at(host: str) -> str:
    """By what a browser reaches a server that listens on an address.

    For one that stands for all addresses of this machine, that by which other machines know it, else its name.
    """
    if not ipaddress.ip_address(host).is_unspecified:
        return host
    family, elsewhere = (socket.AF_INET6, "2001:db8::1") if ":" in host else (socket.AF_INET, "192.0.2.1")
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as outward:
        outward.connect((elsewhere, 9))  # nothing is sent: this only chooses the address that would send it
        return outward.getsockname()[0]
    return socket.gethostname()


def allowed_hosts(host: str) -> list[str]:
    """The names that a browser may know this server by: a web site's own name, pointed at this machine, is none."""
    return ["localhost", "127.0.0.1", "[::1]", "::1", host] if is_local(host) else ["*"]


def make_server(player: Player) -> uvicorn.Server:
    """An ASGI server for a player."""
    config = uvicorn.Config(
        player.app,
        log_level="error",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=LARGEST,
        ws_per_message_deflate=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
