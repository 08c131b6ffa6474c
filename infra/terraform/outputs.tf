output "bucket" {
  description = "URL of the bucket."
  value       = google_storage_bucket.main.url
}

output "registry" {
  description = "Where images are pushed: REGISTRY/training:0.1.0 and so on."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "database_host" {
  description = "Private address of Postgres."
  value       = google_sql_database_instance.main.private_ip_address
}

output "service_accounts" {
  description = "Account of each stage; infra/kubernetes/base/accounts names them."
  value       = { for name, account in google_service_account.stage : name => account.email }
}

output "dataflow_flags" {
  description = "Flags of infra/dataflow/launch.sh for this network."
  value       = "--subnetwork regions/${var.region}/subnetworks/${google_compute_subnetwork.main.name} --service_account_email ${google_service_account.stage["pipelines"].email}"
}
