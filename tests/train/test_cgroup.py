"""Control groups: both versions, every level, and a container that is told a path of the host's."""

from pathlib import Path

import pytest

from gpuday.train.cgroup import MemoryLimit, core_quotas, memory_limits


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """What the kernel says of this process, with controllers in version 1 and a path in version 2."""
    path = tmp_path / "cgroup"
    path.write_text("5:cpu,cpuacct:/job\n4:memory:/job\n0::/user/job\n")
    return path


def test_a_limit_of_version_2_counts_on_every_level(tmp_path: Path, proc: Path) -> None:
    """By hand: 1,000 of which 600 are used, 100 of those by files; the level above has more, the root says `max`."""
    write(
        tmp_path / "user" / "job", memory__max="1000", memory__current="600", memory__stat="anon 500\ninactive_file 100"
    )
    write(tmp_path / "user", memory__max="5000", memory__current="700", memory__stat="inactive_file 0")
    write(tmp_path, memory__max="max", memory__current="700", memory__stat="inactive_file 0")
    assert memory_limits(proc, tmp_path) == [MemoryLimit(1000, 500), MemoryLimit(5000, 4300)]


def test_a_limit_of_version_1_is_read_from_its_own_mount(tmp_path: Path, proc: Path) -> None:
    """The group's limit counts; that of the root is the number that means none."""
    write(
        tmp_path / "memory" / "job",
        memory__limit_in_bytes="2000",
        memory__usage_in_bytes="1500",
        memory__stat="inactive_file 1\ntotal_inactive_file 300",
    )
    write(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712", memory__stat="total_inactive_file 0")
    assert memory_limits(proc, tmp_path) == [MemoryLimit(2000, 800)]


def test_a_container_finds_its_own_group_at_the_mount(tmp_path: Path, proc: Path) -> None:
    """The path that it is told is the host's and is not there; its limit lies at the top."""
    write(tmp_path, memory__max="1000", memory__current="400", memory__stat="inactive_file 0")
    assert memory_limits(proc, tmp_path) == [MemoryLimit(1000, 600)]


def test_more_in_use_than_allowed_leaves_nothing(tmp_path: Path, proc: Path) -> None:
    """Never a negative number of bytes."""
    write(tmp_path, memory__max="1000", memory__current="1400", memory__stat="inactive_file 100")
    assert memory_limits(proc, tmp_path) == [MemoryLimit(1000, 0)]


@pytest.mark.parametrize(("text", "wanted"), [("150000 100000", [1.5]), ("max 100000", [])])
def test_the_cores_of_version_2_are_quota_over_period(
    tmp_path: Path, proc: Path, text: str, wanted: list[float]
) -> None:
    """150 ms in each 100 ms are one and a half cores."""
    write(tmp_path / "user", cpu__max=text)
    assert core_quotas(proc, tmp_path) == wanted


@pytest.mark.parametrize(("quota", "wanted"), [("400000", [4.0]), ("-1", [])])
def test_the_cores_of_version_1_are_quota_over_period(
    tmp_path: Path, proc: Path, quota: str, wanted: list[float]
) -> None:
    """-1 is no limit."""
    write(tmp_path / "cpu" / "job", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert core_quotas(proc, tmp_path) == wanted


def test_where_there_are_no_groups_nothing_is_limited(tmp_path: Path) -> None:
    """As on a Mac."""
    assert memory_limits(tmp_path / "none", tmp_path) == []
    assert core_quotas(tmp_path / "none", tmp_path) == []
