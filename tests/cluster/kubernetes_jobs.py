"""The Kubernetes jobs that Snakemake's plugin would submit for the smoke run, called in a checkout: JSON, by rule.

Everything is real, profile, plan, plugin and the client's models, but the server, which is a list. The plugin does not
start without a storage provider, so that jobs are planned as for a dry run and given to it one by one.
"""

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import kubernetes
from snakemake.api import SnakemakeApi
from snakemake.cli import parse_args
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings
from snakemake_executor_plugin_kubernetes import Executor


def planned(device: str) -> list:
    """Jobs of the smoke run as the profile has them planned."""
    arguments = parse_args(["--profile", "profiles/kubernetes", "smoke"])[1]
    resources = ResourceSettings(nodes=arguments.jobs, default_resources=arguments.default_resources)
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=resources,
            config_settings=ConfigSettings(config={"device": device}),
            snakefile=Path("Snakefile"),
        )
        workflow.dag(DAGSettings(targets={"smoke"}, forceall=True)).execute_workflow(executor="dryrun")
        return [job for job in workflow._workflow.dag.jobs if job.rule.name not in workflow._workflow._localrules]


def submitted(jobs: list) -> dict[str, dict]:
    """Jobs -> by the name of their rule what the plugin sends, as JSON; the last of each rule."""
    sent = []
    plugin = object.__new__(Executor)
    plugin.__dict__ |= {
        "workflow": SimpleNamespace(deployment_settings=SimpleNamespace(deployment_method=set())),
        "logger": logging.getLogger("plugin"),
        "namespace": plugin_default("namespace"),
        "k8s_cpu_scalar": plugin_default("cpu_scalar"),
        "k8s_service_account_name": plugin_default("service_account_name"),
        "privileged": plugin_default("privileged"),
        "persistent_volumes": [],
        "container_image": "registry/reconpatch:1",
        "run_namespace": "run",
        "secret_envvars": {},
        "batchapi": SimpleNamespace(create_namespaced_job=lambda _, body: sent.append(body)),
        "_kubernetes_retry": lambda call: call(),
        "format_job_exec": lambda job: f"snakemake {job.name}",
        "report_job_submission": lambda _: None,
    }
    for job in jobs:
        plugin.run_job(job)
    client = kubernetes.client.ApiClient()
    found = {}
    for job, body in zip(jobs, sent, strict=True):
        content = client.sanitize_for_serialization(body)
        read = client.deserialize(
            SimpleNamespace(data=json.dumps(content)), "V1Job"
        )  # as from a server: models check it
        assert client.sanitize_for_serialization(read) == content
        found[job.rule.name] = content | {"asked": {"mem_mb": job.resources["mem_mb"], "threads": job.threads}}
    return found


def plugin_default(name: str) -> object:
    """What the plugin does where a setting is not given."""
    from snakemake_executor_plugin_kubernetes import ExecutorSettings

    return getattr(ExecutorSettings(), name)


if __name__ == "__main__":
    print(json.dumps(submitted(planned(sys.argv[1]))))
