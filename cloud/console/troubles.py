"""What can be the matter with a device, the mildest first, each with its cause and what to do next, in two languages.

The words are for whoever must decide whom to send with which tool. Codes are those of contract.readings; what only the
hub can know (silence, a gateway that is away) is added.
"""

from dataclasses import dataclass

import numpy as np

from contract.readings import Ints, Quality, Reason


@dataclass(frozen=True, slots=True)
class Trouble:
    """rank: its place, the worst highest. kind: what ops staff filter by. gap: nothing usable comes meanwhile.

    cause, todo: English and Chinese.
    """

    rank: int
    code: str
    kind: str
    cause: tuple[str, str]
    todo: tuple[str, str]
    gap: bool = False


KINDS: dict[str, tuple[str, str]] = {
    "fine": ("fine", "正常"),
    "noisy": ("noisy", "跳变"),
    "stuck": ("stuck", "不变"),
    "range": ("out of range", "超限"),
    "clock": ("clock wrong", "时钟异常"),
    "blind": ("blind camera", "摄像机失明"),
    "fault": ("device fault", "设备故障"),
    "stale": ("stale", "过期"),
    "silent": ("silent", "无应答"),
    "offline": ("gateway away", "网关离线"),
}
_ORDER: list[tuple[str, str, bool, tuple[str, str], tuple[str, str]]] = [
    ("fine", "fine", False, ("sensing as it should", "工作正常"), ("nothing to do", "无需处理")),
    (
        "nobody", "fine", False, ("there was nobody to measure", "无测量对象"), ("nothing to do", "无需处理"),
    ),
    (
        "too_few", "fine", False, ("withheld, so that nobody is recognised", "为保护隐私不发布"),
        ("nothing to do", "无需处理"),
    ),
    (
        "partial_window", "fine", False, ("only a part of the interval was seen", "统计窗口不完整"),
        ("watch it; if it stays, check the camera's network", "继续观察；若持续，检查摄像机网络"),
    ),
    (
        "clock_estimated", "clock", False, ("the gateway's clock was not set when it measured", "测量时网关时钟未校准"),
        ("check the gateway's time source (NTP, GNSS)", "检查网关授时（NTP、卫星）"),
    ),
    (
        "rate_of_change", "noisy", False, ("it changed faster than physics allows", "变化速度超出物理可能"),
        ("check its cable, shield and earth", "检查线缆、屏蔽与接地"),
    ),
    (
        "view_poor", "blind", False, ("the picture is blurred, or its clock is wrong", "画面模糊或时间异常"),
        ("clean the lens, check focus and the camera's clock", "清洁镜头，检查对焦与摄像机时钟"),
    ),
    (
        "camera_moved", "blind", False, ("the camera was moved: its lines no longer fit", "摄像机被移动，标线已失准"),
        ("point it back, or confirm the new view on the gateway", "恢复角度，或在网关上确认新画面"),
    ),
    (
        "stuck", "stuck", False, ("the value has not changed for too long", "数值长时间不变"),
        ("compare on site; the sensor may be blocked or iced", "现场比对；探头可能堵塞或结冰"),
    ),
    (
        "out_of_range", "range", False, ("outside its valid range", "超出有效量程"),
        ("compare on site; check scaling and wiring", "现场比对；检查量程换算与接线"),
    ),
    (
        "sensor_fault", "fault", False, ("the device reports a fault of its own", "设备自报故障"),
        ("read its fault code, follow the maker's manual", "读取故障码，按厂家手册处理"),
    ),
    (
        "not_a_number", "fault", False, ("the device sends no number", "设备上报非数值"),
        ("check the sensor behind the device", "检查设备所接探头"),
    ),
    (
        "overrun", "silent", True, ("the bus was still busy with other devices", "总线繁忙，未轮询到"),
        ("poll less often, or move devices to another bus", "降低采集频率，或分到其他总线"),
    ),
    (
        "undecodable", "fault", True, ("its bytes form no value of the declared type", "数据无法按声明类型解码"),
        ("check the type and scaling in the gateway's configuration", "检查网关配置中的类型与换算"),
    ),
    (
        "no_register", "fault", True, ("the device has no such register", "设备无此寄存器"),
        ("check the register map for this model and firmware", "核对该型号与固件的寄存器表"),
    ),
    (
        "refused", "fault", True, ("the device refuses the request", "设备拒绝请求"),
        ("check the register map and access rights", "核对寄存器表与访问权限"),
    ),
    (
        "garbage", "fault", True, ("it answers, but not with valid frames", "有应答但报文错误"),
        ("check baud rate, parity, termination; two devices may share an address", "检查波特率、校验与地址冲突"),
    ),
    (
        "internal", "fault", True, ("a defect of the gateway's software", "网关软件缺陷"),
        ("send the gateway's log to the maker", "将网关日志发给厂家"),
    ),
    (
        "not_seen", "silent", True, ("nobody looked: start-up, overload, no frame", "未被分析：启动、过载或断流"),
        ("if it stays, check the gateway's load and the camera", "若持续，检查网关负载与摄像机"),
    ),
    (
        "camera_blind", "blind", True, ("it shows nothing: black, covered, or frozen", "摄像机画面黑屏、遮挡或冻结"),
        ("clear the lens, restart the camera", "清除遮挡，重启摄像机"),
    ),
    (
        "never_heard", "silent", True, ("nothing was ever heard of it", "从未收到数据"),
        ("is it installed? compare the gateway's configuration", "确认是否已安装；核对网关配置"),
    ),
    (
        "stale", "stale", True, ("nothing new for ten intervals", "超过十个周期无新数据"),
        ("look at the gateway's page: device or uplink?", "查看网关页面：设备还是上行链路"),
    ),
    (
        "silent", "silent", True, ("the device sends nothing", "设备无上报"),
        ("check its power and line", "检查供电与线路"),
    ),
    (
        "timeout", "silent", True, ("the device does not answer", "设备不应答"),
        ("check its power, address switch and line", "检查供电、地址拨码与线路"),
    ),
    (
        "disconnected", "silent", True, ("the port, adapter or connection is gone", "端口、适配器或连接断开"),
        ("check the adapter, cable and network between gateway and device", "检查网关与设备之间的适配器、线缆与网络"),
    ),
    (
        "gateway_off", "offline", True, ("the gateway was off", "网关停机"),
        ("check the gateway's power", "检查网关供电"),
    ),
    (
        "gateway_offline", "offline", True, ("its gateway is away", "所属网关离线"),
        ("check its power and uplink; it keeps what it reads", "检查供电与上行网络；数据暂存于网关"),
    ),
]  # fmt: skip

TROUBLES: list[Trouble] = [
    Trouble(rank, code, kind, cause, todo, gap) for rank, (code, kind, gap, cause, todo) in enumerate(_ORDER)
]
BY_CODE = {trouble.code: trouble for trouble in TROUBLES}
FINE, STALE = BY_CODE["fine"], BY_CODE["stale"]
NEVER_HEARD, GATEWAY_OFFLINE = BY_CODE["never_heard"], BY_CODE["gateway_offline"]


def _of_status(code: int) -> Trouble:
    quality, reason = Quality(code >> 6), code & 0x3F
    if quality is Quality.GOOD:
        return FINE
    known = {int(one): BY_CODE.get(one.name.lower()) for one in Reason}
    fallback = BY_CODE["internal"] if quality is Quality.MISSING else BY_CODE["sensor_fault"]
    return known.get(reason) or (FINE if quality is Quality.UNCERTAIN else fallback)


OF_STATUS: Ints = np.array([_of_status(code).rank for code in range(256)], dtype=np.int64)
"""The rank of each status byte's trouble."""
