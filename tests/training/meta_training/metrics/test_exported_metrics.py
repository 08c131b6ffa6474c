"""The last logged metrics of a training, for Prometheus."""

from __future__ import annotations

from web.scraping import samples

from training.meta_training.metrics.exported_metrics import TrainingMetrics


def test_a_training_that_has_not_logged_tells_its_last_step() -> None:
    assert samples(TrainingMetrics(900).collect()) == {("sfumato_training_last_step",): 900}


def test_values_are_exported_under_prometheus_names() -> None:
    metrics = TrainingMetrics(900)
    metrics.update(10, {"generator": 9.0})
    metrics.update(
        20,
        {
            "generator": 3.5,
            "vgg19": 1.25,
            "images_per_second": 40.0,
            "data_wait_share": 0.125,
            "workers": 2.0,
            "skipped_steps": 3.0,
            "rollbacks": 1.0,
            "learning_rate": 1e-4,
            "learning_rate_discriminator": 1e-4,
            "checkpoint_pause_seconds": 0.5,
            "checkpoint_write_seconds": 17.0,
            "system/cpu_utilization_percentage": 5.0,
        },
    )
    assert samples(metrics.collect()) == {
        ("sfumato_training_last_step",): 900,
        ("sfumato_training_step",): 20,
        ("sfumato_training_images_per_second",): 40,
        ("sfumato_training_data_wait_ratio",): 0.125,
        ("sfumato_training_workers",): 2,
        ("sfumato_training_checkpoint_pause_seconds",): 0.5,
        ("sfumato_training_checkpoint_write_seconds",): 17,
        ("sfumato_training_skipped_steps_total",): 3,
        ("sfumato_training_rollbacks_total",): 1,
        ("sfumato_training_loss", "term=generator"): 3.5,
        ("sfumato_training_loss", "term=vgg19"): 1.25,
    }
