"""A serial port that is a pty: a stable name, and a device behind it that can vanish and come back.

Like a real adapter it buffers nothing for nobody: while no program has the port open, what the device says is lost,
and what a program left unread is gone when the next one opens it. Baud rate and parity mean nothing here.
"""

import asyncio
import errno
import logging
import os
import select
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from hardware_sim import truth

log = logging.getLogger(__name__)

LOOK_S = 0.02  # how soon it is noticed that somebody opened the port
READ_BYTES = 4096


class PtyPort:
    """The device's end of a pty, linked at `link`."""

    def __init__(self, link: Path, log_: truth.Log) -> None:
        self.link = link
        self.take: Callable[[bytes], None] = _ignore
        """Gets what clients write."""
        self.unheard = 0
        """Messages that nobody listened to, or that did not fit."""
        self._truth = log_
        self._master = -1
        self._path = ""
        self._poll = select.poll()
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Make the pty and its link. Raises OSError."""
        self._master, slave = os.openpty()
        try:
            tty.setraw(slave)
            self._path = os.ttyname(slave)
        finally:
            os.close(slave)
        os.set_blocking(self._master, False)
        self._poll.register(self._master, select.POLLIN)
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._path)
        fresh.replace(self.link)
        self._look()

    async def close(self) -> None:
        """Take the link and the pty away: clients see a hang-up."""
        if self._master < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_reading()
        if self.link.is_symlink() and str(self.link.readlink()) == self._path:
            self.link.unlink()
        self._poll.unregister(self._master)
        os.close(self._master)
        self._master = -1

    @property
    def heard(self) -> bool:
        """Whether a program has the port open."""
        return self._master >= 0 and not any(events & select.POLLHUP for _, events in self._poll.poll(0))

    def send(self, data: bytes, record: truth.Record | None) -> None:
        """Say something, if anybody listens; then put the record down."""
        if not self.heard:
            self.unheard += 1
            return
        try:
            written = os.write(self._master, data)
        except BlockingIOError:
            written = 0
        if written < len(data):
            self.unheard += 1
        elif record is not None:
            self._truth.add(record)

    def _look(self) -> None:
        """Wait for somebody to open the port: a hung-up master is always readable, so the loop must not watch it."""
        loop = asyncio.get_running_loop()
        if self.heard:
            self._timer = None
            self._reading = True
            loop.add_reader(self._master, self._read)
        else:
            self._timer = loop.call_later(LOOK_S, self._look)

    def _read(self) -> None:
        try:
            data = os.read(self._master, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._stop_reading()
            self._forget_unread()
            self._look()
            return
        self.take(data)

    def _stop_reading(self) -> None:
        if self._reading:
            asyncio.get_running_loop().remove_reader(self._master)
            self._reading = False

    def _forget_unread(self) -> None:
        slave = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            termios.tcflush(slave, termios.TCIFLUSH)
        finally:
            os.close(slave)


def _ignore(_data: bytes) -> None:
    """Who has no ears."""
