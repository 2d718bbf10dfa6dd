"""Why: "timeout" is no help on a ladder. A failure becomes one sentence: what is wrong, and what to check first.

What the other devices of the same bus do tells a broken line from a broken device, so it is part of every sentence
about no answer. Pure functions of facts; every reason of contract/readings.py has its words in both languages.
"""

from dataclasses import dataclass
from typing import Literal

from contract.readings import Reason

Language = Literal["en", "zh"]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Plight:
    """One failing device and its company.

    who: how it is called on its bus ("unit 3", or its name). where: the port or host. serial: it hangs on a serial
    line. well: how those of the same bus that answer are called; ill: how many others do not.
    """

    reason: Reason
    who: Pair
    where: str
    serial: bool = False
    well: tuple[Pair, ...] = ()
    ill: int = 0


_ALONE: dict[Reason, Pair] = {
    Reason.TIMEOUT: (
        "No answer on {where} from {who}: check its power, its address switch, and the wires{line}.",
        "{where} 上的{who}没有应答：请检查它的电源、地址开关和接线{line}。",
    ),
    Reason.GARBAGE: (
        "What comes from {who} on {where} is no valid message: check {speed}, its profile, and the cable's shield.",
        "{where} 上的{who}发来的不是有效报文：请检查{speed}、设备配置模板和电缆屏蔽。",
    ),
    Reason.SILENT: (
        "{who} on {where} says nothing: check its power, the wires{line}, and whether it is set to send by itself.",
        "{where} 上的{who}没有发送任何数据：请检查电源、接线{line}，以及它是否设为主动发送。",
    ),
}
_OTHERS_WELL: dict[Reason, Pair] = {
    Reason.TIMEOUT: (
        "No answer on {where}: {well} answers, {who} does not: check its address switch and power.",
        "{where} 上没有应答：{well}有应答，{who}没有：请检查它的地址开关和电源。",
    ),
    Reason.GARBAGE: (
        "{who} on {where} answers garbage, {well} answers well: check for two devices with one address, and {speed}.",
        "{where} 上的{who}应答乱码，{well}应答正常：请检查是否有两台设备地址相同，以及本设备的{speed}。",
    ),
}
_OTHERS_ILL: dict[Reason, Pair] = {
    Reason.TIMEOUT: (
        "Nobody answers on {where} ({count} devices): check the cable{line}, the power of the bus, and {speed}.",
        "{where} 上没有任何设备应答（共 {count} 台）：请检查电缆{line}、总线电源和{speed}。",
    ),
    Reason.GARBAGE: (
        "Everything on {where} is garbage ({count} devices): check {speed}, the termination, and A and B.",
        "{where} 上全是乱码（共 {count} 台）：请检查{speed}、终端电阻以及 A、B 线。",
    ),
}
_ANY: dict[Reason, Pair] = {
    Reason.REFUSED: (
        "{who} on {where} answers, but refuses: check that the profile fits this model and that the device is ready.",
        "{where} 上的{who}有应答但拒绝请求：请检查配置模板是否适合此型号，以及设备是否已就绪。",
    ),
    Reason.DISCONNECTED: (
        "No connection to {where}: check the network cable, the device's power, and that its address is right.",
        "无法连接 {where}：请检查网线、设备电源以及地址是否正确。",
    ),
    Reason.OVERRUN: (
        "{where} has more to do than time: ask less often (interval_s), raise the speed, or split the bus.",
        "{where} 太忙，来不及采样：请加大采样间隔（interval_s）、提高波特率或拆分总线。",
    ),
    Reason.GATEWAY_OFF: ("The gateway was not running then.", "当时网关没有运行。"),
    Reason.UNDECODABLE: (
        "What {who} sends forms no value of this type: check format, byte order and address against its manual.",
        "{who}发来的数据不能组成该类型的值：请对照手册检查格式、字节序和地址。",
    ),
    Reason.NO_REGISTER: (
        "{who} has no such register: the profile does not fit this model or its firmware; check its type plate.",
        "{who}没有该寄存器：配置模板与型号或固件不符，请核对铭牌。",
    ),
    Reason.INTERNAL: (
        "A defect of the gateway, not of your work: note the time, and send its log to who supports it.",
        "这是网关自身的缺陷，与您的施工无关：请记下时间，并把日志发给技术支持。",
    ),
    Reason.NOT_SEEN: (
        "Nobody has looked yet: wait a minute; if it stays so, the gateway has too much to do or no picture comes.",
        "尚未看到画面：请等一分钟；若仍如此，则网关过载或没有图像到达。",
    ),
    Reason.CAMERA_BLIND: (
        "The camera sends pictures that show nothing: clean the lens, look for a cover, and check its exposure.",
        "摄像机有图像但什么也看不清：请擦拭镜头、检查是否被遮挡，并检查曝光设置。",
    ),
    Reason.TOO_FEW: (
        "So few that a person could be recognised: withheld on purpose, nothing to do.",
        "数量过少，可能识别出个人：按规定不予发布，无需处理。",
    ),
    Reason.NOBODY: ("There was nothing to take a mean of: nothing to do.", "没有可供平均的对象：无需处理。"),
    Reason.OUT_OF_RANGE: (
        "The value is outside its valid range: check the sensor, its wires, and scale and range in the configuration.",
        "数值超出有效范围：请检查传感器、接线，以及配置中的比例和量程。",
    ),
    Reason.RATE_OF_CHANGE: (
        "The value changes faster than it can: look for a loose contact or interference on the sensor's cable.",
        "数值变化过快，不合常理：请检查传感器电缆是否接触不良或受干扰。",
    ),
    Reason.STUCK: (
        "The value has not changed for too long: check whether the sensor is frozen, blocked or in simulation mode.",
        "数值长时间不变：请检查传感器是否卡死、被堵住或处于仿真模式。",
    ),
    Reason.SENSOR_FAULT: (
        "The device itself reports a fault of this sensor: look at its display or fault lamp, then at its manual.",
        "设备自己报告该传感器故障：请看其显示屏或故障灯，再查手册。",
    ),
    Reason.NOT_A_NUMBER: (
        "The device sends 'not a number': check that the sensor is plugged in and that format and byte order fit.",
        "设备发来的不是数字（NaN）：请检查传感器是否插好，以及格式和字节序是否正确。",
    ),
    Reason.CLOCK_ESTIMATED: (
        "The time of this value is estimated: check that the gateway or the device knows the time.",
        "该值的时间为估计值：请检查网关或设备是否已对时。",
    ),
    Reason.PARTIAL_WINDOW: (
        "This window was not wholly seen: nothing to do if the device answers now.",
        "该统计窗口不完整：若设备现在应答正常，则无需处理。",
    ),
    Reason.CAMERA_MOVED: (
        "The camera was moved: turn it back, or draw its lines anew with 'weinao-gateway aim'.",
        "摄像机已移位：请转回原位，或用 weinao-gateway aim 重新画线。",
    ),
    Reason.VIEW_POOR: (
        "The picture is poor, so things may be missed: clean the lens, check focus, light, and the camera's clock.",
        "画面质量差，可能漏计：请擦拭镜头，检查对焦、光线和摄像机时钟。",
    ),
    Reason.NONE: ("The device is failing, and nothing more is known.", "设备异常，原因不明。"),
}
_SERIAL_GONE: Pair = (
    "The serial port {where} is not there or not free: check that its adapter is plugged in and nobody else uses it.",
    "串口 {where} 不存在或被占用：请检查适配器是否插好，以及是否有其他程序在使用。",
)
_LINE: Pair = (" (A and B swapped?)", "（A、B 是否接反）")
_SPEED: Pair = ("baud rate and parity", "波特率和校验位")
_SPEED_NETWORK: Pair = ("the settings of the converter", "转换器的设置")


def cause(plight: Plight, language: Language) -> str:
    """One sentence: what is wrong, and what to check."""
    index = 0 if language == "en" else 1
    text = _sentence(plight)[index].format(
        where=plight.where,
        who=plight.who[index],
        well=plight.well[0][index] if plight.well else "",
        count=plight.ill + 1,
        line=_LINE[index] if plight.serial else "",
        speed=(_SPEED if plight.serial else _SPEED_NETWORK)[index],
    )
    # A path at the beginning stays as it is; "unit 3" begins with a capital.
    return text[:1].upper() + text[1:] if text.startswith("unit") else text


def _sentence(plight: Plight) -> Pair:
    reason = plight.reason
    if reason is Reason.DISCONNECTED and plight.serial:
        return _SERIAL_GONE
    if plight.well and reason in _OTHERS_WELL:
        return _OTHERS_WELL[reason]
    if plight.ill and not plight.well and reason in _OTHERS_ILL:
        return _OTHERS_ILL[reason]
    return _ALONE.get(reason) or _ANY[reason]
