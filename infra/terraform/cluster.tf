resource "google_container_cluster" "main" {
  name                     = "sfumato"
  location                 = var.region
  node_locations           = var.zones
  network                  = google_compute_network.main.id
  subnetwork               = google_compute_subnetwork.main.id
  remove_default_node_pool = true
  initial_node_count       = 1
  deletion_protection      = var.deletion_protection
  datapath_provider        = "ADVANCED_DATAPATH" # enforces network policies
  depends_on               = [google_project_service.needed]

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  private_cluster_config {
    enable_private_nodes = true
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  addons_config {
    ray_operator_config {
      enabled = true
      ray_cluster_logging_config {
        enabled = true
      }
      ray_cluster_monitoring_config {
        enabled = true
      }
    }
    gcs_fuse_csi_driver_config {
      enabled = false
    }
  }

  release_channel {
    channel = "REGULAR"
  }
}

# Heads of Ray clusters, MLflow, Redis: machines that stay.
resource "google_container_node_pool" "main" {
  name     = "main"
  cluster  = google_container_cluster.main.id
  location = var.region

  autoscaling {
    min_node_count = 1 # system pods run here
    max_node_count = 4
  }

  node_config {
    machine_type    = "e2-standard-8"
    service_account = google_service_account.stage["nodes"].email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot = true
    }
  }
}

# GPU nodes come when pods ask for them, and go when none does.
resource "google_container_node_pool" "gpu" {
  for_each = { gpu = false, gpu-spot = true }
  name     = each.key
  cluster  = google_container_cluster.main.id
  location = var.region

  autoscaling {
    min_node_count = 0
    max_node_count = var.max_gpu_nodes
  }

  node_config {
    machine_type    = var.gpu_machine_type
    spot            = each.value
    disk_size_gb    = 300
    disk_type       = "pd-ssd"
    service_account = google_service_account.stage["nodes"].email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]

    guest_accelerator {
      type  = var.gpu_type
      count = var.gpus_per_node

      gpu_driver_installation_config {
        gpu_driver_version = "LATEST"
      }
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    dynamic "taint" {
      for_each = each.value ? [1] : []
      content {
        key    = "cloud.google.com/gke-spot"
        value  = "true"
        effect = "NO_SCHEDULE"
      }
    }
  }
}
