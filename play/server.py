"""The server: the page, a WebSocket for each session, and the recordings.

Nothing here computes: sessions do, in threads of their own. A page that sends anything but messages is told so, and
closed if it goes on; one that does not answer, or whose session fails, is told and closed too. No other page notices.
"""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request as Handshake

from experiment.problem import Problem, UsageProblem, one_line
from play.hosts import Hosts, Terminal
from play.messages import BENDS, FORGIVEN, LONGEST, TEMPERATURES, Meter, Refused, axes_of, parse
from play.recorder import Recordings
from play.scenes import Models
from play.session import Session, reason_of

STATIC = Path(__file__).parent / "static"
IN_FLIGHT = 12  # frames that may be under way: a page that is behind by more gets none until it says what it has seen
LARGEST = 64 * 1024  # bytes of a message beyond which it is not even read
ANSWER = 60.0  # seconds that a page has to answer what it was sent; it may be in the background, or its network slow
PING = 20.0  # seconds between two questions whether it is still there, which its browser answers by itself
CHECK = 1.0  # seconds after which it is looked at again whether it has
POLICY, TOO_BIG, FAILED, BUSY = 1008, 1009, 1011, 1013  # codes with which a WebSocket is closed
HEADERS = [
    ("Content-Security-Policy", "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]
"""Of every answer."""


class Site:
    """The ASGI application, `app`, for the models of a run. sessions: how many there may be at once."""

    def __init__(self, models: Models, title: str, sessions: int, hosts: Hosts):
        self.models, self.title, self.most = models, one_line(title), sessions
        self.terminal = Terminal()
        self.sessions: set[Session] = set()
        self.recordings = Recordings()
        self.app = Starlette(
            routes=[
                WebSocketRoute("/socket", self.socket),
                Route("/socket", self.unopened, methods=["POST"]),
                Route("/recordings/{name}", self.recording),
                Mount("/", StaticFiles(directory=STATIC, html=True)),
            ],
            middleware=[Middleware(Door, hosts=hosts, terminal=self.terminal)],
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Until the server ends; then every world is freed."""
        with contextlib.closing(self.recordings):
            yield
            await asyncio.gather(*(self.end(session) for session in list(self.sessions)))

    async def end(self, session: Session) -> None:
        """Stop a session and wait until its world is freed; only then may another take its place."""
        session.stop()
        await asyncio.to_thread(session.join)
        self.sessions.discard(session)

    async def recording(self, request: Request) -> Response:
        path = self.recordings.finished.get(request.path_params["name"])
        if path is None:
            return PlainTextResponse("there is no such recording any more", 404)
        return FileResponse(path, media_type="video/mp4", filename=f"{self.title}.mp4")

    async def unopened(self, request: Request) -> Response:
        """What a page asks whose WebSocket did not open. Where that was refused, this is too, and says why."""
        self.terminal.tell("a page came without its WebSocket: a proxy must pass the headers Upgrade and Connection on")
        return Response(status_code=204)

    async def socket(self, page: WebSocket) -> None:
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
        flow = Flow(session, ready, self.terminal)
        try:
            session.start()
            await page.send_json(self.hello())
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
            "missing": {what: one_line(reason) for what, reason in self.models.missing.items()},
            "temperatures": TEMPERATURES,
            "meters": self.models.meters,
            "sliders": self.models.sliders,
            "bends": BENDS,
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
            flow.heard = True
            if heard["type"] == "input":
                flow.saw(heard["seen"])
            session.hear(heard)


class Flow:
    """Sends a session's frames and news to its page, no faster than it takes them, and ends with either of the two."""

    def __init__(self, session: Session, ready: asyncio.Event, terminal: Terminal):
        self.session, self.ready, self.terminal = session, ready, terminal
        self.sent = self.seen = 0
        self.heard = False  # whether the page has said anything yet
        self.since = time.monotonic()  # when the page last answered, or was sent something that was not answered yet

    def saw(self, number: int) -> None:
        """The page has had so many frames. What was never sent is not believed."""
        if self.seen < number <= self.sent:
            self.seen, self.since = number, time.monotonic()
            self.ready.set()

    @property
    def silent(self) -> bool:
        """Whether the page owes an answer for too long."""
        return (self.seen < self.sent or not self.heard) and time.monotonic() - self.since > ANSWER

    async def show(self, page: WebSocket) -> None:
        """Until cancelled, the session has come to an end by itself, or the page does not answer."""
        session = self.session
        while not self.silent:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK):
                    await self.ready.wait()
            self.ready.clear()
            failure = session.failure
            while session.news:
                await page.send_json(session.news.popleft())
            if failure is not None:
                self.terminal.tell(f"a session has ended: {failure}")
                await refuse(page, f"the session has ended: {failure}", FAILED)
                return
            if self.sent - self.seen < IN_FLIGHT and (frame := session.take()) is not None:
                if self.seen == self.sent:
                    self.since = time.monotonic()
                self.sent += 1
                await page.send_bytes(self.sent.to_bytes(4, "big") + frame)
        await refuse(
            page, f"nothing was heard of this page for {ANSWER:g} seconds: its place is given to others", POLICY
        )


async def refuse(page: WebSocket, reason: str, code: int) -> None:
    """Say why, and close."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await page.send_json({"type": "error", "message": reason, "closed": True})
        await page.close(code)


class Door:
    """Refuses requests that are for other hosts or of other web sites' pages; tells of them, and of faults."""

    def __init__(self, app: ASGIApp, hosts: Hosts, terminal: Terminal):
        self.app, self.hosts, self.terminal = app, hosts, terminal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origins = headers.getlist("origin")
        refusal = self.hosts.refusal(headers.get("host", ""), ", ".join(origins) if origins else None)
        if refusal is None:
            try:
                await self.app(scope, receive, send)
            except WebSocketDisconnect:
                pass
            except Exception as error:
                self.terminal.tell(reason_of(error))
                raise
            return
        self.terminal.tell(f"refused: {refusal}")
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY})  # 403, of which no page learns the reason
        else:
            # Who names no origin is no page of another site: it has the host wrong.
            await PlainTextResponse(f"{refusal}\n", 403 if origins else 400)(scope, receive, send)


class Connection(WebSocketsSansIOProtocol):
    """uvicorn's, which must not leave handshakes unanswered, nor wait for a page that takes nothing any more."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # headers that no browser sends: too long, too many, control characters
            self.transport.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()

    def handle_connect(self, event: Handshake) -> None:
        origins = event.headers.get_all("Origin")
        if len(origins) > 1:  # is none, which Door says
            del event.headers["Origin"]
            event.headers["origin"] = ", ".join(origins)
        super().handle_connect(event)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # to close would wait until it takes what was sent


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises Problem if it cannot."""
    if not 0 <= port < 2**16:
        raise UsageProblem(f"--port {port}: expected a number from 0 to {2**16 - 1}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        raise Problem(
            f"cannot listen on {host}, port {port} ({error}): choose another with --host or --port"
        ) from error


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


def make_server(site: Site) -> uvicorn.Server:
    config = uvicorn.Config(
        site.app,
        headers=HEADERS,
        log_level="critical",  # clients' mistakes have tracebacks there; Door tells of the server's
        access_log=False,
        proxy_headers=False,
        ws=Connection,
        ws_ping_interval=PING,
        ws_ping_timeout=ANSWER,
        ws_max_size=LARGEST,
        ws_per_message_deflate=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
