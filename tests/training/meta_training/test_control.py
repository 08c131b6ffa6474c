from training.meta_training.control import Control
from training.tracking.records import Tags


def test_stop_answers_every_worker_alike_about_a_step() -> None:
    control = Control()
    assert not control.stop(10)
    control.request_stop()
    assert not control.stop(10)  # the other worker was told to go on: so is this one
    assert control.stop(20)
    assert control.stop(20)
    control.report(20, {"content": 1.0})
    assert control.progress() == (20, {"content": 1.0})


def test_records_wait_for_the_command_and_are_fetched_once() -> None:
    control = Control()
    for name in "ab":
        control.record(Tags({"name": name}))
    assert control.take_records() == [Tags({"name": "a"}), Tags({"name": "b"})]
    assert control.take_records() == []
