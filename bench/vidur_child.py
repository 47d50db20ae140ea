"""One simulation by Vidur, timed: runs in Vidur's environment, and imports nothing of ours.

`python -I vidur_child.py ASKED FOUND`, both files of JSON, as Vidur prints to its output.
Its fastest settings that leave the simulation as it is: step times looked up in C++,
neither metrics nor traces nor plots; when requests were answered stands in its requests.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from vidur.config import (
    ClusterConfig,
    MetricsConfig,
    RandomForrestExecutionTimePredictorConfig,
    ReplicaConfig,
    SarathiSchedulerConfig,
    SimulationConfig,
    TraceRequestGeneratorConfig,
)
from vidur.entities import Batch
from vidur.simulator import Simulator
from vidur.utils.random import set_seeds


def simulation(asked: dict[str, Any]) -> Any:
    """What Vidur takes as its settings."""
    cluster = ClusterConfig(
        num_replicas=asked["replicas"],
        replica_config=ReplicaConfig(
            model_name=asked["model"],
            device=asked["device"],
            network_device=asked["node"],
            tensor_parallel_size=asked["tensor_parallel"],
            num_pipeline_stages=1,
        ),
        replica_scheduler_config=SarathiSchedulerConfig(
            batch_size_cap=asked["batch_max"], chunk_size=asked["chunk_tokens"]
        ),
    )
    # It scales what it replays, to a third of the prompts and 1/25 of the time by default.
    requests = TraceRequestGeneratorConfig(
        trace_file=asked["trace"],
        date=asked["date"],
        prefill_scale_factor=1,
        decode_scale_factor=1,
        time_scale_factor=1,
        max_tokens=asked["context_tokens"],
    )
    # One point of its grid of forests, and cross-validation with two parts, train in half a
    # minute. Step times are looked up later, so this leaves the simulation's speed alone.
    predictor = RandomForrestExecutionTimePredictorConfig(
        model_profiling_dataset=asked["model_profiles"],
        network_profiling_dataset=asked["network_profiles"],
        num_estimators=[250],
        max_depth=[32],
        min_samples_split=[2],
        k_fold_cv_splits=2,
        num_training_job_threads=1,
        cache_dir=asked["cache"],
        prediction_max_batch_size=asked["batch_max"],
        prediction_max_tokens_per_request=asked["context_tokens"],
        use_native_execution_time_predictor=True,
    )
    metrics = MetricsConfig(
        write_metrics=False,
        write_json_trace=False,
        enable_chrome_trace=False,
        store_plots=False,
        output_dir=asked["output"],
    )
    return SimulationConfig(
        cluster_config=cluster,
        request_generator_config=requests,
        execution_time_predictor_config=predictor,
        metrics_config=metrics,
    )


def main() -> None:
    """Simulate what is asked for, and write what came of it."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    logging.getLogger("vidur").setLevel(logging.WARNING)
    asked_for = simulation(asked)
    set_seeds(asked_for.seed)
    began_s = time.perf_counter()
    simulator = Simulator(asked_for)
    ready_s = time.perf_counter()
    events = [event for _, event in simulator._event_queue]
    requests = sorted((event._request for event in events), key=lambda request: request.id)
    cpu_s, start_s = time.process_time(), time.perf_counter()
    simulator.run()
    end_s, cpu_end_s = time.perf_counter(), time.process_time()
    memory = asked_for.cluster_config.cache_config
    found = {
        "ready_s": ready_s - began_s,
        "simulate_s": end_s - start_s,
        "cpu_s": cpu_end_s - cpu_s,
        "batches": Batch._id + 1,
        "cache_tokens": int(memory.num_blocks * memory.block_size),
        "times": [
            [float(r.arrived_at), float(r.prefill_completed_at), float(r.completed_at)]
            for r in requests
        ],
    }
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
