resource "google_storage_bucket" "main" {
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  depends_on                  = [google_project_service.needed]

  # What was deleted on request must be gone: no versions, no soft deletion.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    condition {
      age            = var.upload_days
      matches_prefix = ["service/uploads/"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age            = 7
      matches_prefix = ["dataflow/"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 1
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "sfumato"
  location      = var.region
  format        = "DOCKER"
  depends_on    = [google_project_service.needed]

  docker_config {
    immutable_tags = true
  }
}
