"""The InfluxDB v2 write API through influxdb-client: InfluxDB 1.8, 2 and 3, and VictoriaMetrics.

The client's batching writer loses points with only a log line, so its one blocking call is used, which returns when
the server has answered and raises what the server said.

VictoriaMetrics turns what it cannot hold into zeros and says nothing, so with `reader="victoria"` text and times
before 1970 are refused here. It keeps milliseconds. Start it with `-dedup.minScrapeInterval=1ms`, else it keeps every
copy of a sample that is written again, and with a `-retentionPeriod` that covers the backlog of a gateway that was
long away: it drops what is older in silence.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.delete_predicate_request import DeletePredicateRequest
from influxdb_client.rest import ApiException
from influxdb_client.service.delete_service import DeleteService
from influxdb_client.service.write_service import WriteService

from cloud.stores.base import Series
from cloud.stores.http import Answer, Http, answer_of, compress, reaching, unavailable
from cloud.stores.influxql import EARLIEST_NS, LATEST_NS, InfluxqlReader, identifier, within
from cloud.stores.line_store import BATCH_LINES, PROBE, READERS, WRITERS, LineStore, Reader
from cloud.stores.lines import INFLUX, VICTORIA
from cloud.stores.victoria import VictoriaReader
from contract.errors import ConfigError, StoreUnavailable


class InfluxV2Store(LineStore):
    """A bucket, written through `/api/v2/write` and read through InfluxQL, or as `reader` says."""

    def __init__(
        self,
        url: str,
        org: str,
        bucket: str,
        token: str = "",
        *,
        reader: Literal["influxql", "victoria"] = "influxql",
        batch_lines: int = BATCH_LINES,
        timeout_s: float = 15.0,
        gzip: bool = False,
        ca_file: Path | None = None,
    ) -> None:
        headers = {"Authorization": f"Token {token}"} if token else {}
        self._http = Http(url, headers=headers, timeout_s=timeout_s, ca_file=ca_file, connections=READERS)
        client = InfluxDBClient(
            url=self._http.url,
            token=token,
            org=org,
            timeout=int(timeout_s * 1000),
            ssl_ca_cert=str(ca_file) if ca_file else None,
            connection_pool_maxsize=WRITERS,
        )
        answers: Reader = VictoriaReader(self._http)
        if reader == "influxql":
            answers = _V2Reader(self._http, client, org, bucket)
        super().__init__(
            _V2Transport(client, self._http.url, org, bucket, gzip=gzip),
            answers,
            batch_lines=batch_lines,
            dialect=VICTORIA if reader == "victoria" else INFLUX,
        )

    async def close(self) -> None:
        """Wait for the requests under way, at most their timeout, and free everything."""
        await super().close()
        self._http.close()


class _V2Reader(InfluxqlReader):
    """Reads through InfluxQL; deletes through `/api/v2/delete`, or InfluxQL where that is not (InfluxDB 1.8)."""

    def __init__(self, http: Http, client: Any, org: str, bucket: str) -> None:
        super().__init__(http, bucket)
        service: Any = DeleteService
        self._deletes = service(client.api_client)
        self._url = http.url
        self._org = org
        self._bucket = bucket

    def destroy(self, series: Series, before_ns: int | None) -> None:
        """Delete what `InfluxqlReader.delete` then looks for."""
        path = series.path
        wanted = {
            "_measurement": series.quantity,
            "city": path.city,
            "district": path.district,
            "street": path.street,
            "gateway": path.gateway,
            "device": series.device,
            "stream": series.stream,
        }
        last_ns = LATEST_NS if before_ns is None else within(before_ns - 1)
        request: Any = DeletePredicateRequest
        asked = request(
            start=f"{np.datetime64(EARLIEST_NS, 'ns')}Z",
            stop=f"{np.datetime64(last_ns, 'ns')}Z",  # both are inclusive
            predicate=" AND ".join(f"{name}={identifier(value)}" for name, value in wanted.items()),
        )
        try:
            with reaching(self._url):
                self._deletes.post_delete(delete_predicate_request=asked, org=self._org, bucket=self._bucket)
        except ApiException as error:
            if error.status in (404, 405):
                super().destroy(series, before_ns)
                return
            if not error.status:
                raise StoreUnavailable(f"{self._url}: {error.reason}") from error
            raise unavailable(self._url, answer_of(error.status, error.body or "", None)) from error


class _V2Transport:
    def __init__(self, client: Any, url: str, org: str, bucket: str, *, gzip: bool) -> None:
        self.url = url
        self._client = client
        service: Any = WriteService
        self._writes = service(client.api_client)
        self._org = org
        self._bucket = bucket
        self._gzip = gzip

    def open(self) -> None:
        answer = self.post(PROBE)
        if answer.status == 404:
            raise ConfigError([f"{self.url}: no bucket {self._bucket!r}, or no v2 write API, here: {answer.detail}"])
        # InfluxDB 2 may call a write without points invalid; that it says so means that it would take some.
        if not answer.ok and not (answer.status == 400 and answer.structured):
            raise unavailable(self.url, answer)

    def post(self, body: bytes) -> Answer:
        arguments: dict[str, str] = {"content_encoding": "gzip"} if self._gzip else {}
        try:
            with reaching(self.url):
                self._writes.post_write(
                    org=self._org,
                    bucket=self._bucket,
                    body=compress(body) if self._gzip else body,
                    precision="ns",
                    **arguments,
                )
        except ApiException as error:
            if not error.status:
                raise StoreUnavailable(f"{self.url}: {error.reason}") from error
            retry_after = error.headers.get("Retry-After") if error.headers else None
            return answer_of(error.status, error.body or "", retry_after)
        return Answer(204)

    def close(self) -> None:
        self._client.close()
