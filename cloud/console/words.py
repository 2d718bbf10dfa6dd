"""The console's texts, English and Chinese. A page asks for a word by its key; a missing one fails its test."""

from collections.abc import Callable

LANGUAGES = {"en": "English", "zh": "中文"}
COOKIE = "weinao_lang"
Say = Callable[..., str]

_WORDS: dict[str, tuple[str, str]] = {
    "product": ("Weinao", "微脑"),
    "console": ("Sensing console", "感知运维台"),
    "skip": ("Skip to content", "跳到正文"),
    "menu": ("Menu", "菜单"),
    "language": ("中文", "English"),
    "log_in": ("Log in", "登录"),
    "log_out": ("Log out", "退出"),
    "token": ("Token", "令牌"),
    "token_help": (
        "Your department's administrator has it: weinao-cloud token create",
        "由本部门管理员发放：weinao-cloud token create",
    ),
    "token_wrong": ("This token is unknown, expired or revoked.", "令牌无效、已过期或已吊销。"),
    "token_busy": ("Too many wrong tokens. Wait a minute.", "错误次数过多，请稍候一分钟。"),
    "hub_away": ("The hub's database does not answer. Try again.", "数据库暂无应答，请重试。"),
    "everywhere": ("everywhere", "全域"),
    "overview": ("Overview", "总览"),
    "health": ("Sensor health", "设备健康"),
    "question": ("Is the city sensing?", "城市感知是否正常？"),
    "yes": ("Yes", "正常"),
    "mostly": ("Mostly", "基本正常"),
    "no": ("No", "异常"),
    "devices_fine": ("devices fine", "台设备正常"),
    "gateways_online": ("gateways online", "网关在线"),
    "devices_working": ("devices working", "设备正常"),
    "streams_fresh": ("streams fresh", "数据流新鲜"),
    "completeness": ("complete today", "今日完整率"),
    "unexplained": ("readings unexplained today", "今日去向不明读数"),
    "alerts_open": ("open alerts", "未清除告警"),
    "of": ("of {all}", "共 {all}"),
    "as_of": ("as of {time}", "截至 {time}"),
    "no_figures": ("no figures yet", "暂无统计"),
    "worse": ("What got worse in the last hour", "近一小时新增异常"),
    "nothing_worse": ("Nothing got worse in the last hour.", "近一小时无新增异常。"),
    "by_area": ("By district", "按辖区"),
    "by_owner": ("By department", "按部门"),
    "unowned": ("no owner named", "未登记归属"),
    "device": ("Device", "设备"),
    "devices": ("Devices", "设备数"),
    "in_trouble": ("In trouble", "异常"),
    "working": ("Working", "正常率"),
    "state": ("State", "状态"),
    "cause": ("What is the matter", "原因"),
    "since": ("Since", "起始"),
    "owner": ("Department", "责任部门"),
    "contact": ("Whom to ask", "联系人"),
    "todo": ("What to do next", "下一步"),
    "area": ("Area", "区域"),
    "gateway": ("Gateway", "网关"),
    "shape": ("Newest values", "近期数值"),
    "last_good": ("Last good", "最近正常"),
    "all": ("All", "全部"),
    "trouble": ("All trouble", "全部异常"),
    "search": ("Search name, site, department", "搜索名称、位置、部门"),
    "group_by": ("Group by", "分组"),
    "group_none": ("no grouping", "不分组"),
    "export": ("Export CSV", "导出 CSV"),
    "shown": ("{count} devices shown", "显示 {count} 台设备"),
    "clear": ("Clear filters", "清除筛选"),
    "ago_s": ("{n} s ago", "{n} 秒前"),
    "ago_min": ("{n} min ago", "{n} 分钟前"),
    "ago_h": ("{n} h ago", "{n} 小时前"),
    "ago_d": ("{n} d ago", "{n} 天前"),
    "lost": (
        "The hub does not answer. Trying again; what you see may be old.",
        "与服务断开，正在重连；内容可能已过时。",
    ),
    "not_yours": ("not yours to see", "无权查看"),
}


def speaking(language: str) -> Say:
    """The words of a language."""
    at = int(language == "zh")

    def say(key: str, **values: object) -> str:
        return _WORDS[key][at].format(**values)

    return say


def language_of(cookie: str | None, accept: str) -> str:
    """What was chosen before, or the first of ours in Accept-Language; English when there is none."""
    if cookie in LANGUAGES:
        return cookie
    for part in accept.lower().split(","):
        code = part.split(";")[0].strip().split("-")[0]
        if code in LANGUAGES:
            return code
    return "en"


def ago(say: Say, seconds: float) -> str:
    """How long ago, for people."""
    seconds = max(0.0, seconds)
    for key, unit_s, limit_s in (("ago_s", 1, 120), ("ago_min", 60, 7200), ("ago_h", 3600, 172_800)):
        if seconds < limit_s:
            return say(key, n=int(seconds // unit_s))
    return say("ago_d", n=int(seconds // 86_400))
