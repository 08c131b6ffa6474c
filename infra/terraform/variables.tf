variable "project" {
  description = "Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of everything; accelerators must be offered in it."
  type        = string
  default     = "europe-west4"
}

variable "zones" {
  description = "Zones of the region that offer the GPUs."
  type        = list(string)
  default     = ["europe-west4-a", "europe-west4-b"]
}

variable "bucket" {
  description = "Name of the bucket for data sets, runs, avatars and videos; unique in all of Google Cloud."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace of the workloads."
  type        = string
  default     = "sfumato"
}

variable "gpu_type" {
  description = "GPU of the training and serving nodes."
  type        = string
  default     = "nvidia-l4"
}

variable "gpu_machine_type" {
  description = "Machine of the GPU nodes; it must take gpus_per_node of gpu_type."
  type        = string
  default     = "g2-standard-16"
}

variable "gpus_per_node" {
  description = "GPUs of each node."
  type        = number
  default     = 1
}

variable "max_gpu_nodes" {
  description = "Largest number of GPU nodes in each zone, and of spot GPU nodes likewise."
  type        = number
  default     = 8
}

variable "upload_days" {
  description = "Days after which files under service/uploads/ are deleted, whatever the service did."
  type        = number
  default     = 30
}

variable "database_tier" {
  description = "Machine of the Postgres server."
  type        = string
  default     = "db-custom-2-7680"
}

variable "deletion_protection" {
  description = "Whether cluster and database refuse to be destroyed."
  type        = bool
  default     = true
}
