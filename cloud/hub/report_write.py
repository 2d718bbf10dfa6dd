"""The daily report on paper: HTML that needs nothing but itself and prints on A4, and CSV for who goes on with it."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from zoneinfo import ZoneInfo

from cloud.hub import quality_figures as codes
from cloud.hub.quality import Group
from cloud.hub.quality_figures import Figures
from cloud.hub.report import Report, in_words, percent
from cloud.hub.report_words import Language, word

MAX_ROWS = 2000  # of a table in HTML; the CSV has all
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_STYLE = """
@page { size: A4 landscape; margin: 12mm 12mm 14mm; }
* { box-sizing: border-box; }
body { font: 10pt/1.4 "Noto Sans", "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", Arial, sans-serif;
  color: #16202a; margin: 0 auto; padding: 8mm; max-width: 285mm; background: #fff; }
header { border-bottom: 2pt solid #16537e; margin-bottom: 5mm; padding-bottom: 2mm; display: flex;
  justify-content: space-between; align-items: flex-end; gap: 6mm; }
h1 { font-size: 18pt; margin: 0; line-height: 1.2; } h2 { font-size: 12pt; margin: 6mm 0 2mm; color: #16537e;
  break-after: avoid; }
header p { margin: 0; text-align: right; color: #4a5763; font-size: 9pt; }
.warn { background: #fff4d6; border-left: 3pt solid #d18f00; padding: 1.5mm 3mm; margin: 0 0 4mm; }
.cards { display: flex; gap: 3mm; flex-wrap: wrap; }
.card { border: .5pt solid #c4ced6; border-radius: 1.5mm; padding: 1.5mm 2.5mm; min-width: 24mm;
  flex: 1 1 auto; }
.card b { display: block; font-size: 13pt; line-height: 1.3; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card span { color: #4a5763; font-size: 8.5pt; }
table { border-collapse: collapse; width: 100%; font-size: 8.5pt; }
thead { display: table-header-group; }
th { text-align: left; background: #eaf0f4; font-weight: 600; }
th, td { padding: 1mm 1.8mm; border-bottom: .5pt solid #c4ced6; vertical-align: top; overflow-wrap: anywhere; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; overflow-wrap: normal; }
td.t { white-space: nowrap; overflow-wrap: normal; }
td.id { min-width: 50mm; } td.who { min-width: 30mm; } td.call { min-width: 44mm; }
tr { break-inside: avoid; }
.bad { color: #b3261e; font-weight: 600; } .ok { color: #1a7f37; }
footer { margin-top: 5mm; color: #4a5763; font-size: 8pt; }
@media print { body { padding: 0; max-width: none; } .warn, th, .card { print-color-adjust: exact; } }
"""


def html_of(report: Report, language: Language) -> str:
    """The report as one HTML document."""
    lang = "zh-CN" if language is Language.CHINESE else "en"
    title = f"{word(language, 'title')} {report.day.isoformat()}"
    made = _moment(report, report.made_ns)
    warn = "" if report.final else f'<p class="warn">{_e(word(language, "unfinished"))}</p>'
    explain = word(language, "explain", alarm=percent(report.alarm), stale=f"{report.stale_after:g}")
    return (
        f'<!doctype html>\n<html lang="{lang}"><head><meta charset="utf-8"><title>{_e(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n"
        f"<header><h1>{_e(title)}</h1><p>{_e(word(language, 'page'))}<br>{_e(word(language, 'made'))} {_e(made)}"
        f" ({_e(report.zone)})</p></header>\n{warn}"
        f"<h2>{_e(word(language, 'summary'))}</h2>\n{_cards(report, language)}"
        f"<h2>{_e(word(language, 'by_department'))}</h2>\n{_groups(report, report.departments, 'department', language)}"
        f"<h2>{_e(word(language, 'by_district'))}</h2>\n{_groups(report, report.districts, 'district', language)}"
        f"<h2>{_e(word(language, 'failing'))}</h2>\n{_failing(report, language)}"
        f"<h2>{_e(word(language, 'corrections'))}</h2>\n{_corrections(report, language)}"
        f"<footer>{_e(explain)}</footer>\n</body></html>\n"
    )


def csv_of(report: Report, language: Language) -> str:
    """The failing streams, the corrections and the sums as CSV, one after the other; UTF-8 with its mark."""
    out = io.StringIO()
    out.write("\ufeff")  # a spreadsheet takes Chinese for Latin without it
    writer = csv.writer(out)

    def row(*cells: object) -> None:
        writer.writerow([_cell(cell) for cell in cells])

    def w(key: str) -> str:
        return word(language, key)

    row(w("title"), report.day.isoformat(), report.zone, w("made"), _moment(report, report.made_ns))
    if not report.final:
        row(w("unfinished"))
    row()
    row(w("failing"))
    row(
        *(w(key) for key in ("stream", "what", "since", "completeness", "validity", "missing", "department", "contact"))
    )
    for one in report.failing:
        row(
            one.entry.id, in_words(report, one.figures, language), _hour(report, one.since_hour),
            _share(one.figures.completeness), _share(one.figures.validity), one.figures.count(codes.MISSING),
            one.entry.owner or w("nobody"), one.entry.contact or w("nobody"),
        )  # fmt: skip
    row()
    row(w("corrections"))
    row(*(w(key) for key in ("day", "stream", "former", "now", "corrected_at", "department", "contact")))
    for change in report.corrections:
        row(
            _day(report, change.start_hour), change.entry.id, _share(change.former.completeness),
            _share(change.now.completeness), _moment(report, change.corrected_ns),
            change.entry.owner, change.entry.contact,
        )  # fmt: skip
    for key, groups in (("department", report.departments), ("district", report.districts)):
        row()
        row(w(f"by_{key}"))
        row(w(key), *(w(name) for name in _COLUMNS))
        for group in groups:
            row(group.name or w("nobody"), *_numbers(group.figures))
    return out.getvalue()


_COLUMNS = (
    "streams", "failing_count", "expected", "suppressed", "received", "missing", "completeness", "validity",
    "freshness", "p50", "p99", "ledger",
)  # fmt: skip


def _numbers(figures: Figures) -> list[object]:
    return [
        figures.streams, figures.failing, figures.count(codes.EXPECTED), figures.count(codes.SUPPRESSED),
        figures.count(codes.RECEIVED), figures.count(codes.MISSING), _share(figures.completeness),
        _share(figures.validity), _share(figures.freshness), figures.latency_s(0.5), figures.latency_s(0.99),
        figures.count(codes.UNEXPLAINED),
    ]  # fmt: skip


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.4f}"


def _cell(value: object) -> object:
    """No text that a spreadsheet would compute."""
    if isinstance(value, str) and value.lstrip().startswith(_FORMULA):
        return f"'{value}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _e(text: object) -> str:
    return escape(str(text), quote=True)


def _cards(report: Report, language: Language) -> str:
    total = report.total
    cards = (
        (f"{total.streams:,}", "streams", False),
        (f"{total.failing:,}", "failing_count", total.failing > 0),
        (percent(total.completeness), "completeness", _below(total.completeness, report.alarm)),
        (percent(total.validity), "validity", _below(total.validity, report.validity_alarm)),
        (percent(total.freshness), "freshness", False),
        (_seconds(total.latency_s(0.5)), "p50", False),
        (_seconds(total.latency_s(0.99)), "p99", False),
        (_ledger(total, language), "ledger", not total.closes),
    )
    shown = "".join(
        f'<div class="card"><b{_bad(bad)}>{_e(value)}</b><span>{_e(word(language, key))}</span></div>'
        for value, key, bad in cards
    )
    return f'<div class="cards">{shown}</div>\n'


def _groups(report: Report, groups: Sequence[Group], key: str, language: Language) -> str:
    rows = []
    for group in groups:
        figures = group.figures
        rows.append(
            [
                ("", _e(group.name or word(language, "nobody"))),
                ("n", f"{figures.streams:,}"),
                ("n", _red(f"{figures.failing:,}", figures.failing > 0)),
                *(("n", f"{figures.count(code):,}") for code in _COUNTED),
                ("n", _red(percent(figures.completeness), _below(figures.completeness, report.alarm))),
                ("n", _red(percent(figures.validity), _below(figures.validity, report.validity_alarm))),
                ("n", percent(figures.freshness)),
                ("n", _seconds(figures.latency_s(0.5))),
                ("n", _seconds(figures.latency_s(0.99))),
                ("t", _red(_e(_ledger(figures, language)), not figures.closes)),
            ]
        )
    heads = [("", key), *(("" if name == "ledger" else "n", name) for name in _COLUMNS)]
    return _table([(kind, word(language, name)) for kind, name in heads], rows, language)


_COUNTED = (codes.EXPECTED, codes.SUPPRESSED, codes.RECEIVED, codes.MISSING)


def _failing(report: Report, language: Language) -> str:
    if not report.failing:
        return f'<p class="ok">{_e(word(language, "none_failing"))}</p>\n'
    before = f" {word(language, 'or_before')}"
    rows = [
        [
            ("id", _e(one.entry.id)),
            ("", _e(in_words(report, one.figures, language))),
            ("t", _e(_hour(report, one.since_hour) + (before if one.before else ""))),
            ("n", _red(percent(one.figures.completeness), _below(one.figures.completeness, report.alarm))),
            ("who", _e(one.entry.owner or word(language, "nobody"))),
            ("call", _e(one.entry.contact or word(language, "nobody"))),
        ]
        for one in report.failing
    ]
    heads = (("", "stream"), ("", "what"), ("", "since"), ("n", "completeness"), ("", "department"), ("", "contact"))
    return _table([(kind, word(language, name)) for kind, name in heads], rows, language)


def _corrections(report: Report, language: Language) -> str:
    if not report.corrections:
        return f"<p>{_e(word(language, 'no_corrections'))}</p>\n"
    rows = [
        [
            ("t", _day(report, one.start_hour)),
            ("id", _e(one.entry.id)),
            ("n", percent(one.former.completeness)),
            ("n", percent(one.now.completeness)),
            ("t", _e(_moment(report, one.corrected_ns))),
            ("who", _e(one.entry.owner or word(language, "nobody"))),
        ]
        for one in report.corrections
    ]
    heads = (("", "day"), ("", "stream"), ("n", "former"), ("n", "now"), ("", "corrected_at"), ("", "department"))
    return _table([(kind, word(language, name)) for kind, name in heads], rows, language)


def _table(heads: Iterable[tuple[str, str]], rows: Sequence[Sequence[tuple[str, str]]], language: Language) -> str:
    """heads: class and text; rows: class and HTML of each cell."""
    head = "".join(f"<th{_class(kind)}>{_e(text)}</th>" for kind, text in heads)
    body = "\n".join(
        "<tr>" + "".join(f"<td{_class(kind)}>{cell}</td>" for kind, cell in row) + "</tr>" for row in rows[:MAX_ROWS]
    )
    more = len(rows) - MAX_ROWS
    rest = f"<p>{_e(word(language, 'more', count=more))}</p>\n" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>\n{rest}"


def _below(share: float | None, alarm: float) -> bool:
    return share is not None and share < alarm


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _bad(bad: bool) -> str:  # noqa: FBT001 - a class or none
    return ' class="bad"' if bad else ""


def _red(html: str, bad: bool) -> str:  # noqa: FBT001 - a colour or none
    return f'<span class="bad">{html}</span>' if bad else html


def _ledger(figures: Figures, language: Language) -> str:
    if not figures.closes:
        return word(language, "open", count=f"{figures.count(codes.UNEXPLAINED):,}")
    waiting = figures.count(codes.IN_FLIGHT)
    return word(language, "in_flight", count=f"{waiting:,}") if waiting else word(language, "closed")


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def _moment(report: Report, ns: int) -> str:
    return _local(report, timedelta(microseconds=ns // 1000)).strftime("%Y-%m-%d %H:%M")


def _hour(report: Report, hour: int) -> str:
    return _local(report, timedelta(hours=hour)).strftime("%Y-%m-%d %H:%M")


def _day(report: Report, start_hour: int) -> str:
    return _local(report, timedelta(hours=start_hour, minutes=59)).strftime("%Y-%m-%d")


def _local(report: Report, since_1970: timedelta) -> datetime:
    return (_EPOCH + since_1970).astimezone(ZoneInfo(report.zone))
