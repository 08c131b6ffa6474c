# One account for each stage, each with what the stage needs. Pods take theirs by workload identity: no keys.
locals {
  accounts = {
    pipelines = "Preprocessing: Dataflow's workers."
    training  = "Meta-training."
    serving   = "The service and batch animation."
    mlflow    = "The MLflow server."
    nodes     = "Nodes of the cluster: images, logs, metrics."
  }
  in_cluster = ["training", "serving", "mlflow"]
  writers    = ["pipelines", "training", "serving", "mlflow"]
  project_roles = {
    "pipelines dataflow" = { account = "pipelines", role = "roles/dataflow.worker" }
    "nodes logs"         = { account = "nodes", role = "roles/logging.logWriter" }
    "nodes metrics"      = { account = "nodes", role = "roles/monitoring.metricWriter" }
    "nodes metadata"     = { account = "nodes", role = "roles/stackdriver.resourceMetadata.writer" }
  }
}

resource "google_service_account" "stage" {
  for_each     = local.accounts
  account_id   = "sfumato-${each.key}"
  display_name = each.value
}

resource "google_service_account_iam_member" "workload_identity" {
  for_each           = toset(local.in_cluster)
  service_account_id = google_service_account.stage[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/sfumato-${each.key}]"
  depends_on         = [google_container_cluster.main]
}

resource "google_storage_bucket_iam_member" "writers" {
  for_each = toset(local.writers)
  bucket   = google_storage_bucket.main.name
  role     = "roles/storage.objectUser"
  member   = google_service_account.stage[each.key].member
}

resource "google_project_iam_member" "roles" {
  for_each = local.project_roles
  project  = var.project
  role     = each.value.role
  member   = google_service_account.stage[each.value.account].member
}

resource "google_artifact_registry_repository_iam_member" "readers" {
  for_each   = toset(["nodes", "pipelines"])
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.stage[each.key].member
}
