from pathlib import Path

from cloud.quarantine import Entry, Quarantine


def entry(number: int, size: int = 100) -> Entry:
    return Entry("c/d/s/gw", "rejected_frame", "why", 0, number.to_bytes(4, "big") * (size // 4))


def test_an_entry_put_twice_is_one_also_after_a_restart(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q.sqlite", max_bytes=1 << 20)
    assert quarantine.put([entry(1), entry(1), entry(2)], 5) == 2
    quarantine.close()
    again = Quarantine(tmp_path / "q.sqlite", max_bytes=1 << 20)
    assert again.put([entry(2)], 6) == 0
    assert again.newest() == [entry(2), entry(1)]
    assert (again.totals().entries, again.totals().bytes) == (2, 2 * 300)


def test_the_oldest_goes_first_and_is_counted(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q.sqlite", max_bytes=1000)
    for number in range(10):
        quarantine.put([entry(number)], number)
    totals = quarantine.totals()
    assert (totals.entries, totals.bytes, totals.dropped_entries, totals.dropped_bytes) == (3, 900, 7, 2100)
    assert quarantine.newest() == [entry(9), entry(8), entry(7)]
    assert quarantine.by_reason() == {"rejected_frame": 3}
