"""InfluxDB 1.x through its own `/write` and `/query`."""

from pathlib import Path

import urllib3

from cloud.stores.http import Answer, Http, unavailable
from cloud.stores.influxql import InfluxqlReader, identifier
from cloud.stores.line_store import BATCH_LINES, CONNECTIONS, PROBE, LineStore
from contract.errors import ConfigError


class InfluxV1Store(LineStore):
    """A database of InfluxDB 1.x, created when it is missing. `username` empty: no authentication."""

    def __init__(
        self,
        url: str,
        database: str,
        username: str = "",
        password: str = "",
        *,
        batch_lines: int = BATCH_LINES,
        timeout_s: float = 15.0,
        gzip: bool = False,
        ca_file: Path | None = None,
    ) -> None:
        headers = urllib3.make_headers(basic_auth=f"{username}:{password}") if username else {}
        http = Http(url, headers=headers, timeout_s=timeout_s, ca_file=ca_file, connections=CONNECTIONS)
        reader = InfluxqlReader(http, database)
        super().__init__(_V1Transport(http, reader, database, gzip=gzip), reader, batch_lines=batch_lines)


class _V1Transport:
    def __init__(self, http: Http, reader: InfluxqlReader, database: str, *, gzip: bool) -> None:
        self.url = http.url
        self._http = http
        self._reader = reader
        self._database = database
        self._gzip = gzip

    def open(self) -> None:
        answer = self.post(PROBE)
        if answer.status == 404:
            created, error = self._reader.statement(f"CREATE DATABASE {identifier(self._database)}")
            if error:
                raise ConfigError(
                    [f"{self.url}: database {self._database!r} is missing and cannot be created: {error}"]
                )
            answer = self.post(PROBE) if created.ok else created
        if answer.status == 404:
            raise ConfigError([f"{self.url}: no InfluxDB 1.x answers here: {answer.detail}"])
        if not answer.ok:
            raise unavailable(self.url, answer)

    def post(self, body: bytes) -> Answer:
        return self._http.post("/write", {"db": self._database, "precision": "n"}, body, zipped=self._gzip)

    def close(self) -> None:
        self._http.close()
