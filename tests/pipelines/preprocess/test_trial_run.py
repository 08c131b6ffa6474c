import pytest

from pipelines.preprocess.trial_run import Forecast

FORECAST = Forecast(
    num_clips=1_092_000,
    sampled=8,
    done=6,
    codes={"no_face": 1, "blurred": 1},
    cpu_seconds=0.5,
    wall_seconds=0.4,
    bytes_per_clip=400_000.0,
    stage_seconds={"detect": 3.0, "decode": 0.9, "crop": 0.06, "encode": 0.04},
)


def test_a_forecast_says_what_a_run_will_cost_and_give() -> None:
    assert FORECAST.lines(workers=2, cores=16) == [
        "forecast from 8 clips: 1,092,000 to come, 436.8 GB, 25% without a row (1 blurred, 1 no_face)",
        "a clip costs 0.50 s of CPU: detect 75%, decode 22%, crop 2%",
        # 2 workers of 0.4 s a clip: 5 clips/s; 16 cores of 0.5 s a clip: 32.
        "2 workers: 5.0 clips/s, 60.7 h; this machine's ceiling with 16 cores: 32.0 clips/s",
    ]


def test_workers_beyond_the_cores_bring_nothing() -> None:
    assert "20 workers: 4.0 clips/s" in FORECAST.lines(workers=20, cores=2)[-1]


@pytest.mark.parametrize(("num_clips", "text"), [(100, "50 s"), (7200, "60 min"), (1_092_000, "151.7 h")])
def test_where_an_engine_decides_the_work_is_told_in_hours_of_a_core(num_clips: int, text: str) -> None:
    import dataclasses

    lines = dataclasses.replace(FORECAST, num_clips=num_clips).lines(workers=None, cores=2)
    assert lines[-1] == f"all of them: {text} of one core"
