"""Write an evaluation's reports (JSON, Markdown, HTML) and log them to MLflow."""

from pipelines import storage
from pipelines.cli import Artefact
from training.checkpoints.model_lineage import run_of
from training.checkpoints.model_registry import locate
from training.evaluation import page, report
from training.evaluation.report import Evaluation
from training.tracking.target import make_target, without_password


def write_report(
    evaluation: Evaluation, out: str, model: str, mlflow: str | None, experiment: str
) -> tuple[list[Artefact], list[str]]:
    """Write the three files, the HTML page last, then log to MLflow.

    Args:
        out: folder or URL.
        model: the evaluated bundle.
        mlflow: tracking URI to log to; None: do not log.
        experiment: experiment to log to if the model's own run is not on that server.

    Returns:
        The artefacts written, and notes for the user.
    """
    texts = {
        "report.json": report.to_json(evaluation),
        "report.md": report.to_markdown(evaluation),
        "report.html": page.render(evaluation),
    }
    for name, text in texts.items():
        storage.write_bytes(storage.join(out, name), text.encode())
    made = [Artefact(name, storage.join(out, name)) for name in texts]
    notes = [
        f"T = {shots}: {number} {evaluation.unit} have too few frames"
        for shots, number in evaluation.skipped.items()
        if number
    ]
    if mlflow is not None:
        from training.tracking.mlflow_client import log_evaluation  # MLflow takes seconds to import

        target = make_target(mlflow, None, experiment, "evaluation", out=out)
        run_id = log_evaluation(
            target.uri,
            run_of(locate(model)),
            target.experiment,
            artifact_root=target.artifact_root,
            metrics=report.flat(evaluation),
            texts=texts,
        )
        made.append(Artefact("MLflow run", f"{without_password(mlflow)} {run_id}"))
    return made, notes
