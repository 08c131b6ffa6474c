"""Run shards with Apache Beam: the transforms, the runners, and jobs on Dataflow."""
