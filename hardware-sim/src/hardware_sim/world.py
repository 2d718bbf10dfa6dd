"""One street, whole: every sensor of a scenario looks at the same weather, the same lamps, the same power.

A pure function of (seed, quantity, time), so a test may run it at any speed, start anywhere and ask twice. Rain cools,
clouds darken, wind and rain clean the air, lamps load the meters at night, rain fills the sumps. Times are seconds
since 1970 (UTC); the street keeps its own local time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from hardware_sim.waves import DAY_S, DailySteps, Floats, Noise, Waves, generator

Sensed: TypeAlias = dict[str, Floats]

EPOCH_S = 1_735_660_800.0  # 2025-01-01 00:00 at UTC+8: counters start here, so they are years old, not centuries
LATITUDE_DEG = 31.2
SUNSET_H, NIGHT_H, LATE_NIGHT_H, SUNRISE_H = 18.5, 23.0, 5.0, 6.0
LAMP_WATTS = 110.0
NOMINAL_VOLTS = 230.0


@dataclass(frozen=True)
class World:
    """One seeded street.

    Parts answer `sense(times_s)`: a dict of quantity name to an array as long as the times. `meter`, `lamp` and `pump`
    take the instance's number; each number is another one, always the same for the same seed.
    """

    seed: int
    utc_offset_s: float = 8 * 3600.0

    @cached_property
    def weather(self) -> "Weather":
        """Temperature, humidity, pressure, wind, rain and light."""
        return Weather(self)

    @cached_property
    def air(self) -> "Air":
        """Dust: mass concentrations and particle counts."""
        return Air(self)

    def corner(self, number: int) -> "Corner":
        """One place in the street: its air is a little warmer or drier than the weather's."""
        return Corner(self, number)

    def meter(self, number: int) -> "Meter":
        """A three-phase meter that feeds houses and lamps."""
        return Meter(self, number)

    def lamp(self, number: int) -> "Lamp":
        """A street light on a time switch."""
        return Lamp(self, number)

    def pump(self, number: int) -> "Pump":
        """A pump that empties a sump whenever it is full."""
        return Pump(self, number)

    def waves(self, label: str, mean: float, amplitude: float, slowest_s: float, fastest_s: float) -> Waves:
        """A smooth signal of this world, named by its label."""
        random = generator(self.seed, label)
        return Waves(random, mean=mean, amplitude=amplitude, slowest_s=slowest_s, fastest_s=fastest_s)

    def since_epoch(self, times_s: Floats) -> Floats:
        """Seconds since EPOCH_S: what slow signals are computed from."""
        return times_s - EPOCH_S

    def local(self, times_s: Floats) -> Floats:
        """Seconds since the local midnight before EPOCH_S (2025-01-01 in local time)."""
        return times_s + self.utc_offset_s - 1_735_689_600.0


