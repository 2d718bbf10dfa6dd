"""The daily report's words, English and Chinese."""

from enum import StrEnum


class Language(StrEnum):
    """Languages of the report."""

    ENGLISH = "en"
    CHINESE = "zh"


_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Data quality report", "数据质量日报"),
    "day": ("Day", "日期"),
    "made": ("Made", "生成时间"),
    "zone": ("Time zone", "时区"),
    "unfinished": ("This day is not over: its figures will change.", "当日尚未结束，数据仍会变化。"),
    "summary": ("Summary", "总览"),
    "by_department": ("By department", "按责任部门"),
    "by_district": ("By district", "按区县"),
    "failing": ("Streams that need attention", "需要处理的数据流"),
    "none_failing": ("None: every stream met its targets.", "无：全部数据流达标。"),
    "corrections": ("Corrections of past days", "历史日期更正"),
    "no_corrections": ("No figures of past days changed.", "历史数据无更正。"),
    "more": ("{count} more are in the CSV of this report.", "另有 {count} 条，见本报告的 CSV 文件。"),
    "streams": ("Streams", "数据流"),
    "failing_count": ("Failing", "不达标"),
    "expected": ("Expected", "应到"),
    "suppressed": ("Unchanged, not sent", "未变化未上报"),
    "received": ("Received", "实到"),
    "missing": ("Missing", "缺失"),
    "completeness": ("Completeness", "完整率"),
    "validity": ("Valid", "有效率"),
    "freshness": ("Fresh", "及时在线率"),
    "p50": ("Delay p50", "时延 p50"),
    "p99": ("Delay p99", "时延 p99"),
    "ledger": ("Ledger", "台账"),
    "closed": ("closed", "平"),
    "in_flight": ("on its way: {count}", "在途 {count}"),
    "open": ("unexplained: {count}", "不明 {count}"),
    "stream": ("Stream", "数据流"),
    "what": ("What is the matter", "问题"),
    "since": ("Since", "起始"),
    "department": ("Department", "责任部门"),
    "contact": ("Contact", "联系人"),
    "nobody": ("not named", "未登记"),
    "district": ("District", "区县"),
    "former": ("Reported before", "原报"),
    "now": ("Now", "更正后"),
    "corrected_at": ("Corrected", "更正时间"),
    "city": ("All", "全部"),
    "or_before": ("or before", "或更早"),
    "explain": (
        (
            "Completeness = received / (expected - unchanged - withheld); a stream under {alarm} fails. Valid: "
            "share of the readings with quality GOOD. Fresh: share of the looks at which the newest sample was no "
            "older than {stale} intervals. Delay: from measurement to arrival."
        ),
        (
            "完整率 = 实到 /（应到 - 未变化未上报 - 依规不发布），低于 {alarm} 为不达标。"
            "有效率：质量为 GOOD 的读数占比。及时在线率：最新样本未超过 {stale} 个周期的巡查占比。时延：从测量到收到。"
        ),
    ),
    "is_incomplete": (
        "{percent} of what should have come was received; {missing} samples are missing",
        "仅收到应收数据的 {percent}，缺失 {missing} 条",
    ),
    "is_dead": ("nothing was received all day; {missing} samples are missing", "全天未收到数据，缺失 {missing} 条"),
    "is_invalid": ("only {percent} of its readings are good", "有效读数仅占 {percent}"),
    "is_unexplained": ("{count} samples are unexplained", "{count} 条去向不明"),
    "mostly": ("mostly: {reason} ({count})", "主要原因：{reason}（{count}）"),
    "page": ("Weinao hub", "微脑城市中枢"),
}

_REASONS: dict[str, tuple[str, str]] = {
    "timeout": ("the device did not answer in time", "设备应答超时"),
    "garbage": ("the device answered garbage", "设备应答报文错误"),
    "refused": ("the device refused the request", "设备拒绝请求"),
    "disconnected": ("the connection to the device is gone", "与设备的连接中断"),
    "overrun": ("the bus was too busy", "总线过忙"),
    "gateway_off": ("the gateway was off", "网关停机"),
    "silent": ("the device sent nothing", "设备无数据"),
    "undecodable": ("the device's bytes form no value", "数据无法解码"),
    "no_register": ("the device has no such register", "设备无此寄存器"),
    "internal": ("a defect of the gateway", "网关内部故障"),
    "not_seen": ("the camera's picture was not looked at", "画面未被分析"),
    "camera_blind": ("the camera saw nothing", "摄像机画面失效"),
    "out_of_range": ("outside the valid range", "超出有效范围"),
    "rate_of_change": ("changed faster than physics allows", "变化率异常"),
    "stuck": ("the value has not changed for too long", "数值长期不变"),
    "sensor_fault": ("the device reports a fault", "设备自报故障"),
    "not_a_number": ("the device sent no number", "非数值"),
    "clock_estimated": ("the gateway's clock was not set", "网关时钟未校准"),
    "partial_window": ("only a part of the interval was seen", "统计窗口不完整"),
    "camera_moved": ("the camera was moved", "摄像机被移动"),
    "view_poor": ("the camera's picture is poor", "画面质量差"),
    "unknown_stream": ("no birth names the stream", "未登记的数据流"),
    "wrong_kind": ("values of the wrong type", "数据类型不符"),
    "implausible_time": ("times in the far future", "时间不合理"),
    "same_time_twice": ("two readings of one time", "同一时刻重复"),
    "undated": ("readings without a date", "读数无时间"),
    "refused_by_store": ("the database refused the values", "数据库拒收"),
    "rejected_frame": ("whole messages were rejected", "整帧被拒"),
    "thinned": ("given up on the gateway, whose disk was full", "网关存储已满而稀释"),
    "awaited": ("nothing was heard of the gateway or stream", "网关或数据流无消息"),
    "in_flight": ("still on its way from the gateway", "仍在网关待传"),
    "unexplained": ("nothing accounts for it", "去向不明"),
}


def word(language: Language, key: str, **values: object) -> str:
    """A text of the report."""
    return _WORDS[key][language is Language.CHINESE].format(**values)


def reason_in_words(language: Language, reason: str) -> str:
    """A reason of gap, doubt or quarantine in words; the code itself for one that has none."""
    found = _REASONS.get(reason)
    return reason if found is None else found[language is Language.CHINESE]
