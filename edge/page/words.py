"""Every text of the page in English and Chinese; sentences about failures are in edge/page/causes.py.

Chosen by `?lang=`, else by the cookie that remembers it, else by the browser's own list.
"""

from edge.page.causes import Language

LANGUAGES: dict[Language, str] = {"en": "English", "zh": "中文"}

WORDS: dict[str, tuple[str, str]] = {
    # Everywhere.
    "title": ("Gateway {gateway}", "网关 {gateway}"),
    "devices": ("Devices", "设备"),
    "gateway": ("Gateway", "网关"),
    "sheet": ("Sheet", "验收单"),
    "skip": ("To the content", "跳到正文"),
    "menu": ("Pages", "页面"),
    "language": ("Language", "语言"),
    "logout": ("Log out", "退出登录"),
    "stale": (
        "No word from the gateway. What you see is old.",
        "与网关失去联系，当前显示的是旧数据。",
    ),
    "back": ("All devices", "全部设备"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "unknown": ("not known", "未知"),
    "never": ("never", "从未"),
    "none": ("none", "无"),
    # Times.
    "ago": ("{time} ago", "{time}前"),
    "s": ("{n} s", "{n} 秒"),
    "min": ("{n} min", "{n} 分钟"),
    "h": ("{n} h", "{n} 小时"),
    "d": ("{n} days", "{n} 天"),
    # Login.
    "login": ("Log in", "登录"),
    "password": ("Password of this page", "本页面的密码"),
    "login_help": (
        "It is in the file that the gateway's configuration names at page.password_file.",
        "密码在网关配置项 page.password_file 所指的文件中。",
    ),
    "wrong": ("That is not the password.", "密码不正确。"),
    "wait": ("Too many wrong passwords. Try again in {time}.", "密码错误次数过多，请在 {time}后再试。"),
    # Devices.
    "all_good": ("All {n} devices are well.", "{n} 台设备全部正常。"),
    "some_ill": ("Needs work: {ill} of {n} devices.", "{n} 台设备中有 {ill} 台需要处理。"),
    "page_of": ("Page {page} of {pages}", "第 {page} 页，共 {pages} 页"),
    "next": ("Next", "下一页"),
    "previous": ("Previous", "上一页"),
    "mood_good": ("Well", "正常"),
    "mood_doubtful": ("Check", "需检查"),
    "mood_failing": ("Fails", "故障"),
    "mood_waiting": ("Waiting", "等待中"),
    "waiting_text": ("It was not heard yet since the gateway started.", "网关启动后尚未收到它的数据。"),
    "last_good": ("Last good", "最近正常"),
    "round_trip": ("Round trip", "往返时间"),
    "round_trip_max": ("slowest {n} ms", "最慢 {n} 毫秒"),
    "ms": ("{n} ms", "{n} 毫秒"),
    "speaks": ("speaks by itself", "主动发送"),
    "success": ("Success", "成功率"),
    "more_values": ("and {n} more values", "另有 {n} 个数值"),
    # One device.
    "values": ("Values", "数值"),
    "value": ("Value", "数值"),
    "stream": ("Stream", "数据流"),
    "quality": ("Quality", "质量"),
    "age": ("Age", "时间"),
    "last_value": ("last: {value}", "上次：{value}"),
    "quality_good": ("good", "良好"),
    "quality_uncertain": ("uncertain", "存疑"),
    "quality_bad": ("bad", "无效"),
    "quality_missing": ("missing", "缺失"),
    "quality_unknown": ("not yet", "暂无"),
    "where": ("Where", "位置"),
    "bus": ("Bus", "总线"),
    "called": ("On the bus", "总线地址"),
    "make": ("Make and model", "厂商与型号"),
    "serial_number": ("Serial number", "序列号"),
    "driver_words": ("The driver says", "驱动程序原文"),
    # Test.
    "test": ("Test this device now", "立即测试此设备"),
    "testing": ("Testing …", "正在测试……"),
    "test_help": (
        "Asks it once, in turn with the others of its bus. Nothing of it is published.",
        "在总线上轮到它时询问一次，测试数据不会发布。",
    ),
    "test_result": ("Test at {time}", "测试于 {time}"),
    "test_ok": ("It answers.", "有应答。"),
    "test_heard": ("It was heard and understood.", "已收到并能正确解析。"),
    "test_failed": ("It failed.", "测试失败。"),
    "test_no_wire": (
        "This kind of device ({driver}) has no request and reply on a wire that could be shown. Its state is above.",
        "此类设备（{driver}）没有可显示的线路请求与应答，其状态见上。",
    ),
    "test_no_bytes": ("Not one byte was seen on the wire.", "线路上没有看到任何字节。"),
    "test_busy": ("Another test is under way, or was just now. Try again.", "另一项测试正在进行或刚刚结束，请重试。"),
    "took": ("Took {n} ms", "用时 {n} 毫秒"),
    "request": ("Request", "请求"),
    "reply": ("Reply", "应答"),
    "bytes_heard": ("Heard", "收到"),
    "bytes": ("{n} bytes", "{n} 字节"),
    "left_out": ("{n} more bytes are not shown.", "另有 {n} 字节未显示。"),
    "decoded": ("Decoded", "解析结果"),
    # Gateway.
    "uplink": ("Uplink", "上行链路"),
    "state": ("State", "状态"),
    "connected": ("Connected", "已连接"),
    "not_connected": ("NOT connected", "未连接"),
    "since": ("Since", "持续时间"),
    "broker": ("Broker", "消息代理"),
    "last_ack": ("Last acknowledgement", "最近确认"),
    "frames_acknowledged": ("Frames acknowledged", "已确认帧数"),
    "retransmitted": ("Sent again", "重发帧数"),
    "last_error": ("Last problem", "最近问题"),
    "uplink_help": (
        "Readings wait on this disk, none is lost. Check cable or mobile signal, then the broker's address and files.",
        "数据保存在本机磁盘，不会丢失。请先检查网线或移动信号，再检查消息代理地址和证书。",
    ),
    "unacknowledged": (
        "Connected, but the city's database acknowledges nothing: readings wait on this disk. Tell the operator.",
        "已连接，但城市数据库没有确认任何数据：读数保存在本机磁盘。请通知运维人员。",
    ),
    "signal": ("Signal", "信号"),
    "signal_dbm": ("{n} dBm, {word}", "{n} dBm，{word}"),
    "signal_strong": ("strong", "强"),
    "signal_fair": ("fair", "中"),
    "signal_weak": ("weak", "弱"),
    "signal_no": ("not known: the system does not tell", "未知：系统未提供"),
    "link_cable": ("cable", "有线"),
    "link_wifi": ("Wi-Fi", "Wi-Fi"),
    "link_mobile": ("mobile", "移动网络"),
    "link_other": ("other", "其他"),
    "link_up": ("up", "已连通"),
    "link_down": ("down", "已断开"),
    "link_default": ("the way out", "默认出口"),
    "outbox": ("Outbox", "发件箱"),
    "frames_waiting": ("Frames waiting", "等待帧数"),
    "size": ("Size", "大小"),
    "of": ("{part} of {whole}", "{part}，共 {whole}"),
    "oldest": ("Oldest", "最早一帧"),
    "dead_letters": ("Dead letters", "死信"),
    "thinned": ("Readings thinned", "已抽稀读数"),
    "clock": ("Clock", "时钟"),
    "time_now": ("Time now", "当前时间"),
    "trusted": ("Trusted", "可信"),
    "not_trusted": ("not yet: readings wait to be dated", "尚不可信：读数待定时间"),
    "steps": ("Jumps since start", "启动后跳变次数"),
    "machine": ("Machine", "主机"),
    "disk_free": ("Disk free", "磁盘剩余"),
    "memory": ("Memory of the gateway", "网关占用内存"),
    "memory_free": ("Memory free", "剩余内存"),
    "load": ("Load", "负载"),
    "up_since": ("Machine up for", "主机已运行"),
    "gateway_up": ("Gateway up for", "网关已运行"),
    "versions": ("Versions", "版本"),
    "software": ("Weinao", "微脑"),
    "epoch": ("Configuration epoch", "配置纪元"),
    "host": ("Host", "主机名"),
    "system": ("System", "操作系统"),
    # Sheet.
    "sheet_title": ("Acceptance report", "验收报告"),
    "sheet_help": (
        "Fill in, then print or save as PDF. What the sheet shows is how the devices are at the moment you ask for it.",
        "填写后可打印或另存为 PDF。报告内容为生成时刻的设备状态。",
    ),
    "technician": ("Technician", "技术员"),
    "remarks": ("Remarks", "备注"),
    "make_sheet": ("Make the sheet", "生成验收单"),
    "print": ("Print", "打印"),
    "print_help": ("No button? Use the browser's own menu: Print.", "没有按钮？请使用浏览器菜单中的“打印”。"),
    "site": ("Site", "站点"),
    "area": ("Area", "区域"),
    "made_at": ("Made at", "生成时间"),
    "summary": ("Summary", "结论"),
    "sign_technician": ("Technician, date, signature", "技术员、日期、签字"),
    "sign_accepted": ("Accepted by, date, signature", "验收人、日期、签字"),
    "write_in": ("(write in)", "（手填）"),
    # Problems.
    "not_found": ("There is no such page here.", "没有这个页面。"),
    "forbidden": (
        "This form is not from a page of your login. Go back, load the page again, and repeat.",
        "该表单不属于当前登录会话。请返回、刷新页面后重试。",
    ),
    "too_large": ("That is more than this page takes.", "内容过长，无法接收。"),
    "bad_request": ("The gateway did not understand this request.", "网关无法理解该请求。"),
    "problem": ("That did not work", "操作未成功"),
}


def say(language: Language, key: str, /, **values: object) -> str:
    """A text in a language."""
    return WORDS[key][0 if language == "en" else 1].format(**values)


def chosen(asked: str | None, remembered: str | None, accepted: str) -> Language:
    """The language of an answer. asked: by `?lang=`. remembered: the cookie. accepted: the Accept-Language header."""
    for name in (asked, remembered):
        for language in LANGUAGES:
            if name == language:
                return language
    weights: list[tuple[float, Language]] = []
    for part in accepted[:400].split(","):
        tag, _, parameter = part.strip().lower().partition(";q=")
        try:
            weight = float(parameter or 1)
        except ValueError:
            weight = 0.0
        weights += [(weight, language) for language in LANGUAGES if tag.partition("-")[0] == language]
    return max(weights, key=lambda one: one[0])[1] if weights else "en"


def span(language: Language, seconds: float) -> str:
    """A length of time as people say it."""
    size = max(0.0, seconds)
    for key, unit_s, below_s in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if size < below_s:
            return say(language, key, n=f"{size:.1f}" if size < 10 else f"{size / unit_s:.0f}")
    return say(language, "d", n=f"{size / 86_400:.0f}")


def ago(language: Language, seconds: float | None) -> str:
    """How long ago, or never."""
    return say(language, "never") if seconds is None else say(language, "ago", time=span(language, seconds))


def size(count: float) -> str:
    """Bytes as people write them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def signal_word(dbm: float) -> str:
    """The key of the word for a signal."""
    return "signal_strong" if dbm >= -60 else "signal_fair" if dbm >= -75 else "signal_weak"