class Weather:
    """Units: degC, %, hPa, m/s, degrees, mm/h, lux."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._warmth = world.waves("warmth", 0, 3, 9 * DAY_S, 3600)
        self.wetness = world.waves("wetness", 0, 1, 5 * DAY_S, 2 * 3600)
        self._cloud = world.waves("cloud", 0.45, 0.4, 2 * DAY_S, 600)
        self._pressure = world.waves("pressure", 1013, 9, 7 * DAY_S, 6 * 3600)
        self._wind = world.waves("wind", 3, 2.6, 3 * DAY_S, 40)
        self._direction = world.waves("direction", 180, 170, 2 * DAY_S, 60)
        self._noises = {
            name: Noise(world.seed, name, amplitude)
            for name, amplitude in (("temperature", 0.06), ("humidity", 0.2), ("pressure", 0.05), ("gust", 0.4))
        }

    def sense(self, times_s: Floats) -> Sensed:
        """temperature, humidity, dew_point, pressure, wind_speed, wind_direction, rain, cloud, illuminance."""
        since = self._world.since_epoch(times_s)
        local = self._world.local(times_s)
        noise = {name: source.at(times_s) for name, source in self._noises.items()}
        hours = np.mod(local, DAY_S) / 3600
        year = 2 * np.pi * local / (365.25 * DAY_S)
        wetness = self.wetness.at(since)
        rain = np.maximum(0, wetness - 0.35) * 24
        cloud = np.clip(self._cloud.at(since) + 0.5 * wetness, 0, 1)
        swing = np.cos(2 * np.pi * (hours - 15) / 24) * (1 - 0.5 * cloud)
        temperature = 16.5 - 12 * np.cos(year - 0.35) + 5 * swing + self._warmth.at(since)
        temperature += noise["temperature"] - 2.5 * np.minimum(1, rain / 5)
        humidity = np.clip(66 - 14 * swing + 30 * wetness + noise["humidity"], 12, 100)
        magnus = np.log(humidity / 100) + 17.62 * temperature / (243.12 + temperature)
        return {
            "temperature": temperature,
            "humidity": humidity,
            "dew_point": 243.12 * magnus / (17.62 - magnus),
            "pressure": self._pressure.at(since) - 4 * wetness + noise["pressure"],
            "wind_speed": np.abs(self._wind.at(since) + noise["gust"]),
            "wind_direction": np.mod(self._direction.at(since) + 6 * noise["gust"], 360),
            "rain": rain,
            "cloud": cloud,
            "illuminance": _daylight(hours, year) * (1 - 0.75 * cloud) + 0.2,
        }


class Corner:
    """Units: degC, %. The weather, as a wall in the sun or a tree has it here."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._bias = float(generator(world.seed, f"corner/{number}").uniform(-0.8, 0.8))
        self._warmth = world.waves(f"corner/{number}", 0, 0.4, 6 * 3600, 300)

    def sense(self, times_s: Floats) -> Sensed:
        """temperature, humidity."""
        weather = self._world.weather.sense(times_s)
        warmer = self._bias + self._warmth.at(self._world.since_epoch(times_s))
        humidity = np.clip(weather["humidity"] - 3 * warmer, 5, 100)
        return {"temperature": weather["temperature"] + warmer, "humidity": humidity}


def _daylight(hours: Floats, year: Floats) -> Floats:
    """Clear-sky lux from the sun's height; twilight as a short exponential below the horizon."""
    latitude = np.radians(LATITUDE_DEG)
    declination = np.radians(-23.44) * np.cos(year + 0.17)
    height = np.sin(latitude) * np.sin(declination)
    height = height + np.cos(latitude) * np.cos(declination) * np.cos(np.pi * (hours - 12) / 12)
    values: Floats = 110_000 * np.maximum(0, height) ** 1.2 + 400 * np.exp(-np.abs(height) * 45)
    return values


class Air:
    """Units: ug/m3, and particles per 0.1 L above each diameter (um), as dust sensors tell them."""

    # A particle count per ug/m3 of PM2.5, above 0.3, 0.5, 1.0, 2.5, 5 and 10 um: falling, as in real dust.
    COUNTS = (("n0_3", 165.0), ("n0_5", 48.0), ("n1_0", 8.5), ("n2_5", 0.9), ("n5_0", 0.2), ("n10", 0.06))

    def __init__(self, world: World) -> None:
        self._world = world
        self._background = world.waves("dust", 0, 0.9, 6 * DAY_S, 1800)
        self._traffic = world.waves("traffic", 1, 0.5, 3 * 3600, 30)
        self._noise = Noise(world.seed, "dust", 0.6)

    def sense(self, times_s: Floats) -> Sensed:
        """pm1, pm2_5, pm10 and the counts n0_3 ... n10."""
        since = self._world.since_epoch(times_s)
        hours = np.mod(self._world.local(times_s), DAY_S) / 3600
        weather = self._world.weather.sense(times_s)
        rush = np.exp(-((hours - 8) ** 2) / 2) + np.exp(-((hours - 18) ** 2) / 3)
        washed = (1 + 0.25 * weather["rain"]) * (0.6 + 0.15 * weather["wind_speed"])
        raw = 32 * np.exp(self._background.at(since)) * (1 + 0.5 * rush * self._traffic.at(since)) / washed
        fine = np.clip(raw + self._noise.at(times_s), 1, 900)
        sensed = {"pm1": 0.66 * fine, "pm2_5": fine, "pm10": 1.35 * fine + 4 * rush}
        for name, per_microgram in self.COUNTS:
            sensed[name] = fine * per_microgram
        return sensed


