"""Hours, days and months as the city counts them, and how long figures are kept.

The ledger's hours are UTC hours since 1970. A day begins with the hour in which local midnight is: zones that are half
an hour beside UTC share that hour with the day before.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from cloud.ledger_report import HOUR_NS
from contract.broker import Section

_HOUR, _DAY, _MONTH = 0, 1, 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class QualitySettings(Section):
    """The section `hub.quality`.

    zone: of the city's days, IANA name. refresh_s: how often the ledger's newest hours are looked at. roll_up_s: how
    often days and months are made of hours that changed. report_after_s: so long after its end a period's figures count
    as reported; later changes are corrections. keep_hour_days, keep_day_months, keep_months: how long single hours,
    days and months are kept. completeness_alarm, validity_alarm: a stream below fails. stale_after: intervals without
    a sample.
    """

    zone: str = Field("UTC", max_length=64)
    refresh_s: float = Field(60, gt=0, le=3600)
    roll_up_s: float = Field(300, ge=0, le=86_400)
    report_after_s: float = Field(900, ge=0, le=86_400)
    keep_hour_days: int = Field(8, ge=2, le=400)
    keep_day_months: int = Field(13, ge=2, le=240)
    keep_months: int = Field(120, ge=2, le=1200)
    completeness_alarm: float = Field(0.9, gt=0, le=1)
    validity_alarm: float = Field(0.9, gt=0, le=1)
    stale_after: float = Field(3, ge=1, le=1000)

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"{zone[:64]!r} is no time zone of this machine; expected one such as Asia/Shanghai"
            ) from None
        return zone


class Calendar:
    """Starts and ends of periods, in hours since 1970. Periods are by number: 0 hour, 1 day, 2 month."""

    def __init__(self, settings: QualitySettings) -> None:
        self.settings = settings
        self.zone = ZoneInfo(settings.zone)

    def day_of(self, hour: int) -> date:
        """The day that this hour is in: that of its end, as the hour of midnight begins the new day."""
        return (_EPOCH + timedelta(hours=hour, minutes=59, seconds=59)).astimezone(self.zone).date()

    def start_of_day(self, day: date) -> int:
        """The first hour of a day."""
        return _start_of_day(self.zone, day)

    def start_of(self, period: int, hour: int) -> int:
        """The first hour of the period in which `hour` is."""
        if period == _HOUR:
            return hour
        day = self.day_of(hour)
        return self.start_of_day(day if period == _DAY else day.replace(day=1))

    def end_of(self, period: int, start: int) -> int:
        """The first hour after the period that begins with `start`."""
        if period == _HOUR:
            return start + 1
        day = self.day_of(start)
        return self.start_of_day(day + timedelta(days=1) if period == _DAY else _months_on(day, 1))

    def today(self, now_ns: int) -> date:
        """The day that it is."""
        return self.day_of(now_ns // HOUR_NS)

    def reported_before_hour(self, now_ns: int) -> int:
        """Hours before this one are reported."""
        return int(now_ns - self.settings.report_after_s * 1e9) // HOUR_NS

    def reported_before_day(self, now_ns: int) -> int:
        """Days that begin before this hour are reported."""
        return self.start_of(_DAY, self.reported_before_hour(now_ns))

    def reported_before_month(self, now_ns: int) -> int:
        """Months that begin before this hour are reported."""
        return self.start_of(_MONTH, self.reported_before_hour(now_ns))

    def oldest_hour(self, now_ns: int) -> int:
        """Hours from this one on are kept."""
        return self.start_of_day(self.today(now_ns) - timedelta(days=self.settings.keep_hour_days))

    def oldest_day(self, now_ns: int) -> int:
        """Days that begin from this hour on are kept."""
        return self.start_of_day(_months_on(self.today(now_ns), -self.settings.keep_day_months))

    def oldest_month(self, now_ns: int) -> int:
        """Months that begin from this hour on are kept."""
        return self.start_of_day(_months_on(self.today(now_ns), -self.settings.keep_months))


@lru_cache(maxsize=4096)
def _start_of_day(zone: ZoneInfo, day: date) -> int:
    midnight = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
    return (midnight - _EPOCH) // timedelta(hours=1)


def _months_on(day: date, months: int) -> date:
    """The first of the month so many months later."""
    counted = day.year * 12 + day.month - 1 + months
    return date(counted // 12, counted % 12 + 1, 1)
