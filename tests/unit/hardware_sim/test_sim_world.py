import numpy as np
import pytest

from hardware_sim.waves import DailySteps, Floats, Noise, Waves, generator
from hardware_sim.world import EPOCH_S, Air, Corner, Lamp, Meter, Pump, Weather, World

DAY = 86_400.0
LOCAL_MIDNIGHT = 1_772_294_400.0  # 2026-03-01 00:00 at UTC+8


def hours(values: object) -> Floats:
    return LOCAL_MIDNIGHT + 3600 * np.asarray(values, dtype=np.float64)


def every_sense(world: World, times: Floats) -> dict[str, Floats]:
    parts: dict[str, Weather | Air | Corner | Meter | Lamp | Pump] = {
        "weather": world.weather,
        "air": world.air,
        "corner": world.corner(1),
        "meter": world.meter(0),
        "lamp": world.lamp(2),
        "pump": world.pump(1),
    }
    return {f"{part}.{name}": values for part, one in parts.items() for name, values in one.sense(times).items()}


def test_one_seed_is_one_street_however_it_is_asked() -> None:
    times = LOCAL_MIDNIGHT + np.arange(0, 4000, 7.3)
    whole = every_sense(World(5), times)
    again = every_sense(World(5), times[100:200])
    for name, values in whole.items():
        assert values.shape == times.shape, name
        # A matrix product may round differently for another length: one part in 1e9 is the same street.
        np.testing.assert_allclose(values[100:200], again[name], rtol=1e-9, atol=1e-6, err_msg=name)


def test_another_seed_is_another_street() -> None:
    times = hours([3, 9, 15])
    one, other = every_sense(World(1), times), every_sense(World(2), times)
    for name in ("weather.temperature", "air.pm2_5", "meter.power_l1", "pump.level", "lamp.burning_hours"):
        assert not np.allclose(one[name], other[name]), name


def test_two_meters_of_one_street_differ_but_share_the_grid() -> None:
    world, times = World(1), hours([1, 2, 3])
    one, other = world.meter(0).sense(times), world.meter(1).sense(times)
    assert not np.allclose(one["power_l1"], other["power_l1"])
    np.testing.assert_array_equal(one["frequency"], other["frequency"])


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("weather.temperature", -20, 45),
        ("weather.humidity", 12, 100),
        ("weather.pressure", 990, 1035),
        ("weather.wind_speed", 0, 15),
        ("weather.wind_direction", 0, 360),
        ("weather.rain", 0, 60),
        ("weather.illuminance", 0.1, 130_000),
        ("air.pm2_5", 1, 900),
        ("meter.voltage_l1", 215, 245),
        ("meter.voltage_l12", 375, 425),
        ("meter.current_l1", 0.1, 60),
        ("meter.power_l1", 100, 8000),
        ("meter.factor_l1", 0.85, 1),
        ("meter.frequency", 49.9, 50.1),
        ("lamp.current", -0.001, 0.6),
        ("pump.level", Pump.LOW_M - 0.05, Pump.HIGH_M + 0.05),
        ("pump.flow", 0, 100),
        ("pump.vibration", 0.1, 4),
    ],
)
def test_a_whole_year_stays_plausible(name: str, low: float, high: float) -> None:
    values = every_sense(World(42), LOCAL_MIDNIGHT + np.arange(0, 365 * DAY, 1801.0))[name]
    assert np.isfinite(values).all()
    assert low <= values.min() <= values.max() <= high
    assert values.std() > 0


def test_energy_is_the_integral_of_the_power_shown() -> None:
    times = LOCAL_MIDNIGHT + np.arange(0, DAY, 5.0)
    sensed = World(9).meter(0).sense(times)
    power_kw = sensed["power_total"] / 1000
    by_sum = ((power_kw[1:] + power_kw[:-1]) / 2 * 5 / 3600).sum()
    assert sensed["energy_import"][-1] - sensed["energy_import"][0] == pytest.approx(by_sum, rel=2e-4)
    assert (np.diff(sensed["energy_import"]) > 0).all()


def test_power_current_and_voltage_belong_together() -> None:
    sensed = World(9).meter(3).sense(hours(np.arange(0, 24, 0.1)))
    for phase in ("l1", "l2", "l3"):
        apparent = sensed[f"voltage_{phase}"] * sensed[f"current_{phase}"]
        np.testing.assert_allclose(apparent * sensed[f"factor_{phase}"], sensed[f"power_{phase}"])
        squares = sensed[f"power_{phase}"] ** 2 + sensed[f"reactive_{phase}"] ** 2
        np.testing.assert_allclose(np.sqrt(squares), sensed[f"apparent_{phase}"])