class Meter:
    """Units: V, A, W, VA, var, Hz, kWh, kvarh. Energy is the exact integral of the power shown."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        label = f"meter/{number}"
        random = generator(world.seed, label)
        self._energy_0 = random.uniform(100, 900)
        self._loads = [
            world.waves(f"{label}/load{phase}", random.uniform(1600, 3400), 1200, 12 * 3600, 45) for phase in (1, 2, 3)
        ]
        self._volts = [world.waves(f"{label}/volt{phase}", NOMINAL_VOLTS, 3.5, 6 * 3600, 20) for phase in (1, 2, 3)]
        self._factor = world.waves(f"{label}/factor", 0.93, 0.05, 8 * 3600, 60)
        self._frequency = world.waves("grid", 50, 0.035, 900, 5)  # one grid: every meter sees the same
        self._lamps = DailySteps((0, LATE_NIGHT_H, SUNRISE_H, SUNSET_H, NIGHT_H), (0.6, 1, 0, 1, 0.6))
        self._lamp_watts = LAMP_WATTS * 4  # lamps a phase
        self._noise = [Noise(world.seed, f"{label}/volt{phase}", 0.15) for phase in (1, 2, 3)]

    def sense(self, times_s: Floats) -> Sensed:
        """voltage_lN, current_lN, power_lN, apparent_lN, reactive_lN, factor_lN, totals, frequency and energies."""
        since = self._world.since_epoch(times_s)
        local = self._world.local(times_s)
        factor = self._factor.at(since)
        lamps = self._lamp_watts * self._lamps.at(local)
        sensed: Sensed = {}
        for index in range(3):
            phase = f"l{index + 1}"
            power = self._loads[index].at(since) + lamps
            volts = self._volts[index].at(since) - power / 2500 + self._noise[index].at(times_s)
            sensed[f"voltage_{phase}"] = volts
            sensed[f"power_{phase}"] = power
            sensed[f"apparent_{phase}"] = power / factor
            sensed[f"reactive_{phase}"] = power * np.sqrt(1 / factor**2 - 1)
            sensed[f"current_{phase}"] = power / factor / volts
            sensed[f"factor_{phase}"] = factor
        for name in ("power", "apparent", "reactive", "current"):
            sensed[f"{name}_total"] = sum((sensed[f"{name}_l{n}"] for n in (1, 2, 3)), np.zeros_like(times_s))
        sensed["voltage_mean"] = sum((sensed[f"voltage_l{n}"] for n in (1, 2, 3)), np.zeros_like(times_s)) / 3
        for first, second in ((1, 2), (2, 3), (3, 1)):  # two phases 120 degrees apart
            v, w = sensed[f"voltage_l{first}"], sensed[f"voltage_l{second}"]
            sensed[f"voltage_l{first}{second}"] = np.sqrt(v * v + w * w + v * w)
        i1, i2, i3 = (sensed[f"current_l{n}"] for n in (1, 2, 3))
        unbalance = i1 * i1 + i2 * i2 + i3 * i3 - i1 * i2 - i2 * i3 - i3 * i1
        sensed["current_neutral"] = np.sqrt(np.maximum(0, unbalance))
        sensed["current_mean"] = sensed["current_total"] / 3
        sensed["factor_total"] = factor
        sensed["frequency"] = self._frequency.at(since)
        joules = sum((load.integral(since) for load in self._loads), np.zeros_like(times_s))
        joules = joules + 3 * self._lamp_watts * self._lamps.integral(local)
        sensed["energy_import"] = self._energy_0 + joules / 3.6e6
        sensed["energy_export"] = np.zeros_like(times_s)
        sensed["reactive_energy_import"] = sensed["energy_import"] * 0.37
        return sensed


class Lamp:
    """Units: bool, %, A, hours, bits. On by a time switch, dimmed late at night, now and then broken for a day."""

    LAMP_FAILURE = 1

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        random = generator(world.seed, f"lamp/{number}")
        early = random.uniform(-0.08, 0.08)
        hours = (0, LATE_NIGHT_H + early, SUNRISE_H + early, SUNSET_H + early, NIGHT_H + early)
        self._on = DailySteps(hours, (1, 1, 0, 1, 1))
        self._dim = DailySteps(hours, (60, 100, 0, 100, 60))
        self.full_amps = float(LAMP_WATTS / NOMINAL_VOLTS * random.uniform(0.97, 1.03))
        self._hours_0 = random.uniform(500, 9000)
        self._noise = Noise(world.seed, f"lamp/{number}", 0.004)
        self._bad_days = frozenset(int(day) for day in np.flatnonzero(random.random(3650) < 0.01))

    def sense(self, times_s: Floats) -> Sensed:
        """on, dim_level, current, burning_hours, fault (bit 0: the lamp draws nothing although it is on)."""
        local = self._world.local(times_s)
        on = self._on.at(local)
        dim = self._dim.at(local)
        days = np.floor_divide(local, DAY_S).astype(np.int64) % 3650
        broken = np.isin(days, list(self._bad_days)) & (on > 0)
        lit = (on > 0) & ~broken
        return {
            "on": on,
            "dim_level": dim,
            "current": np.where(lit, self.full_amps * dim / 100 + self._noise.at(times_s), 0.0),
            "burning_hours": self._hours_0 + self._on.integral(local) / 3600,
            "fault": np.where(broken, self.LAMP_FAILURE, 0).astype(np.float64),
        }


class Pump:
    """Units: m, m3/h, bool, count, mm/s, degC. The sump fills, the pump starts, the sump empties; rain hurries it."""

    LOW_M, HIGH_M = 0.6, 2.4
    FILLING = 0.72  # share of a cycle in which the pump rests

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        label = f"pump/{number}"
        random = generator(world.seed, label)
        self._per_s = 1 / random.uniform(500, 1500)
        self._own = world.waves(f"{label}/inflow", 1, 0.3, 12 * 3600, 900)
        self._starts_0 = int(random.integers(1000, 40_000))
        self._flow = world.waves(f"{label}/flow", 86, 5, 1800, 4)
        self._shaking = world.waves(f"{label}/shaking", 2.4, 0.7, DAY_S, 3)
        self._noise = Noise(world.seed, label, 0.008)

    def sense(self, times_s: Floats) -> Sensed:
        """level, flow, running, starts, vibration, motor_temperature, status (bit 0 running, bit 1 high level)."""
        since = self._world.since_epoch(times_s)
        # Cycles done so far: the integral of an inflow that is always positive, so it never runs backwards.
        wetness = self._world.weather.wetness.integral(since)
        cycles = self._per_s * (self._own.integral(since) + 0.5 * wetness)
        share = np.mod(cycles, 1)
        running = share >= self.FILLING
        depth = np.where(running, (1 - share) / (1 - self.FILLING), share / self.FILLING)
        level = self.LOW_M + (self.HIGH_M - self.LOW_M) * depth + self._noise.at(times_s)
        on = running.astype(np.float64)
        warm = np.where(running, 30 * (share - self.FILLING) / (1 - self.FILLING), 30 * (1 - share / self.FILLING))
        return {
            "level": level,
            "flow": on * self._flow.at(since),
            "running": on,
            "starts": self._starts_0 + np.floor(cycles + 1 - self.FILLING),
            "vibration": 0.12 + on * self._shaking.at(since) + np.abs(self._noise.at(times_s + 0.05)),
            "motor_temperature": self._world.weather.sense(times_s)["temperature"] + 8 + warm,
            "status": on + 2 * (level > self.HIGH_M - 0.1),
        }
