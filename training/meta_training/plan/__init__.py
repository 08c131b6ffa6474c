"""`sfumato meta-train --plan`: memory, exchanged bytes and hours of a run, without training."""
