# The databases' passwords, for whoever makes the Kubernetes secrets (docs/how-to/cluster.md).
resource "google_secret_manager_secret" "database" {
  for_each  = random_password.users
  secret_id = "sfumato-database-${each.key}"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "database" {
  for_each    = random_password.users
  secret      = google_secret_manager_secret.database[each.key].id
  secret_data = each.value.result
}
