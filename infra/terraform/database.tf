# Postgres for the service's jobs and for MLflow, with a private address only.
resource "google_sql_database_instance" "main" {
  name                = "sfumato"
  database_version    = "POSTGRES_17"
  region              = var.region
  deletion_protection = var.deletion_protection
  depends_on          = [google_service_networking_connection.database]

  settings {
    tier              = var.database_tier
    edition           = "ENTERPRISE"
    availability_type = "REGIONAL"
    disk_autoresize   = true

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.main.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
    }
  }
}

resource "google_sql_database" "databases" {
  for_each = toset(["sfumato", "mlflow", "mlflow_auth"])
  name     = each.key
  instance = google_sql_database_instance.main.name
}

resource "random_password" "users" {
  for_each = toset(["sfumato", "mlflow"])
  length   = 32
  special  = false
}

resource "google_sql_user" "users" {
  for_each = random_password.users
  name     = each.key
  instance = google_sql_database_instance.main.name
  password = each.value.result
}