def test_days_are_light_and_nights_are_dark_and_lamps_know() -> None:
    world = World(3)
    noon, midnight = (
        world.weather.sense(hours([12]))["illuminance"][0],
        world.weather.sense(hours([0]))["illuminance"][0],
    )
    assert noon > 5_000
    assert midnight < 5
    lamp = world.lamp(0).sense(hours([12, 20, 1, 5.5]))
    assert lamp["on"].tolist() == [0, 1, 1, 1]
    assert lamp["dim_level"].tolist() == [0, 100, 60, 100]
    assert lamp["current"][0] == 0


def test_a_lamp_burns_for_as_long_as_it_was_on() -> None:
    lamp = World(3).lamp(7)
    times = LOCAL_MIDNIGHT + np.arange(0, 3 * DAY, 10.0)
    sensed = lamp.sense(times)
    burnt = sensed["burning_hours"][-1] - sensed["burning_hours"][0]
    assert burnt == pytest.approx(sensed["on"].sum() * 10 / 3600, abs=0.02)


def test_a_broken_lamp_draws_nothing_and_says_so() -> None:
    times = EPOCH_S + 20 * 3600 + DAY * np.arange(3000.0)
    for number in range(3):
        sensed = World(3).lamp(number).sense(times)
        broken = sensed["fault"] == Lamp.LAMP_FAILURE
        lit = (sensed["on"] == 1) & ~broken
        assert (sensed["current"][broken] == 0).all()
        assert (sensed["current"][lit] > 0.1).all()


def test_a_pump_runs_only_downhill_and_counts_its_starts() -> None:
    sensed = World(4).pump(0).sense(LOCAL_MIDNIGHT + np.arange(0, 12 * 3600, 1.0))
    running = sensed["running"] == 1
    starts = np.flatnonzero(running[1:] & ~running[:-1])
    assert len(starts) > 10
    assert sensed["starts"][-1] - sensed["starts"][0] == len(starts)
    assert (sensed["flow"][~running] == 0).all()
    assert (sensed["flow"][running] > 70).all()
    # Over 30 s, away from the turning points, the sump empties while running and fills while resting.
    steady = running[30:] == running[:-30]
    slope = (sensed["level"][30:] - sensed["level"][:-30])[steady]
    during = running[30:][steady]
    assert (slope[during] < 0.02).mean() > 0.9
    assert (slope[~during] > -0.02).mean() > 0.9


def test_rain_cleans_the_air() -> None:
    world = World(42)
    times = LOCAL_MIDNIGHT + np.arange(0, 200 * DAY, 3600.0)
    rain, dust = world.weather.sense(times)["rain"], world.air.sense(times)["pm2_5"]
    assert (rain > 3).any()
    assert dust[rain > 3].mean() < 0.8 * dust[rain == 0].mean()


def test_waves_never_leave_their_band_and_integrate_exactly() -> None:
    waves = Waves(generator(1, "x"), mean=2, amplitude=0.5, slowest_s=4000, fastest_s=10)
    times = np.arange(0, 20_000, 0.5)
    values = waves.at(times)
    assert abs(values - 2).max() <= 0.5
    by_sum = ((values[1:] + values[:-1]) / 2 * 0.5).sum()
    assert waves.integral(times[-1:])[0] == pytest.approx(by_sum, rel=1e-4)


def test_daily_steps_change_on_time_and_integrate_exactly() -> None:
    steps = DailySteps((0, 6, 18.5), (1, 0, 2))
    assert steps.at(np.array([0, 6 * 3600 - 1, 6 * 3600, 18.5 * 3600, DAY])).tolist() == [1, 1, 0, 2, 1]
    assert steps.integral(np.array([DAY]))[0] == 6 * 3600 + 2 * 5.5 * 3600
    assert steps.integral(np.array([3 * DAY + 3600]))[0] == 3 * (6 + 11) * 3600 + 3600


def test_noise_is_small_centred_and_without_memory() -> None:
    values = Noise(1, "n", 0.5).at(np.arange(0, 2000, 0.1) + 1.7e9)
    assert abs(values).max() <= 0.5
    assert abs(values.mean()) < 0.01
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.03
