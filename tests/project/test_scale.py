"""The recipes for clusters are whole and agree with the code; docs/scale.md calculates what its formulas say."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.roofline import Tokens, products, table
from transformer.model.transformer import Transformer
from transformer.params import load_params
from transformer.training.memory import bytes_a_token, bytes_without_tokens, micro_batch_tokens
from transformer.training.throughput import training_flops

CHECKOUT = Path(__file__).parents[2]
SCALE = (CHECKOUT / "docs" / "scale.md").read_text(encoding="utf-8")
SBATCH = CHECKOUT / "deploy" / "slurm" / "train.sbatch"
# Options of sbatch's manual page that the script uses, with the form of their values.
DIRECTIVES = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+",
    "ntasks-per-node": "1",  # torchrun's agent starts the processes
    "gpus-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "mem": r"\d+[KMGT]",
    "time": r"(\d+-)?\d+:\d{2}:\d{2}",
    "output": r"\S*%j\S*",
    "signal": r"B:TERM@\d+",
    "requeue": None,
}


def test_the_slurm_script_is_bash_with_directives_that_sbatch_knows() -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)
    lines = SBATCH.read_text().splitlines()
    commands = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line.removeprefix("#SBATCH --").split("=", 1) for line in lines if line.startswith("#SBATCH")]
    assert all(not line.startswith("#SBATCH") for line in lines[commands:])  # sbatch reads none after a command
    for name, *value in directives:
        form = DIRECTIVES[name]
        assert re.fullmatch(form, value[0]) if form else not value, name
    assert {name for name, *_ in directives} == set(DIRECTIVES)


def slurm(tmp_path: Path, node: int) -> str:
    """What the script runs on this node of two, with stand-ins for the commands of a cluster."""
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    stand_ins = {
        "scontrol": "echo node7; echo node12",
        "srun": '[ "$1" = --kill-on-bad-exit=0 ]; shift; exec "$@"',
        "dvc": 'echo "dvc $* at $MASTER_ADDR:$MASTER_PORT"',
        "python": 'echo "python $* at $MASTER_ADDR:$MASTER_PORT"',
    }
    for name, body in stand_ins.items():
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755)
    variables = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[7,12]", "SLURM_NODEID": str(node)}
    done = subprocess.run(
        ["bash", SBATCH],
        cwd=tmp_path,
        env={"PATH": f"{commands}:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_slurm_script_leads_on_the_first_node_and_joins_on_the_others(tmp_path: Path) -> None:
    assert slurm(tmp_path / "a", 0) == "dvc --wait-for-lock repro train at node7:23456\n"
    assert slurm(tmp_path / "b", 1) == "python -m flows.stages.train join at node7:23456\n"


def test_the_kubernetes_job_and_its_service_refer_to_one_another() -> None:
    content = (CHECKOUT / "deploy" / "kubernetes" / "train.yaml").read_text()
    service, job = yaml.safe_load_all(content)
    assert (service["apiVersion"], service["kind"], job["apiVersion"], job["kind"]) == (
        "v1", "Service", "batch/v1", "Job",
    )  # fmt: skip
    spec: dict[str, Any] = job["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", spec["parallelism"])
    pod = spec["template"]["spec"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}  # the label that jobs give their pods
    assert pod["subdomain"] == service["metadata"]["name"]
    assert pod["restartPolicy"] in ("OnFailure", "Never")
    (container,) = pod["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    first = f"{job['metadata']['name']}-0.{pod['subdomain']}"
    assert variables == {"MASTER_ADDR": first, "MASTER_PORT": str(service["spec"]["ports"][0]["port"])}
    assert "nvidia.com/gpu" in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    objects = list(yaml.safe_load_all((CHECKOUT / "deploy" / "kubernetes.yaml").read_text()))
    claims = {item["metadata"]["name"] for item in objects if item["kind"] == "PersistentVolumeClaim"}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] in claims
    (anti_affinity,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert anti_affinity["labelSelector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    subprocess.run(["sh", "-n", "-c", container["command"][-1]], check=True)
    assert container["command"][:4] == ["tini", "--", "sh", "-c"]
    stage = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"]["train"]["cmd"]
    assert f"{stage.removeprefix('exec ')} join" in container["command"][-1]


@pytest.mark.parametrize("size", ["base", "big"])
def test_the_roofline_is_what_the_benchmark_prints(size: str) -> None:
    params = load_params(CHECKOUT / "presets" / f"wmt14-en-de-{size}.yaml")
    tokens = params.training.batch_target_tokens
    assert "\n".join(table(params.model, params.tokenization.vocabulary_size, tokens, 790e12, 3e12)) in SCALE


@pytest.mark.parametrize("size", ["base", "big"])
def test_the_products_of_the_roofline_are_those_that_training_counts(size: str) -> None:
    """Operations of the products alone: `training_flops` of sentences of a token has next to no attention."""
    params = load_params(CHECKOUT / "presets" / f"wmt14-en-de-{size}.yaml")
    ones = np.ones(1000, dtype=np.int64)
    needed = training_flops(params.model, 37_000, ones, ones)
    found = sum(part.operations for part in products(params.model, Tokens(1000, 1000, 1000), 37_000))
    assert found == pytest.approx(needed, rel=1e-3)


@pytest.mark.parametrize("size", ["base", "big"])
def test_the_table_of_memory_is_what_training_calculates(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    params = load_params(CHECKOUT / "presets" / f"wmt14-en-de-{size}.yaml")
    fixed, pair = bytes_without_tokens(params.model, 37_000), bytes_a_token(params.model, 16)
    cells = [f"{fixed / 1e9:.2f} GB", f"{pair / 1e3:.0f} kB", f"{(fixed + 25_000 * pair) / 1e9:.1f} GB"]
    chosen = []
    for gigabytes in 16, 24, 40, 80:
        card = SimpleNamespace(total_memory=gigabytes * 10**9)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, card=card: card)
        gpu = torch.device("cuda", 0)
        tokens = micro_batch_tokens(None, 25_000, params.model, 37_000, gpu, torch.bfloat16)
        chosen.append(f"{tokens:,}".replace(",", " "))
    (row,) = (line for line in SCALE.splitlines() if line.startswith(f"| {size} |"))
    found = [cell.strip() for cell in row.split("|")[2:-1]]
    assert found[:3] + found[4:] == cells + chosen


@pytest.mark.parametrize(("column", "size"), [(1, "base"), (2, "big")])
def test_the_calculation_follows_from_the_network(column: int, size: str) -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in SCALE.splitlines() if line.startswith("|")]
    cells = {row[0].split(",")[0]: row[column] for row in rows if len(row) == 3}

    def figure(name: str) -> float:
        cell = next(value for key, value in cells.items() if key.startswith(name))
        return float(re.sub(r"[^\d.]", "", cell))

    params = load_params(CHECKOUT / "presets" / f"wmt14-en-de-{size}.yaml")
    with torch.device("meta"):
        model = Transformer(params.model, params.tokenization.vocabulary_size)
    weights = sum(parameter.numel() for parameter in model.parameters())
    embedding = model.embedding.weight.numel()
    assert figure("weights") == weights
    assert figure("gradient") == pytest.approx(4 * weights / 1e6, abs=0.05)
    assert figure("a ring over 8 GPUs") == pytest.approx(7 * weights / 1e6, abs=0.05)
    assert figure("at 450 GB/s") == pytest.approx(7 * weights / 450e9 * 1e3, abs=0.01)
    assert figure("of that the embedding") == pytest.approx(7 * embedding / 450e9 * 1e3, abs=0.01)
    adam = 28 * weights / 3.35e12 * 1e3
    assert figure("Adam") == pytest.approx(adam, abs=0.01)
    # Each weight of a matrix is met by 25 000 tokens: those of the encoder by source tokens, and so on.
    products = 6 * 25_000 * sum(matrix.numel() for matrix in model.parameters() if matrix.dim() == 2) / 1e12
    assert figure("products") == pytest.approx(products, rel=0.002)
    one = products * 1e12 / ({"base": 0.35, "big": 0.5}[size] * 989e12) * 1e3
    assert figure("one H100") == pytest.approx(one, abs=0.1)
    speed = {
        row[0]: (float(row[2 * column - 1].split()[0]), float(row[2 * column]))
        for row in rows[1:]
        if len(row) == 5 and "ms" in row[1]
    }
    inside, hidden = 7 * weights / 450e9 * 1e3, 7 * embedding / 450e9 * 1e3
    between, hidden_between = (4 * count / 8 / 50e9 * 1e3 for count in (weights, embedding))
    eight, sixteen = ((one - adam) / ranks + adam for ranks in (8, 16))
    expected = [one, eight + hidden, eight + inside, sixteen + hidden + hidden_between, sixteen + inside + between]
    assert [time for time, _ in speed.values()] == pytest.approx(expected, abs=0.06)
    assert [factor for _, factor in speed.values()] == pytest.approx([one / time for time in expected], abs=0.06)
